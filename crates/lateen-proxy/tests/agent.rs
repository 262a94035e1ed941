//! The real agent with a proxy, against a control plane in this process: certificate, xDS, secrets,
//! readiness, metrics, and the end on SIGTERM.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lateen_citadel::{
    Authenticator, CaOptions, CertificateAuthority, Citadel, Creation, Denied, SecretData,
    SecretStore, StoreError, TrustDomains,
};
use lateen_core::SpiffeId;
use lateen_tls::{
    ClientAuth, ClientOptions, Connector, IdentityStore, PeerRule, ServerCheck, https,
};
use lateen_xds::server::{Ads, Connections, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::core::Node;
use lateen_xds::types::listener::Listener;
use lateen_xds::{TypeUrl, json};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Status;

const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
const PRODUCTPAGE: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
const PATIENCE: Duration = Duration::from_secs(30);

/// Secrets that are forgotten with the test.
#[derive(Default)]
struct Forgetful(Mutex<BTreeMap<String, SecretData>>);

#[async_trait]
impl SecretStore for Forgetful {
    async fn get(&self, _namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError> {
        Ok(self.0.lock().expect("no panic").get(name).cloned())
    }

    async fn create(
        &self,
        _namespace: &str,
        name: &str,
        _kind: &str,
        data: SecretData,
    ) -> Result<Creation, StoreError> {
        self.0
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), data);
        Ok(Creation::Created)
    }
}

/// The bearer of "good" is reviews.
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied> {
        match token {
            "good" => Ok(REVIEWS.parse().expect("an identity")),
            _ => Err(Denied::Refused("unknown".to_owned())),
        }
    }
}

/// One listener that demands mutual TLS and answers by itself.
struct Source {
    listener: Listener,
    snapshots: watch::Sender<u64>,
}

impl ResourceSource for Source {
    type Client = SpiffeId;
    type Snapshot = u64;

    async fn connect(&self, node: &Node, peer: &Peer) -> Result<SpiffeId, Status> {
        assert!(
            node.id.starts_with("sidecar~127.0.0.1~reviews-1.default~"),
            "{}",
            node.id
        );
        let trust = TrustDomains::new("cluster.local", []);
        let found = lateen_citadel::identify(&peer.metadata, &peer.extensions, &trust, &Tokens);
        Ok(found.await?.spiffe)
    }

    fn snapshots(&self, _client: &SpiffeId) -> watch::Receiver<u64> {
        self.snapshots.subscribe()
    }

    fn generation(&self, snapshot: &u64) -> u64 {
        *snapshot
    }

    fn generate(
        &self,
        _snapshot: &u64,
        _client: &SpiffeId,
        type_url: &TypeUrl,
        _names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        if *type_url != TypeUrl::LISTENER {
            return Vec::new();
        }
        vec![Arc::new(Resource::new("inbound", &self.listener))]
    }
}

fn listener(port: u16) -> Listener {
    const TLS: &str =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let sds = |name: &str| {
        json!({ "name": name, "sds_config": { "resource_api_version": "V3", "api_config_source": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
        } } })
    };
    let tls = json!({
        "@type": TLS,
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [sds("default")],
            "combined_validation_context": {
                "default_validation_context": { "match_typed_subject_alt_names": [
                    { "san_type": "URI", "matcher": { "prefix": "spiffe://cluster.local/" } },
                ] },
                "validation_context_sds_secret_config": sds("ROOTCA"),
            },
        },
    });
    let manager = json!({
        "@type": HCM,
        "stat_prefix": "inbound",
        "route_config": { "name": "inbound", "virtual_hosts": [{
            "name": "inbound|http|9080",
            "domains": ["*"],
            "routes": [{
                "match": { "prefix": "/" },
                "direct_response": { "status": 200, "body": { "inline_string": "hello" } },
            }],
        }] },
        "http_filters": [
            { "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } },
        ],
    });
    let listener = json!({
        "name": "inbound",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }],
            "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls },
        }],
    });
    json::from_value(listener).expect("a listener")
}

async fn control_plane(inbound: u16) -> (Arc<CertificateAuthority>, u16) {
    let store = Forgetful::default();
    let ca = CertificateAuthority::load_or_create(&store, CaOptions::default());
    let ca = Arc::new(ca.await.expect("an authority"));
    let serving = ca
        .serving_identity(&["localhost".to_owned()])
        .expect("a certificate");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = tcp.local_addr().expect("bound").port();
    let auth = ClientAuth::Optional(PeerRule::TrustDomains(vec!["cluster.local".to_owned()]));
    let listener = https::Listener::http(vec![tcp], Arc::new(IdentityStore::new(serving)), auth);
    let listener = listener.expect("a listener");
    let source = Source {
        listener: self::listener(inbound),
        snapshots: watch::Sender::new(1),
    };
    let trust = watch::channel(Arc::new(TrustDomains::new("cluster.local", []))).1;
    let ads = Ads::new(Arc::new(source), Arc::new(Connections::default()));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(Citadel::new(ca.clone(), Arc::new(Tokens), trust).into_server())
            .add_service(ads.into_service())
            .serve_with_incoming(listener.into_incoming()),
    );
    (ca, port)
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let all: [_; N] = std::array::from_fn(|_| bind());
    all.map(|l| l.local_addr().expect("bound").port())
}

/// The running agent, killed at the end whatever happens.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended in a test that succeeds.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

struct Pod {
    agent: Agent,
    ca: Arc<CertificateAuthority>,
    status: u16,
    ready: u16,
    inbound: u16,
    root: tempfile::TempDir,
}

async fn start(proxy_binary: Option<&str>) -> Pod {
    start_with(proxy_binary, "good", &[]).await
}

async fn start_with(proxy_binary: Option<&str>, token: &str, env: &[(&str, &str)]) -> Pod {
    let [admin, status, ready, metrics, inbound] = free_ports();
    let (ca, port) = control_plane(inbound).await;
    let root = tempfile::tempdir().expect("a directory");
    put(
        root.path(),
        "var/run/secrets/istio/root-cert.pem",
        &ca.root_pem(),
    );
    put(root.path(), "var/run/secrets/tokens/istio-token", token);
    put(root.path(), "etc/istio/pod/labels", "app=\"reviews\"\n");
    let config = format!(
        "discoveryAddress: localhost:{port}\nproxyAdminPort: {admin}\nstatusPort: {status}\n\
         terminationDrainDuration: 1s\n"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen-proxy"));
    command
        .args(["proxy", "sidecar", "--domain", "default.svc.cluster.local"])
        .args(["--concurrency", "1", "--proxyLogLevel=warning", "--root"])
        .arg(root.path())
        .env("POD_NAME", "reviews-1")
        .env("POD_NAMESPACE", "default")
        .env("INSTANCE_IP", "127.0.0.1")
        .env("SERVICE_ACCOUNT", "bookinfo-reviews")
        .env("PROXY_CONFIG", config)
        .env("ENVOY_STATUS_PORT", ready.to_string())
        .env("ENVOY_PROMETHEUS_PORT", metrics.to_string())
        .envs(env.iter().copied());
    if let Some(binary) = proxy_binary {
        command.args(["--proxy-binary", binary]);
    }
    let agent = Agent(command.spawn().expect("the agent runs"));
    Pod {
        agent,
        ca,
        status,
        ready,
        inbound,
        root,
    }
}

impl Pod {
    /// The status line and body of a GET.
    async fn get(&self, port: u16, path: &str) -> std::io::Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        exchange(stream, path).await
    }

    async fn ready(&self, expect: bool) {
        let started = Instant::now();
        loop {
            let answer = self.get(self.ready, "/healthz/ready").await;
            if answer.as_ref().is_ok_and(|a| a.starts_with("HTTP/1.1 200")) == expect {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "readiness is not {expect}: {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn call(&self, caller: &str) -> Result<String, String> {
        let caller = self
            .ca
            .workload_identity(&caller.parse().expect("an identity"));
        let store = Arc::new(IdentityStore::new(caller.expect("a certificate")));
        let check = ServerCheck::Peer(PeerRule::exact([REVIEWS]));
        let connector = Connector::new(
            store,
            ClientOptions {
                check,
                ..ClientOptions::default()
            },
        );
        let tcp = TcpStream::connect(("127.0.0.1", self.inbound)).await;
        let stream = connector
            .connect(tcp.map_err(|e| e.to_string())?, None)
            .await;
        exchange(stream.map_err(|e| e.to_string())?, "/")
            .await
            .map_err(|e| e.to_string())
    }

    async fn ends_well(mut self) {
        let status = tokio::task::spawn_blocking(move || {
            let status = self.agent.0.wait().expect("it ends");
            drop(self.root);
            status
        });
        let status = tokio::time::timeout(PATIENCE, status)
            .await
            .expect("in time")
            .expect("no panic");
        assert!(status.success(), "{status}");
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.agent.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the agent runs");
    }
}

async fn exchange<IO>(mut io: IO, path: &str) -> std::io::Result<String>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut answer = Vec::new();
    match io.read_to_end(&mut answer).await {
        // Some servers close a TLS connection without saying so.
        Err(e) if answer.is_empty() => return Err(e),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn lives_and_ends(pod: Pod) {
    pod.ready(true).await;
    let answer = pod
        .call(PRODUCTPAGE)
        .await
        .expect("mutual TLS with the right names");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
        "{answer}"
    );
    let foreign = pod.call("spiffe://elsewhere/ns/default/sa/x").await;
    let refused = foreign.as_ref().map_or(true, |a| !a.contains("200"));
    assert!(refused, "another trust domain is let in: {foreign:?}");

    let metrics = pod
        .get(pod.status, "/stats/prometheus")
        .await
        .expect("served");
    assert!(
        metrics.contains("istio_agent_cert_expiry_seconds"),
        "{metrics}"
    );
    assert!(
        metrics.contains("istio_agent_scrape_failures{type=\"envoy\"} 0"),
        "{metrics}"
    );

    pod.terminate();
    pod.ready(false).await;
    pod.ends_well().await;
}

/// The control plane does not let it in, so that patches of its bootstrap are waited for, for as long
/// as this test waits for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_heard_before_there_is_a_proxy() {
    let asks = [("BOOTSTRAP_XDS_AGENT", "true")];
    let pod = start_with(None, "bad", &asks).await;
    let started = Instant::now();
    while pod.get(pod.status, "/healthz/ready").await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the agent does not serve");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waits = pod.get(pod.ready, "/healthz/ready").await;
    assert!(waits.is_err(), "there is a proxy already: {waits:?}");
    pod.terminate();
    let asked = Instant::now();
    pod.ends_well().await;
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_proxy_starts_from_our_bootstrap_and_speaks_with_our_certificate() {
    lives_and_ends(start(None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_starts_from_our_bootstrap_and_speaks_with_our_certificate() {
    let Ok(envoy) = std::env::var("ENVOY") else {
        eprintln!("ENVOY does not name an Envoy binary: nothing was checked with it");
        return;
    };
    lives_and_ends(start(Some(&envoy)).await).await;
}
