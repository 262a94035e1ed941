//! Standard output, the one place that prints results; and the forms that several commands share.

use std::{
    io::{IsTerminal, Read, Write},
    path::Path,
    time::SystemTime,
};

use anyhow::Context;

/// Prints a result as it is. A closed pipe (`| head`) ends the output, not the command.
pub(crate) fn print(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // Nobody reads any more.
    }
}

/// Prints a result and ends the line.
pub(crate) fn line(text: impl std::fmt::Display) {
    print(format_args!("{text}\n"));
}

/// Whether results may have colours: a terminal reads, and the user does not say otherwise (`NO_COLOR`,
/// see no-color.org).
pub(crate) fn has_colors() -> bool {
    let says = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_plain = says("NO_COLOR").is_some() || says("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_plain
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    #[value(alias = "table")]
    Short,
    /// JSON for programs.
    Json,
    /// YAML for both.
    Yaml,
}

/// A value as JSON or YAML.
pub(crate) fn structured(value: &serde_json::Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Yaml => print(serde_yaml_ng::to_string(value)?),
        Format::Json | Format::Short => line(serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

/// A file's text, or that of standard input for `-`.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A time as people and Kubernetes write it, to the second: `2026-11-26T18:43:40Z`.
pub(crate) fn time(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        // Before the year -9999 or after 9999.
        Err(_) => String::new(),
    }
}
