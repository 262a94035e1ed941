//! The one task that writes the snapshot. Resources come in as updates; each is decoded before
//! anything is changed, a bad one is refused with its reason and the last good one stays, and the
//! new world is published whole.
//!
//! Make before break: a cluster that discovery has removed stays until no route and no listener
//! names it.

mod clusters;
mod listeners;
mod raw;
mod tables;
mod unread;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arcstr::ArcStr;
use lateen_balance::Peers;
use lateen_decode::{
    EndpointSpec, NamedEndpoint, Routes, route_configuration, secret, virtual_host,
};
use lateen_xds::client::{Subscriber, Update};
use lateen_xds::types::{cluster as cluster_pb, endpoint, listener as listener_pb, route, tls};
use lateen_xds::{Any, TypeUrl, decode_any};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::listener::Network;
use crate::memory::GiveBack;
use crate::snapshot::Snapshot;
use crate::worker::{Command, Shared};
use listeners::{Bound, LeavingSockets};
pub(crate) use raw::{RawKind, RawStore};
use tables::{Built, Tables};

/// What the writer is told.
pub(crate) enum Event {
    /// From the control plane.
    Update(Update),
    /// Names of a cluster were resolved.
    Resolved {
        cluster: ArcStr,
        id: u64,
        list: Vec<(SocketAddr, EndpointSpec)>,
    },
    /// The workload has a new certificate, which took memory to get.
    IdentityChanged,
}

/// The writer's own state.
pub(crate) struct State {
    shared: Arc<Shared>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    events_tx: mpsc::UnboundedSender<Event>,
    subscriber: Option<Subscriber>,
    snapshot: Snapshot,
    /// Encoded resources, for the config dump.
    pub raw: Arc<Mutex<RawStore>>,
    /// By the names of discovery; empty where the server said that there is none.
    endpoints: HashMap<ArcStr, Vec<NamedEndpoint>>,
    tables: Tables,
    bound: HashMap<ArcStr, Bound>,
    leaving_sockets: LeavingSockets,
    resolvers: HashMap<ArcStr, AbortHandle>,
    /// Clusters that are gone at the server but still named here.
    leaving: HashSet<ArcStr>,
    /// Names of clusters and listeners of the bootstrap, which discovery cannot replace.
    fixed: HashSet<ArcStr>,
    /// Types of which a first answer came.
    heard: HashSet<&'static str>,
    /// Route configurations that do not exist at the server.
    missing_routes: HashSet<ArcStr>,
    subscribed: HashMap<&'static str, HashSet<String>>,
    next_id: u64,
    /// The cluster of the proxy's own service; empty where there is none.
    local_cluster: ArcStr,
    /// Who the hosts of that cluster are.
    peers: Option<Peers>,
    field_names: unread::Names,
}

impl State {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workers: Vec<mpsc::UnboundedSender<Command>>,
        events_tx: mpsc::UnboundedSender<Event>,
    ) -> Self {
        State {
            shared,
            workers,
            events_tx,
            subscriber: None,
            snapshot: Snapshot::default(),
            raw: Arc::default(),
            endpoints: HashMap::new(),
            tables: Tables::default(),
            bound: HashMap::new(),
            leaving_sockets: LeavingSockets::default(),
            resolvers: HashMap::new(),
            leaving: HashSet::new(),
            fixed: HashSet::new(),
            heard: HashSet::new(),
            missing_routes: HashSet::new(),
            subscribed: HashMap::new(),
            next_id: 1,
            local_cluster: ArcStr::new(),
            peers: None,
            field_names: unread::Names::new(),
        }
    }

    /// Takes what the bootstrap itself defines; here a fault is fatal. `local_cluster` is the name of
    /// the cluster of the proxy's own service, if there is one.
    pub(crate) fn bootstrap(
        &mut self,
        clusters: Vec<cluster_pb::Cluster>,
        listeners: Vec<listener_pb::Listener>,
        local_cluster: &str,
    ) -> Result<(), String> {
        self.local_cluster = local_cluster.into();
        for cluster in clusters {
            let name: ArcStr = cluster.name.as_str().into();
            let any = lateen_xds::pack_any(&cluster);
            self.set_cluster(&name, &cluster)
                .map_err(|error| format!("cluster {name}: {error}"))?;
            self.keep(RawKind::StaticCluster, &name, "", any);
            self.fixed.insert(name);
        }
        for listener in listeners {
            let name: ArcStr = listener.name.as_str().into();
            let any = lateen_xds::pack_any(&listener);
            self.set_listener(&name, &listener)
                .map_err(|error| format!("listener {name}: {error}"))?;
            self.keep(RawKind::StaticListener, &name, "", any);
            self.fixed.insert(name);
        }
        self.publish();
        Ok(())
    }

    /// From now on, resources come from discovery.
    pub(crate) fn attach(&mut self, subscriber: Subscriber) {
        subscriber.wildcard(TypeUrl::CLUSTER);
        subscriber.wildcard(TypeUrl::LISTENER);
        subscriber.wildcard(TypeUrl::VIRTUAL_HOST);
        self.subscriber = Some(subscriber);
        self.subscribe();
        self.judge_readiness();
    }

    /// Without discovery, the bootstrap is all there is.
    pub(crate) fn attach_nothing(&mut self) {
        self.shared.ready.store(true, Ordering::Relaxed);
    }

    /// Handles events until there are no more.
    pub(crate) async fn run(mut self, mut events_rx: mpsc::UnboundedReceiver<Event>) {
        let mut memory = GiveBack::default();
        // For the bootstrap.
        memory.soon();
        loop {
            let event = tokio::select! {
                biased;
                event = events_rx.recv() => event,
                () = memory.pass() => continue,
            };
            let Some(event) = event else { return };
            memory.later();
            let was_ready = self.shared.ready.load(Ordering::Relaxed);
            match event {
                Event::Update(update) => self.update(update),
                Event::Resolved { cluster, id, list } => self.resolved(&cluster, id, list),
                Event::IdentityChanged => memory.soon(),
            }
            if !was_ready && self.shared.ready.load(Ordering::Relaxed) {
                memory.soon();
            }
        }
    }

    fn update(&mut self, update: Update) {
        let mut faults = Vec::new();
        for resource in &update.resources {
            let Some(any) = &resource.body else { continue };
            let name: ArcStr = resource.name.as_str().into();
            if self.is_fixed(&update.type_url, &name) {
                continue;
            }
            if let Err(reason) = self.set(&update.type_url, &name, &resource.version, any) {
                tracing::warn!(kind = update.type_url.short(), %name, reason, "resource refused");
                faults.push(format!("{name}: {reason}"));
            }
        }
        for name in &update.removed {
            let name: ArcStr = name.as_str().into();
            if !self.is_fixed(&update.type_url, &name) {
                self.remove(&update.type_url, &name);
            }
        }
        self.heard.insert(kind_of(&update.type_url));
        if update.type_url == TypeUrl::VIRTUAL_HOST {
            self.tables.know_hosts();
        }
        faults.extend(self.build_tables());
        self.release();
        self.publish();
        self.subscribe();
        self.judge_readiness();
        let [accepted, refused] = &self.shared.stats.updates;
        if faults.is_empty() {
            accepted.inc();
            update.ack();
        } else {
            refused.inc();
            update.nack(faults.join("\n"));
        }
    }

    /// Puts the tables together of which something has changed. What is wrong with them.
    fn build_tables(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, built) in self.tables.build() {
            match built {
                Built::Table(table) => {
                    self.snapshot.routes.insert(name, table);
                }
                Built::Waits => {}
                Built::Refused(reason) => {
                    tracing::warn!(%name, reason, "virtual hosts refused");
                    faults.push(reason);
                }
            }
        }
        faults
    }

    fn is_fixed(&self, kind: &TypeUrl, name: &ArcStr) -> bool {
        (*kind == TypeUrl::CLUSTER || *kind == TypeUrl::LISTENER) && self.fixed.contains(name)
    }

    fn set(
        &mut self,
        kind: &TypeUrl,
        name: &ArcStr,
        version: &str,
        any: &Any,
    ) -> Result<(), String> {
        let text = |error: lateen_xds::Error| error.to_string();
        let raw = if *kind == TypeUrl::CLUSTER {
            let spec: cluster_pb::Cluster = decode_any(any).map_err(text)?;
            self.leaving.remove(name);
            if !(self.is_same(RawKind::Cluster, name, any)
                && self.snapshot.clusters.contains_key(name))
            {
                self.set_cluster(name, &spec)?;
            }
            RawKind::Cluster
        } else if *kind == TypeUrl::LISTENER {
            let spec: listener_pb::Listener = decode_any(any).map_err(text)?;
            if !(self.is_same(RawKind::Listener, name, any)
                && self.snapshot.listeners.contains_key(name))
            {
                self.set_listener(name, &spec)?;
            }
            RawKind::Listener
        } else if *kind == TypeUrl::ROUTE {
            let spec: route::RouteConfiguration = decode_any(any).map_err(text)?;
            let table = route_configuration(&spec).map_err(|error| error.to_string())?;
            self.missing_routes.remove(name);
            self.tables.set(name, table, spec.vhds.is_some());
            RawKind::Route
        } else if *kind == TypeUrl::VIRTUAL_HOST {
            let spec: route::VirtualHost = decode_any(any).map_err(text)?;
            let host = virtual_host(&spec).map_err(|error| error.to_string())?;
            self.tables.set_host(name, host)?;
            RawKind::VirtualHost
        } else if *kind == TypeUrl::ENDPOINT {
            let spec: endpoint::ClusterLoadAssignment = decode_any(any).map_err(text)?;
            self.set_endpoints(name, &spec)?;
            RawKind::Endpoint
        } else if *kind == TypeUrl::SECRET {
            let spec: tls::Secret = decode_any(any).map_err(text)?;
            let data = secret(&spec).map_err(|error| error.to_string())?;
            return self
                .shared
                .secrets
                .set(name, data)
                .map_err(|error| error.to_string());
        } else {
            return Err(format!(
                "resources of type {} are not supported",
                kind.as_str()
            ));
        };
        self.keep(raw, name, version, any.clone());
        Ok(())
    }

    fn remove(&mut self, kind: &TypeUrl, name: &ArcStr) {
        if *kind == TypeUrl::CLUSTER {
            if self.snapshot.clusters.contains_key(name) {
                self.leaving.insert(name.clone());
            }
        } else if *kind == TypeUrl::LISTENER {
            self.remove_listener(name);
            self.forget(RawKind::Listener, name);
        } else if *kind == TypeUrl::ROUTE {
            self.missing_routes.insert(name.clone());
            self.tables.remove(name);
            self.snapshot.routes.remove(name);
            self.forget(RawKind::Route, name);
        } else if *kind == TypeUrl::VIRTUAL_HOST {
            self.tables.remove_host(name);
            self.forget(RawKind::VirtualHost, name);
        } else if *kind == TypeUrl::ENDPOINT {
            self.remove_endpoints(name);
            self.forget(RawKind::Endpoint, name);
        }
        // A secret that is gone stays in use: configuration fails static.
    }

    /// Lets clusters go that nobody names any more.
    fn release(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let named = self.named_clusters();
        let gone: Vec<ArcStr> = self
            .leaving
            .iter()
            .filter(|name| !named.contains(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            self.leaving.remove(&name);
            self.snapshot.clusters.remove(&name);
            if let Some(resolver) = self.resolvers.remove(&name) {
                resolver.abort();
            }
            self.forget(RawKind::Cluster, &name);
        }
    }

    fn named_clusters(&self) -> HashSet<String> {
        let mut names = HashSet::new();
        for table in self.snapshot.routes.values() {
            clusters::named_by_routes(table, &mut names);
        }
        for listener in self.snapshot.listeners.values() {
            if let Some(udp) = &listener.udp {
                names.extend(udp.routes.clusters().map(ToString::to_string));
            }
            for chain in listener.all_chains() {
                match &chain.network {
                    Network::Close => {}
                    Network::Tcp(tcp) => clusters::named_by_target(&tcp.target, &mut names),
                    Network::Http(hcm) => {
                        if let Routes::Inline(table) = &hcm.spec.routes {
                            clusters::named_by_routes(table, &mut names);
                        }
                    }
                }
            }
        }
        names
    }

    fn publish(&mut self) {
        self.shared.publish(self.snapshot.clone());
    }

    /// Asks for what the present configuration names, and no longer for the rest.
    fn subscribe(&mut self) {
        let Some(subscriber) = self.subscriber.clone() else {
            return;
        };
        let endpoints = self.wanted_endpoints();
        let routes = self.wanted_routes();
        let secrets = self.shared.secrets.wanted().into_iter().collect();
        for (kind, wanted) in [
            (TypeUrl::ENDPOINT, endpoints),
            (TypeUrl::ROUTE, routes),
            (TypeUrl::SECRET, secrets),
        ] {
            let before = self.subscribed.entry(kind_of(&kind)).or_default();
            let new: Vec<String> = wanted.difference(before).cloned().collect();
            let old: Vec<String> = before.difference(&wanted).cloned().collect();
            if !new.is_empty() {
                subscriber.subscribe(kind.clone(), new);
            }
            if !old.is_empty() {
                subscriber.unsubscribe(kind.clone(), old.clone());
            }
            *before = wanted;
            for name in old {
                let name: ArcStr = name.into();
                if kind == TypeUrl::ENDPOINT {
                    self.endpoints.remove(&name);
                    self.forget(RawKind::Endpoint, &name);
                } else if kind == TypeUrl::ROUTE {
                    self.tables.remove(&name);
                    self.snapshot.routes.remove(&name);
                    self.missing_routes.remove(&name);
                    self.forget(RawKind::Route, &name);
                }
            }
        }
    }

    fn wanted_routes(&self) -> HashSet<String> {
        let mut names = HashSet::new();
        for listener in self.snapshot.listeners.values() {
            for chain in listener.all_chains() {
                if let Network::Http(hcm) = &chain.network
                    && let Routes::Named(name) = &hcm.spec.routes
                {
                    names.insert(name.to_string());
                }
            }
        }
        names
    }

    /// Ready once, the proxy stays ready: what comes later replaces what works.
    fn judge_readiness(&self) {
        if self.shared.ready.load(Ordering::Relaxed) {
            return;
        }
        let heard = self.heard.contains("cds") && self.heard.contains("lds");
        let warm = self.snapshot.clusters.values().all(|cluster| cluster.warm);
        let routed = self.wanted_routes().iter().all(|name| {
            self.snapshot.routes.contains_key(name.as_str())
                || self.missing_routes.contains(name.as_str())
        });
        if heard && warm && routed {
            tracing::info!("configuration is complete");
            self.shared.ready.store(true, Ordering::Relaxed);
        }
    }

    fn is_same(&self, kind: RawKind, name: &ArcStr, any: &Any) -> bool {
        self.raw_store().is_same(kind, name, any)
    }

    fn keep(&mut self, kind: RawKind, name: &ArcStr, version: &str, any: Any) {
        let paths = self.unread(&any);
        let is_news = self
            .raw_store()
            .keep(kind, name, version, any, paths.clone());
        if is_news {
            self.say_unread(kind, name, &paths);
        }
    }

    fn forget(&self, kind: RawKind, name: &ArcStr) {
        self.raw_store().forget(kind, name);
    }

    fn raw_store(&self) -> std::sync::MutexGuard<'_, RawStore> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A short name for the types that we ask for.
fn kind_of(kind: &TypeUrl) -> &'static str {
    match kind {
        kind if *kind == TypeUrl::CLUSTER => "cds",
        kind if *kind == TypeUrl::LISTENER => "lds",
        kind if *kind == TypeUrl::ROUTE => "rds",
        kind if *kind == TypeUrl::VIRTUAL_HOST => "vhds",
        kind if *kind == TypeUrl::ENDPOINT => "eds",
        kind if *kind == TypeUrl::SECRET => "sds",
        _ => "other",
    }
}
