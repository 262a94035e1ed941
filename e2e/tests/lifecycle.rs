//! Starting, stopping and breaking whole meshes. Each test has meshes of its own.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard},
};

use anyhow::{Context, ensure};
use lateen_e2e::{
    Mesh, eventually,
    machine::{Machine, Processes},
    mesh::text,
};
use nix::{sys::signal::Signal, unistd::Pid};

/// The machine is compared with what it was, so only one test may change it at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MACHINE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(future)
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{kept: 'yes'}}\n")
}

#[test]
fn two_meshes_run_side_by_side_and_leave_nothing() -> anyhow::Result<()> {
    let _alone = alone();
    let before = Machine::look();
    let mut first = Mesh::prepare("one")?;
    let mut processes = Processes::before(first.binary())?;
    first.up()?;
    let second = Mesh::start("two")?;
    block_on(async {
        for mesh in [&first, &second] {
            let answer = mesh.gateway().get("/productpage").await?;
            ensure!(answer.status == 200, "{}", answer.status);
        }
        first.apply(&config_map("only-in-one")).await?;
        let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::default_namespaced(second.client().await?);
        ensure!(
            api.get_opt("only-in-one").await?.is_none(),
            "the meshes share their state"
        );
        Ok(())
    })?;
    let again = first.lateen(&["up", "--detach", "--name", &first.name, "--http-port", "0"])?;
    ensure!(
        !again.status.success() && text(&again).contains("runs already"),
        "{}",
        text(&again)
    );
    for mesh in [first, second] {
        processes.note(mesh.pid("platform")?);
        mesh.stop()?;
    }
    // Two control planes, two gateways, twelve pods of Bookinfo with two containers each.
    ensure!(
        processes.n_noted() > 28,
        "only {} processes",
        processes.n_noted()
    );
    ensure!(processes.left().is_empty(), "{:#?}", processes.left());
    ensure!(
        Machine::look() == before,
        "before {before:#?}\nafter {:#?}",
        Machine::look()
    );
    Ok(())
}

#[test]
fn a_killed_platform_leaves_nothing_running_and_comes_back_with_its_state() -> anyhow::Result<()> {
    let _alone = alone();
    let before = Machine::look();
    let mut mesh = Mesh::prepare("crash")?;
    let mut processes = Processes::before(mesh.binary())?;
    mesh.up()?;
    block_on(mesh.apply(&config_map("kept")))?;
    let platform = mesh.pid("platform")?;
    processes.note(platform);
    nix::sys::signal::kill(Pid::from_raw(platform), Signal::SIGKILL)?;
    block_on(eventually("every process to end", async || {
        ensure!(processes.left().is_empty(), "{:#?}", processes.left());
        Ok(())
    }))?;
    ensure!(mesh.status()?["state"] == "dead", "{}", mesh.status()?);
    // A start that fails must not cost what the mesh had.
    let failed = mesh.lateen(&[
        "up",
        "--detach",
        "--name",
        &mesh.name,
        "--http-port",
        "0",
        "--vip-pool",
        "nonsense",
    ])?;
    ensure!(
        !failed.status.success() && text(&failed).contains("nonsense"),
        "{}",
        text(&failed)
    );
    ensure!(processes.left().is_empty(), "{:#?}", processes.left());
    mesh.up()?;
    block_on(async {
        let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::default_namespaced(mesh.client().await?);
        api.get("kept").await.context("the state is lost")?;
        let answer = mesh.gateway().get("/productpage").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })?;
    mesh.stop()?;
    ensure!(
        Machine::look() == before,
        "before {before:#?}\nafter {:#?}",
        Machine::look()
    );
    Ok(())
}

#[test]
fn an_ordinary_user_runs_a_mesh() -> anyhow::Result<()> {
    const NOBODY: u32 = 65534;
    let _alone = alone();
    if !nix::unistd::geteuid().is_root() {
        // Every other test of this file has shown it already.
        return Ok(());
    }
    let mesh = Mesh::prepare("plain")?;
    std::fs::set_permissions(mesh.state_folder(), std::fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::chown(mesh.state_folder(), Some(NOBODY), Some(NOBODY))?;
    let binary = mesh.state_folder().join("binary");
    std::fs::copy(mesh.binary(), &binary)?;
    let processes = Processes::before(&binary)?;
    let run = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .args(args)
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .env("XDG_STATE_HOME", mesh.state_folder());
        command.output()
    };
    let port = mesh.http.port().to_string();
    let up = run(&["up", "--detach", "--name", &mesh.name, "--http-port", &port])?;
    let page = match up.status.success() {
        true => block_on(async { mesh.gateway().get("/productpage").await }),
        false => Err(anyhow::anyhow!("{}", text(&up))),
    };
    let down = run(&["down", "--name", &mesh.name])?;
    ensure!(down.status.success(), "{}", text(&down));
    ensure!(page?.status == 200, "no productpage");
    ensure!(processes.left().is_empty(), "{:#?}", processes.left());
    Ok(())
}

#[test]
fn without_privileges_it_says_what_is_missing() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::prepare("powerless")?;
    // A user namespace that allows no further one, and then no capability in it either.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(mesh.binary());
    command.args(["up", "--detach", "--name", &mesh.name, "--http-port", "0"]);
    let output = command
        .env("XDG_STATE_HOME", mesh.state_folder())
        .output()?;
    let said = text(&output);
    ensure!(!output.status.success(), "it started: {said}");
    ensure!(
        said.contains("cannot create namespaces") && said.contains("max_user_namespaces"),
        "{said}"
    );
    ensure!(is_empty(mesh.state_folder())?, "files are left behind");
    Ok(())
}

fn is_empty(folder: &Path) -> anyhow::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}
