//! Standard output: the one place that prints results.

use std::io::Write;

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

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
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
