//! One key per resource, and the cache behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lateen_api::mesh::MeshConfig;
use lateen_xds::names;
use lateen_xds::server::Resource;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::core::TypedExtensionConfig;
use lateen_xds::types::endpoint::ClusterLoadAssignment;
use lateen_xds::types::listener::Listener;
use lateen_xds::types::route::{RouteConfiguration, VirtualHost};
use tracing::error;

use crate::cluster;
use crate::endpoint::EndpointsKey;
use crate::envoy_filter::{Added, Patched};
use crate::grpc;
use crate::listener::{
    BoundKey, GatewayKey, GatewayServer, InboundKey, OutboundKey, VirtualOutboundKey, Want,
};
use crate::route::{Table, VirtualHostKey};
use crate::shared::Shared;

/// All that a resource is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    BlackHole(Shared<MeshConfig>),
    Passthrough(Shared<MeshConfig>),
    ByName(Shared<MeshConfig>),
    Cluster(cluster::OutboundKey),
    InboundCluster(cluster::InboundKey),
    Endpoints(EndpointsKey),
    Listener(OutboundKey),
    VirtualOutbound(VirtualOutboundKey),
    VirtualInbound(InboundKey),
    Bound(BoundKey),
    Gateway(GatewayKey),
    VirtualHost(VirtualHostKey),
    /// A whole table, where that is more than its virtual hosts.
    Routes(Table),
    /// In gRPC's dialect.
    Grpc(Box<grpc::Key>),
    /// One of these with users' patches.
    Patched(Box<Patched>),
    /// What a user's patch brings.
    Added(Box<Added>),
    /// Cannot be made.
    #[cfg(test)]
    Broken(&'static str),
}

/// A resource before it is encoded; with its name, where the message does not say it.
#[expect(
    clippy::large_enum_variant,
    reason = "one is made, encoded and dropped; nothing keeps it"
)]
pub(crate) enum Message {
    Cluster(Cluster),
    Endpoints(String, ClusterLoadAssignment),
    Listener(Listener),
    Routes(String, RouteConfiguration),
    VirtualHost(String, VirtualHost),
    Extension(TypedExtensionConfig),
}

impl Key {
    /// Makes the resource. Nothing but the key has a say in it.
    fn generate(&self) -> Resource {
        match self.message() {
            Message::Cluster(cluster) => Resource::new(cluster.name.as_str(), &cluster),
            Message::Endpoints(name, endpoints) => Resource::new(name, &endpoints),
            Message::Listener(listener) => Resource::new(listener.name.as_str(), &listener),
            Message::Routes(name, table) => Resource::new(name, &table),
            Message::VirtualHost(name, host) => Resource::new(name, &host),
            Message::Extension(config) => Resource::new(config.name.as_str(), &config),
        }
    }

    pub(crate) fn message(&self) -> Message {
        match self {
            Key::BlackHole(mesh) => Message::Cluster(cluster::black_hole(mesh)),
            Key::Passthrough(mesh) => Message::Cluster(cluster::passthrough(mesh)),
            Key::ByName(mesh) => Message::Cluster(cluster::by_name(mesh)),
            Key::Cluster(key) => Message::Cluster(key.generate()),
            Key::InboundCluster(key) => Message::Cluster(key.generate()),
            Key::Endpoints(key) => Message::Endpoints(key.cluster.clone(), key.generate()),
            Key::Listener(key) => Message::Listener(key.generate()),
            Key::VirtualOutbound(key) => Message::Listener(key.generate()),
            Key::VirtualInbound(key) => Message::Listener(key.generate()),
            Key::Bound(key) => Message::Listener(key.generate()),
            Key::Gateway(key) => Message::Listener(key.generate()),
            Key::VirtualHost(key) => Message::VirtualHost(self.name(), key.generate()),
            Key::Routes(key) => Message::Routes(key.name.clone(), key.generate()),
            Key::Grpc(key) => key.message(),
            Key::Patched(patched) => patched.message(),
            Key::Added(added) => added.message(),
            #[cfg(test)]
            Key::Broken(name) => panic!("{name} cannot be made"),
        }
    }

    /// The name of the resource, known before it is made.
    pub(crate) fn name(&self) -> String {
        match self {
            Key::BlackHole(_) => names::BLACK_HOLE_CLUSTER.into(),
            Key::Passthrough(_) => names::PASSTHROUGH_CLUSTER.into(),
            Key::ByName(_) => names::DYNAMIC_DNS_CLUSTER.into(),
            Key::Cluster(key) => key.name().to_string(),
            Key::InboundCluster(key) => key.name(),
            Key::Endpoints(key) => key.cluster.clone(),
            Key::Listener(key) => key.name(),
            Key::VirtualOutbound(_) => names::VIRTUAL_OUTBOUND.into(),
            Key::VirtualInbound(_) => names::VIRTUAL_INBOUND.into(),
            Key::Bound(key) => key.name(),
            Key::Gateway(key) => key.name(),
            Key::VirtualHost(key) => names::virtual_host(&key.table, &key.name()),
            Key::Routes(key) => key.name.clone(),
            Key::Grpc(key) => key.name(),
            Key::Patched(patched) => patched.key().name(),
            Key::Added(added) => added.name().to_owned(),
            #[cfg(test)]
            Key::Broken(name) => (*name).into(),
        }
    }

    /// The route tables that a listener leads to.
    pub(crate) fn tables(&self) -> Vec<String> {
        match self {
            Key::Listener(key) => match &key.want {
                Want::Http => vec![names::outbound_route(key.port)],
                Want::Proxy { routes } | Want::Sniff { routes, .. } => vec![routes.clone()],
                Want::Tcp(_) => Vec::new(),
            },
            Key::Gateway(key) => {
                let table = |server: &GatewayServer| match server {
                    GatewayServer::Http { routes } | GatewayServer::Https { routes, .. } => {
                        Some(routes.clone())
                    }
                    GatewayServer::Tcp { .. } | GatewayServer::Datagrams(_) => None,
                };
                key.servers.iter().filter_map(table).collect()
            }
            Key::Grpc(key) => key.table().into_iter().collect(),
            Key::Patched(patched) => patched.key().tables(),
            _ => Vec::new(),
        }
    }
}

/// Fewer entries than this are not worth a look.
const FEW: usize = 1024;

/// The name of a resource whose generator panicked, which is a fault of ours.
#[derive(Debug)]
pub(crate) struct NotMade(pub(crate) String);

/// Resources by key, for as long as somebody holds them: what no scope serves any more is gone, and
/// what one serves every other finds here.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    resources: HashMap<Arc<Key>, Weak<Resource>, FixedState>,
    /// How many entries there may be before the dead ones are dropped.
    enough: usize,
    hits: u64,
    misses: u64,
    /// Misses when the dead ones were last dropped.
    swept: u64,
}

impl Cache {
    /// The resource of a key, and the key as all hold it who hold the resource. One that cannot be
    /// made must not take the others with it.
    pub(crate) fn resource(&self, key: Key) -> Result<(Arc<Key>, Arc<Resource>), NotMade> {
        {
            let inner = &mut *self.lock();
            if let Some((known, resource)) = inner.resources.get_key_value(&key)
                && let Some(resource) = resource.upgrade()
            {
                inner.hits += 1;
                return Ok((known.clone(), resource));
            }
            inner.misses += 1;
        }
        // Made without the lock. Two may do the same work; the first result is kept.
        let Ok(made) = catch_unwind(AssertUnwindSafe(|| key.generate())) else {
            self.failed();
            let name = key.name();
            error!(name, "cannot be made, what there was is kept");
            return Err(NotMade(name));
        };
        let made = Arc::new(made);
        let inner = &mut *self.lock();
        inner.make_room();
        let (key, made) = match inner.resources.entry(Arc::new(key)) {
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                Some(known) => (entry.key().clone(), known),
                None => {
                    entry.insert(Arc::downgrade(&made));
                    (entry.key().clone(), made)
                }
            },
            Entry::Vacant(entry) => {
                let key = entry.key().clone();
                entry.insert(Arc::downgrade(&made));
                (key, made)
            }
        };
        Ok((key, made))
    }

    /// Takes note that something could not be made.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something could not be made.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Forgets what nobody holds any more, with the inputs that it was made from, when enough has
    /// been made since the last time to be worth a look at everything.
    pub(crate) fn sweep(&self) {
        let inner = &mut *self.lock();
        let made = inner.misses - inner.swept;
        if made as usize * 4 >= inner.resources.len() {
            inner.sweep();
        }
    }

    /// Everything that somebody holds, for people.
    pub(crate) fn resources(&self) -> Vec<Arc<Resource>> {
        let inner = self.lock();
        inner.resources.values().filter_map(Weak::upgrade).collect()
    }

    /// Forgets everything: what is asked for next is made anew.
    pub(crate) fn clear(&self) {
        self.lock().resources.clear();
    }

    /// Entries in use, hits and misses.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let inner = &mut *self.lock();
        inner.sweep();
        (inner.resources.len(), inner.hits, inner.misses)
    }

    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self) {
        if self.resources.len() >= self.enough {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.resources.retain(|_, held| held.strong_count() > 0);
        self.enough = (self.resources.len() * 2).max(FEW);
        self.swept = self.misses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special() -> Key {
        Key::BlackHole(Shared(Arc::default()))
    }

    #[test]
    fn a_key_is_made_once_and_kept_while_somebody_holds_it() {
        let cache = Cache::default();
        let key = special();
        let (first, made) = cache.resource(key.clone()).expect("made");
        let (again, found) = cache.resource(key).expect("found");
        assert!(Arc::ptr_eq(&made, &found) && Arc::ptr_eq(&first, &again));
        assert_eq!(cache.counts(), (1, 1, 1));
        drop((made, found));
        assert_eq!(cache.counts().0, 0);
    }

    #[test]
    fn what_cannot_be_made_is_counted_and_harms_nothing_else() {
        let cache = Cache::default();
        let NotMade(name) = cache.resource(Key::Broken("it")).expect_err("broken");
        assert_eq!((name.as_str(), cache.failures()), ("it", 1));
        assert!(cache.resource(special()).is_ok());
    }
}
