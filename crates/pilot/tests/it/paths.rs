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
use lateen_xds::types::route::RouteConfiguration;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_action::ClusterSpecifier;
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
    /// Routes to a service whose cluster was not there when they came.
    astray: Vec<String>,
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
            if update.type_url == TypeUrl::ROUTE && self.refused == 0 {
                self.astray.extend(astray(&self.held, body));
            }
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

/// Routes to services that the mesh knows and whose clusters are not there. (A user's rule may lead
/// to what nobody knows.)
fn astray(held: &Held, body: &lateen_xds::Any) -> Vec<String> {
    let table: RouteConfiguration = decode_any(body).expect("a table");
    let mut astray = Vec::new();
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    for route in routes.filter(|route| route.name == "default") {
        if let Some(Action::Route(action)) = &route.action
            && let Some(ClusterSpecifier::Cluster(cluster)) = &action.cluster_specifier
            && !held.contains_key(&("CDS".into(), cluster.clone()))
        {
            astray.push(format!("{cluster} in {}", table.name));
        }
    }
    astray
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

/// Two sidecars of one namespace whose workloads differ, one whose workload nobody knows, in a
/// namespace of its own, and the gateway.
const PROXIES: [&str; 4] = [
    "sidecar~10.244.0.1~productpage-v1.default~default.svc.cluster.local",
    "sidecar~10.244.0.3~reviews-v1.default~default.svc.cluster.local",
    "sidecar~10.244.9.9~stranger-v1.other~other.svc.cluster.local",
    "router~10.244.0.12~istio-ingressgateway-v1.istio-system~istio-system.svc.cluster.local",
];

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
        Proxy::start_as(dir, PROXIES[0])
    }

    fn start_as(dir: &Path, id: &str) -> Proxy {
        let node = Node {
            id: id.into(),
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
    /// One kind of object comes, goes or changes alone.
    Objects(usize, usize),
    Toggle,
    /// Labels of a proxy's own workload change.
    Relabel,
    Refuse(usize),
    Restart,
    Reconnect(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize).prop_map(Step::Pod),
        2 => any::<bool>().prop_map(Step::World),
        2 => any::<bool>().prop_map(Step::Config),
        4 => (0..4usize, 0..4usize).prop_map(|(kind, n)| Step::Objects(kind, n)),
        2 => Just(Step::Toggle),
        1 => Just(Step::Relabel),
        1 => (0..PROXIES.len()).prop_map(Step::Refuse),
        1 => Just(Step::Restart),
        1 => (0..PROXIES.len()).prop_map(Step::Reconnect),
        3 => Just(Step::Wait),
    ]
}

/// Where the walk is.
struct Walk {
    plane: Plane,
    mesh: Mesh,
    set: ConfigSet,
    proxies: Vec<Proxy>,
}

impl Walk {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Pod(i) => {
                let app = ["productpage", "details", "reviews", "ratings"][i];
                self.mesh.pod(app, "v2");
            }
            Step::World(full) => {
                self.mesh = Mesh::bookinfo();
                if !full {
                    let services = &mut self.mesh.world.services;
                    services.retain(|id, _| !id.hostname.starts_with("ra"));
                    self.mesh.service("ratings", &["10.96.0.99"], &[]);
                }
            }
            Step::Config(full) => {
                self.set = if full {
                    config(EVERYTHING)
                } else {
                    ConfigSet::default()
                };
            }
            Step::Objects(kind, n) => self.objects(kind, n),
            Step::Toggle => self.mesh.change("mysqldb", |service| {
                let port = &mut service.ports[0];
                port.protocol = match port.protocol {
                    lateen_core::Protocol::Tcp => lateen_core::Protocol::Http,
                    _ => lateen_core::Protocol::Tcp,
                };
            }),
            Step::Relabel => {
                let address = "10.244.0.1".parse().expect("an address");
                let workloads = &mut self.mesh.world.workloads_by_ip;
                let workload = workloads.get_mut(&address).expect("the proxy's workload");
                let workload = Arc::make_mut(workload);
                let other = match workload.labels.value("app") {
                    Some("details") => "productpage",
                    _ => "details",
                };
                workload.labels.insert("app".into(), other.into());
            }
            Step::Refuse(i) => self.proxies[i].with(|f| f.refuse_next = true),
            Step::Restart => self.plane.restart(),
            Step::Reconnect(i) => {
                self.proxies[i] = Proxy::start_as(self.plane.dir.path(), PROXIES[i]);
            }
            Step::Wait => tokio::time::sleep(Duration::from_millis(40)).await,
        }
        let world = Arc::new(self.mesh.world.clone());
        self.plane.world.send_replace(world);
        let set = Arc::new(self.set.clone());
        self.plane.config.send_replace(set);
    }

    /// The `n`th half of what there is of a kind, or all of it, or none.
    fn objects(&mut self, kind: usize, n: usize) {
        fn part<T: Clone>(all: Vec<T>, n: usize) -> Vec<T> {
            let middle = all.len() / 2;
            match n {
                0 => Vec::new(),
                1 => all[..middle].to_vec(),
                2 => all[middle..].to_vec(),
                _ => all,
            }
        }
        let all = config(EVERYTHING);
        match kind {
            0 => self.set.virtual_services = part(all.virtual_services, n),
            1 => self.set.destination_rules = part(all.destination_rules, n),
            2 => self.set.gateways = part(all.gateways, n),
            _ => self.set.peer_authentications = part(all.peer_authentications, n),
        }
    }

    /// Whether everybody has what a fresh client is given, by this control plane and by a fresh one.
    async fn ends_as_a_fresh_start(&self) {
        let fresh_plane = Plane::start();
        let (world, config) = (&self.plane.world, &self.plane.config);
        fresh_plane.world.send_replace(world.borrow().clone());
        fresh_plane.config.send_replace(config.borrow().clone());
        let start = |plane: &Plane| -> Vec<Proxy> {
            let dir = plane.dir.path();
            PROXIES.iter().map(|id| Proxy::start_as(dir, id)).collect()
        };
        let fresh = start(&fresh_plane);
        let again = start(&self.plane);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for i in 0..PROXIES.len() {
            loop {
                let old = self.proxies[i].at_rest().await;
                let new = fresh[i].at_rest().await;
                let again = again[i].at_rest().await;
                if old == new && again == new {
                    break;
                }
                let late = tokio::time::Instant::now() > deadline;
                assert!(
                    !late,
                    "{}: {:#?}\nbut fresh: {:#?}\nnewly connected alike: {}",
                    PROXIES[i],
                    lacking(&new, &old),
                    lacking(&old, &new),
                    again == new,
                );
            }
        }
        for (proxy, fresh) in self.proxies.iter().zip(&fresh) {
            // Some services have a route and never a cluster, whatever the way.
            let never = fresh.with(|f| f.astray.clone());
            let mut astray = proxy.with(|f| f.astray.clone());
            astray.retain(|route| !never.contains(route));
            assert_eq!(astray, [""; 0]);
        }
        let (old, new) = (
            self.plane.discovery.counts(),
            fresh_plane.discovery.counts(),
        );
        assert_eq!((old.vantages, old.scopes), (new.vantages, new.scopes));
    }
}

/// What one has that the other has not, or in another version.
fn lacking<'a>(of: &'a Held, other: &Held) -> Vec<(&'a (String, String), &'a String)> {
    of.iter()
        .filter(|(name, version)| other.get(*name) != Some(*version))
        .collect()
}

async fn walk(steps: Vec<Step>) {
    let plane = Plane::start();
    let start = |id: &&str| Proxy::start_as(plane.dir.path(), id);
    let mut walk = Walk {
        proxies: PROXIES.iter().map(start).collect(),
        plane,
        mesh: Mesh::bookinfo(),
        set: ConfigSet::default(),
    };
    for step in steps {
        walk.step(step).await;
    }
    // A client that refused keeps what it has; with the next change of everything it is even.
    walk.proxies
        .iter()
        .for_each(|p| p.with(|f| f.refuse_next = false));
    for i in 0..PROXIES.len() {
        if walk.proxies[i].with(|f| f.refused > 0) {
            walk.step(Step::Reconnect(i)).await;
        }
    }
    walk.ends_as_a_fresh_start().await;
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
    fn same_end_from_any_path(steps in prop::collection::vec(step(), 1..40)) {
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
