//! The sessions of one socket.

use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcstr::ArcStr;
use foldhash::{HashMap, HashMapExt};
use lateen_balance::{Priority, Resource};
use lateen_decode::{DatagramHash, Discovery};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::UdpProxy;
use super::port::{Ends, Port, with_buffer};
use super::session::Session;
use crate::cluster::{Cluster, Host};
use crate::snapshot::Snapshot;
use crate::worker::{Tried, Worker};

/// The sessions of each client, the newest last. Where each datagram finds a host of its own, a client
/// has one with each of them.
type Sessions = HashMap<Ends, Vec<Arc<Session>>>;

/// The sessions.
pub(super) struct Table {
    worker: Arc<Worker>,
    /// The listener's.
    name: ArcStr,
    port: Port,
    sessions: Mutex<Sessions>,
    emptied: Notify,
}

impl Table {
    pub(super) fn new(worker: Arc<Worker>, name: ArcStr, socket: UdpSocket) -> io::Result<Self> {
        Ok(Table {
            worker,
            name,
            port: Port::new(socket)?,
            sessions: Mutex::new(HashMap::new()),
            emptied: Notify::new(),
        })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.port.readable().await
    }

    /// Takes what has come, at most so many datagrams. In the end, only what belongs to sessions
    /// that there are already.
    pub(super) fn take(self: &Arc<Self>, most: usize, is_ending: bool) {
        let snapshot = self.worker.shared.snapshot.load();
        let now = self.worker.shared.now();
        let udp = self.proxy(&snapshot);
        let beginning = udp.filter(|_| !is_ending);
        for _ in 0..most {
            let went_on = with_buffer(|buffer| match self.port.receive(buffer) {
                Ok((length, ends)) => {
                    self.forward(&snapshot, beginning, ends, &buffer[..length], now);
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => {
                    if let Some(udp) = udp {
                        udp.stats.rx_errors.inc();
                    }
                    tracing::debug!(listener = %self.name, %error, "datagram not received");
                    true
                }
            });
            if !went_on {
                return;
            }
        }
    }

    fn proxy<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<UdpProxy>> {
        snapshot.listeners.get(&self.name)?.udp.as_ref()
    }

    fn forward(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        udp: Option<&Arc<UdpProxy>>,
        ends: Ends,
        bytes: &[u8],
        now: u64,
    ) {
        let Some(udp) = udp else {
            self.forward_known(ends, bytes, now);
            return;
        };
        if bytes.len() > udp.max_request {
            let listener = self.worker.shared.stats.listener(&self.name);
            listener.datagrams_dropped.inc();
            return;
        }
        let named = ends.canonical();
        let routes = &udp.routes;
        let cluster = routes.choose(named.client, named.local);
        let cluster = cluster.and_then(|name| snapshot.clusters.get(name));
        let Some(cluster) = cluster else {
            udp.stats.sess_no_route.inc();
            return;
        };
        if let Some(session) = self.session(udp, cluster, ends, now) {
            session.set_idle_timeout(udp.idle_timeout);
            session.forward(bytes, now);
        }
    }

    /// What comes for a listener that is gone goes on where its client has a session.
    fn forward_known(&self, ends: Ends, bytes: &[u8], now: u64) {
        if let Some(session) = self.known(ends, |_| true) {
            session.forward(bytes, now);
        }
    }

    /// The newest session of a client that fits.
    fn known(&self, ends: Ends, fits: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        let mut own = sessions.get(&ends)?.iter().rev();
        own.find(|session| fits(session)).cloned()
    }

    /// The session of a client: the one that it has, where its host may still serve it.
    fn session(
        self: &Arc<Self>,
        udp: &Arc<UdpProxy>,
        cluster: &Arc<Cluster>,
        ends: Ends,
        now: u64,
    ) -> Option<Arc<Session>> {
        let is_same = |known: &Session| known.cluster == cluster.spec.name;
        let hosts = &cluster.hosts;
        if udp.per_datagram {
            let host = &hosts.hosts[self.pick(udp, cluster, ends)?];
            return match self.known(ends, |known| known.host.address == host.address) {
                Some(known) if is_same(&known) => Some(known),
                before => self.begin(ends, udp, cluster, host, before),
            };
        }
        let Some(known) = self.known(ends, |_| true) else {
            let host = &hosts.hosts[self.pick(udp, cluster, ends)?];
            return self.begin(ends, udp, cluster, host, None);
        };
        if is_same(&known) && known.has_its_host(hosts, now) {
            return Some(known);
        }
        let is_there = is_same(&known) && hosts.position(&known.host.address).is_some();
        let address = &known.host.address;
        // One that is listed twice is not another one.
        let is_own = |index: usize| hosts.hosts[index].address == *address;
        match self.pick(udp, cluster, ends) {
            // One that is not well is better than none, and as good as another such.
            None => Some(known).filter(|_| is_there),
            Some(index) if is_there && (is_own(index) || !hosts.is_fit(index, now)) => Some(known),
            Some(index) => self.begin(ends, udp, cluster, &hosts.hosts[index], Some(known)),
        }
    }

    /// The place of a host among those of a cluster.
    fn pick(&self, udp: &UdpProxy, cluster: &Cluster, ends: Ends) -> Option<usize> {
        // Where a client of a connection was going is not known of datagrams, nor the name of a host.
        if matches!(cluster.spec.discovery, Discovery::OriginalDst { .. }) || cluster.is_dynamic() {
            cluster.stats.cx_none_healthy.inc();
            return None;
        }
        let hash = udp.hash.as_ref().map(|hash| match hash {
            DatagramHash::SourceIp => {
                let ip = ends.client.ip().to_canonical().to_string();
                lateen_balance::hash_bytes(ip.as_bytes())
            }
            DatagramHash::Key(key) => lateen_balance::hash_bytes(key.as_bytes()),
        });
        self.worker.shared.pick(cluster, hash, Tried::default())
    }

    /// Begins a session, in the place of another one.
    fn begin(
        self: &Arc<Self>,
        ends: Ends,
        udp: &Arc<UdpProxy>,
        cluster: &Cluster,
        host: &Arc<Host>,
        before: Option<Arc<Session>>,
    ) -> Option<Arc<Session>> {
        // First, so that its room counts for the new one.
        if let Some(before) = before {
            forget(&mut self.sessions(), &before);
            before.replace();
        }
        let permit = cluster
            .acquire(Resource::Connection, Priority::Default)
            .ok()?;
        let Some(place) = self.worker.shared.sessions.place() else {
            cluster.stats.cx_overflow.inc();
            return None;
        };
        let session = match Session::new(ends, udp, cluster, host.clone(), (permit, place)) {
            Ok(session) => Arc::new(session),
            Err(error) => {
                cluster.stats.cx_connect_fail.inc();
                tracing::debug!(cluster = %cluster.spec.name, %error, "no socket for datagrams");
                return None;
            }
        };
        let mut sessions = self.sessions();
        sessions.entry(ends).or_default().push(session.clone());
        drop(sessions);
        tokio::spawn(run(self.clone(), session.clone()));
        Some(session)
    }

    /// Waits until there is no session.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Registered before the look, so that an end in between is not missed.
            emptied.as_mut().enable();
            if self.sessions().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Ends all sessions.
    pub(super) fn end_all(&self) {
        for session in self.sessions().values().flatten() {
            session.replace();
        }
    }

    /// Nothing under the lock leaves it half changed.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(sessions: &mut Sessions, session: &Arc<Session>) {
    if let Entry::Occupied(mut own) = sessions.entry(session.ends) {
        own.get_mut().retain(|known| !Arc::ptr_eq(known, session));
        if own.get().is_empty() {
            own.remove();
        }
    }
}

/// Runs a session to its end.
async fn run(table: Arc<Table>, session: Arc<Session>) {
    session.run(&table.worker, &table.port).await;
    let mut sessions = table.sessions();
    forget(&mut sessions, &session);
    if sessions.is_empty() {
        table.emptied.notify_waiters();
    }
}
