//! `proxy-config ecds`.

use clap::Args;
use serde_json::Value;

use super::dump::EXTENSIONS;
use super::{DUMP, Target, print, text};
use crate::{cli::Global, output::Format, table::Table};

/// The extensions of a proxy that are configured apart from their listeners.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen proxy-config ecds deploy/productpage-v1\n  \
                        lateen proxy-config ecds --file config_dump.json -o json"
)]
pub(super) struct Ecds {
    #[command(flatten)]
    target: Target,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Ecds {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let dump = self.target.dump(global, DUMP).await?;
        if !dump.has(EXTENSIONS) {
            eprintln!("lateen: the proxy has no extensions that are configured apart");
        }
        let all = dump.resources(EXTENSIONS);
        print(self.output, &table(&all), EXTENSIONS.message, &all)
    }
}

pub(super) fn table(extensions: &[&Value]) -> Table {
    let mut table = Table::new(["ECDS NAME", "TYPE"]);
    for extension in extensions {
        let kind = text(&extension["typed_config"], "@type");
        let kind = kind.rsplit('/').next().unwrap_or_default();
        table.row([text(extension, "name").to_owned(), kind.to_owned()]);
    }
    table.sort();
    table
}
