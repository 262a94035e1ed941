//! The public samples for several clusters: what a gateway of their own shows to the other clusters.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use lateen_core::SpiffeId;
use lateen_e2e::{Mesh, eventually, inside, samples::sample, tls};
use lateen_tls::{Authority, Identity, LeafRequest, PeerRule, ServerCheck};
use tokio::net::TcpStream;

use super::{gateway_tls, shared};

/// A gateway as `gen-eastwest-gateway.sh` asks for one, filled in by the webhook.
const GATEWAY: &str = "
apiVersion: v1
kind: Service
metadata: {name: istio-eastwestgateway, namespace: istio-system}
spec:
  type: LoadBalancer
  selector: {istio: eastwestgateway}
  ports:
  - {name: tls, port: 15443}
  - {name: tls-istiod, port: 15012}
  - {name: tls-webhook, port: 15017}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-eastwestgateway, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: eastwestgateway}}
  template:
    metadata:
      labels: {istio: eastwestgateway, sidecar.istio.io/inject: 'true'}
      annotations: {inject.istio.io/templates: gateway}
    spec:
      serviceAccountName: istio-ingressgateway-service-account
      containers: [{name: istio-proxy, image: auto}]
";

/// The name that the control plane's certificate has everywhere.
const ISTIOD: &str = "istiod.istio-system.svc";

/// A port of the gateway, as it is reached from outside of the cluster.
async fn connect(mesh: &Mesh, port: u16) -> anyhow::Result<TcpStream> {
    let services: Api<Service> = Api::namespaced(mesh.client().await?, "istio-system");
    let service = serde_json::to_value(services.get("istio-eastwestgateway").await?)?;
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"]
        .as_str()
        .context("the gateway has no address")?;
    let address: SocketAddr = inside::at(ip, port)?;
    inside::connect(mesh.pid("platform")?, address).await
}

/// The mesh's authority, which a cluster of the same mesh has as well.
async fn authority(mesh: &Mesh) -> anyhow::Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(mesh.client().await?, "istio-system");
    let secret = secrets.get("istio-ca-secret").await?;
    let data = secret.data.context("an empty secret")?;
    let text = |key: &str| {
        let value = data.get(key).with_context(|| format!("no {key}"))?;
        Ok::<_, anyhow::Error>(std::str::from_utf8(&value.0)?)
    };
    let (cert, key) = (text("ca-cert.pem")?, text("ca-key.pem")?);
    Ok(Authority::from_pem(cert, key, "", "")?)
}

/// Applies the gateway and what it is to do, checks, and takes both away again.
async fn with(
    mesh: &Mesh,
    objects: &[String],
    check: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut all = vec![GATEWAY.to_owned()];
    all.extend_from_slice(objects);
    gateway_tls::with(mesh, &all, async || {
        mesh.wait_ready("istio-system", "istio=eastwestgateway", 1)
            .await?;
        check().await
    })
    .await
}

/// Proxies of a remote cluster find the control plane's own certificate behind the gateway, for
/// configuration as for webhooks.
pub(crate) async fn the_control_plane_is_shown_unopened(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(file) = sample("multicluster/expose-istiod.yaml")? else {
        return Ok(());
    };
    let authority = authority(mesh).await?;
    with(mesh, &[file], async || {
        for port in [15012, 15017] {
            eventually("the control plane behind the gateway", async || {
                let identity = tls::client_identity(&authority, None)?;
                let stream = connect(mesh, port).await?;
                let (answer, info) = tls::get(stream, identity, (ISTIOD, "/ready"), "h2").await?;
                ensure!(answer.status() == 200, "{answer:?}");
                let peer = info.peer.as_ref().context("no certificate")?;
                ensure!(peer.dns.iter().any(|name| name == ISTIOD), "{peer:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

/// The same under a certificate of the gateway's own, for clusters that do not know the mesh's root.
pub(crate) async fn the_control_plane_is_shown_under_a_certificate(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(file) = sample("multicluster/expose-istiod-https.yaml")? else {
        return Ok(());
    };
    let host = "istiod.mesh.example.com";
    let file = file.replace("$CREDENTIAL_NAME", "shop-credential");
    // As by `kubectl apply -n istio-system`: a DestinationRule holds for its own namespace's clients.
    let file = file.replace("metadata:\n", "metadata:\n  namespace: istio-system\n");
    let file = file.replace("ISTIOD-HOST.DOMAIN", host);
    let public = tls::authority("public")?;
    let credential = gateway_tls::secret(&tls::server(&public, host)?, None)?;
    with(mesh, &[credential, file], async || {
        for port in [15012, 15017] {
            eventually("the control plane by the gateway's name", async || {
                let identity = tls::client_identity(&public, None)?;
                let stream = connect(mesh, port).await?;
                let (answer, _) = tls::get(stream, identity, (host, "/ready"), "h2").await?;
                ensure!(answer.status() == 200, "{answer:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

/// A workload of another network comes in by the name of what it asks for, under mutual TLS from end
/// to end; nobody else does.
pub(crate) async fn services_are_reached_from_other_networks(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let Some(file) = sample("multicluster/expose-services.yaml")? else {
        return Ok(());
    };
    let authority = authority(mesh).await?;
    let identity = || -> anyhow::Result<Identity> {
        let client = SpiffeId::new("cluster.local", "default", "far-away")?;
        let day = std::time::Duration::from_secs(86_400);
        Ok(authority.identity(&LeafRequest::spiffe(&client, day))?)
    };
    let details = "spiffe://cluster.local/ns/default/sa/bookinfo-details";
    let name = "outbound_.9080_._.details.default.svc.cluster.local";
    let handshake = async |stream: TcpStream, sni: &str, who: PeerRule| {
        let check = ServerCheck::Peer(who);
        tls::connect(stream, identity()?, check, sni, "istio-http/1.1").await
    };
    with(mesh, &[file], async || {
        eventually("details through the gateway", async || {
            let stream = connect(mesh, 15443).await?;
            let stream = handshake(stream, name, PeerRule::exact([details])).await?;
            let (answer, _) = tls::ask(stream, "details:9080", "/details/0").await?;
            ensure!(answer.status() == 200, "{answer:?}");
            let body = String::from_utf8_lossy(answer.body());
            ensure!(body.contains("\"author\""), "{body}");
            Ok(())
        })
        .await?;
        for strange in ["details.default.svc.cluster.local", "shop.example.com"] {
            let stream = connect(mesh, 15443).await?;
            let met = handshake(stream, strange, PeerRule::AnyTrusted).await;
            ensure!(met.is_err(), "{strange} leads to somebody");
        }
        Ok(())
    })
    .await
}
