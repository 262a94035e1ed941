//! The streams that are open and how far each got, for debugging endpoints and status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::watched::Watched;
use crate::TypeUrl;
use crate::types::core::Node;

/// All open streams, in the order of their arrival.
#[derive(Debug)]
pub struct Connections<C> {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Connection<C>>>>,
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Connections {
            next: AtomicU64::new(1),
            open: Mutex::default(),
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub struct Connection<C> {
    /// A number that no other stream of this process has.
    pub id: u64,
    /// What the client says it is.
    pub node: Node,
    /// What the source knows about it.
    pub client: C,
    /// The socket's other end.
    pub address: Option<SocketAddr>,
    /// When the stream was admitted.
    pub since: SystemTime,
    /// `delta` or `sotw`.
    pub protocol: &'static str,
    acked_generation: AtomicU64,
    types: Mutex<BTreeMap<TypeUrl, TypeStatus>>,
}

/// How far a client got with one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Everything is asked for.
    pub wildcard: bool,
    /// Names that are asked for.
    pub names: BTreeSet<String>,
    /// How many resources the client was sent and has not been told to remove.
    pub resources: usize,
    /// The newest response.
    pub sent: String,
    /// The newest response that was accepted.
    pub acked: String,
    /// The newest response that was refused, and why.
    pub refused: Option<(String, String)>,
}

impl<C> Connections<C> {
    /// The streams that are open now.
    pub fn list(&self) -> Vec<Arc<Connection<C>>> {
        lock(&self.open).values().cloned().collect()
    }

    pub(super) fn open(
        self: &Arc<Self>,
        node: Node,
        client: C,
        address: Option<SocketAddr>,
        protocol: &'static str,
    ) -> Guard<C> {
        let connection = Arc::new(Connection {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            node,
            client,
            address,
            since: SystemTime::now(),
            protocol,
            acked_generation: AtomicU64::new(0),
            types: Mutex::default(),
        });
        lock(&self.open).insert(connection.id, connection.clone());
        Guard {
            connections: self.clone(),
            connection,
        }
    }
}

impl<C> Connection<C> {
    /// Generation of the newest snapshot that the client has wholly accepted; 0 for none.
    pub fn acked_generation(&self) -> u64 {
        self.acked_generation.load(Ordering::Relaxed)
    }

    /// How far the client got, by type.
    pub fn types(&self) -> BTreeMap<TypeUrl, TypeStatus> {
        lock(&self.types).clone()
    }

    pub(super) fn acked(&self, generation: u64) {
        self.acked_generation.store(generation, Ordering::Relaxed);
    }

    pub(super) fn update(&self, type_url: &TypeUrl, watched: &Watched) {
        let mut types = lock(&self.types);
        let status = types.entry(type_url.clone()).or_default();
        status.wildcard = watched.wildcard;
        if status.names != watched.names {
            status.names.clone_from(&watched.names);
        }
        status.resources = watched.n_sent();
        status.sent.clone_from(&watched.nonce);
        if !watched.unanswered {
            match &watched.refused {
                Some(reason) => status.refused = Some((watched.nonce.clone(), reason.clone())),
                None => {
                    status.acked.clone_from(&watched.nonce);
                    status.refused = None;
                }
            }
        }
    }
}

/// Takes the connection off the list at the end of the stream, however it ends.
pub(super) struct Guard<C> {
    connections: Arc<Connections<C>>,
    pub(super) connection: Arc<Connection<C>>,
}

impl<C> Drop for Guard<C> {
    fn drop(&mut self) {
        lock(&self.connections.open).remove(&self.connection.id);
    }
}

/// Nothing under these locks can panic half way, so a poisoned lock holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
