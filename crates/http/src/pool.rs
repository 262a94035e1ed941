//! Upstream connections kept for reuse. One pool belongs to one worker, so its locks are never
//! contended; they exist because exchanges are spawned tasks.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hash};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::client::Outgoing;
use crate::{Body, Connection, Interim, RequestHead, Response, SendError, Version};

/// A pool of connections by key. A key stands for everything that makes two connections
/// interchangeable: address, protocol and TLS identity.
pub struct Pool<K, S> {
    slots: Arc<Mutex<HashMap<K, Arc<Slot>, S>>>,
    max_idle: usize,
}

/// The connections of one key.
#[derive(Default)]
struct Slot {
    connections: Mutex<Connections>,
    /// Held by whoever connects for several requests at once.
    connecting: tokio::sync::Mutex<()>,
    /// HTTP/1 connections with an exchange, and connections of either kind that are being made.
    busy: AtomicUsize,
    /// Requests that wait for one of those.
    waiting: AtomicUsize,
    /// Told when one is idle again or has ended, where a request waits for that.
    freed: tokio::sync::Notify,
}

/// What has become of the wait for a connection.
pub enum Freed {
    /// One is free.
    Lease(Lease),
    /// One has ended, so that there may be room for another.
    Ended,
    /// There is none that could become free.
    None,
}

#[derive(Default)]
struct Connections {
    /// HTTP/1 connections without an exchange, the most recently used last.
    idle: Vec<(Instant, Connection)>,
    /// HTTP/2 connections, with the time of their last use.
    shared: Vec<(Instant, Connection)>,
    max_idle: usize,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an HTTP/1 connection goes when its exchange is complete.
pub(crate) struct Home(Arc<Slot>);

impl Home {
    fn new(slot: &Arc<Slot>) -> Self {
        slot.busy.fetch_add(1, Ordering::Relaxed);
        Home(slot.clone())
    }

    /// Takes a new connection in and leases it for its first exchange.
    fn admit(self, connection: Connection) -> Lease {
        if let Some(handle) = connection.share() {
            self.0.lock().shared.push((Instant::now(), handle));
        }
        Lease {
            home: self,
            connection,
        }
    }

    pub(crate) fn take_back(self, connection: Connection) {
        let mut slot = self.0.lock();
        if slot.idle.len() < slot.max_idle {
            slot.idle.push((Instant::now(), connection));
        }
    }
}

/// The connection is idle now or gone.
impl Drop for Home {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        if self.0.waiting.load(Ordering::Relaxed) > 0 {
            self.0.freed.notify_one();
        }
    }
}

/// A request that waits for a connection.
struct Waiting(Arc<Slot>);

impl Waiting {
    fn new(slot: Arc<Slot>) -> Self {
        slot.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(slot)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K, S> Clone for Pool<K, S> {
    fn clone(&self) -> Self {
        Pool {
            slots: self.slots.clone(),
            max_idle: self.max_idle,
        }
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher + Default> Pool<K, S> {
    /// An empty pool that keeps at most `max_idle` HTTP/1 connections for a key.
    pub fn new(max_idle: usize) -> Self {
        Pool {
            slots: Arc::default(),
            max_idle,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Slot>, S>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: &K) -> Arc<Slot> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::default());
        slot.lock().max_idle = self.max_idle;
        slots.insert(key.clone(), slot.clone());
        slot
    }

    /// A connection that waits for work, where there is one. The most recently used comes first, so
    /// that surplus ones grow idle and age out. Whether the server has closed it meanwhile shows when
    /// a request is sent, which is given back then.
    pub fn checkout(&self, key: &K) -> Option<Lease> {
        let slot = self.lock().get(key)?.clone();
        slot.checkout()
    }

    /// A new connection by `connect`, which goes to the pool after its exchange. Where many requests
    /// may share one connection, they wait while one of them connects.
    pub async fn connect<E>(
        &self,
        key: &K,
        multiplexed: bool,
        connect: impl Future<Output = Result<Connection, E>>,
    ) -> Result<Lease, E> {
        let slot = self.slot(key);
        // At work from here on, so that whoever waits for a connection waits for this one too.
        let home = Home::new(&slot);
        if !multiplexed {
            return Ok(home.admit(connect.await?));
        }
        let _connecting = slot.connecting.lock().await;
        // The connection that was made for the request before this one may take this one too.
        if let Some(newest) = slot.newest() {
            newest.settled().await;
        }
        if let Some(lease) = slot.checkout() {
            return Ok(lease);
        }
        Ok(home.admit(connect.await?))
    }

    /// Waits until a connection of this key can take a request, or has ended. Requests are served in
    /// the order of their waiting, except that new ones may come before them.
    pub async fn freed(&self, key: &K) -> Freed {
        let waiting = Waiting::new(self.slot(key));
        let slot = &waiting.0;
        let mut freed = pin!(slot.freed.notified());
        let result = poll_fn(|cx| {
            if let Some(lease) = slot.checkout() {
                return Poll::Ready(Freed::Lease(lease));
            }
            if freed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Freed::Ended);
            }
            match slot.watch(cx) {
                true => Poll::Pending,
                false => Poll::Ready(Freed::None),
            }
        })
        .await;
        if let Freed::Ended = result
            && let Some(lease) = slot.checkout()
        {
            return Freed::Lease(lease);
        }
        result
    }

    /// Closes connections that were not used for as long as `idle` says for their key; none means
    /// that the key is no longer wanted at all.
    pub fn sweep(&self, idle: impl Fn(&K) -> Option<Duration>) {
        let now = Instant::now();
        self.lock().retain(|key, slot| {
            let Some(idle) = idle(key) else { return false };
            let mut connections = slot.lock();
            let keep = |(used, connection): &mut (Instant, Connection)| {
                now.duration_since(*used) < idle && !connection.is_closed()
            };
            connections.idle.retain_mut(keep);
            connections.shared.retain_mut(keep);
            let empty = connections.idle.is_empty() && connections.shared.is_empty();
            // Connections at work hold the slot that they return to.
            !empty || Arc::strong_count(slot) > 1
        });
    }

    /// The number of connections that wait for work.
    pub fn idle_count(&self) -> usize {
        self.lock()
            .values()
            .map(|slot| {
                let connections = slot.lock();
                connections.idle.len() + connections.shared.len()
            })
            .sum()
    }
}

impl Slot {
    fn checkout(self: &Arc<Self>) -> Option<Lease> {
        let mut connections = self.lock();
        let connections = &mut *connections;
        if !connections.shared.is_empty() {
            connections
                .shared
                .retain(|(_, connection)| !connection.is_closed());
            for (used, connection) in &mut connections.shared {
                if connection.is_ready()
                    && let Some(handle) = connection.share()
                {
                    *used = Instant::now();
                    return Some(self.lease(handle));
                }
            }
        }
        let (_, connection) = connections.idle.pop()?;
        Some(self.lease(connection))
    }

    /// True where some connection is at work. The task is woken when an HTTP/2 connection may have
    /// room; [`Slot::freed`] tells of the others.
    fn watch(&self, cx: &Context<'_>) -> bool {
        let connections = self.lock();
        for (_, connection) in &connections.shared {
            if connection.poll_room(cx) {
                cx.waker().wake_by_ref();
            }
        }
        !connections.shared.is_empty() || self.busy.load(Ordering::Relaxed) > 0
    }

    /// Another handle on the HTTP/2 connection that was made last.
    fn newest(&self) -> Option<Connection> {
        let connections = self.lock();
        let (_, newest) = connections.shared.last()?;
        newest.share().filter(|newest| !newest.is_closed())
    }

    fn lease(self: &Arc<Self>, connection: Connection) -> Lease {
        Lease {
            home: Home::new(self),
            connection,
        }
    }
}

/// A connection leased for one exchange. It goes back to the pool when the exchange is complete
/// and is closed when the exchange is dropped half-way.
pub struct Lease {
    home: Home,
    connection: Connection,
}

impl Lease {
    /// The protocol of the connection.
    pub fn version(&self) -> Version {
        self.connection.version()
    }

    /// The address that the connection comes from, where [`ClientConfig`](crate::ClientConfig)
    /// named it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.local_addr()
    }

    /// Sends a request; the connection returns to the pool once the response body has ended.
    /// `interim` takes informational responses.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        interim: Option<&Interim>,
    ) -> Result<Response, SendError> {
        let outgoing = Outgoing {
            head,
            body,
            interim,
        };
        self.connection.exchange(outgoing, Some(self.home)).await
    }
}
