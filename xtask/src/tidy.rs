//! Rules of the repository that the compiler does not know.
//!
//! Each rule adds faults to one list, so that a run shows all of them.

mod arrows;
mod modules;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Faults found so far, one line each.
#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, place: impl std::fmt::Display, fault: impl std::fmt::Display) {
        self.0.push(format!("{place}: {fault}"));
    }
}

/// Checks the repository at `root`.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = tracked(root)?;
    let mut faults = Faults::default();
    arrows::check(root, &mut faults)?;
    modules::check(root, &files, &mut faults)?;
    text::check(root, &files, &mut faults)?;
    for fault in &faults.0 {
        eprintln!("{fault}");
    }
    if faults.0.is_empty() {
        return Ok(());
    }
    bail!("{} faults", faults.0.len())
}

/// The repository's files: those that are tracked, and new ones that are not ignored.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "git: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let names = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}
