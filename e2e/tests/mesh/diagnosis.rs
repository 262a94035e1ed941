//! What the command says of a running mesh, and the older commands that change one.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret, Service},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};
use lateen_e2e::{
    Mesh, eventually,
    mesh::client,
    samples::{networking, own_networking},
};
use serde_json::Value;

use super::shared;

/// Says what a text lacks.
fn has(text: &str, wanted: &[&str]) -> anyhow::Result<()> {
    for want in wanted {
        ensure!(text.contains(want), "{want:?} is not in:\n{text}");
    }
    Ok(())
}

/// A command that must fail, and what it says.
fn refused(mesh: &Mesh, args: &[&str], wanted: &[&str]) -> anyhow::Result<()> {
    let output = mesh.lateen(args)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{args:?} did not fail: {told}");
    has(&told, wanted)
}

/// Pods and services are told with the rules that lead to them.
pub(crate) async fn pods_and_services_are_described(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    // Others lay the public one over it, which has other rules.
    mesh.apply(&own_networking("bookinfo-gateway.yaml")?)
        .await?;
    let rules = [
        networking("destination-rule-all.yaml")?,
        networking("virtual-service-reviews-90-10.yaml")?,
    ];
    for rule in &rules {
        mesh.apply(rule).await?;
    }
    let told = described(mesh);
    for rule in rules.iter().rev() {
        mesh.delete(rule).await?;
    }
    told
}

fn described(mesh: &Mesh) -> anyhow::Result<()> {
    let pod = mesh.lateen_ok(&["x", "describe", "pod", "deploy/reviews-v2"])?;
    has(
        &pod,
        &[
            "Pod: reviews-v2-",
            "Pod Revision: default",
            "9080 (reviews)",
            "Service: reviews.default\n   Port: http 9080/HTTP targets pod port 9080\n",
            "DestinationRule: default/reviews for \"reviews\"\n   Matching subsets: v2\n",
            "VirtualService: default/reviews for reviews\n   HTTP rule 1 of 1: all -> subset v1 90 %, subset v2 10 %\n",
            "Workload mTLS mode: PERMISSIVE",
        ],
    )?;
    // The subset of no rule.
    let third = mesh.lateen_ok(&["describe", "pod", "deploy/reviews-v3"])?;
    has(&third, &["Matching subsets: v3", "; not to this pod"])?;
    let service = mesh.lateen_ok(&["x", "describe", "service", "productpage"])?;
    has(
        &service,
        &[
            "Service: productpage.default",
            "Exposed on Gateway default/bookinfo-gateway: http://10.10.99.1",
            "VirtualService: default/bookinfo for *",
            "/; or /productpage; or /login; or /logout; or /static*",
            "Pods: productpage-v1-",
        ],
    )?;
    refused(
        mesh,
        &["describe", "service", "nobody"],
        &["there is no service nobody in namespace default"],
    )
}

/// Whether clients and servers agree, what injects, which revisions there are, pages and policies.
pub(crate) async fn the_mesh_is_looked_at(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let checks = mesh.lateen_ok(&["authn", "tls-check", "deploy/productpage-v1", "reviews"])?;
    let mut lines = checks.lines();
    ensure!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("HOST:PORT ")),
        "{checks}"
    );
    let own = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>();
    let host = "reviews.default.svc.cluster.local:9080";
    ensure!(
        own == [host, "AUTO", "PERMISSIVE", "ISTIO_MUTUAL", "-", "-"],
        "{checks}"
    );

    let told = mesh.lateen_ok(&["x", "check-inject", "deploy/reviews-v1"])?;
    has(
        &told,
        &[
            "istio-sidecar-injector default  ✔",
            "istio-injection=enabled",
        ],
    )?;
    let told = mesh.lateen_ok(&["x", "check-inject", "-n", "istio-system", "-l", "app=x"])?;
    has(&told, &["✘"])?;
    let told = mesh.lateen_ok(&["x", "injector", "list"])?;
    has(
        &told,
        &["NAMESPACE", "POD-REVISIONS", "default: 6", "INJECTOR-HOOK"],
    )?;
    let told = mesh.lateen_ok(&["x", "revision", "list"])?;
    has(&told, &["REVISION ", "default ", "Pilot"])?;
    let told = mesh.lateen_ok(&["x", "revision", "describe", "default", "-o", "json"])?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told["proxies"]["default"].as_u64() >= Some(6), "{told}");
    let told = mesh.lateen_ok(&["remote-clusters"])?;
    has(&told, &["NAME ", "Kubernetes", "synced", "istiod-"])?;
    let pages = mesh.lateen_ok(&["x", "internal-debug", "list"])?;
    has(&pages, &["\"syncz\""])?;
    let page = mesh.lateen_ok(&["x", "internal-debug", "syncz"])?;
    has(&page, &["productpage-v1-"])?;
    refused(
        mesh,
        &["x", "internal-debug", "krtz"],
        &["there are no krt collections"],
    )?;
    // The cluster is as it itself is; another one is not there.
    let kubeconfig = std::fs::read_to_string(mesh.kubeconfig()?)?;
    let kubeconfig: Value = serde_yaml_ng::from_str(&kubeconfig)?;
    let context = kubeconfig["current-context"]
        .as_str()
        .context("a context")?;
    let told = mesh.lateen(&["analyze", "-A", "-o", "json", "--remote-contexts", context])?;
    let told: Value = serde_json::from_slice(&told.stdout)?;
    let messages = told.as_array().context("messages")?;
    ensure!(
        messages.iter().all(|message| message["code"] != "IST0170"),
        "{told}"
    );
    refused(
        mesh,
        &["analyze", "-A", "--remote-contexts", "nowhere"],
        &["--remote-contexts nowhere"],
    )?;
    let told = mesh.lateen_ok(&["x", "config", "list"])?;
    has(&told, &["istioNamespace", "the local mesh that runs"])?;
    refused(
        mesh,
        &["x", "metrics", "productpage-v1"],
        &["there is no service prometheus", "--addon prometheus"],
    )?;
    refused(
        mesh,
        &["get", "virtualservices", "--as", "nobody"],
        &["nobody", "virtualservices"],
    )
}

/// The policies that a proxy enforces are read from the proxy itself.
pub(crate) async fn policies_are_read_from_the_proxy(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let check = ["x", "authz", "check", "deploy/httpbin-none"];
    refused(mesh, &check, &["httpbin-none"])?;
    let patch = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: rbac-of-a-user}
spec:
  workloadSelector: {labels: {app: ratings}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.rbac
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
          rules:
            action: DENY
            policies:
              'ns[default]-policy[no-probes]-rule[0]':
                permissions: [{header: {name: x-probe, present_match: true}}]
                principals: [{any: true}]
";
    let check = ["x", "authz", "check", "deploy/ratings-v1"];
    let none = mesh.lateen_ok(&check)?;
    ensure!(none == "ACTION   AuthorizationPolicy   RULES\n", "{none}");
    mesh.apply(patch).await?;
    let told = eventually("the policy at the proxy", async || {
        let told = mesh.lateen_ok(&check)?;
        has(&told, &["DENY     no-probes.default     1\n"])
    })
    .await;
    mesh.delete(patch).await?;
    told
}

/// Objects are kept by the commands of 1.0.
pub(crate) async fn objects_are_kept_as_in_1_0(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let file = mesh.state_folder().join("kept.yaml");
    let path = file.to_str().context("a path in letters")?;
    let rule = "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\n\
         metadata: {name: kept}\nspec:\n  hosts: [ratings]\n  http:\n  - timeout: 5s\n    \
         route: [{destination: {host: ratings}}]\n";
    std::fs::write(&file, rule)?;
    refused(
        mesh,
        &["replace", "-f", path],
        &["virtual-service/default/kept is not there"],
    )?;
    let told = mesh.lateen_ok(&["create", "-f", path])?;
    has(
        &told,
        &["Created config virtual-service/default/kept at revision "],
    )?;
    refused(
        mesh,
        &["create", "-f", path],
        &["is there already; use `lateen replace`"],
    )?;
    std::fs::write(&file, rule.replace("5s", "7s"))?;
    let told = mesh.lateen_ok(&["replace", "-f", path])?;
    has(
        &told,
        &["Updated config virtual-service/default/kept to revision "],
    )?;
    let told = mesh.lateen_ok(&["get", "virtualservices"])?;
    has(&told, &["VIRTUAL-SERVICE NAME   GATEWAYS", "kept "])?;
    let told = mesh.lateen_ok(&["get", "vs", "kept", "-o", "yaml"])?;
    has(&told, &["timeout: 7s"])?;
    let told = mesh.lateen_ok(&["delete", "virtual-service", "kept"])?;
    ensure!(
        told == "Deleted config: virtual-service/default/kept\n",
        "{told}"
    );
    refused(mesh, &["delete", "-f", path], &["is not there"])?;
    let told = mesh.lateen_ok(&["get", "vs", "kept"])?;
    ensure!(told == "No resources found.\n", "{told}");
    let both = format!("{}---\n{rule}", rule.replace("kept", "kept-too"));
    std::fs::write(&file, &both)?;
    // One that is not there keeps nobody from deleting the other.
    mesh.lateen_ok(&["create", "-f", path])?;
    mesh.lateen_ok(&["delete", "vs", "kept-too"])?;
    refused(mesh, &["delete", "-f", path], &["kept-too is not there"])?;
    let told = mesh.lateen_ok(&["get", "vs", "kept"])?;
    ensure!(told == "No resources found.\n", "{told}");
    std::fs::write(&file, rule.replace("timeout", "timeuot"))?;
    refused(
        mesh,
        &["create", "-f", path],
        &["timeuot", "did you mean timeout"],
    )
}

/// Workloads outside of the cluster become endpoints of a service, and are taken away again.
pub(crate) async fn outside_workloads_are_registered(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let address = "10.244.0.1";
    let register = [
        "register",
        "outside",
        address,
        "http:8099",
        "-l",
        "version=v1",
    ];
    let told = mesh.lateen_ok(&register)?;
    has(&told, &["Created service outside", "Registered 10.244.0.1"])?;
    let endpoint = "10.244.0.1:8099";
    let of_productpage = ["proxy-config", "endpoint", "deploy/productpage-v1"];
    let told = eventually("the endpoint at a proxy", async || {
        has(&mesh.lateen_ok(&of_productpage)?, &[endpoint])
    })
    .await;
    refused(mesh, &register, &["is registered already"])?;
    let told = told.and_then(|()| mesh.lateen_ok(&["deregister", "outside", address]));
    has(&told?, &["Deregistered 10.244.0.1"])?;
    eventually("the endpoint to go", async || {
        let told = mesh.lateen_ok(&of_productpage)?;
        ensure!(!told.contains(endpoint), "{told}");
        Ok(())
    })
    .await?;
    refused(
        mesh,
        &["deregister", "outside", address],
        &["no workload with address"],
    )?;
    let add = [
        "x",
        "add-to-mesh",
        "external-service",
        "outside",
        "10.244.0.1,10.244.0.2",
        "http:8099",
    ];
    mesh.lateen_ok(&add)?;
    let told = mesh.lateen_ok(&["get", "workloadentries"])?;
    has(&told, &["outside-10-244-0-1", "outside-10-244-0-2"])?;
    let told = mesh.lateen_ok(&["x", "remove-from-mesh", "external-service", "outside"])?;
    has(
        &told,
        &[
            "Deleted WorkloadEntry outside-10-244-0-2",
            "Deleted service outside",
        ],
    )
}

/// Sidecars are taken from a Deployment that runs, and given back.
pub(crate) async fn deployments_leave_and_join(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let deployments: Api<Deployment> = Api::default_namespaced(mesh.client().await?);
    let sidecars = async |expect: usize| {
        eventually(&format!("ratings with {expect} sidecars"), async || {
            let pods = mesh.wait_ready("default", "app=ratings", 1).await?;
            let spec = pods[0].spec.clone().unwrap_or_default();
            let all = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            let found = all
                .filter(|container| container.name == "istio-proxy")
                .count();
            ensure!(found == expect, "{found}");
            Ok(())
        })
        .await
    };
    let before = deployments.get("ratings-v1").await?;
    sidecars(1).await?;
    let told = mesh.lateen_ok(&["x", "remove-from-mesh", "service", "ratings"])?;
    has(&told, &["deployment ratings-v1.default has no sidecar now"])?;
    let gone = sidecars(0).await;
    let told = mesh.lateen_ok(&["x", "add-to-mesh", "deployment", "ratings-v1"])?;
    has(&told, &["has a sidecar now"])?;
    sidecars(1).await?;
    gone?;
    let told = mesh.lateen_ok(&["x", "add-to-mesh", "deployment", "ratings-v1"])?;
    has(&told, &["has a sidecar already; nothing was changed"])?;
    // As it was, so that tests after this one find what they know.
    let mut restored = before;
    restored.metadata.resource_version = None;
    restored.metadata.managed_fields = None;
    deployments
        .replace("ratings-v1", &Default::default(), &restored)
        .await?;
    sidecars(1).await
}

/// The Secret for another control plane lets it read, and nothing else.
pub(crate) async fn remote_secrets_give_the_right_to_read(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let told = mesh.lateen_ok(&["create-remote-secret", "--name", "east"])?;
    let secret: Value = serde_yaml_ng::from_str(told.trim_end().trim_end_matches("---"))?;
    ensure!(
        secret["metadata"]["name"] == "istio-remote-secret-east",
        "{secret}"
    );
    let kubeconfig = secret["stringData"]["east"]
        .as_str()
        .context("a kubeconfig")?;
    let file = mesh.state_folder().join("east.kubeconfig");
    std::fs::write(&file, kubeconfig)?;
    let reader: Client = client(&file).await?;
    let services: Api<Service> = Api::all(reader.clone());
    let found = services.list(&ListParams::default()).await?;
    ensure!(found.iter().any(|service| service.name_any() == "reviews"));
    let pods: Api<Pod> = Api::default_namespaced(reader);
    match pods.delete("nobody", &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => bail!("it may delete pods: {other:?}"),
    }
    // The same again goes by the Secret that is there.
    let again = mesh.lateen_ok(&["create-remote-secret", "--name", "east"])?;
    ensure!(again == told, "another token");
    // An account that may read nothing is given back what it may.
    let bindings: Api<ClusterRoleBinding> = Api::all(mesh.client().await?);
    let binding = "istio-reader-clusterrole-istio-system";
    bindings.delete(binding, &DeleteParams::default()).await?;
    mesh.lateen_ok(&["create-remote-secret", "--name", "east"])?;
    bindings.get(binding).await.context("no binding was made")?;
    // What was made for it.
    let secrets: Api<Secret> = Api::namespaced(mesh.client().await?, "istio-system");
    let name = "istio-reader-service-account-istio-remote-secret-token";
    secrets.delete(name, &DeleteParams::default()).await?;
    refused(
        mesh,
        &[
            "create-remote-secret",
            "--name",
            "east",
            "--service-account",
            "nobody",
        ],
        &["there is no service account nobody in namespace istio-system"],
    )
}
