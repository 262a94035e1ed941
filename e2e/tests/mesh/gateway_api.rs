//! The Gateway API and Ingress: what users apply comes to life, and says so.

use anyhow::{Context, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use lateen_e2e::{Idle, Mesh, eventually, inside, web};
use serde_json::Value;

use super::shared;

/// A gateway of its own, and two routes of different owners for one host.
const EDGE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: nobody, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: page}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules:
  - matches: [{path: {value: /productpage}}]
    backendRefs: [{name: productpage, port: 9080}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
"#;

async fn status(mesh: &Mesh, kind: &str, name: &str) -> anyhow::Result<Value> {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind);
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = Api::namespaced_with(mesh.client().await?, "default", &resource);
    let object = api.get(name).await?;
    Ok(object.data["status"].clone())
}

/// The status of one of the conditions in a list.
fn condition(conditions: &Value, kind: &str) -> String {
    let mut all = conditions.as_array().into_iter().flatten();
    let found = all.find(|condition| condition["type"] == kind);
    let status = found.and_then(|condition| condition["status"].as_str());
    status.unwrap_or_default().to_owned()
}

pub(crate) async fn a_gateway_is_deployed_and_routes(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.apply(EDGE).await?;
    let client = Idle::outsider(mesh, "edge-client").await?;
    let result = routes(mesh, &client).await;
    client.remove(mesh).await?;
    mesh.delete(EDGE).await?;
    result?;
    eventually("what ran the gateway to go", async || {
        let pods = mesh.kubectls()?.pop().context("a kubectl")?;
        let left = pods.run(&["get", "deploy,svc,sa", "-o", "name"])?;
        ensure!(!left.contains("edge-istio"), "{left}");
        Ok(())
    })
    .await
}

async fn routes(mesh: &Mesh, client: &Idle) -> anyhow::Result<()> {
    let address = eventually("the gateway to be programmed", async || {
        let status = status(mesh, "Gateway", "edge").await?;
        ensure!(
            condition(&status["conditions"], "Programmed") == "True",
            "{status:#}"
        );
        ensure!(status["listeners"][0]["attachedRoutes"] == 2, "{status:#}");
        let address = status["addresses"][0]["value"].as_str();
        Ok(address.context("no address")?.to_owned())
    })
    .await?;
    let address = inside::at(&address, 80)?;
    let get = async |host: &str, path: &str| {
        let stream = client.connect(address).await?;
        web::get(stream, host, path, &[]).await
    };
    eventually("the page", async || {
        let (status, body) = get("shop.example.com", "/productpage").await?;
        ensure!(
            status == 200 && body.contains("Bookinfo"),
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    for (host, path, expect) in [
        ("shop.example.com", "/productpages", 500),
        ("shop.example.com", "/old/x", 302),
        ("other.example.com", "/productpage", 404),
    ] {
        let (status, body) = get(host, path).await?;
        ensure!(status == expect, "{host}{path}: {status} {body}");
    }
    let all = status(mesh, "HTTPRoute", "all").await?;
    let conditions = &all["parents"][0]["conditions"];
    ensure!(condition(conditions, "Accepted") == "True", "{all:#}");
    ensure!(condition(conditions, "ResolvedRefs") == "False", "{all:#}");
    Ok(())
}

/// A port for connections and for datagrams, of which three in four go to one of two servers.
const DATAGRAMS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: names}
spec:
  gatewayClassName: istio
  listeners:
  - {name: udp, port: 53, protocol: UDP}
  - {name: http, port: 53, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: names}
spec:
  parentRefs: [{name: names, sectionName: udp}]
  rules: [{backendRefs: [{name: one, port: 5300, weight: 3}, {name: two, port: 5300}]}]
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: one}, ports: [{port: 5300, protocol: UDP, targetPort: 53}]}
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {selector: {app: two}, ports: [{port: 5300, protocol: UDP, targetPort: 53}]}
"#;

/// After so long a datagram counts as lost.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Answers datagrams of a pod with a word.
async fn answers(pod: &Idle, word: &'static str) -> anyhow::Result<tokio::task::AbortHandle> {
    let socket = pod.datagrams(53).await?;
    let task = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((_, client)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(word.as_bytes(), client).await;
        }
    });
    Ok(task.abort_handle())
}

/// What a new client of a pod is answered. It asks again as resolvers do: on a machine that is busy
/// with something else, a datagram may get lost.
async fn answer(client: &Idle, to: std::net::SocketAddr) -> anyhow::Result<String> {
    let socket = client.datagrams(0).await?;
    // Nobody else is heard.
    socket.connect(to).await?;
    let mut buffer = [0; 2048];
    for _ in 0..5 {
        socket.send(b"?").await?;
        let received = tokio::time::timeout(SILENCE, socket.recv(&mut buffer));
        if let Ok(length) = received.await {
            return Ok(String::from_utf8_lossy(&buffer[..length?]).into_owned());
        }
    }
    anyhow::bail!("no answer")
}

pub(crate) async fn datagrams_go_to_their_shares(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let pods = [
        Idle::outsider(mesh, "names-client").await?,
        // A sidecar lets datagrams be.
        Idle::start(mesh, "one").await?,
        Idle::outsider(mesh, "two").await?,
    ];
    mesh.apply(DATAGRAMS).await?;
    let servers = [
        answers(&pods[1], "one").await?,
        answers(&pods[2], "two").await?,
    ];
    let result = shares(mesh, &pods).await;
    servers.iter().for_each(tokio::task::AbortHandle::abort);
    mesh.delete(DATAGRAMS).await?;
    for pod in pods {
        pod.remove(mesh).await?;
    }
    result
}

async fn shares(mesh: &Mesh, [client, one, _]: &[Idle; 3]) -> anyhow::Result<()> {
    // Without a gateway, to a Service and from a pod with a sidecar.
    let service = inside::at(&mesh.cluster_ip("two").await?, 5300)?;
    eventually("the Service", async || {
        let word = answer(one, service).await?;
        ensure!(word == "two", "{word}");
        Ok(())
    })
    .await?;
    let address = eventually("the gateway to be programmed", async || {
        let status = status(mesh, "Gateway", "names").await?;
        ensure!(
            condition(&status["conditions"], "Programmed") == "True",
            "{status:#}"
        );
        ensure!(status["listeners"][0]["attachedRoutes"] == 1, "{status:#}");
        let address = status["addresses"][0]["value"].as_str();
        Ok(address.context("no address")?.to_owned())
    })
    .await?;
    let address = inside::at(&address, 53)?;
    eventually("an answer", async || answer(client, address).await).await?;
    let mut n_one = 0;
    for _ in 0..200 {
        match &*answer(client, address).await? {
            "one" => n_one += 1,
            word => ensure!(word == "two", "{word}"),
        }
    }
    // 150 with a deviation of 6.
    ensure!((110..190).contains(&n_one), "{n_one} of 200");
    // Connections have the same port.
    let stream = client.connect(address).await?;
    let (code, _) = web::get(stream, "a", "/", &[]).await?;
    ensure!(code == 404, "{code}");
    let route = status(mesh, "UDPRoute", "names").await?;
    let conditions = &route["parents"][0]["conditions"];
    ensure!(condition(conditions, "Accepted") == "True", "{route:#}");
    ensure!(condition(conditions, "ResolvedRefs") == "True", "{route:#}");
    Ok(())
}

const INGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - host: ingress.example.com
    http:
      paths: [{path: /productpage, pathType: Prefix, backend: {service: {name: productpage, port: {number: 9080}}}}]
"#;

pub(crate) async fn an_ingress_leads_to_its_backends(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    mesh.apply(INGRESS).await?;
    let http = mesh.gateway();
    let result = eventually("the ingress", async || {
        let host = [("host", "ingress.example.com")];
        let answer = http.send("GET", "/productpage", &host, "").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        let kubectl = mesh.kubectls()?.pop().context("a kubectl")?;
        let table = kubectl.run(&["get", "ingress", "shop"])?;
        ensure!(table.contains("10.10.99."), "{table}");
        Ok(())
    })
    .await;
    mesh.delete(INGRESS).await?;
    result
}
