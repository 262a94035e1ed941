//! Tokens that are not good, where the control plane asks for one: the certificate authority and
//! the configuration server, both on 15012 of the real istiod.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, ServiceAccount},
};
use kube::Api;
use lateen_e2e::Mesh;
use lateen_tls::{ClientOptions, Connector, Identity, IdentityStore, ServerCheck, SigningKey};

use super::shared;

const PORT: u16 = 15012;
const UNAUTHENTICATED: &str = "16";
/// The methods, each with a first message: nothing, and a node `x` in its field 1 or 2.
const METHODS: [(&str, &[u8]); 3] = [
    (
        "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        &[],
    ),
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        &[0x0a, 3, 0x0a, 1, b'x'],
    ),
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        &[0x12, 3, 0x0a, 1, b'x'],
    ),
];

/// A token of an account of namespace `default`; without audiences, for the API server.
pub(crate) async fn of(mesh: &Mesh, account: &str, audiences: &[&str]) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(mesh.client().await?);
    let spec = TokenRequestSpec {
        audiences: Some(audiences.iter().map(|&one| one.to_owned()).collect()),
        ..Default::default()
    };
    let request = TokenRequest {
        spec: Some(spec),
        ..Default::default()
    };
    let post = Default::default();
    let answer = accounts.create_token_request(account, &post, &request);
    let status = answer.await?.status;
    status.and_then(|status| status.token).context("no token")
}

/// Calls a method of istiod with this token; the status and its message.
async fn call(
    mesh: &Mesh,
    (method, message): (&str, &[u8]),
    token: Option<&str>,
) -> anyhow::Result<(String, String)> {
    let client = mesh.client().await?;
    let roots: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let roots = roots
        .get("istio-ca-root-cert")
        .await?
        .data
        .unwrap_or_default();
    let roots = roots.get("root-cert.pem").context("no root")?;
    let pods = mesh.wait_ready("istio-system", "app=istiod", 1).await?;
    let pod = pods[0].metadata.name.clone().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client, "istio-system");
    let mut forward = pods.portforward(&pod, &[PORT]).await?;
    let stream = forward.take_stream(PORT).context("no port was forwarded")?;
    let options = ClientOptions {
        check: ServerCheck::ServerName,
        alpn: vec![b"h2".to_vec()],
        ..ClientOptions::default()
    };
    let store = Arc::new(IdentityStore::new(Identity::roots_only(roots)?));
    let connector = Connector::new(store, options);
    let stream = connector
        .connect(stream, Some("istiod.istio-system.svc"))
        .await?;
    let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = http2.handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = hyper::Request::post(format!("https://istiod.istio-system.svc{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    // A frame: no compression, and the length in four bytes.
    let length = u32::try_from(message.len())?.to_be_bytes();
    let frame = [&[0], length.as_slice(), message].concat();
    let request = request.body(Full::new(Bytes::from(frame)))?;
    let answer = sender.send_request(request).await?;
    let (head, body) = answer.into_parts();
    let trailers = body
        .collect()
        .await?
        .trailers()
        .cloned()
        .unwrap_or_default();
    connection.abort();
    let value = |name: &str| {
        let value = head.headers.get(name).or_else(|| trailers.get(name));
        let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        value.unwrap_or_default().replace("%20", " ")
    };
    Ok((value("grpc-status"), value("grpc-message")))
}

/// The same claims with another end, signed by this key.
fn resigned(token: &str, key: &SigningKey, expired: bool) -> anyhow::Result<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut parts = token.split('.');
    let (header, payload) = parts.next().zip(parts.next()).context("not a token")?;
    let mut claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    if expired {
        claims["exp"] = 1_000_000_000.into();
    }
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key.sign(input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

pub(crate) async fn the_control_plane_refuses_bad_tokens(
    mesh: &Option<Mesh>,
) -> anyhow::Result<()> {
    lateen_tls::install_provider();
    let mesh = shared(mesh);
    let good = of(mesh, "default", &["istio-ca"]).await?;
    let (code, message) = call(mesh, METHODS[0], Some(&good)).await?;
    // The token is good, and so it is the empty request that is at fault.
    ensure!(
        code != UNAUTHENTICATED,
        "a good token is refused: {message}"
    );
    let key = mesh
        .state_folder()
        .join("lateen")
        .join(&mesh.name)
        .join("api/pki/sa.key");
    let ours = SigningKey::from_pem(&std::fs::read_to_string(key)?)?;
    let stranger = SigningKey::generate()?;
    let cases = [
        (Some(resigned(&good, &ours, true)?), "has expired"),
        (
            Some(resigned(&good, &stranger, false)?),
            "signature is not of this cluster",
        ),
        (Some(of(mesh, "default", &["elsewhere"]).await?), "audience"),
        (Some("nonsense".to_owned()), "malformed"),
        (None, "neither a client certificate nor a token"),
    ];
    for method in METHODS {
        for (token, why) in &cases {
            let (code, message) = call(mesh, method, token.as_deref()).await?;
            ensure!(
                code == UNAUTHENTICATED,
                "{} {why}: {code} {message}",
                method.0
            );
            ensure!(
                message.contains(why),
                "{}: {why:?} is not in {message:?}",
                method.0
            );
        }
    }
    Ok(())
}
