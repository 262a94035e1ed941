//! A control plane, and a proxy that it configures: ours in this process, or Envoy.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use lateen_core::SpiffeId;
use lateen_explain::{Caller, Platform};
use lateen_galley::ConfigSet;
use lateen_pilot::{Authenticate, Credential, CredentialSource, Discovery, Leave, Options, Peer};
use lateen_proxy::{BootstrapSource, ProxyOptions};
use lateen_registry::World;
use lateen_testkit::Secrets;
use lateen_tls::{Authority, CsrKey, IdentityStore, LeafRequest};
use lateen_xds::types::secret_service::secret_discovery_service_server::SecretDiscoveryServiceServer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::DOMAIN;
use crate::backend::DAY;
use crate::client::PATIENCE;

/// Admin, where every sidecar has it.
const ADMIN: u16 = 15000;

/// What a line of the access log says: whose connection, then the parts of [`Line`].
const LOG_FORMAT: &str = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%\t%FILTER_CHAIN_NAME%\t%ROUTE_NAME%\t\
                          %UPSTREAM_CLUSTER_RAW%\t%RESPONSE_CODE%\t%RESPONSE_FLAGS%\n";

/// Whose proxy.
pub(crate) enum Kind {
    Ours,
    /// Where its program is.
    Envoy(PathBuf),
}

/// What a proxy wrote of a request or connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub chain: String,
    pub route: String,
    pub cluster: String,
}

/// A running proxy and its control plane.
pub(crate) struct Proxy {
    running: Running,
    discovery: Discovery,
    dir: tempfile::TempDir,
    _world: watch::Sender<Arc<World>>,
    _config: watch::Sender<Arc<ConfigSet>>,
}

enum Running {
    Ours {
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<Result<(), lateen_proxy::Error>>,
    },
    Envoy(Child),
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Running::Ours { shutdown, .. } => shutdown.cancel(),
            Running::Envoy(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Proxy {
    /// Starts the proxy of a workload, and waits until it serves what it was sent.
    pub(crate) async fn start(
        kind: &Kind,
        platform: &Platform,
        caller: &Caller,
        authority: &Authority,
    ) -> Result<Proxy, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = ConfigSet::clone(&platform.config);
        let mesh = Arc::make_mut(&mut config.mesh);
        mesh.access_log_file = dir.path().join("access").display().to_string();
        mesh.access_log_format = LOG_FORMAT.to_owned();
        let (world_tx, world) = watch::channel(platform.world.clone());
        let (config_tx, config) = watch::channel(Arc::new(config));
        let options = Options {
            domain: DOMAIN.to_owned(),
            credentials: Arc::new(Gateways(credential(authority))),
            ..Options::default()
        };
        let discovery = Discovery::new(world, config, options);
        let workload = &caller.workload;
        let identity = SpiffeId::new(DOMAIN, &workload.namespace, &workload.service_account);
        let identity = identity.expect("an identity");
        let ads = discovery.ads_service(Believe(identity.clone()));
        let secrets = Secrets::new(authority, &identity);
        let sds = SecretDiscoveryServiceServer::new(secrets);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = tonic::transport::Server::builder()
            .add_service(ads)
            .add_service(sds);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let bootstrap = bootstrap(caller.node(), port);
        let running = match kind {
            Kind::Ours => {
                let store = IdentityStore::empty();
                let own = authority.identity(&LeafRequest::spiffe(&identity, DAY));
                store.set(own.expect("a certificate"));
                ours(bootstrap, Arc::new(store))
            }
            Kind::Envoy(program) => envoy(program, &bootstrap, dir.path()),
        };
        let mut proxy = Proxy {
            running,
            discovery,
            dir,
            _world: world_tx,
            _config: config_tx,
        };
        proxy.settled().await?;
        Ok(proxy)
    }

    /// Waits until the proxy has taken everything and listens.
    async fn settled(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            match &mut self.running {
                Running::Envoy(child) => {
                    if let Some(status) = child.try_wait().expect("a child") {
                        return Err(format!("Envoy ended with {status}:\n{}", self.log()));
                    }
                }
                Running::Ours { task, .. } => {
                    if task.is_finished() {
                        return Err(format!("the proxy ended: {:?}", task.await));
                    }
                }
            }
            let newest = self.discovery.snapshot().generation;
            let connections = self.discovery.connections().list();
            for connection in &connections {
                for (type_url, status) in connection.types() {
                    if let Some(refused) = status.refused {
                        return Err(format!("{type_url:?} was refused: {refused:?}"));
                    }
                }
            }
            let has_all = connections.iter().any(|c| c.acked_generation() == newest);
            if has_all && is_live().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let state = connections.first().map(|connection| connection.types());
                return Err(format!("not live: {state:#?}\n{}", self.log()));
            }
        }
    }

    /// What Envoy complained of.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let telling = log.lines().filter(|line| !line.contains("[info]"));
        telling.collect::<Vec<_>>().join("\n")
    }

    /// What the access log says of the connection from an address, once it says it.
    pub(crate) async fn line(&self, from: &str) -> Result<Line, String> {
        let deadline = Instant::now() + PATIENCE;
        let path = self.dir.path().join("access");
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // The last part may be half of a line.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let own = whole.lines().find_map(|line| {
                let mut parts = line.split('\t').map(str::to_owned);
                let is_own = parts.next()? == from;
                let line = Line {
                    chain: parts.next()?,
                    route: parts.next()?,
                    cluster: parts.next()?,
                };
                is_own.then_some(line)
            });
            if let Some(own) = own {
                return Ok(own);
            }
            if Instant::now() > deadline {
                return Err(format!("no line of {from} in the access log:\n{text}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn stop(mut self) {
        if let Running::Ours { shutdown, task } = &mut self.running {
            shutdown.cancel();
            let _ = task.await;
        }
    }
}

fn ours(bootstrap: Value, identity: Arc<IdentityStore>) -> Running {
    let shutdown = CancellationToken::new();
    let options = ProxyOptions {
        concurrency: 1,
        drain_time: Duration::ZERO,
        shutdown: shutdown.clone(),
        ..ProxyOptions::new(BootstrapSource::Json(bootstrap.to_string()), identity)
    };
    let task = tokio::spawn(lateen_proxy::run(options));
    Running::Ours { shutdown, task }
}

/// In the group by which capture knows the proxy.
fn envoy(program: &std::path::Path, bootstrap: &Value, dir: &std::path::Path) -> Running {
    use std::os::unix::process::CommandExt;
    let file = dir.join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).expect("a file");
    let log = std::fs::File::create(dir.join("log")).expect("a file");
    let child = Command::new(program)
        .args(["--concurrency", "1", "--disable-hot-restart", "-l", "info"])
        .args(["--file-flush-interval-msec", "1", "-c"])
        .arg(&file)
        .gid(1337)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Running::Envoy(child.expect("Envoy starts"))
}

async fn is_live() -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, ADMIN)).await?;
        let request = b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}

fn bootstrap(node: &Value, port: u16) -> Value {
    let at =
        |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let cluster = |name: &str| {
        json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": at(port) } },
            ] }] },
        })
    };
    let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let mut node = node.clone();
    node["cluster"] = "test".into();
    json!({
        "node": node,
        "admin": { "address": at(ADMIN) },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
            },
        },
        "static_resources": { "clusters": [cluster("xds-grpc"), cluster("sds-grpc")] },
    })
}

/// Everybody is who the node says; only for this test.
struct Believe(SpiffeId);

impl Authenticate for Believe {
    fn authenticate<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        let identity = self.0.clone();
        Box::pin(async move { Ok(Some(identity)) })
    }

    fn reads_secrets<'a>(&'a self, _: &'a SpiffeId) -> BoxFuture<'a, Result<bool, Status>> {
        Box::pin(async { Ok(true) })
    }
}

/// One certificate under every name.
struct Gateways(Credential);

impl CredentialSource for Gateways {
    fn credential(&self, _: &str, _: &str) -> Option<Credential> {
        Some(self.0.clone())
    }

    fn leave(&self, _: &SpiffeId, _: &str, _: &str) -> Leave {
        Leave::ToReaders
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn credential(authority: &Authority) -> Credential {
    let request = LeafRequest::server(["shop.example.com", "*.example.com"], DAY);
    let issued = authority.issue(&request, CsrKey::Generate);
    let issued = issued.expect("a certificate");
    Credential {
        certificate: issued.chain_pem.into_bytes(),
        key: issued.key_pem.expect("made here").into_bytes(),
        roots: authority.root_pem().as_bytes().to_vec(),
        revoked: Vec::new(),
    }
}
