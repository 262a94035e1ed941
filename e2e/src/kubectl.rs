//! Every `kubectl` that the tests are given: users have old ones and new ones.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::mesh::text;

/// The variable that lists them, separated as in `PATH`; without it the one of the path is taken.
const VARIABLE: &str = "KUBECTL";

/// One `kubectl` with a cluster to talk to.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// What it learns of one cluster must not outlive it.
    cache: tempfile::TempDir,
}

impl Kubectl {
    /// All that there are; none, with a word about it, where this machine has none.
    pub fn all(kubeconfig: &std::path::Path) -> anyhow::Result<Vec<Self>> {
        let listed = std::env::var_os(VARIABLE).unwrap_or_default();
        let mut programs: Vec<PathBuf> = std::env::split_paths(&listed)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if programs.is_empty() {
            programs.push("kubectl".into());
        }
        let mut all = Vec::new();
        for program in programs {
            let kubectl = Self {
                program,
                kubeconfig: kubeconfig.to_owned(),
                cache: tempfile::tempdir()?,
            };
            match kubectl.output(&["version", "--client"], None) {
                Ok(_) => all.push(kubectl),
                Err(error) if listed.is_empty() => {
                    lateen_testkit::lacks(
                        "what kubectl says",
                        &format!("it cannot be run: {error}"),
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// As [`Kubectl::all`], for tests that show nothing without one: that there is none is an error.
    pub fn needed(kubeconfig: &std::path::Path) -> anyhow::Result<Vec<Self>> {
        let all = Self::all(kubeconfig)?;
        ensure!(
            !all.is_empty(),
            "this test takes kubectl, which is not on this machine: put it on the path, or name it by {VARIABLE}"
        );
        Ok(all)
    }

    /// Where it is.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// It with these arguments and its cluster.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--cache-dir")
            .arg(self.cache.path())
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs it to its end.
    pub fn output(&self, args: &[&str], stdin: Option<&str>) -> anyhow::Result<Output> {
        let mut child = self
            .command(args)
            .env("EDITOR", "sed -i s/replicas:.2/replicas:\\ 1/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let mut input = child.stdin.take().context("it was piped")?;
        // One that does not read its input has closed it.
        let _ = input.write_all(stdin.unwrap_or_default().as_bytes());
        drop(input);
        Ok(child.wait_with_output()?)
    }

    /// What it prints; a failure is an error.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.feed(args, "")
    }

    /// As [`Kubectl::run`], with a document on its standard input.
    pub fn feed(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        let output = self.output(args, Some(stdin))?;
        if !output.status.success() {
            bail!(
                "{} {args:?} failed: {}",
                self.program.display(),
                text(&output)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether its `exec` speaks WebSocket, which is so since 1.31.
    pub fn speaks_websocket(&self) -> anyhow::Result<bool> {
        let version = self.run(&["version", "--client", "-o", "json"])?;
        let version: serde_json::Value = serde_json::from_str(&version)?;
        let minor = version["clientVersion"]["minor"]
            .as_str()
            .unwrap_or_default();
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse::<u32>()? >= 31)
    }

    /// What it says when it fails, which it must.
    pub fn refused(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        let output = self.output(args, Some(stdin))?;
        let said = text(&output);
        ensure!(
            !output.status.success(),
            "{} {args:?} succeeded: {said}",
            self.program.display()
        );
        Ok(said)
    }
}
