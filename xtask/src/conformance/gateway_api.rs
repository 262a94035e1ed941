//! The public conformance suite of the Gateway API, against a mesh of its own on this machine.
//!
//! The suite is a Go module, and so is what runs it (`conformance/gateway_api`). It runs within the
//! mesh's network namespace, where the addresses of gateways are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use super::finish;

const NAME: &str = "conformance";
/// The suite has a gateway for nearly every test, each with an address of its own.
const ADDRESSES: &str = "10.10.99.100-10.10.99.155";
/// The last of them, which a test asks for by itself.
const USABLE: &str = "10.10.99.155";
/// The API server's address within the cluster.
const API_SERVER: &str = "https://10.96.0.1:443";
const ECHO_SERVER: &str = "sigs.k8s.io/gateway-api/conformance/echo-basic";

/// Runs the profiles of gateways, then those of the mesh, and prints what came of each test.
///
/// # Errors
/// Where there is no Go, the mesh does not start, or a test fails.
pub(super) fn run(root: &Path, home: &Path) -> Result<()> {
    let home = home.join("gateway-api");
    let suite = Suite::build(root, &home)?;
    let lateen = build_lateen(root)?;
    let mut failed = Vec::new();
    for (what, flags) in [
        ("gateways", &["-usable", USABLE][..]),
        ("the mesh", &["-mesh"][..]),
    ] {
        let mesh = Mesh::start(&lateen, &home)?;
        mesh.map("coredns", &[path(&suite.dns_server)?])?;
        mesh.map("echo-basic", &[path(&suite.echo_server)?])?;
        if !suite.run(&mesh, flags, &home)? {
            failed.push(what);
        }
    }
    ensure!(
        failed.is_empty(),
        "tests of {} failed",
        failed.join(" and ")
    );
    Ok(())
}

struct Suite {
    tests: PathBuf,
    echo_server: PathBuf,
    dns_server: PathBuf,
}

impl Suite {
    fn build(root: &Path, home: &Path) -> Result<Self> {
        let module = home.join("module");
        std::fs::create_dir_all(&module).with_context(|| module.display().to_string())?;
        let source = root.join("conformance/gateway_api");
        for file in std::fs::read_dir(&source).with_context(|| source.display().to_string())? {
            let file = file?;
            std::fs::copy(file.path(), module.join(file.file_name()))?;
        }
        let suite = Suite {
            tests: home.join("suite.test"),
            echo_server: home.join("echo-basic"),
            dns_server: home.join("dns"),
        };
        let go = |args: &[&str]| {
            let mut go = Command::new(std::env::var_os("GO").unwrap_or_else(|| "go".into()));
            finish(go.args(args).current_dir(&module))
                .context("the Gateway API's suite needs Go; GO says where it is")
        };
        go(&["mod", "tidy"])?;
        go(&["build", "-o", path(&suite.echo_server)?, ECHO_SERVER])?;
        go(&["build", "-o", path(&suite.dns_server)?, "dns.go"])?;
        go(&["test", "-c", "-o", path(&suite.tests)?, "."])?;
        Ok(suite)
    }

    /// Whether all tests passed that were run.
    fn run(&self, mesh: &Mesh, flags: &[&str], home: &Path) -> Result<bool> {
        let log_path = home.join("suite.log");
        let log = std::fs::File::create(&log_path)?;
        let summary = home.join("summary.txt");
        // Of an earlier run.
        let _ = std::fs::remove_file(&summary);
        let mut tests = Command::new("nsenter");
        tests
            .args(["--net", "--target", &mesh.launcher()?])
            .arg(&self.tests)
            .args(["-test.v", "-test.timeout", "1h", "-summary"])
            .arg(&summary)
            .args(flags)
            .env("KUBECONFIG", mesh.kubeconfig_within()?)
            .stdout(log.try_clone()?)
            .stderr(log);
        let status = tests.status().context("cannot run nsenter")?;
        let text = std::fs::read_to_string(&summary);
        let text = text.with_context(|| format!("see {}", log_path.display()))?;
        print(&text);
        if !status.success() {
            eprintln!("why is in {}", log_path.display());
        }
        Ok(status.success())
    }
}

/// Both meshes are of one build.
fn build_lateen(root: &Path) -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    finish(build.current_dir(root).args(["build", "-p", "lateen"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or(root.join("target"), PathBuf::from);
    Ok(target.join("debug/lateen"))
}

/// A mesh that goes when it is dropped.
struct Mesh {
    lateen: PathBuf,
    state: PathBuf,
}

impl Mesh {
    fn start(lateen: &Path, home: &Path) -> Result<Self> {
        let mesh = Mesh {
            lateen: lateen.to_owned(),
            state: home.join("state"),
        };
        std::fs::create_dir_all(&mesh.state)?;
        let mut up = mesh.lateen(&["up", "--name", NAME, "--detach", "--no-bookinfo"]);
        finish(up.args(["--http-port", "0", "--vip-pool", ADDRESSES]))?;
        Ok(mesh)
    }

    fn lateen(&self, args: &[&str]) -> Command {
        let mut lateen = Command::new(&self.lateen);
        lateen.args(args).env("XDG_STATE_HOME", &self.state);
        lateen
    }

    fn map(&self, image: &str, command: &[&str]) -> Result<()> {
        let mut add = self.lateen(&["image", "--name", NAME, "add", image, "--"]);
        finish(add.args(command).stdout(Stdio::null()))
    }

    fn home(&self) -> PathBuf {
        self.state.join("lateen").join(NAME)
    }

    /// The process that stands in the mesh's network namespace.
    fn launcher(&self) -> Result<String> {
        let text = std::fs::read_to_string(self.home().join("launcher.pid"))?;
        let id: serde_json::Value = serde_json::from_str(&text)?;
        Ok(id["pid"].to_string())
    }

    /// The mesh's kubeconfig, with the API server's address within the cluster.
    fn kubeconfig_within(&self) -> Result<PathBuf> {
        let text = std::fs::read_to_string(self.home().join("kubeconfig"))?;
        let line = |line: &str| match line.split_once("server:") {
            Some((indent, _)) => format!("{indent}server: {API_SERVER}\n"),
            None => format!("{line}\n"),
        };
        let within = self.state.join("kubeconfig");
        std::fs::write(&within, text.lines().map(line).collect::<String>())?;
        Ok(within)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let down = self.lateen(&["down", "--name", NAME]).output();
        if !matches!(down, Ok(Output { status, .. }) if status.success()) {
            eprintln!("cannot stop the mesh {NAME}");
        }
    }
}

fn path(of: &Path) -> Result<&str> {
    of.to_str().context("a path that is no text")
}

#[allow(clippy::print_stdout, reason = "what the task is for")]
fn print(text: &str) {
    print!("{text}");
}
