//! The platform as `kubectl` users know it.

use anyhow::{Context, bail, ensure};
use lateen_e2e::{Mesh, eventually, mesh::text};

use super::shared;

/// Runs kubectl and returns what it printed; an absent kubectl ends the test with a word.
macro_rules! kubectl {
    ($mesh:expr, $($arg:expr),+) => {
        match $mesh.kubectl(&[$($arg),+])? {
            Some(output) if output.status.success() => String::from_utf8(output.stdout)?,
            Some(output) => bail!("kubectl {:?} failed: {}", [$($arg),+], text(&output)),
            None => {
                eprintln!("kubectl is not on this machine: its output was not checked");
                return Ok(());
            }
        }
    };
}

pub(crate) async fn pods_and_services_print_as_kubernetes_prints_them(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pods = kubectl!(mesh, "get", "pods", "-n", "istio-system");
    let mut lines = pods.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "{pods}"
    );
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        ensure!(
            cells.get(1) == Some(&"1/1") && cells.get(2) == Some(&"Running"),
            "{pods}"
        );
    }
    let services = kubectl!(mesh, "get", "svc", "-n", "istio-system");
    let header: Vec<&str> = services
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        header
            == [
                "NAME",
                "TYPE",
                "CLUSTER-IP",
                "EXTERNAL-IP",
                "PORT(S)",
                "AGE"
            ],
        "{services}"
    );
    let gateway = services
        .lines()
        .find(|line| line.starts_with("istio-ingressgateway"));
    let cells: Vec<&str> = gateway.context("no gateway")?.split_whitespace().collect();
    ensure!(
        cells[1] == "LoadBalancer" && cells[3].starts_with("10.10.99."),
        "{services}"
    );
    ensure!(
        cells[4].contains("80:3"),
        "node ports are shown: {services}"
    );
    let pods = kubectl!(mesh, "get", "pods");
    ensure!(
        pods.lines().filter(|line| line.contains("2/2")).count() == 6,
        "{pods}"
    );
    Ok(())
}

pub(crate) async fn namespaces_are_labelled_and_described(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    kubectl!(mesh, "create", "namespace", "labelled");
    let said = kubectl!(mesh, "label", "ns", "labelled", "istio-injection=enabled");
    ensure!(said.trim() == "namespace/labelled labeled", "{said}");
    let described = kubectl!(mesh, "describe", "ns", "labelled");
    for expected in [
        "Name:         labelled",
        "istio-injection=enabled",
        "kubernetes.io/metadata.name=labelled",
        "Status:       Active",
        "No resource quota.",
        "No LimitRange resource.",
    ] {
        ensure!(
            described.contains(expected),
            "{expected:?} is not in\n{described}"
        );
    }
    kubectl!(
        mesh,
        "delete",
        "namespace",
        "labelled",
        "--wait=true",
        "--timeout=60s"
    );
    Ok(())
}

pub(crate) async fn logs_are_kept(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let log = kubectl!(mesh, "logs", "-n", "istio-system", "deploy/istiod");
    ensure!(!log.trim().is_empty(), "istiod logged nothing");
    Ok(())
}

pub(crate) async fn an_unmapped_image_says_how_to_map_it(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pod = "
apiVersion: v1
kind: Pod
metadata:
  name: unmapped
  labels: {sidecar.istio.io/inject: 'false'}
spec:
  containers: [{name: main, image: 'example.com/nobody/knows:1'}]
";
    mesh.apply(pod).await?;
    let client = mesh.client().await?;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::default_namespaced(client.clone());
    eventually("ErrImagePull", async || {
        let pod = pods.get("unmapped").await?;
        let json = serde_json::to_value(&pod.status)?;
        let reason = &json["containerStatuses"][0]["state"]["waiting"]["reason"];
        ensure!(
            reason == "ErrImagePull" || reason == "ImagePullBackOff",
            "{json}"
        );
        Ok(())
    })
    .await?;
    let events: kube::Api<k8s_openapi::api::core::v1::Event> =
        kube::Api::default_namespaced(client);
    eventually("an event that says how to map the image", async || {
        let list = events.list(&Default::default()).await?;
        let mut help = list.iter().filter_map(|event| event.message.as_deref());
        let what = "image \"example.com/nobody/knows:1\" is not mapped to a local command";
        ensure!(
            help.any(|text| text.contains(what) && text.contains("run: lateen image add ")),
            "no such event"
        );
        Ok(())
    })
    .await?;
    mesh.delete(pod).await
}

pub(crate) async fn requests_without_credentials_are_refused(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    lateen_tls::install_provider();
    let mut file = kube::config::Kubeconfig::read_from(shared(mesh).kubeconfig()?)?;
    for user in &mut file.auth_infos {
        user.auth_info = Some(Default::default());
    }
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
    let client = kube::Client::try_from(config)?;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client);
    match pods.list(&Default::default()).await {
        Err(kube::Error::Api(status)) if status.code == 401 => {
            let why = "neither a client certificate nor a bearer token";
            ensure!(status.message.contains(why), "{}", status.message);
            ensure!(status.message.contains("kubeconfig"), "{}", status.message);
            Ok(())
        }
        other => bail!("expected 401, got {other:?}"),
    }
}

pub(crate) async fn a_tenant_may_not_write_the_control_plane(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: tenant, namespace: default}]
",
    )
    .await?;
    let admin = mesh.client().await?;
    let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::default_namespaced(admin);
    let token = accounts
        .create_token_request("tenant", &Default::default(), &Default::default())
        .await?;
    let token = token.status.context("no token")?.token;
    let mut file = kube::config::Kubeconfig::read_from(mesh.kubeconfig()?)?;
    for user in &mut file.auth_infos {
        let auth = serde_json::from_value(serde_json::json!({"token": token}))?;
        user.auth_info = Some(auth);
    }
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
    let tenant = kube::Client::try_from(config)?;
    let map = |namespace: &str| {
        let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::namespaced(tenant.clone(), namespace);
        let mut map = k8s_openapi::api::core::v1::ConfigMap::default();
        map.metadata.name = Some("tenants-own".to_owned());
        async move { api.create(&Default::default(), &map).await }
    };
    map("default")
        .await
        .context("a tenant may write its own namespace")?;
    match map("istio-system").await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        other => bail!("expected 403, got {other:?}"),
    }
}
