//! One key per resource, and the cache behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lateen_api::mesh::MeshConfig;
use lateen_xds::server::Resource;

use crate::cluster;
use crate::endpoint::EndpointsKey;
use crate::listener::{GatewayKey, InboundKey, OutboundKey, VirtualOutboundKey};
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
    Gateway(GatewayKey),
    Routes(OutboundRoutesKey),
    GatewayRoutes(GatewayRoutesKey),
}

impl Key {
    /// Makes the resource. Nothing but the key has a say in it.
    fn generate(&self) -> Resource {
        match self {
            Key::BlackHole(mesh) => named_cluster(cluster::black_hole(mesh)),
            Key::Passthrough(mesh) => named_cluster(cluster::passthrough(mesh)),
            Key::Cluster(key) => named_cluster(key.generate()),
            Key::InboundCluster(key) => named_cluster(key.generate()),
            Key::Endpoints(key) => Resource::new(key.cluster.as_str(), &key.generate()),
            Key::Listener(key) => named_listener(key.generate()),
            Key::VirtualOutbound(key) => named_listener(key.generate()),
            Key::VirtualInbound(key) => named_listener(key.generate()),
            Key::Gateway(key) => named_listener(key.generate()),
            Key::Routes(key) => Resource::new(key.name.as_str(), &key.generate()),
            Key::GatewayRoutes(key) => Resource::new(key.name.as_str(), &key.generate()),
        }
    }

    /// The resource's name.
    pub(crate) fn name(&self) -> String {
        match self {
            Key::BlackHole(_) => lateen_xds::names::BLACK_HOLE_CLUSTER.into(),
            Key::Passthrough(_) => lateen_xds::names::PASSTHROUGH_CLUSTER.into(),
            Key::Cluster(key) => key.name().to_string(),
            Key::InboundCluster(key) => key.name(),
            Key::Endpoints(key) => key.cluster.clone(),
            Key::Listener(key) => key.name(),
            Key::VirtualOutbound(_) => lateen_xds::names::VIRTUAL_OUTBOUND.into(),
            Key::VirtualInbound(_) => lateen_xds::names::VIRTUAL_INBOUND.into(),
            Key::Gateway(key) => key.name(),
            Key::Routes(key) => key.name.clone(),
            Key::GatewayRoutes(key) => key.name.clone(),
        }
    }
}

fn named_cluster(cluster: lateen_xds::types::cluster::Cluster) -> Resource {
    Resource::new(cluster.name.as_str(), &cluster)
}

fn named_listener(listener: lateen_xds::types::listener::Listener) -> Resource {
    Resource::new(listener.name.as_str(), &listener)
}

/// Snapshots that a resource may go unused before it is dropped.
const KEPT_GENERATIONS: u64 = 4;

/// Resources by key. What no proxy has asked for in some snapshots is dropped, so the cache is as
/// large as what is in use.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    resources: HashMap<Key, Entry, FixedState>,
    swept: u64,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Entry {
    resource: Arc<Resource>,
    used: u64,
}

impl Cache {
    /// The resource of a key, for a client of the snapshot `generation`.
    pub(crate) fn resource(&self, key: Key, generation: u64) -> Arc<Resource> {
        {
            let inner = &mut *self.lock();
            inner.sweep(generation);
            if let Some(entry) = inner.resources.get_mut(&key) {
                entry.used = entry.used.max(generation);
                inner.hits += 1;
                return entry.resource.clone();
            }
            inner.misses += 1;
        }
        // Made without the lock. Two clients may do the same work; the first result is kept.
        let resource = Arc::new(key.generate());
        let mut inner = self.lock();
        let entry = inner.resources.entry(key).or_insert(Entry {
            resource,
            used: generation,
        });
        entry.resource.clone()
    }

    /// Entries, hits and misses.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let inner = self.lock();
        (inner.resources.len(), inner.hits, inner.misses)
    }

    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn sweep(&mut self, generation: u64) {
        if generation >= self.swept + KEPT_GENERATIONS {
            self.swept = generation;
            self.resources
                .retain(|_, entry| entry.used + KEPT_GENERATIONS >= generation);
        }
    }
}
