//! Two that install at once, and those that are ended halfway.

use std::collections::BTreeSet;
use std::process::{Child, Command, Output, Stdio};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use lateen_e2e::{Mesh, eventually, mesh::text};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::profiles::{everything, settled};
use super::{alone, block_on};

/// What the second one is told.
const TAKEN: &str = "another installation is under way in this cluster, by ";

#[test]
fn two_at_once_and_those_that_are_cut_off_leave_nothing_half() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("races")?;
    let before = block_on(async {
        let client = mesh.client().await?;
        settled(&client).await?;
        everything(&client).await
    })?;
    two_at_once(&mesh)?;
    killed_halfway(&mesh)?;
    removed_halfway(&mesh, &before)?;
    mesh.stop().map(drop)
}

/// A command that runs beside the test.
fn start(mesh: &Mesh, args: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new(mesh.binary());
    command
        .args(args)
        .env("XDG_STATE_HOME", mesh.state_folder())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// Either comes to its end or says that the other is at it, and one at least comes to its end.
fn two_at_once(mesh: &Mesh) -> anyhow::Result<()> {
    let install = ["install", "-y", "--set", "profile=minimal"];
    let both = [start(mesh, &install)?, start(mesh, &install)?];
    let both = both.map(Child::wait_with_output);
    let both: Vec<Output> = both.into_iter().collect::<Result<_, _>>()?;
    let said: Vec<String> = both.iter().map(text).collect();
    ensure!(both.iter().any(|one| one.status.success()), "{said:#?}");
    for (one, said) in both.iter().zip(&said) {
        ensure!(one.status.success() || said.contains(TAKEN), "{said}");
    }
    mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y"])?;
    mesh.lateen_ok(&["verify-install", "--set", "profile=minimal"])
        .map(drop)
}

/// Killed when the control plane is there and the gateway is not. Its lock is nobody's half a minute later, and the
/// same command goes on.
fn killed_halfway(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
    let mut child = start(mesh, &["install", "-y", "--set", "profile=default"])?;
    let reached = block_on(async {
        let all: Api<Deployment> = Api::namespaced(mesh.client().await?, "istio-system");
        eventually("half an installation", async || {
            all.get("istiod").await?;
            Ok(())
        })
        .await
    });
    // By SIGKILL, so that it cannot tidy up.
    child.kill()?;
    let killed = child.wait_with_output()?;
    reached?;
    ensure!(!killed.status.success(), "{}", text(&killed));
    let mut others = Vec::new();
    block_on(eventually(
        "the lock of the killed to be nobody's",
        async || {
            let output = mesh.lateen(&["install", "-y"])?;
            let said = text(&output);
            if !output.status.success() && !said.contains(TAKEN) {
                others.push(said.clone());
            }
            ensure!(output.status.success(), "{said}");
            Ok(())
        },
    ))?;
    ensure!(others.is_empty(), "{others:#?}");
    mesh.lateen_ok(&["verify-install"]).map(drop)
}

/// Ended by somebody when the control plane's Deployment is gone and the rest is not. The lock is given back,
/// and the same command goes on: nothing is left.
fn removed_halfway(mesh: &Mesh, before: &BTreeSet<String>) -> anyhow::Result<()> {
    let purge = ["uninstall", "--purge", "-y"];
    let child = start(mesh, &purge)?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let reached = block_on(async {
        let all: Api<Deployment> = Api::namespaced(mesh.client().await?, "istio-system");
        eventually("half a removal", async || {
            ensure!(all.get_opt("istiod").await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    });
    nix::sys::signal::kill(pid, Signal::SIGINT)?;
    let ended = child.wait_with_output()?;
    reached?;
    let said = text(&ended);
    ensure!(
        !ended.status.success() && said.contains("the same command goes on with it"),
        "{said}"
    );
    mesh.lateen_ok(&purge)?;
    block_on(async {
        let client = mesh.client().await?;
        eventually("everything to be as it was", async || {
            let now = everything(&client).await?;
            let left: Vec<_> = now.difference(before).collect();
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        })
        .await
    })?;
    let said = mesh.lateen_ok(&purge)?;
    ensure!(said.contains("There is nothing to remove."), "{said}");
    Ok(())
}
