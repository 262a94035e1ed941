//! The same end from any path: whatever is added, removed, refused or reconnected on the way, a
//! client ends with what a fresh one would be given. Our own client against our own server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery, Options};
use lateen_registry::World;
use lateen_xds::client::{self, Client, ConnectError, Connection, Update};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use lateen_xds::types::core::Node;
use lateen_xds::types::listener::{Listener, filter};
use lateen_xds::types::network::hcm::HttpConnectionManager;
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::{TypeUrl, decode_any};
use proptest::prelude::*;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use crate::fixture::{EVERYTHING, Mesh, config};

const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane that can be restarted under its clients.
struct Plane {
    dir: tempfile::TempDir,
    world: watch::Sender<Arc<World>>,
    config: watch::Sender<Arc<ConfigSet>>,
    discovery: Discovery,
    process: Option<Runtime>,
}

impl Plane {
    fn start() -> Plane {
        let (world, _) = watch::channel(Arc::new(Mesh::bookinfo().world));
        let (config, _) = watch::channel(Arc::new(ConfigSet::default()));
        let dir = tempfile::tempdir().expect("a folder");
        let (discovery, process) = serve(&world, &config, &dir.path().join("xds"));
        Plane {
            dir,
            world,
            config,
            discovery,
            process: Some(process),
        }
    }

    /// A new process, as far as clients can tell.
    fn restart(&mut self) {
        self.process.take().expect("it runs").shutdown_background();
        let path = self.dir.path().join("xds");
        std::fs::remove_file(&path).expect("the old socket");
        let (discovery, process) = serve(&self.world, &self.config, &path);
        self.discovery = discovery;
        self.process = Some(process);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }
}

/// A control plane on a runtime of its own: the end of the runtime ends its connections too.
fn serve(
    world: &watch::Sender<Arc<World>>,
    config: &watch::Sender<Arc<ConfigSet>>,
    path: &Path,
) -> (Discovery, Runtime) {
    let process = runtime();
    let entered = process.enter();
    let discovery = Discovery::new(world.subscribe(), config.subscribe(), Options::default());
    let listener = UnixListener::bind(path).expect("a socket");
    let server = tonic::transport::Server::builder().add_service(discovery.ads_service(Anonymous));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    drop(entered);
    (discovery, process)
}

/// What a proxy has: versions by type and name.
type Held = BTreeMap<(String, String), String>;

/// Follows names as a proxy does: endpoints of its clusters, route tables of its listeners.
#[derive(Default)]
struct Follower {
    held: Held,
    /// Names that each cluster or listener refers to.
    leads: BTreeMap<(String, String), BTreeSet<String>>,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
    received: usize,
    refuse_next: bool,
    refused: usize,
}

impl Follower {
    fn take(&mut self, update: Update, subscriber: &client::Subscriber) {
        self.received += update.resources.len();
        if std::mem::take(&mut self.refuse_next) {
            self.refused += 1;
            update.nack("not today");
            return;
        }
        let short = update.type_url.short().to_owned();
        // A response may cross an unsubscription on its way.
        let subscribed = match short.as_str() {
            "EDS" => self.subscribed.get("CDS"),
            "RDS" => self.subscribed.get("LDS"),
            _ => None,
        };
        let wanted = |name: &String| subscribed.is_none_or(|names| names.contains(name));
        for resource in update.resources.iter().filter(|r| wanted(&r.name)) {
            let key = (short.clone(), resource.name.clone());
            let body = resource.body.as_ref().expect("a body");
            self.leads
                .insert(key.clone(), leads(&update.type_url, body));
            self.held.insert(key, resource.version.clone());
        }
        for name in &update.removed {
            let key = (short.clone(), name.clone());
            self.held.remove(&key);
            self.leads.remove(&key);
        }
        update.ack();
        self.follow("CDS", TypeUrl::ENDPOINT, subscriber);
        self.follow("LDS", TypeUrl::ROUTE, subscriber);
    }

    fn follow(&mut self, from: &'static str, to: TypeUrl, subscriber: &client::Subscriber) {
        let leads = self.leads.iter().filter(|((kind, _), _)| kind == from);
        let wanted: BTreeSet<String> = leads.flat_map(|(_, names)| names).cloned().collect();
        let had = self.subscribed.entry(from).or_default();
        let more: Vec<_> = wanted.difference(had).cloned().collect();
        let less: Vec<_> = had.difference(&wanted).cloned().collect();
        for name in &less {
            self.held.remove(&(to.short().to_owned(), name.clone()));
        }
        subscriber.subscribe(to.clone(), more);
        subscriber.unsubscribe(to, less);
        *had = wanted;
    }
}

fn leads(type_url: &TypeUrl, body: &lateen_xds::Any) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if *type_url == TypeUrl::CLUSTER {
        let cluster: Cluster = decode_any(body).expect("a cluster");
        let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
        if cluster.cluster_discovery_type == Some(eds) {
            names.insert(cluster.name);
        }
    } else if *type_url == TypeUrl::LISTENER {
        let listener: Listener = decode_any(body).expect("a listener");
        for filter in listener
            .filter_chains
            .iter()
            .flat_map(|chain| &chain.filters)
        {
            let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
                continue;
            };
            let Ok(manager) = decode_any::<HttpConnectionManager>(config) else {
                continue;
            };
            if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
                names.insert(rds.route_config_name);
            }
        }
    }
    names
}

/// A running follower.
struct Proxy {
    follower: Arc<Mutex<Follower>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    fn start(dir: &Path) -> Proxy {
        let node = Node {
            id: "sidecar~10.244.0.1~productpage-v1.default~default.svc.cluster.local".into(),
            ..Node::default()
        };
        let path = dir.join("xds");
        let client = client::spawn(node, move || connect(path.clone()));
        let Client {
            subscriber,
            mut updates,
            ..
        } = client;
        subscriber.wildcard(TypeUrl::CLUSTER);
        subscriber.wildcard(TypeUrl::LISTENER);
        let follower = Arc::new(Mutex::new(Follower::default()));
        let state = follower.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                state
                    .lock()
                    .expect("not poisoned")
                    .take(update, &subscriber);
            }
        });
        Proxy { follower, task }
    }

    fn with<T>(&self, read: impl FnOnce(&mut Follower) -> T) -> T {
        read(&mut self.follower.lock().expect("not poisoned"))
    }

    /// What it holds, once nothing has changed for a while.
    async fn at_rest(&self) -> Held {
        let mut last = (0, Held::new());
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = self.with(|f| (f.received, f.held.clone()));
            if now == last && !now.1.is_empty() {
                return now.1;
            }
            last = now;
        }
    }
}

async fn connect(path: PathBuf) -> Result<Connection, ConnectError> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://xds");
    Ok(endpoint.connect_with_connector(connector).await?.into())
}

#[derive(Clone, Debug)]
enum Step {
    Pod(usize),
    World(bool),
    Config(bool),
    Toggle,
    Restart,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4usize).prop_map(Step::Pod),
        any::<bool>().prop_map(Step::World),
        any::<bool>().prop_map(Step::Config),
        Just(Step::Toggle),
        Just(Step::Restart),
        Just(Step::Wait),
    ]
}

async fn walk(steps: Vec<Step>) {
    let mut plane = Plane::start();
    let proxy = Proxy::start(plane.dir.path());
    let mut mesh = Mesh::bookinfo();
    for step in steps {
        match step {
            Step::Pod(i) => {
                let app = ["productpage", "details", "reviews", "ratings"][i];
                mesh.pod(app, "v2");
                plane.world.send_replace(Arc::new(mesh.world.clone()));
            }
            Step::World(full) => {
                mesh = Mesh::bookinfo();
                if !full {
                    mesh.world
                        .services
                        .retain(|id, _| !id.hostname.starts_with("ra"));
                    mesh.service("ratings", &["10.96.0.99"], &[]);
                }
                plane.world.send_replace(Arc::new(mesh.world.clone()));
            }
            Step::Config(full) => {
                let set = if full {
                    config(EVERYTHING)
                } else {
                    ConfigSet::default()
                };
                plane.config.send_replace(Arc::new(set));
            }
            Step::Toggle => {
                mesh.change("mysqldb", |service| {
                    let port = &mut service.ports[0];
                    port.protocol = match port.protocol {
                        lateen_core::Protocol::Tcp => lateen_core::Protocol::Http,
                        _ => lateen_core::Protocol::Tcp,
                    };
                });
                plane.world.send_replace(Arc::new(mesh.world.clone()));
            }
            Step::Restart => plane.restart(),
            Step::Wait => tokio::time::sleep(Duration::from_millis(40)).await,
        }
    }
    let fresh = Proxy::start(plane.dir.path());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (old, new) = (proxy.at_rest().await, fresh.at_rest().await);
        if old == new {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{old:#?}\nbut fresh:\n{new:#?}"
        );
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 3, ..ProptestConfig::default() })]

    #[test]
    fn same_end_from_any_path(steps in prop::collection::vec(step(), 1..10)) {
        runtime().block_on(walk(steps));
    }
}

#[test]
fn a_restart_of_the_control_plane_sends_nothing_that_has_not_changed() {
    runtime().block_on(async {
        let mut plane = Plane::start();
        let proxy = Proxy::start(plane.dir.path());
        let before = proxy.at_rest().await;
        let received = proxy.with(|f| f.received);
        plane.restart();
        while plane.discovery.connections().list().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(proxy.at_rest().await, before);
        assert_eq!(proxy.with(|f| f.received), received);

        let mut mesh = Mesh::bookinfo();
        mesh.pod("reviews", "v1");
        plane.world.send_replace(Arc::new(mesh.world));
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.at_rest().await;
        assert_eq!(
            proxy.with(|f| f.received),
            received + 1,
            "one set of endpoints"
        );
    });
}

#[test]
fn a_refused_response_is_not_repeated_and_the_next_change_comes_through() {
    runtime().block_on(async {
        let plane = Plane::start();
        let proxy = Proxy::start(plane.dir.path());
        let before = proxy.at_rest().await;
        proxy.with(|f| f.refuse_next = true);
        let mut mesh = Mesh::bookinfo();
        mesh.pod("reviews", "v1");
        plane.world.send_replace(Arc::new(mesh.world.clone()));
        while proxy.with(|f| f.refused) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let received = proxy.with(|f| f.received);
        assert_eq!(
            proxy.at_rest().await,
            before,
            "refused, so nothing has changed"
        );
        assert_eq!(
            proxy.with(|f| f.received),
            received,
            "and it is not sent again"
        );

        mesh.pod("reviews", "v2");
        plane.world.send_replace(Arc::new(mesh.world));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_ne!(proxy.at_rest().await, before);
    });
}
