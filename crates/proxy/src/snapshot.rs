//! What the data plane runs on at one moment: one consistent world for whoever takes it.

use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use foldhash::HashMap;
use lateen_decode::RouteExtra;
use lateen_route::RouteTable;

use crate::cluster::Cluster;
use crate::listener::Listener;

/// A compiled route configuration.
pub(crate) type Routes = Arc<RouteTable<RouteExtra>>;

/// One consistent world.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub listeners: HashMap<ArcStr, Arc<Listener>>,
    by_address: HashMap<SocketAddr, Arc<Listener>>,
    pub routes: HashMap<ArcStr, Routes>,
    pub clusters: HashMap<ArcStr, Arc<Cluster>>,
}

impl Snapshot {
    /// The listener for a connection's original destination: the exact address, then any address
    /// with that port.
    pub(crate) fn listener_for(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let mut bound_at = lateen_decode::bound_at(destination).into_iter();
        bound_at.find_map(|address| self.by_address.get(&address))
    }

    /// Brings the index up to date after listeners changed.
    pub(crate) fn index_listeners(&mut self) {
        self.by_address = self
            .listeners
            .values()
            // Connections find their listener so, datagrams do not.
            .filter(|listener| listener.udp.is_none())
            .flat_map(|listener| {
                listener
                    .addresses
                    .iter()
                    .map(|address| (*address, listener.clone()))
            })
            .collect();
    }
}
