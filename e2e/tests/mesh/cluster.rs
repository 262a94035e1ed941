//! The platform as `kubectl` users know it.

use anyhow::{Context, bail, ensure};
use lateen_e2e::{Mesh, eventually};

use super::shared;

fn words(line: Option<&str>) -> Vec<&str> {
    line.unwrap_or_default().split_whitespace().collect()
}

/// The line of a table that begins with a name.
fn row<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    words(
        table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name)),
    )
}

pub(crate) async fn pods_and_services_print_as_kubernetes_prints_them(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    for kubectl in shared(mesh).kubectls()? {
        let pods = kubectl.run(&["get", "pods", "-n", "istio-system"])?;
        let header = words(pods.lines().next());
        ensure!(
            header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
            "{pods}"
        );
        for line in pods.lines().skip(1) {
            let cells = words(Some(line));
            ensure!(cells.get(1..3) == Some(&["1/1", "Running"]), "{pods}");
        }
        let services = kubectl.run(&["get", "svc", "-n", "istio-system"])?;
        let header = words(services.lines().next());
        let expect = [
            "NAME",
            "TYPE",
            "CLUSTER-IP",
            "EXTERNAL-IP",
            "PORT(S)",
            "AGE",
        ];
        ensure!(header == expect, "{services}");
        let gateway = row(&services, "istio-ingressgateway");
        ensure!(
            gateway.len() == 6
                && gateway[1] == "LoadBalancer"
                && gateway[3].starts_with("10.10.99."),
            "{services}"
        );
        ensure!(
            gateway[4].contains("80:3"),
            "node ports are shown: {services}"
        );
        let pods = kubectl.run(&["get", "pods"])?;
        ensure!(
            pods.lines().filter(|line| line.contains("2/2")).count() == 6,
            "{pods}"
        );
    }
    Ok(())
}

const ISTIO_KINDS: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: printed}
spec: {hosts: [a.example.com, b.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: printed}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [x.example.com]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: printed}
spec: {hosts: [x.example.com, y.example.com], gateways: [printed], http: [{route: [{destination: {host: reviews}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: printed}
spec: {host: reviews.example.com}
"#;

pub(crate) async fn istio_kinds_print_the_columns_of_istio(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.apply(ISTIO_KINDS).await?;
    for kubectl in mesh.kubectls()? {
        for (kind, header, cells) in [
            // The Gateway API has a kind of this name as well.
            ("gateways.networking.istio.io", "NAME AGE", ""),
            (
                "virtualservice",
                "NAME GATEWAYS HOSTS AGE",
                r#"["printed"] ["x.example.com","y.example.com"]"#,
            ),
            ("destinationrule", "NAME HOST AGE", "reviews.example.com"),
            (
                "serviceentry",
                "NAME HOSTS LOCATION RESOLUTION AGE",
                r#"["a.example.com","b.example.com"] MESH_EXTERNAL DNS"#,
            ),
        ] {
            let table = kubectl.run(&["get", kind])?;
            ensure!(words(table.lines().next()).join(" ") == header, "{table}");
            let row = row(&table, "printed");
            let shown = row
                .get(1..row.len().max(2) - 1)
                .unwrap_or_default()
                .join(" ");
            ensure!(shown == cells, "{table}");
        }
    }
    mesh.delete(ISTIO_KINDS).await
}

pub(crate) async fn namespaces_are_labelled_and_described(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    for kubectl in shared(mesh).kubectls()? {
        kubectl.run(&["create", "namespace", "labelled"])?;
        let said = kubectl.run(&["label", "ns", "labelled", "istio-injection=enabled"])?;
        ensure!(said.trim() == "namespace/labelled labeled", "{said}");
        let described = kubectl.run(&["describe", "ns", "labelled"])?;
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
        kubectl.run(&[
            "delete",
            "namespace",
            "labelled",
            "--wait=true",
            "--timeout=60s",
        ])?;
    }
    Ok(())
}

pub(crate) async fn logs_are_kept(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    for kubectl in shared(mesh).kubectls()? {
        let log = kubectl.run(&["logs", "-n", "istio-system", "deploy/istiod"])?;
        ensure!(!log.trim().is_empty(), "istiod logged nothing");
    }
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
