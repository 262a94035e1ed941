//! TLS at the ingress gateway: certificates from Secrets, clients' certificates, redirects, and TLS
//! that is passed on unopened.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use lateen_e2e::{Idle, Mesh, eventually, idle, inside, tls};
use lateen_tls::{Acceptor, Authority, ConnInfo, Identity, IdentityStore, Issued, ServerOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::shared;

const HOST: &str = "shop.example.com";
const PAGE: (&str, &str) = (HOST, "/productpage");

/// A Gateway on port 443 with these TLS settings, and the way from there to the productpage.
fn gateway(tls: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [{HOST}]
    tls: {tls}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [{HOST}]
  gateways: [shop]
  http:
  - route: [{{destination: {{host: productpage, port: {{number: 9080}}}}}}]
"
    )
}

/// A Secret as `kubectl create secret tls` makes it, with roots for clients' certificates where
/// there are any.
pub(crate) fn secret(issued: &Issued, roots: Option<&Authority>) -> anyhow::Result<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let key = issued.key_pem.as_ref().context("made here")?;
    let mut data = json!({
        "tls.crt": STANDARD.encode(&issued.chain_pem),
        "tls.key": STANDARD.encode(key),
    });
    if let Some(roots) = roots {
        data["ca.crt"] = STANDARD.encode(roots.root_pem()).into();
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "shop-credential", "namespace": "istio-system"},
        "data": data,
    });
    Ok(secret.to_string())
}

/// A connection to the gateway's Service, as from a client on the network of the cluster.
async fn connect(mesh: &Mesh, port: u16) -> anyhow::Result<TcpStream> {
    let services: Api<Service> = Api::namespaced(mesh.client().await?, "istio-system");
    let service = serde_json::to_value(services.get("istio-ingressgateway").await?)?;
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"]
        .as_str()
        .context("the gateway has no address")?;
    let address: SocketAddr = inside::at(ip, port)?;
    inside::connect(mesh.pid("platform")?, address).await
}

async fn get(mesh: &Mesh, identity: Identity, alpn: &str) -> anyhow::Result<Arc<ConnInfo>> {
    let (response, info) = tls::get(connect(mesh, 443).await?, identity, PAGE, alpn).await?;
    ensure!(response.status() == 200, "{response:?}");
    let body = String::from_utf8_lossy(response.body());
    ensure!(body.contains("</html>"), "{body}");
    ensure!(info.alpn.as_deref() == Some(alpn.as_bytes()), "{info:?}");
    Ok(info)
}

/// Which secrets the gateway waits for.
async fn missing_secrets(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let pods = mesh
        .wait_ready("istio-system", "app=istio-ingressgateway", 1)
        .await?;
    let pod = pods[0].metadata.name.clone().context("a pod has a name")?;
    let dump = mesh
        .pod_get("istio-system", &pod, 15000, "/config_dump")
        .await?;
    let dump: Value = serde_json::from_str(&dump)?;
    let configs = dump["configs"].as_array().cloned().unwrap_or_default();
    let warming = configs
        .iter()
        .filter_map(|config| config["dynamic_warming_secrets"].as_array())
        .flatten();
    Ok(warming
        .filter_map(|secret| secret["name"].as_str().map(str::to_owned))
        .collect())
}

/// Applies, checks, and takes away again whatever the check found.
pub(crate) async fn with(
    mesh: &Mesh,
    objects: &[String],
    check: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for object in objects {
        mesh.apply(object).await?;
    }
    let result = check().await;
    for object in objects.iter().rev() {
        mesh.delete(object).await?;
    }
    result
}

pub(crate) async fn a_certificate_comes_from_a_secret_and_is_rotated_live(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let (first, second) = (tls::authority("first")?, tls::authority("second")?);
    let simple = gateway("{mode: SIMPLE, credentialName: shop-credential}");
    let credential = secret(&tls::server(&first, HOST)?, None)?;
    with(mesh, &[simple], async || {
        without_its_secret_nothing_is_served(mesh, &first).await?;
        with(mesh, &[credential], async || {
            eventually("HTTPS with the secret", async || {
                get(mesh, tls::client_identity(&first, None)?, "http/1.1").await
            })
            .await?;
            get(mesh, tls::client_identity(&first, None)?, "h2").await?;
            let stranger = get(mesh, tls::client_identity(&second, None)?, "h2").await;
            ensure!(stranger.is_err(), "the test does not verify the server");
            mesh.apply(&secret(&tls::server(&second, HOST)?, None)?)
                .await?;
            eventually("the new certificate", async || {
                get(mesh, tls::client_identity(&second, None)?, "h2").await
            })
            .await?;
            a_bad_secret_changes_nothing(mesh, &second).await
        })
        .await
    })
    .await
}

/// A certificate with the key of another is refused by the gateway, which goes on with what it has.
async fn a_bad_secret_changes_nothing(mesh: &Mesh, authority: &Authority) -> anyhow::Result<()> {
    let before = rejects(mesh).await?;
    let mut mixed = tls::server(authority, HOST)?;
    mixed.key_pem = tls::server(authority, HOST)?.key_pem;
    mesh.apply(&secret(&mixed, None)?).await?;
    eventually("the gateway to refuse the secret", async || {
        ensure!(rejects(mesh).await? > before, "not yet");
        Ok(())
    })
    .await?;
    get(mesh, tls::client_identity(authority, None)?, "h2").await?;
    Ok(())
}

/// How often proxies have refused what they were sent.
async fn rejects(mesh: &Mesh) -> anyhow::Result<f64> {
    let metrics = mesh.control_plane_metrics().await?;
    let total = metrics
        .lines()
        .find_map(|line| line.strip_prefix("pilot_total_xds_rejects "));
    Ok(total.context("no count of rejects")?.parse()?)
}

/// The listener is there and says in the dump what it waits for; clients get neither TLS nor text.
async fn without_its_secret_nothing_is_served(
    mesh: &Mesh,
    authority: &Authority,
) -> anyhow::Result<()> {
    eventually("the gateway to say which secret is missing", async || {
        let missing = missing_secrets(mesh).await?;
        ensure!(missing == ["kubernetes://shop-credential"], "{missing:?}");
        Ok(())
    })
    .await?;
    let refused = get(mesh, tls::client_identity(authority, None)?, "h2").await;
    ensure!(refused.is_err(), "TLS without a certificate: {refused:?}");
    let mut plain = connect(mesh, 443).await?;
    let request = format!("GET /productpage HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    plain.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Closed or reset, both are a refusal.
    let _ = plain.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    ensure!(!text.contains("HTTP/1.1"), "plain text: {text}");
    Ok(())
}

pub(crate) async fn mutual_tls_asks_clients_for_certificates(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let (servers, clients, others) = (
        tls::authority("servers")?,
        tls::authority("clients")?,
        tls::authority("others")?,
    );
    let objects = [
        secret(&tls::server(&servers, HOST)?, Some(&clients))?,
        gateway("{mode: MUTUAL, credentialName: shop-credential}"),
    ];
    with(mesh, &objects, async || {
        for alpn in ["http/1.1", "h2"] {
            eventually("a client with a certificate to be served", async || {
                let known = tls::client_identity(&servers, Some(&clients))?;
                get(mesh, known, alpn).await
            })
            .await?;
            for signed_by in [None, Some(&others)] {
                let unknown = tls::client_identity(&servers, signed_by)?;
                let served = get(mesh, unknown, alpn).await;
                ensure!(served.is_err(), "served a client that it does not know");
            }
        }
        Ok(())
    })
    .await
}

pub(crate) async fn plain_requests_are_sent_to_https(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    const REDIRECT: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: redirect}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [redirect.example.com]
    tls: {httpsRedirect: true}
";
    let mesh = shared(mesh);
    with(mesh, &[REDIRECT.to_owned()], async || {
        let http = mesh.gateway();
        let host = [("host", "redirect.example.com")];
        eventually("the redirect", async || {
            let answer = http.send("GET", "/productpage?u=1", &host, "").await?;
            ensure!(answer.status == 301, "{answer:?}");
            let location = answer.header("location").unwrap_or_default();
            ensure!(
                location == "https://redirect.example.com/productpage?u=1",
                "{location}"
            );
            Ok(())
        })
        .await?;
        let other = http.get("/productpage").await?;
        ensure!(other.status == 200, "other hosts are redirected too");
        Ok(())
    })
    .await
}

pub(crate) async fn tls_is_passed_on_by_server_name(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    const PASS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: pass}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: [pass.example.com]
    tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pass}
spec:
  hosts: [pass.example.com]
  gateways: [pass]
  tls:
  - match: [{port: 443, sniHosts: [pass.example.com]}]
    route: [{destination: {host: pass, port: {number: 8443}}}]
";
    let mesh = shared(mesh);
    let (own, gateways) = (tls::authority("own")?, tls::authority("gateway")?);
    let backend = Idle::start(mesh, "pass").await?;
    let server = tokio::spawn(serve_tls(
        backend.listen(8443).await?,
        tls::server(&own, "pass.example.com")?,
    ));
    let objects = [
        idle::service("pass", "pass", &[("tls-web", 8443)]),
        PASS.to_owned(),
        secret(&tls::server(&gateways, HOST)?, None)?,
        gateway("{mode: SIMPLE, credentialName: shop-credential}"),
    ];
    let result = with(mesh, &objects, async || {
        eventually("the backend's own certificate", async || {
            let stream = connect(mesh, 443).await?;
            let trusts = tls::client_identity(&own, None)?;
            let at = ("pass.example.com", "/");
            let (response, _) = tls::get(stream, trusts, at, "http/1.1").await?;
            ensure!(response.body().as_ref() == b"passed", "{response:?}");
            Ok(())
        })
        .await?;
        // On the same port, by another name, the gateway's own certificate.
        eventually("the gateway's certificate", async || {
            get(mesh, tls::client_identity(&gateways, None)?, "h2").await
        })
        .await?;
        Ok(())
    })
    .await;
    server.abort();
    backend.remove(mesh).await?;
    result
}

/// A server of one page that ends TLS itself.
async fn serve_tls(listener: tokio::net::TcpListener, issued: Issued) -> anyhow::Result<()> {
    let key = issued.key_pem.context("made here")?;
    let store = IdentityStore::empty();
    store.set(Identity::from_pem(&issued.chain_pem, &key, "")?);
    let options = ServerOptions {
        alpn: vec![b"http/1.1".to_vec()],
        ..ServerOptions::default()
    };
    let acceptor = Acceptor::new(Arc::new(store), options);
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut request = [0; 1024];
        if stream.read(&mut request).await.is_ok() {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npassed";
            stream.write_all(answer).await?;
            stream.flush().await?;
        }
    }
}
