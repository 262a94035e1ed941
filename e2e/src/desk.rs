//! The desk of a reader who types the commands of a page: a shell, `istioctl` and `kubectl` in its path,
//! a folder for files, and one cluster.

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{Kubectl, Mesh, mesh::text};

/// The shell and its files, as long as this lives.
#[derive(Debug)]
pub struct Desk {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    path: String,
}

impl Desk {
    /// With what a release's archive leaves in the folder `release`: `bin/istioctl`, which is in the path,
    /// as `kubectl` is.
    pub fn of(mesh: &Mesh, kubectl: &Kubectl, release: &str) -> anyhow::Result<Desk> {
        let folder = tempfile::tempdir()?;
        let programs = folder.path().join(release).join("bin");
        std::fs::create_dir_all(&programs)?;
        symlink(mesh.binary(), programs.join("istioctl"))?;
        let of_others = folder.path().join("bin");
        std::fs::create_dir(&of_others)?;
        let program = kubectl.program();
        if program.is_absolute() {
            symlink(program, of_others.join("kubectl"))?;
        }
        let others = std::env::var("PATH").unwrap_or_default();
        Ok(Desk {
            kubeconfig: mesh.kubeconfig()?,
            path: format!("{}:{}:{others}", programs.display(), of_others.display()),
            folder,
        })
    }

    /// Where the reader's files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file by its path below the folder.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, text)?)
    }

    /// A line of the page, in a shell; what it says. A failure carries it.
    pub fn bash(&self, line: &str) -> anyhow::Result<String> {
        self.answer(line, "")
    }

    /// As [`Desk::bash`], with what the reader types when asked.
    pub fn answer(&self, line: &str, typed: &str) -> anyhow::Result<String> {
        let (is_ok, said) = self.run(line, typed)?;
        if !is_ok {
            bail!("{line}: {said}");
        }
        Ok(said)
    }

    /// A line that must fail, and what it says.
    pub fn refused(&self, line: &str) -> anyhow::Result<String> {
        let (is_ok, said) = self.run(line, "")?;
        if is_ok {
            bail!("{line} succeeded: {said}");
        }
        Ok(said)
    }

    /// The shell with a line, for whoever starts it elsewhere.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn run(&self, line: &str, typed: &str) -> anyhow::Result<(bool, String)> {
        let mut command = self.command(line);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("run bash")?;
        let mut input = child.stdin.take().context("it was piped")?;
        // A command that asks nothing has closed it.
        let _ = input.write_all(typed.as_bytes());
        drop(input);
        let output = child.wait_with_output()?;
        Ok((output.status.success(), text(&output)))
    }
}
