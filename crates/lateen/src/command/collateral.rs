//! `lateen collateral`: a page for each command, made of the definition of the command line, so that pages
//! and program cannot differ.

mod page;

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, Command};

use crate::output;

/// Write a page of documentation for each command.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen collateral -o docs/commands")]
pub(crate) struct Collateral {
    /// The folder to write to; it is made where it is missing.
    #[arg(short, long, default_value = "docs/commands", value_name = "DIRECTORY")]
    output: PathBuf,
}

impl Collateral {
    pub(crate) fn run(&self, mut cli: Command) -> anyhow::Result<()> {
        cli.build();
        let folder = &self.output;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let pages = page::all(&cli);
        for (name, text) in &pages {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        output::line(format_args!(
            "Wrote {} pages to {}",
            pages.len(),
            folder.display()
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
