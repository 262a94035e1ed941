//! Two that install at once, and one that is killed halfway.

use std::process::{Child, Command, Output, Stdio};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use lateen_e2e::{Mesh, eventually, mesh::text};

use super::{alone, block_on};

/// What the second one is told.
const TAKEN: &str = "another installation is under way in this cluster, by ";

#[test]
fn two_at_once_and_one_killed_leave_a_whole_mesh() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("races")?;
    two_at_once(&mesh)?;
    killed_halfway(&mesh)?;
    mesh.stop().map(drop)
}

/// An installation that runs beside the test.
fn start(mesh: &Mesh, set: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(mesh.binary());
    command
        .args(["install", "-y", "--set", set])
        .env("XDG_STATE_HOME", mesh.state_folder())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// Either comes to its end or says that the other is at it, and one at least comes to its end.
fn two_at_once(mesh: &Mesh) -> anyhow::Result<()> {
    let both = [
        start(mesh, "profile=minimal")?,
        start(mesh, "profile=minimal")?,
    ];
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
    let mut child = start(mesh, "profile=default")?;
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
    mesh.lateen_ok(&["verify-install"])?;
    mesh.lateen_ok(&["uninstall", "--purge", "-y"]).map(drop)
}
