//! `lateen down`.

use clap::Args;
use lateen_local::state::{self, DEFAULT_NAME};

use crate::output;

/// Stop the mesh and remove every trace of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen down\n  lateen down --name other\n  lateen down --all")]
pub(crate) struct Down {
    /// The mesh's name.
    #[arg(long, default_value = DEFAULT_NAME, conflicts_with = "all")]
    name: String,
    /// Every mesh of this user.
    #[arg(long)]
    all: bool,
}

impl Down {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let names = if self.all {
            state::names()
        } else {
            vec![self.name.clone()]
        };
        for name in names {
            let stopping = name.clone();
            let found =
                tokio::task::spawn_blocking(move || state::stop_and_clean(&stopping)).await??;
            match found {
                true => output::line(format_args!("mesh {name} is stopped and removed")),
                false => output::line(format_args!("there is no mesh {name}")),
            }
        }
        Ok(())
    }
}
