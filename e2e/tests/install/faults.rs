//! What can go wrong, each with its message; run again when the cause is gone, it succeeds.

use anyhow::{Context, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use lateen_e2e::{Mesh, mesh::text};
use serde_json::json;

use super::{alone, block_on};

/// Runs a command that must be refused, and says with what.
fn refused(mesh: &Mesh, args: &[&str]) -> anyhow::Result<String> {
    let output = mesh.lateen(args)?;
    ensure!(
        !output.status.success(),
        "{args:?} succeeded: {}",
        text(&output)
    );
    Ok(text(&output))
}

#[test]
fn each_fault_has_its_message() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("faults")?;
    for (args, message) in [
        (
            &["install", "--set", "profile=dmeo", "-y"][..],
            "there is no profile \"dmeo\"; did you mean demo?",
        ),
        (
            &["install", "--set", "values.pilot.autoscaleMn=2", "-y"],
            "values.pilot.autoscaleMn: unknown field; did you mean autoscaleMin?",
        ),
        (
            &["install", "-f", "/nonexistent.yaml", "-y"],
            "cannot read /nonexistent.yaml",
        ),
        (
            &["install", "--set", "profile=ambient", "-y"],
            "components.cni is not supported",
        ),
        (
            &["uninstall", "--revision", "canary", "-y"],
            "revision canary is not installed; nothing is installed in istio-system",
        ),
        (
            &["verify-install"],
            "objects of the installation are missing or not ready",
        ),
        (
            &["-c", "/nonexistent", "install", "-y"],
            "cannot read kubeconfig /nonexistent",
        ),
    ] {
        let said = refused(&mesh, args)?;
        ensure!(said.contains(message), "{args:?}: {said}");
    }
    block_on(async {
        without_permissions(&mesh).await?;
        two_at_once(&mesh).await?;
        an_image_that_is_not_there(&mesh)?;
        half_an_installation(&mesh).await
    })?;
    mesh.stop().map(drop)
}

async fn without_permissions(mesh: &Mesh) -> anyhow::Result<()> {
    let client = mesh.client().await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client);
    mesh.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: tenant}\n")
        .await?;
    let token = accounts
        .create_token_request("tenant", &PostParams::default(), &Default::default())
        .await?;
    let token = token.status.context("a token")?.token;
    let path = mesh.kubeconfig()?;
    let mut config: serde_json::Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path)?)?;
    config["users"][0]["user"] = json!({"token": token});
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    let path = file.path().to_str().context("a path")?;
    let said = refused(mesh, &["-c", path, "install", "-y"])?;
    ensure!(
        said.contains("you may not create customresourcedefinitions")
            && said.contains("takes an administrator"),
        "{said}"
    );
    Ok(())
}

async fn two_at_once(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n")
        .await?;
    let leases: Api<Lease> = Api::namespaced(mesh.client().await?, "istio-system");
    let now = jiff::Timestamp::now();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "lateen-install"},
        "spec": {"holderIdentity": "ann@there", "leaseDurationSeconds": 30, "renewTime": now},
    });
    let lease: Lease = serde_json::from_value(lease)?;
    leases.create(&PostParams::default(), &lease).await?;
    let said = refused(mesh, &["install", "--set", "profile=minimal", "-y"])?;
    ensure!(
        said.contains("another installation is under way in this cluster, by ann@there"),
        "{said}"
    );
    leases
        .delete("lateen-install", &DeleteParams::default())
        .await?;
    Ok(())
}

fn an_image_that_is_not_there(mesh: &Mesh) -> anyhow::Result<()> {
    let args = ["install", "--set", "profile=minimal", "-y"];
    let broken = [
        "--set",
        "values.pilot.image=example.invalid/none:1",
        "--readiness-timeout",
        "3s",
    ];
    let said = refused(mesh, &[&args[..], &broken].concat())?;
    ensure!(
        said.contains("Istiod is not ready") && said.contains("example.invalid/none:1"),
        "{said}"
    );
    mesh.lateen_ok(&args)?;
    // Nor does a pod of before make up for one that cannot start.
    let said = refused(mesh, &[&args[..], &broken].concat())?;
    ensure!(said.contains("Istiod is not ready"), "{said}");
    mesh.lateen_ok(&args).map(drop)
}

/// Somebody deleted some of it; installing mends it, and so does taking away and installing.
async fn half_an_installation(mesh: &Mesh) -> anyhow::Result<()> {
    let client = mesh.client().await?;
    let params = DeleteParams::default();
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(client.clone(), "istio-system");
    services.delete("istiod", &params).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "istio-system");
    accounts.delete("istiod", &params).await?;
    let said = refused(mesh, &["x", "precheck"])?;
    ensure!(
        said.contains("asks Service istio-system/istiod, which is not there"),
        "{said}"
    );
    let said = refused(mesh, &["verify-install", "--set", "profile=minimal"])?;
    ensure!(
        said.contains("✘ Service istio-system/istiod: is not there"),
        "{said}"
    );
    mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y"])?;
    mesh.lateen_ok(&["verify-install", "--set", "profile=minimal"])?;
    mesh.lateen_ok(&["x", "precheck"])?;
    services.delete("istiod", &params).await?;
    mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
    mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y"])
        .map(drop)
}
