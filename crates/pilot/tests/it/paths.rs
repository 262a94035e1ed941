//! The same end from any path: whatever is added, removed, refused or reconnected on the way, a
//! client ends with what a fresh one would be given, was never led to a cluster that it lacked, and
//! leaves nothing behind. Clients of all dialects against our own server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery, Options};
use lateen_registry::World;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;

use crate::fixture::{EVERYTHING, Mesh, config};
use crate::follower::{Dialect, Held, Proxy};

const PATIENCE: Duration = Duration::from_secs(60);

/// Events of a walk, where nobody asks for another number: a few seconds' worth.
const EVENTS: usize = 250;
/// The same in the environment.
const EVENTS_VARIABLE: &str = "LATEEN_PATHS_EVENTS";
/// What the walk begins with, which decides where it goes.
const SEED_VARIABLE: &str = "LATEEN_PATHS_SEED";
/// After so many events it is looked at where everybody is.
const LEG: usize = 50;
/// What a process may grow by after a quarter of the way, in bytes: the allocator's own ways, not
/// what is kept of thousands of events.
const GROWTH: usize = 64 << 20;

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

    /// How far the streams of a node got.
    fn statuses(&self, node: &str) -> Vec<String> {
        let streams = self.discovery.connections().list().into_iter();
        let streams = streams.filter(|stream| stream.node == node);
        let status = |stream: Arc<lateen_xds::server::Connection<_>>| {
            let types = stream.types().into_iter().map(|(type_url, status)| {
                let (n, held) = (status.resources, status.held_back);
                format!("{type_url:?}: {n} sent, {held} held, {:?}", status.refused)
            });
            format!(
                "{}: {}",
                stream.acked_generation(),
                types.collect::<Vec<_>>().join("; ")
            )
        };
        streams.map(status).collect()
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

/// Two sidecars of one namespace whose workloads differ, one whose workload nobody knows, in a
/// namespace of its own, and the gateway; some of them as Envoy would be.
const PROXIES: [(&str, Dialect); 7] = [
    (PRODUCTPAGE, Dialect::Ours),
    (REVIEWS, Dialect::Ours),
    (STRANGER, Dialect::Ours),
    (GATEWAY, Dialect::Ours),
    (REVIEWS, Dialect::Delta),
    (GATEWAY, Dialect::Delta),
    (PRODUCTPAGE, Dialect::StateOfTheWorld),
];
const PRODUCTPAGE: &str = "sidecar~10.244.0.1~productpage-v1.default~default.svc.cluster.local";
const REVIEWS: &str = "sidecar~10.244.0.3~reviews-v1.default~default.svc.cluster.local";
const STRANGER: &str = "sidecar~10.244.9.9~stranger-v1.other~other.svc.cluster.local";
const GATEWAY: &str =
    "router~10.244.0.12~istio-ingressgateway-v1.istio-system~istio-system.svc.cluster.local";

#[derive(Clone, Copy, Debug)]
enum Event {
    Pod(usize),
    World(bool),
    Config(bool),
    /// One kind of object comes, goes or changes alone.
    Objects(usize, usize),
    Toggle,
    /// Labels of a proxy's own workload change.
    Relabel,
    /// The registry was lost and says everything again, which is the same.
    Relist,
    /// A registry is given up, or is there again: all services outside come from it.
    Registry(bool),
    Refuse(usize),
    Restart,
    Leave(usize),
    Come(usize),
    Wait,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) as usize % n
    }

    fn event(&mut self) -> Event {
        match self.below(29) {
            0..=4 => Event::Pod(self.below(4)),
            5 | 6 => Event::World(self.below(2) == 0),
            7 | 8 => Event::Config(self.below(2) == 0),
            9..=13 => Event::Objects(self.below(4), self.below(4)),
            14 | 15 => Event::Toggle,
            16 => Event::Relabel,
            17 => Event::Relist,
            18 => Event::Refuse(self.below(PROXIES.len())),
            // A process that is new has forgotten everything, so this is seldom.
            19 if self.below(4) == 0 => Event::Restart,
            19 | 20 => Event::Leave(self.below(PROXIES.len())),
            23 | 24 => Event::Registry(self.below(2) == 0),
            21 | 22 => Event::Come(self.below(PROXIES.len())),
            _ => Event::Wait,
        }
    }
}

/// Where the walk is.
struct Walk {
    plane: Plane,
    mesh: Mesh,
    set: ConfigSet,
    proxies: Vec<Option<Proxy>>,
}

impl Walk {
    fn start() -> Walk {
        let plane = Plane::start();
        let proxies =
            PROXIES.map(|(id, dialect)| Some(Proxy::start(plane.dir.path(), id, dialect)));
        Walk {
            proxies: proxies.into(),
            plane,
            mesh: Mesh::bookinfo(),
            set: ConfigSet::default(),
        }
    }

    async fn step(&mut self, event: Event) {
        match event {
            Event::Pod(_) if self.mesh.world.workloads_by_ip.len() > 60 => {
                self.mesh = Mesh::bookinfo();
            }
            Event::Pod(i) => {
                let app = ["productpage", "details", "reviews", "ratings"][i];
                self.mesh.pod(app, "v2");
            }
            Event::World(full) => {
                self.mesh = Mesh::bookinfo();
                if !full {
                    let services = &mut self.mesh.world.services;
                    services.retain(|id, _| !id.hostname.starts_with("ra"));
                    self.mesh.service("ratings", &["10.96.0.99"], &[]);
                }
            }
            Event::Config(full) => {
                self.set = if full {
                    config(EVERYTHING)
                } else {
                    ConfigSet::default()
                };
            }
            Event::Objects(kind, n) => self.objects(kind, n),
            Event::Toggle => self.mesh.change("mysqldb", |service| {
                let port = &mut service.ports[0];
                port.protocol = match port.protocol {
                    lateen_core::Protocol::Tcp => lateen_core::Protocol::Http,
                    _ => lateen_core::Protocol::Tcp,
                };
            }),
            Event::Relabel => self.relabel(),
            Event::Relist => self.mesh.relist(),
            Event::Registry(is_there) => self.mesh.registry_outside(is_there),
            Event::Refuse(i) => {
                if let Some(proxy) = &self.proxies[i] {
                    proxy.with(|f| f.refuse_next = true);
                }
            }
            Event::Restart => self.plane.restart(),
            Event::Leave(i) => self.proxies[i] = None,
            Event::Come(i) => self.come(i),
            Event::Wait => tokio::time::sleep(Duration::from_millis(40)).await,
        }
        let world = Arc::new(self.mesh.world.clone());
        self.plane.world.send_replace(world);
        let set = Arc::new(self.set.clone());
        self.plane.config.send_replace(set);
    }

    fn come(&mut self, i: usize) {
        let (id, dialect) = PROXIES[i];
        self.proxies[i] = Some(Proxy::start(self.plane.dir.path(), id, dialect));
    }

    fn relabel(&mut self) {
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
    async fn ends_as_a_fresh_start(&mut self) {
        for i in 0..PROXIES.len() {
            let refused = |proxy: &Proxy| proxy.with(|f| f.refuse_next || f.refused > 0);
            // Who refused keeps what it has; on a new stream it is even.
            if self.proxies[i].as_ref().is_none_or(refused) {
                self.stays_on_the_way(i);
                self.come(i);
            }
        }
        let fresh_plane = Plane::start();
        let (world, config) = (&self.plane.world, &self.plane.config);
        fresh_plane.world.send_replace(world.borrow().clone());
        fresh_plane.config.send_replace(config.borrow().clone());
        let start = |plane: &Plane| {
            PROXIES.map(|(id, dialect)| Proxy::start(plane.dir.path(), id, dialect))
        };
        let (fresh, again) = (start(&fresh_plane), start(&self.plane));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut even = 0;
        // Twice, as clients that wait for their first response are even too.
        while even < 2 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            even += 1;
            for i in 0..PROXIES.len() {
                let old = self.proxies[i].as_ref().expect("all are there");
                let all = [old, &fresh[i], &again[i]].map(|p| p.with(|f| f.held.clone()));
                let [old, new, again] = all;
                if old == new && again == new && !new.is_empty() {
                    continue;
                }
                even = 0;
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{:?} lacks {:#?}\nand has {:#?}\nnewly connected lacks {:#?} and has {:#?}\n{:#?}",
                    PROXIES[i],
                    lacking(&new, &old),
                    lacking(&old, &new),
                    lacking(&new, &again),
                    lacking(&again, &new),
                    self.plane.statuses(PROXIES[i].0),
                );
            }
        }
        for i in 0..PROXIES.len() {
            self.stays_on_the_way(i);
            for proxy in [&fresh[i], &again[i]] {
                assert_eq!(
                    proxy.with(|f| f.astray.clone()),
                    [""; 0],
                    "{:?}",
                    PROXIES[i]
                );
            }
        }
        let [old, new] = [&self.plane, &fresh_plane].map(|plane| plane.discovery.counts());
        assert_eq!((old.vantages, old.scopes), (new.vantages, new.scopes));
    }

    /// Whether a client was never led to a cluster that it lacked.
    fn stays_on_the_way(&self, i: usize) {
        if let Some(proxy) = &self.proxies[i] {
            let (astray, log) = proxy.with(|f| (f.astray.clone(), f.log.clone()));
            assert!(
                astray.is_empty(),
                "{:?}: {astray:#?} after {log:#?}, {:?}",
                PROXIES[i],
                self.plane.statuses(PROXIES[i].0),
            );
        }
    }
}

/// What one has that the other has not, or in another version.
fn lacking<'a>(of: &'a Held, other: &Held) -> Vec<(&'a (&'static str, String), &'a String)> {
    of.iter()
        .filter(|(name, version)| other.get(*name) != Some(*version))
        .collect()
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Bytes of memory that the process has in use.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc");
    let pages = statm.split(' ').nth(1).expect("resident pages");
    pages.parse::<usize>().expect("a number") * 4096
}

/// `LATEEN_PATHS_EVENTS=10000` makes it long.
#[test]
fn same_end_from_any_path_and_no_more_memory() {
    let events = number(EVENTS_VARIABLE).map_or(EVENTS, |n| usize::try_from(n).expect("few"));
    let seed = number(SEED_VARIABLE).unwrap_or(1);
    eprintln!("{events} events from {SEED_VARIABLE}={seed}");
    runtime().block_on(async {
        let mut dice = Dice(seed);
        let mut walk = Walk::start();
        let mut before = None;
        for leg in 0..events.div_ceil(LEG) {
            for _ in 0..LEG {
                walk.step(dice.event()).await;
            }
            walk.ends_as_a_fresh_start().await;
            if before.is_none() && leg * LEG * 4 >= events {
                before = Some(memory());
            }
        }
        let (before, after) = (before.expect("a quarter"), memory());
        assert!(after < before + GROWTH, "{before} bytes, then {after}");
    });
}

#[test]
fn a_restart_of_the_control_plane_sends_nothing_that_has_not_changed() {
    runtime().block_on(async {
        let mut plane = Plane::start();
        let proxy = Proxy::start(plane.dir.path(), PRODUCTPAGE, Dialect::Ours);
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
        while proxy.with(|f| f.received) == received {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.at_rest().await;
        assert_eq!(
            proxy.with(|f| f.received),
            received + 1,
            "one set of endpoints"
        );
    });
}

#[test]
fn a_rule_for_one_host_sends_one_host() {
    const RULE: &str = "
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http: [{timeout: 7s, route: [{destination: {host: ratings}}]}]
";
    runtime().block_on(async {
        let plane = Plane::start();
        let start = |dialect| Proxy::start(plane.dir.path(), PRODUCTPAGE, dialect);
        let (ours, envoy) = (start(Dialect::Ours), start(Dialect::Delta));
        let before = [ours.at_rest().await, envoy.at_rest().await];
        let count = |proxy: &Proxy| proxy.with(|f| (f.received, f.bytes));
        let counts = [count(&ours), count(&envoy)];
        plane.config.send_replace(Arc::new(config(RULE)));
        while count(&ours) == counts[0] || count(&envoy) == counts[1] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let after = [ours.at_rest().await, envoy.at_rest().await];
        let changed = [0, 1].map(|i| {
            let names = lacking(&after[i], &before[i]).into_iter();
            names
                .map(|((kind, name), _)| (*kind, name.clone()))
                .collect::<Vec<_>>()
        });
        let host = "9080/ratings.default.svc.cluster.local:9080";
        assert_eq!(changed[0], [("VHDS", host.to_owned())]);
        assert_eq!(changed[1], [("RDS", "9080".to_owned())]);
        let [ours, envoy] = [count(&ours), count(&envoy)];
        assert_eq!((ours.0, envoy.0), (counts[0].0 + 1, counts[1].0 + 1));
        let [ours, envoy] = [ours.1 - counts[0].1, envoy.1 - counts[1].1];
        assert!(ours * 3 < envoy, "{ours} bytes instead of {envoy}");
    });
}

#[test]
fn a_refused_response_is_not_repeated_and_the_next_change_comes_through() {
    runtime().block_on(async {
        let plane = Plane::start();
        let proxy = Proxy::start(plane.dir.path(), PRODUCTPAGE, Dialect::Ours);
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
        while proxy.with(|f| f.received) == received {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_ne!(proxy.at_rest().await, before);
    });
}
