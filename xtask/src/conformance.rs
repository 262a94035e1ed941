//! Tools from elsewhere before and behind the proxy. They are installed below `target/`, from the
//! registries of their languages; what they do is in `conformance/`.

mod gateway_api;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Below the repository's root.
const HOME: &str = "target/conformance";
/// Each is a script, but for the Gateway API's, which is a Go module.
const CHECKS: [&str; 7] = [
    "h2spec",
    "grpc_calls",
    "grpc_xds",
    "websocket",
    "websocket_h2",
    "clients",
    GATEWAY_API,
];
const GATEWAY_API: &str = "gateway-api";
const PYTHON_PACKAGES: [&str; 7] = [
    "grpcio>=1.80",
    "grpcio-status>=1.80",
    "h2>=4.3",
    "httpx[http2]>=0.28",
    "hypercorn>=0.18",
    "requests>=2.32",
    "websockets>=15",
];
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@latest";
/// Its fuzzing client runs on Python 2.7 alone.
const AUTOBAHN: &str = "autobahntestsuite==25.10.1";

/// Runs the checks of these names, or all.
///
/// # Errors
/// Where a tool cannot be installed or a check fails.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<()> {
    let unknown = names.iter().find(|name| !CHECKS.contains(&name.as_str()));
    if let Some(name) = unknown {
        bail!("no check is called {name}; there are {}", CHECKS.join(", "));
    }
    let wanted = |name: &&str| names.is_empty() || names.iter().any(|asked| asked == name);
    let checks: Vec<_> = CHECKS.into_iter().filter(wanted).collect();
    let home = root.join(HOME);
    std::fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    let mut failed = Vec::new();
    let (of_go, scripts): (Vec<_>, Vec<_>) = checks.into_iter().partition(|c| *c == GATEWAY_API);
    if !scripts.is_empty() {
        run_scripts(root, &home, &scripts, &mut failed)?;
    }
    for check in of_go {
        if let Err(error) = gateway_api::run(root, &home) {
            eprintln!("{check}: {error:#}");
            failed.push(check);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn run_scripts(
    root: &Path,
    home: &Path,
    checks: &[&'static str],
    failed: &mut Vec<&'static str>,
) -> Result<()> {
    let serve = example(root, "lateen-proxy", "serve")?;
    let python = python(home)?;
    for check in checks {
        let mut script = Command::new(&python);
        script
            .arg(root.join("conformance").join(check).with_extension("py"))
            .env("SERVE", &serve);
        // The others run all the same where a tool is missing.
        let ready = add_tools(&mut script, check, root, home);
        if let Err(error) = ready.and_then(|()| finish(&mut script)) {
            eprintln!("{check}: {error:#}");
            failed.push(check);
        }
    }
    Ok(())
}

/// Installs what the check needs beside Python, and tells the script where it is.
fn add_tools(script: &mut Command, check: &str, root: &Path, home: &Path) -> Result<()> {
    match check {
        "grpc_xds" => drop(script.env("PLANE", example(root, "lateen-pilot", "plane")?)),
        "h2spec" => drop(script.env("H2SPEC", h2spec(home)?)),
        "websocket" => drop(script.env("WSTEST", autobahn(home)?)),
        _ => {}
    }
    Ok(())
}

/// A part of the mesh that runs alone.
fn example(root: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root);
    finish(build.args(["build", "-p", package, "--example", name]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("debug/examples").join(name))
}

/// A Python with the libraries that the scripts use.
fn python(home: &Path) -> Result<PathBuf> {
    let venv = home.join("python");
    let python = venv.join("bin/python");
    if !python.exists() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    pip(&python, &PYTHON_PACKAGES)?;
    Ok(python)
}

fn pip(python: &Path, packages: &[&str]) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    finish(pip.args(packages))
}

fn h2spec(home: &Path) -> Result<PathBuf> {
    let binary = home.join("bin/h2spec");
    if !binary.exists() {
        let mut go = Command::new(std::env::var_os("GO").unwrap_or_else(|| "go".into()));
        finish(go.args(["install", H2SPEC]).env("GOBIN", home.join("bin")))
            .context("h2spec needs Go; GO says where it is")?;
    }
    Ok(binary)
}

fn autobahn(home: &Path) -> Result<PathBuf> {
    let venv = home.join("autobahn");
    let binary = venv.join("bin/wstest");
    if !binary.exists() {
        let python = std::env::var_os("PYTHON2").unwrap_or_else(|| "python2.7".into());
        // Python 2.7 has no `venv`. What makes one is not put into the Python of the user.
        let tool = home.join("virtualenv");
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
        finish(install.arg("--target").arg(&tool).arg("virtualenv"))
            .context("Autobahn needs Python 2.7 with pip; PYTHON2 says where it is")?;
        let mut make = Command::new(&python);
        make.env("PYTHONPATH", &tool)
            .args(["-m", "virtualenv", "-q"]);
        finish(make.arg(&venv))?;
        pip(&venv.join("bin/python"), &[AUTOBAHN])?;
    }
    Ok(binary)
}

fn finish(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status();
    let status = status.with_context(|| format!("cannot run {}", name.display()))?;
    ensure!(status.success(), "{} failed", name.display());
    Ok(())
}
