//! `proxy-config bootstrap`.

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::dump::{BOOTSTRAP, Dump};
use super::{DUMP, Target, named, text};
use crate::{
    cli::Global,
    output::{self, Format},
    table::Table,
};

/// What a proxy was started with; keys in it are not shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config bootstrap deploy/productpage-v1\n  \
                  lateen proxy-config bootstrap deploy/productpage-v1 -o short")]
pub(super) struct Bootstrap {
    #[command(flatten)]
    target: Target,
    /// How to write the result; `short` shows the versions alone.
    #[arg(short, long, value_enum, default_value = "json")]
    output: Format,
}

impl Bootstrap {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        let bootstrap = of(&dump)?;
        match self.output {
            Format::Short => {
                output::print(versions(bootstrap));
                Ok(())
            }
            format => {
                let bootstrap = named("envoy.config.bootstrap.v3.Bootstrap", bootstrap);
                output::structured(&json!({ "bootstrap": bootstrap }), format)
            }
        }
    }
}

/// The bootstrap in a dump.
pub(super) fn of(dump: &Dump) -> anyhow::Result<&Value> {
    let section = dump.sections(BOOTSTRAP).next();
    let section = section.context("the dump has no bootstrap")?;
    Ok(&section["bootstrap"])
}

/// The versions that the bootstrap tells, each on a line.
pub(super) fn versions(bootstrap: &Value) -> Table {
    let node = &bootstrap["node"];
    let metadata = &node["metadata"];
    let all = [
        ("Istio Version:", text(metadata, "ISTIO_VERSION").to_owned()),
        (
            "Istio Proxy Version:",
            text(metadata, "ISTIO_PROXY_SHA").to_owned(),
        ),
        (
            "Lateen Version:",
            text(metadata, "LATEEN_VERSION").to_owned(),
        ),
        (
            "Envoy Version:",
            envoy_version(&node["user_agent_build_version"]),
        ),
    ];
    let mut told = all.into_iter().filter(|(_, version)| !version.is_empty());
    let (name, version) = told
        .next()
        .unwrap_or(("Istio Version:", "unknown".to_owned()));
    // The first of them takes the header's place.
    let mut table = Table::new([name, &version]).padded(1);
    told.for_each(|(name, version)| table.row([name.to_owned(), version]));
    table
}

/// What Envoy says of its build: the version, and how it was made.
fn envoy_version(build: &Value) -> String {
    let version = &build["version"];
    if !version.is_object() {
        return String::new();
    }
    let part = |name: &str| version[name].as_u64().unwrap_or_default();
    let parts = [part("major_number"), part("minor_number"), part("patch")];
    let number = parts.map(|part| part.to_string()).join(".");
    let label = match text(&build["metadata"], "build.label") {
        "" => String::new(),
        label => format!("-{label}"),
    };
    let made = ["revision.status", "build.type", "ssl.version"];
    let made = made.map(|name| text(&build["metadata"], name));
    let made = made.iter().filter(|part| !part.is_empty());
    let made: String = made.map(|part| format!("/{part}")).collect();
    format!("{number}{label}{made}")
}
