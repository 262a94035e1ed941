//! What can go wrong, each with its message; run again when the cause is gone, it succeeds.

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use lateen_e2e::{Mesh, eventually, mesh::text};
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
            "components.ztunnel is not supported",
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
        said.contains("you may not do in this cluster what installing takes")
            && said.contains("customresourcedefinitions.apiextensions.k8s.io"),
        "{said}"
    );
    mesh.apply(GRANTED).await?;
    mesh.lateen_ok(&["-c", path, "install", "--set", "profile=minimal", "-y"])?;
    mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
    mesh.delete(GRANTED).await
}

/// What the one without permissions lacks.
const GRANTED: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: tenant, namespace: default}]
";

/// What others see while the webhooks' Service is not there: who it is that does not answer. Pods that
/// are not asked about go on being made.
async fn webhooks_without_their_service(mesh: &Mesh) -> anyhow::Result<()> {
    let pod = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: {namespace}}}\n\
             spec: {{containers: [{{name: c, image: idle}}]}}\n"
        )
    };
    mesh.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: injected, labels: {istio-injection: enabled}}\n")
        .await?;
    mesh.apply(&pod("default")).await?;
    mesh.delete(&pod("default")).await?;
    let refused = mesh.apply(&pod("injected")).await;
    let said = format!("{:#}", refused.err().context("a pod without a sidecar")?);
    ensure!(
        said.contains("failed calling webhook \"namespace.sidecar-injector.istio.io\"")
            && said.contains("istiod"),
        "{said}"
    );
    Ok(())
}

/// The same pod, now that there is somebody to ask.
async fn is_injected_now(mesh: &Mesh) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(mesh.client().await?, "injected");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "idle"}]},
    });
    let pod: Pod = serde_json::from_value(pod)?;
    eventually("the webhook to answer", async || {
        let made = pods.create(&PostParams::default(), &pod).await?;
        let names = made.spec.into_iter().flat_map(|spec| {
            let init = spec.init_containers.into_iter().flatten();
            init.chain(spec.containers).map(|container| container.name)
        });
        let names: Vec<String> = names.collect();
        ensure!(names.iter().any(|name| name == "istio-proxy"), "{names:?}");
        Ok(())
    })
    .await?;
    mesh.delete("apiVersion: v1\nkind: Namespace\nmetadata: {name: injected}\n")
        .await
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
    webhooks_without_their_service(mesh).await?;
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
    is_injected_now(mesh).await?;
    services.delete("istiod", &params).await?;
    mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
    mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y"])
        .map(drop)
}
