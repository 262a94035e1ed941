//! `lateen image`: which local command an image's name runs.

use anyhow::bail;
use clap::{Args, Subcommand};
use lateen_local::{
    images::Images,
    state::{DEFAULT_NAME, StateDir},
};

use crate::{output, table::Table};

/// Say which local command an image name runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen image add docker.io/library/redis:7 -- redis-server --port 6379\n  lateen image list\n  lateen image remove docker.io/library/redis:7"
)]
pub(crate) struct Image {
    /// The mesh's name.
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Map an image's name to a command of this machine
    Add {
        /// The image as pods name it, with or without its tag and path.
        image: String,
        /// The command and its first arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the images that were mapped
    List,
    /// Forget an image
    Remove {
        /// The image as it was added.
        image: String,
    },
}

impl Image {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::of(&self.name)?;
        if !state.path().exists() {
            bail!("there is no mesh {}: start one with `lateen up`", self.name);
        }
        let images = Images::at(state.images_file());
        match &self.action {
            Action::Add { image, command } => {
                images.add(image, command)?;
                output::line(format_args!("{image} runs: {}", command.join(" ")));
            }
            Action::List => {
                let mut table = Table::new(["IMAGE", "COMMAND"]);
                for (image, command) in images.list()? {
                    table.row([image, command.join(" ")]);
                }
                output::print(table);
            }
            Action::Remove { image } => {
                if !images.remove(image)? {
                    bail!("{image} is not mapped; `lateen image list` shows what is");
                }
                output::line(format_args!("{image} is forgotten"));
            }
        }
        Ok(())
    }
}
