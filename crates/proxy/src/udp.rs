//! Datagrams, from clients to hosts and back.
//!
//! Each worker has a socket of its own for each address of a listener. The kernel gives all datagrams
//! between the same two addresses to the same one, so that a session belongs to one worker. A session
//! has a socket of its own towards its host: what comes there goes back to its client.
//!
//! Invariant: nothing waits for anything. A datagram that cannot be sent on at once is dropped and
//! counted, so that no memory is held for it.
//!
//! Invariant: sockets outlive updates of their listener. What a datagram meets is the listener as the
//! present snapshot has it, and a session goes on where it would begin there too.

mod log;
mod port;
mod session;
mod stats;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arcstr::ArcStr;
use lateen_decode::DatagramHash;
use lateen_route::DatagramRoutes;
use nix::sys::resource::{Resource, getrlimit};

use crate::drain::Drain;
use crate::http::log::AccessLog;
use crate::worker::Worker;
use table::Table;

pub(crate) use stats::{UdpClusterStats, UdpStats};

/// How a listener carries datagrams.
pub(crate) struct UdpProxy {
    pub routes: DatagramRoutes,
    /// How long a session lives without a datagram.
    pub idle_timeout: Duration,
    /// What hosts are chosen by, where the cluster hashes.
    pub hash: Option<DatagramHash>,
    /// A host is chosen for each datagram, not for each session.
    pub per_datagram: bool,
    pub access_logs: Vec<AccessLog>,
    /// Longer datagrams of clients are dropped, in bytes.
    pub max_request: usize,
    /// Longer datagrams of hosts are dropped, in bytes.
    pub max_response: usize,
    pub stats: Arc<UdpStats>,
}

/// What those who receive for a listener are told.
#[derive(Default)]
pub(crate) struct Ending {
    /// The listener is gone: sessions go on until they are idle, and there are no new ones.
    pub no_more: Drain,
    /// Another listener has the address, or one that stands for it: sessions end with it.
    pub at_once: Drain,
}

/// How many sessions there may be at once, of all listeners. Clusters have limits of their own, which
/// may be none, and whoever can write any source address begins as many as he likes.
pub(crate) struct Sessions {
    n: Arc<AtomicUsize>,
    most: usize,
    was_full: AtomicBool,
}

/// One of them.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Default for Sessions {
    /// Half of the files that we may open: each session has a socket, and connections need theirs.
    fn default() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Sessions::at_most(usize::try_from(limit / 2).unwrap_or(usize::MAX))
    }
}

impl Sessions {
    fn at_most(most: usize) -> Self {
        Sessions {
            n: Arc::default(),
            most,
            was_full: AtomicBool::new(false),
        }
    }

    /// A place for one more, where there is one.
    fn place(&self) -> Option<Place> {
        let n = self.n.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.n.clone());
        if n < self.most {
            return Some(place);
        }
        if !self.was_full.swap(true, Ordering::Relaxed) {
            let most = self.most;
            tracing::warn!(
                most,
                "there are as many sessions of datagrams as there may be"
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Datagrams that are taken at one wake-up; sessions have their turn then.
const BATCH: usize = 32;

/// Serves one socket of a listener until it has ended.
pub(crate) async fn receive(
    worker: Arc<Worker>,
    name: ArcStr,
    socket: tokio::net::UdpSocket,
    ending: Arc<Ending>,
) {
    let table = match Table::new(worker, name.clone(), socket) {
        Ok(table) => Arc::new(table),
        Err(error) => {
            tracing::error!(listener = %name, %error, "socket not usable");
            return;
        }
    };
    let mut serving = std::pin::pin!(async {
        loop {
            if let Err(error) = table.readable().await {
                tracing::warn!(listener = %name, %error, "datagrams cannot be received");
                return;
            }
            table.take(BATCH, ending.no_more.is_set());
            tokio::task::yield_now().await;
        }
    });
    let over = async {
        ending.no_more.wait().await;
        table.emptied().await;
    };
    tokio::select! {
        biased;
        () = ending.at_once.wait() => {}
        () = over => {}
        () = &mut serving => {}
    }
    table.end_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let sessions = Sessions::at_most(2);
        let first = sessions.place().expect("room");
        let _second = sessions.place().expect("room");
        assert!(sessions.place().is_none());
        assert!(sessions.place().is_none());
        drop(first);
        assert!(sessions.place().is_some());
    }
}
