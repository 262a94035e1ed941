//! One key per resource, and the cache behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lateen_api::mesh::MeshConfig;
use lateen_xds::server::Resource;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::core::TypedExtensionConfig;
use lateen_xds::types::endpoint::ClusterLoadAssignment;
use lateen_xds::types::listener::Listener;
use lateen_xds::types::route::RouteConfiguration;

use crate::cluster;
use crate::endpoint::EndpointsKey;
use crate::envoy_filter::{Added, Patched};
use crate::listener::{BoundKey, GatewayKey, InboundKey, OutboundKey, VirtualOutboundKey};
use crate::route::{GatewayRoutesKey, OutboundRoutesKey};
use crate::shared::Shared;

/// All that a resource is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    BlackHole(Shared<MeshConfig>),
    Passthrough(Shared<MeshConfig>),
    Cluster(cluster::OutboundKey),
    InboundCluster(cluster::InboundKey),
    Endpoints(EndpointsKey),
    Listener(OutboundKey),
    VirtualOutbound(VirtualOutboundKey),
    VirtualInbound(InboundKey),
    Bound(BoundKey),
    Gateway(GatewayKey),
    Routes(OutboundRoutesKey),
    GatewayRoutes(GatewayRoutesKey),
    /// One of these with users' patches.
    Patched(Box<Patched>),
    /// What a user's patch brings.
    Added(Box<Added>),
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
            Message::Extension(config) => Resource::new(config.name.as_str(), &config),
        }
    }

    pub(crate) fn message(&self) -> Message {
        match self {
            Key::BlackHole(mesh) => Message::Cluster(cluster::black_hole(mesh)),
            Key::Passthrough(mesh) => Message::Cluster(cluster::passthrough(mesh)),
            Key::Cluster(key) => Message::Cluster(key.generate()),
            Key::InboundCluster(key) => Message::Cluster(key.generate()),
            Key::Endpoints(key) => Message::Endpoints(key.cluster.clone(), key.generate()),
            Key::Listener(key) => Message::Listener(key.generate()),
            Key::VirtualOutbound(key) => Message::Listener(key.generate()),
            Key::VirtualInbound(key) => Message::Listener(key.generate()),
            Key::Bound(key) => Message::Listener(key.generate()),
            Key::Gateway(key) => Message::Listener(key.generate()),
            Key::Routes(key) => Message::Routes(key.name.clone(), key.generate()),
            Key::GatewayRoutes(key) => Message::Routes(key.name.clone(), key.generate()),
            Key::Patched(patched) => patched.message(),
            Key::Added(added) => added.message(),
        }
    }
}

/// Fewer entries than this are not worth a look.
const FEW: usize = 1024;

/// Resources by key, for as long as somebody holds them: what no scope serves any more is gone, and
/// what one serves every other finds here.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    resources: HashMap<Key, Weak<Resource>, FixedState>,
    /// How many entries there may be before the dead ones are dropped.
    enough: usize,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// The resource of a key.
    pub(crate) fn resource(&self, key: Key) -> Arc<Resource> {
        {
            let inner = &mut *self.lock();
            if let Some(known) = inner.resources.get(&key).and_then(Weak::upgrade) {
                inner.hits += 1;
                return known;
            }
            inner.misses += 1;
        }
        // Made without the lock. Two may do the same work; the first result is kept.
        let made = Arc::new(key.generate());
        let inner = &mut *self.lock();
        inner.make_room();
        match inner.resources.entry(key) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                entry.insert(Arc::downgrade(&made));
                made
            }),
            Entry::Vacant(entry) => {
                entry.insert(Arc::downgrade(&made));
                made
            }
        }
    }

    /// Forgets what nobody holds any more, with the inputs that it was made from.
    pub(crate) fn sweep(&self) {
        self.lock().sweep();
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
    }
}
