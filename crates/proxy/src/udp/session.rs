//! One session: the datagrams between a client and its host, until there are none for a while.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arcstr::ArcStr;
use lateen_balance::Permit;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::port::{Ends, Port, with_buffer};
use super::{Place, UdpProxy};
use crate::cluster::{Cluster, ClusterStats, Host, HostSet, millis};
use crate::drain::Drain;
use crate::socket;
use crate::worker::Worker;

/// Datagrams that are taken at one wake-up; others have their turn then.
const BATCH: usize = 32;

/// One session.
pub(super) struct Session {
    pub ends: Ends,
    pub started: Instant,
    pub cluster: ArcStr,
    pub host: Arc<Host>,
    /// What came from the client.
    pub received: Counted,
    /// What went to the client.
    pub sent: Counted,
    upstream: UdpSocket,
    udp: Arc<UdpProxy>,
    stats: Arc<ClusterStats>,
    /// The hosts among which its own was last found, and where.
    seen: Mutex<(Weak<HostSet>, usize)>,
    /// When it ends, in milliseconds since the start, and how far each datagram puts that off.
    due: AtomicU64,
    idle: AtomicU64,
    /// Set when another one takes its place.
    replaced: Drain,
    /// What counts it among others, until it ends or another one takes its place.
    held: Mutex<Option<(Permit, Place)>>,
}

/// Datagrams of one direction.
#[derive(Default)]
pub(super) struct Counted {
    bytes: AtomicU64,
    datagrams: AtomicU64,
    errors: AtomicU64,
}

impl Counted {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn add(&self, n_bytes: usize) {
        self.bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
        self.datagrams.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl Session {
    /// A session of a client with a host.
    ///
    /// # Errors
    /// Where there is no socket to be had.
    pub(super) fn new(
        ends: Ends,
        udp: &Arc<UdpProxy>,
        cluster: &Cluster,
        host: Arc<Host>,
        held: (Permit, Place),
    ) -> io::Result<Self> {
        let address = host.address.ip().ok_or(io::ErrorKind::Unsupported)?;
        let upstream = socket::datagrams_to(address, &cluster.spec.bind)?;
        udp.stats.sess_total.inc();
        udp.stats.sess_active.add(1);
        Ok(Session {
            ends,
            started: Instant::now(),
            cluster: cluster.spec.name.clone(),
            host,
            received: Counted::default(),
            sent: Counted::default(),
            upstream,
            udp: udp.clone(),
            stats: cluster.stats.clone(),
            seen: Mutex::default(),
            due: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            replaced: Drain::default(),
            held: Mutex::new(Some(held)),
        })
    }

    /// The address that its host sees.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.upstream.local_addr().ok()
    }

    /// Ends it. Its room is free at once, not when its task has heard of it.
    pub(super) fn replace(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.take();
        self.replaced.start();
    }

    /// How long it may be quiet.
    pub(super) fn set_idle_timeout(&self, idle: Duration) {
        self.idle.store(millis(idle), Ordering::Relaxed);
    }

    /// Sends on what came from its client.
    pub(super) fn forward(&self, bytes: &[u8], now: u64) {
        self.moves(now);
        self.received.add(bytes.len());
        self.udp.stats.rx_datagrams.inc();
        self.udp.stats.rx_bytes.add(bytes.len() as u64);
        // Not through the runtime, which has not heard yet that a new socket can be written to.
        let send = || SockRef::from(&self.upstream).send(bytes);
        // That an earlier datagram met nobody is told instead of sending this one.
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let sent = match send() {
            Err(error) if refused(&error) => send(),
            sent => sent,
        };
        match sent {
            Ok(_) => {
                self.stats.udp.tx_datagrams.inc();
                self.stats.tx_bytes.add(bytes.len() as u64);
            }
            Err(error) => {
                self.received.fail();
                self.stats.udp.tx_errors.inc();
                tracing::debug!(host = %self.host.address, %error, "datagram not sent");
            }
        }
    }

    /// Whether its host is still one of these and fit to serve: where it is not, another should.
    pub(super) fn has_its_host(&self, hosts: &Arc<HostSet>, now: u64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.as_ptr() != Arc::as_ptr(hosts) {
            let Some(index) = hosts.position(&self.host.address) else {
                return false;
            };
            *seen = (Arc::downgrade(hosts), index);
        }
        hosts.is_fit(seen.1, now)
    }

    fn moves(&self, now: u64) {
        let due = now.saturating_add(self.idle.load(Ordering::Relaxed));
        self.due.store(due, Ordering::Relaxed);
    }

    /// Carries what its host sends until it is idle or replaced.
    pub(super) async fn run(&self, worker: &Worker, port: &Port) {
        let left = |now: u64| {
            let due = self.due.load(Ordering::Relaxed);
            // The clock goes by ticks: a session is not woken a moment too early again and again.
            Duration::from_millis(due.saturating_sub(now).max(10))
        };
        let timer = tokio::time::sleep(left(worker.shared.now()));
        tokio::pin!(timer);
        let replaced = self.replaced.wait();
        tokio::pin!(replaced);
        let interest = Interest::READABLE | Interest::ERROR;
        loop {
            tokio::select! {
                biased;
                () = &mut replaced => return,
                carried = self.upstream.async_io(interest, || self.carry_back(worker, port)) => {
                    if carried.is_err() {
                        return;
                    }
                    for _ in 1..BATCH {
                        if self.carry_back(worker, port).is_err() {
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                () = &mut timer => {
                    let now = worker.shared.now();
                    if self.due.load(Ordering::Relaxed) <= now {
                        self.udp.stats.idle_timeout.inc();
                        return;
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + left(now));
                }
            }
        }
    }

    /// Carries one datagram back.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is none; all else is counted and over.
    fn carry_back(&self, worker: &Worker, port: &Port) -> io::Result<()> {
        with_buffer(|buffer| {
            let length = match recv(self.upstream.as_raw_fd(), buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
                // Nobody listens there, say: the next datagram may find somebody.
                Err(error) => {
                    self.stats.udp.rx_errors.inc();
                    tracing::debug!(host = %self.host.address, %error, "no answer");
                    return Ok(());
                }
            };
            self.moves(worker.shared.now());
            if length > self.udp.max_response {
                self.stats.udp.rx_datagrams_dropped.inc();
                return Ok(());
            }
            self.stats.udp.rx_datagrams.inc();
            self.stats.rx_bytes.add(length as u64);
            match port.send(&buffer[..length], self.ends) {
                Ok(()) => {
                    self.sent.add(length);
                    self.udp.stats.tx_datagrams.inc();
                    self.udp.stats.tx_bytes.add(length as u64);
                }
                Err(error) => {
                    self.sent.fail();
                    self.udp.stats.tx_errors.inc();
                    tracing::debug!(client = %self.ends.client, %error, "datagram not sent");
                }
            }
            Ok(())
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.udp.stats.sess_active.add(-1);
        super::log::write(&self.udp.access_logs, self);
    }
}
