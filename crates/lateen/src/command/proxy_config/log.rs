//! `proxy-config log`: the levels of a proxy's loggers, by its admin interface, whose form is Envoy's.

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use serde_json::{Map, Value, json};

use super::ADMIN;
use crate::{
    cli::Global,
    client,
    output::{self, Format},
};

/// The level of a proxy that was started with no other.
const DEFAULT: &str = "warning";
const CONTAINER: &str = "istio-proxy";
const LEVEL_ARGUMENT: &str = "--proxyLogLevel";

/// Show the levels of a proxy's log, and change them while it runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Levels are trace, debug, info, warning, error, critical and off.\n\n\
                  Examples:\n  \
                  lateen proxy-config log deploy/reviews-v1\n  \
                  lateen proxy-config log deploy/reviews-v1 --level debug\n  \
                  lateen proxy-config log deploy/reviews-v1 --level http:debug,upstream:trace\n  \
                  lateen proxy-config log -l app=reviews --reset"
)]
pub(crate) struct Log {
    /// The proxy's pod, `name[.namespace]`, or a workload or a Service for one of its pods.
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<String>,
    /// All running pods of the namespace with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// A level for every logger, or `LOGGER:LEVEL` for single ones, divided by commas.
    #[arg(long, conflicts_with = "reset")]
    level: Option<Levels>,
    /// Set every logger to the level that the proxy was started with.
    #[arg(short, long)]
    reset: bool,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The port of the proxy's admin interface.
    #[arg(long = "proxy-admin-port", default_value_t = ADMIN, value_name = "PORT")]
    admin_port: u16,
}

/// What is asked for: a level for all, and of single loggers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) all: Option<String>,
    pub(crate) single: Vec<(String, String)>,
}

impl std::str::FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut levels = Levels::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once([':', '=']) {
                Some((name, level)) if !name.is_empty() && !level.is_empty() => {
                    levels.single.push((name.to_owned(), known(level)?));
                }
                None if !part.is_empty() => levels.all = Some(known(part)?),
                _ => return Err(format!("{part:?} is no LEVEL or LOGGER:LEVEL")),
            }
        }
        Ok(levels)
    }
}

/// Levels by the names that Envoy and Istio have for them.
const LEVELS: [&str; 9] = [
    "off", "none", "critical", "error", "warning", "warn", "info", "debug", "trace",
];

fn known(level: &str) -> Result<String, String> {
    match LEVELS.contains(&level) {
        true => Ok(level.to_owned()),
        false => Err(format!(
            "{level:?} is no level; levels are {}",
            LEVELS.join(", ")
        )),
    }
}

impl Levels {
    /// The questions that make Envoy change them, one after the other.
    fn paths(&self) -> Vec<String> {
        let all = self
            .all
            .iter()
            .map(|level| format!("/logging?level={level}"));
        let single = self
            .single
            .iter()
            .map(|(name, level)| format!("{name}:{level}"));
        let single = single.collect::<Vec<_>>().join(",");
        let single = Some(single).filter(|list| !list.is_empty());
        all.chain(single.map(|list| format!("/logging?paths={list}")))
            .collect()
    }
}

impl Log {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let mut told = Map::new();
        let mut failed = Vec::new();
        for (pod, namespace) in self.pods(&client, global).await? {
            let name = format!("{pod}.{namespace}");
            match self.ask(&client, &namespace, &pod).await {
                Ok(text) if self.output == Format::Short => {
                    output::print(format_args!("{name}:\n{text}"));
                }
                Ok(text) => {
                    told.insert(name, loggers(&text));
                }
                Err(error) => failed.push(format!("{name}: {error:#}")),
            }
        }
        if self.output != Format::Short {
            output::structured(&Value::Object(told), self.output)?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        bail!("{}", failed.join("\n"))
    }

    async fn pods(
        &self,
        client: &Client,
        global: &Global,
    ) -> anyhow::Result<Vec<(String, String)>> {
        if let Some(pod) = &self.pod {
            let (pod, namespace) = client::find_pod(client, pod, global).await?;
            return Ok(vec![(pod, namespace.to_owned())]);
        }
        let selector = self.selector.as_deref().unwrap_or_default();
        let namespace = &global.namespace;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let found = pods.list(&ListParams::default().labels(selector)).await?;
        let running = found.into_iter().filter(client::is_running);
        let names: Vec<_> = running
            .filter_map(|pod| Some((pod.metadata.name?, namespace.clone())))
            .collect();
        if names.is_empty() {
            bail!("no running pod of namespace {namespace} has the labels {selector}");
        }
        Ok(names)
    }

    /// Changes what is asked for; the levels after it.
    async fn ask(&self, client: &Client, namespace: &str, pod: &str) -> anyhow::Result<String> {
        let reset = match self.reset {
            true => Some(Levels {
                all: Some(started_with(client, namespace, pod).await?),
                single: Vec::new(),
            }),
            false => None,
        };
        let levels = reset.as_ref().or(self.level.as_ref());
        let mut paths = levels.map(Levels::paths).unwrap_or_default();
        if paths.is_empty() {
            paths.push("/logging".to_owned());
        }
        let mut text = String::new();
        for path in paths {
            text = client::pod_post(client, namespace, pod, self.admin_port, &path).await?;
        }
        Ok(text)
    }
}

/// The level that the pod gives its proxy.
async fn started_with(client: &Client, namespace: &str, pod: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods.get(pod).await.context("cannot read the pod")?;
    Ok(level_of(&pod).unwrap_or_else(|| DEFAULT.to_owned()))
}

fn level_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let native = spec.init_containers.iter().flatten();
    let mut all = native.chain(&spec.containers);
    let proxy = all.find(|container| container.name == CONTAINER)?;
    let mut args = proxy.args.iter().flatten();
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            Some((LEVEL_ARGUMENT, level)) => return Some(level.to_owned()),
            None if arg == LEVEL_ARGUMENT => return args.next().cloned(),
            _ => {}
        }
    }
    None
}

/// The listing as an object: `active loggers:` and lines of `name: level`.
fn loggers(text: &str) -> Value {
    let pairs = text
        .lines()
        .skip(1)
        .filter_map(|line| line.trim().split_once(": "));
    pairs
        .map(|(name, level)| (name.to_owned(), json!(level)))
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_asked_for_as_envoy_takes_them() {
        for (text, expect) in [
            ("debug", Ok(vec!["/logging?level=debug"])),
            ("http:debug", Ok(vec!["/logging?paths=http:debug"])),
            (
                "info,http=debug,upstream:trace",
                Ok(vec![
                    "/logging?level=info",
                    "/logging?paths=http:debug,upstream:trace",
                ]),
            ),
            ("", Err("\"\" is no LEVEL or LOGGER:LEVEL")),
            ("http:", Err("\"http:\" is no LEVEL or LOGGER:LEVEL")),
            (
                "http:loud",
                Err(
                    "\"loud\" is no level; levels are off, none, critical, error, warning, warn, info, \
                     debug, trace",
                ),
            ),
        ] {
            let given = text.parse::<Levels>().map(|levels| levels.paths());
            let expect = expect.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
            assert_eq!(given, expect.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_level_of_the_start_is_found() {
        let pod = |args: &[&str], place: &str| -> Pod {
            let container = json!({"name": CONTAINER, "args": args});
            let mut spec = json!({"containers": []});
            spec[place] = json!([container]);
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        for (args, expect) in [
            (vec!["proxy", "--proxyLogLevel=info"], Some("info")),
            (vec!["proxy", "--proxyLogLevel", "debug"], Some("debug")),
            (vec!["proxy"], None),
        ] {
            for place in ["containers", "initContainers"] {
                assert_eq!(level_of(&pod(&args, place)).as_deref(), expect, "{args:?}");
            }
        }
    }

    #[test]
    fn listings_become_objects() {
        let text = "active loggers:\n  admin: warning\n  http: debug\n";
        assert_eq!(loggers(text), json!({"admin": "warning", "http": "debug"}));
    }
}
