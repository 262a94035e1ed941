//! `lateen profile`: the installations to begin with.

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use lateen_api::shape::suggestion;
use lateen_install::profile;
use serde_json::Value;

use super::{layers::LayerArgs, manifest::diff};
use crate::output;

/// List, show and compare the profiles.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen profile list\n  lateen profile dump demo > demo.yaml\n  lateen profile diff default demo"
)]
pub(crate) struct Profile {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the profiles
    List,
    /// Show a profile as an IstioOperator file
    Dump(Dump),
    /// Show what differs between two profiles
    Diff {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
}

/// Show a profile as an IstioOperator file.
#[derive(Debug, Args)]
struct Dump {
    /// Which; without it, the one that files and flags name.
    profile: Option<String>,
    /// Only what is at this path, such as components.pilot or values.global.
    #[arg(short = 'p', long, value_name = "PATH")]
    config_path: Option<String>,
    /// How it is written.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    #[command(flatten)]
    layers: LayerArgs,
}

/// How a profile is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    /// A file for `-f`.
    #[default]
    Yaml,
    /// The same in JSON.
    Json,
    /// One setting a line, as `--set` takes them.
    Flags,
}

impl Profile {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::List => {
                output::line("Istio configuration profiles:");
                for name in profile::NAMES {
                    output::line(format_args!("    {name}"));
                }
                Ok(())
            }
            Command::Dump(dump) => dump.run(),
            Command::Diff { first, second } => {
                let text = |name: &str| -> anyhow::Result<String> {
                    Ok(serde_yaml_ng::to_string(&profile::profile(name)?)?)
                };
                let (one, other) = (text(first)?, text(second)?);
                if one == other {
                    output::line("Profiles are identical");
                    return Ok(());
                }
                output::line("The difference between profiles:");
                output::print(diff::lines(&one, &other));
                bail!("profiles {first} and {second} differ")
            }
        }
    }
}

impl Dump {
    fn run(&self) -> anyhow::Result<()> {
        let document = self.layers.document(self.profile.as_deref())?;
        let (whole, below) = match &self.config_path {
            None => (&document, &document["spec"]),
            Some(path) => {
                let at = below(&document["spec"], path)?;
                (at, at)
            }
        };
        match self.output {
            Form::Yaml => output::print(serde_yaml_ng::to_string(whole)?),
            Form::Json => output::line(serde_json::to_string_pretty(whole)?),
            Form::Flags => {
                let prefix = self.config_path.clone().unwrap_or_default();
                let mut flags = Vec::new();
                flatten(below, prefix, &mut flags);
                output::print(flags.concat());
            }
        }
        Ok(())
    }
}

/// What is at a path such as `components.pilot` or `components.ingressGateways.0`.
fn below<'a>(spec: &'a Value, path: &str) -> anyhow::Result<&'a Value> {
    let mut at = spec;
    for step in path.split('.') {
        let found = match at {
            Value::Array(items) => step.parse().ok().and_then(|n: usize| items.get(n)),
            other => other.get(step),
        };
        at = found.with_context(|| {
            let known: Vec<&str> = match at {
                Value::Object(fields) => fields.keys().map(String::as_str).collect(),
                _ => Vec::new(),
            };
            let help = match known.is_empty() {
                true => "nothing is below what is before it".to_owned(),
                false => suggestion(step, &known),
            };
            format!("the profile has nothing at {path}: {step} is not there; {help}")
        })?;
    }
    Ok(at)
}

/// Every leaf as `path=value`.
fn flatten(value: &Value, path: String, out: &mut Vec<String>) {
    let below = |name: &str| {
        let name = name.replace('.', "\\.");
        match path.as_str() {
            "" => name,
            path => format!("{path}.{name}"),
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                flatten(value, below(name), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                flatten(item, format!("{path}[{n}]"), out);
            }
        }
        Value::String(text) => out.push(format!("{path}={text}\n")),
        other => out.push(format!("{path}={other}\n")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_told_with_the_nearest() {
        let spec = json!({"components": {"pilot": {"enabled": true}, "gateways": [{"name": "a"}]}});
        let found = below(&spec, "components.gateways.0.name").expect("a path");
        assert_eq!(found, "a");
        let refused = |path: &str| below(&spec, path).expect_err("no path").to_string();
        assert!(refused("components.pilott").contains("did you mean pilot?"));
        assert!(refused("component").contains("did you mean components?"));
        assert!(refused("components.gateways.1").contains("1 is not there"));
        assert!(refused("components.pilot.enabled.x").contains("x is not there"));
    }

    #[test]
    fn settings_are_written_as_flags() {
        let mut flags = Vec::new();
        let value = json!({"a": {"b.c": 1, "d": [{"e": "x"}]}, "f": true, "g": {}});
        flatten(&value, String::new(), &mut flags);
        let want = ["a.b\\.c=1\n", "a.d[0].e=x\n", "f=true\n", "g={}\n"];
        assert_eq!(flags, want);
    }
}
