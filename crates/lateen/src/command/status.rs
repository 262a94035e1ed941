//! `lateen status`: each component and pod of the local mesh.

use anyhow::Context;
use clap::Args;
use lateen_local::state::{DEFAULT_NAME, StateDir};

use crate::{
    output::{self, Format},
    table::Table,
};

/// Show each component and pod of the local mesh with its state.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen status\n  lateen status -o json")]
pub(crate) struct Status {
    /// The mesh's name.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Status {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::of(&self.name)?;
        let mut status = state.status()?.with_context(|| {
            format!("there is no mesh {}: start one with `lateen up`", self.name)
        })?;
        if state.running().is_none() {
            // The file is the last word of a platform that did not end by itself.
            status.state = "dead".to_owned();
            for component in &mut status.components {
                component.state = "dead".to_owned();
                component.pid = 0;
            }
        }
        if self.output != Format::Short {
            return output::structured(&serde_json::to_value(&status)?, self.output);
        }
        output::line(format_args!(
            "mesh        {} ({})",
            status.name, status.state
        ));
        output::line(format_args!("http        {}", status.http));
        output::line(format_args!(
            "kubectl     export KUBECONFIG={}",
            status.kubeconfig
        ));
        output::line("");
        let mut table = Table::new(["COMPONENT", "PID", "STATE"]);
        for component in &status.components {
            let pid = if component.pid == 0 {
                "-".to_owned()
            } else {
                component.pid.to_string()
            };
            table.row([component.name.clone(), pid, component.state.clone()]);
        }
        table.sort();
        output::print(table);
        Ok(())
    }
}
