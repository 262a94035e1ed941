//! Upstream connections kept for reuse. One pool belongs to one worker, so its lock is never
//! contended; it exists because exchanges are spawned tasks.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::body::Source;
use crate::{Body, BodyError, Connection, Frame, Request, Response, SendError, Version};

/// A pool of connections by key. A key stands for everything that makes two connections
/// interchangeable: address, protocol and TLS identity.
pub struct Pool<K> {
    slots: Arc<Mutex<HashMap<K, Slot>>>,
    max_idle: usize,
}

#[derive(Default)]
struct Slot {
    /// HTTP/1 connections without an exchange, the most recently used last.
    idle: Vec<(Instant, Connection)>,
    /// HTTP/2 connections, with the time of their last use.
    shared: Vec<(Instant, Connection)>,
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Self {
        Pool {
            slots: self.slots.clone(),
            max_idle: self.max_idle,
        }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Pool<K> {
    /// An empty pool that keeps at most `max_idle` HTTP/1 connections for a key.
    pub fn new(max_idle: usize) -> Self {
        Pool {
            slots: Arc::default(),
            max_idle,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is ready now, where there is one. The most recently used comes first, so
    /// that surplus ones grow idle and age out.
    pub fn checkout(&self, key: &K) -> Option<Lease<K>> {
        let mut slots = self.lock();
        let slot = slots.get_mut(key)?;
        slot.shared
            .retain(|(_, connection)| !connection.is_closed());
        let now = Instant::now();
        for (used, connection) in &mut slot.shared {
            if connection.is_ready()
                && let Some(handle) = connection.share()
            {
                *used = now;
                return Some(self.lease(key, handle));
            }
        }
        while let Some((_, connection)) = slot.idle.pop() {
            if connection.is_ready() {
                return Some(self.lease(key, connection));
            }
        }
        None
    }

    /// Takes a new connection into the pool and leases it for its first exchange.
    pub fn admit(&self, key: &K, connection: Connection) -> Lease<K> {
        if let Some(handle) = connection.share() {
            let mut slots = self.lock();
            slots
                .entry(key.clone())
                .or_default()
                .shared
                .push((Instant::now(), handle));
        }
        self.lease(key, connection)
    }

    fn lease(&self, key: &K, connection: Connection) -> Lease<K> {
        Lease {
            pool: self.clone(),
            key: key.clone(),
            connection: Some(connection),
        }
    }

    fn put_back(&self, key: K, connection: Connection) {
        let mut slots = self.lock();
        let slot = slots.entry(key).or_default();
        if slot.idle.len() < self.max_idle {
            slot.idle.push((Instant::now(), connection));
        }
    }

    /// Closes connections that were not used for as long as `idle` says for their key; none means
    /// that the key is no longer wanted at all.
    pub fn sweep(&self, idle: impl Fn(&K) -> Option<Duration>) {
        let now = Instant::now();
        self.lock().retain(|key, slot| {
            let Some(idle) = idle(key) else { return false };
            let fresh = |used: &Instant| now.duration_since(*used) < idle;
            slot.idle
                .retain(|(used, connection)| fresh(used) && !connection.is_closed());
            slot.shared
                .retain(|(used, connection)| fresh(used) && !connection.is_closed());
            !(slot.idle.is_empty() && slot.shared.is_empty())
        });
    }

    /// The number of connections that wait for work.
    pub fn idle_count(&self) -> usize {
        self.lock()
            .values()
            .map(|slot| slot.idle.len() + slot.shared.len())
            .sum()
    }
}

/// A connection leased for one exchange. It goes back to the pool when the exchange is complete
/// and is closed when the exchange is dropped half-way.
pub struct Lease<K: Hash + Eq + Clone + Send + Sync + 'static> {
    pool: Pool<K>,
    key: K,
    connection: Option<Connection>,
}

impl<K: Hash + Eq + Clone + Send + Sync + Unpin + 'static> Lease<K> {
    /// The protocol of the connection.
    pub fn version(&self) -> Version {
        self.connection
            .as_ref()
            .map_or(Version::Http11, Connection::version)
    }

    /// Sends a request; the connection returns to the pool once the response body has ended.
    pub async fn send(mut self, request: Request) -> Result<Response, SendError> {
        let mut connection = self
            .connection
            .take()
            .expect("a lease holds its connection");
        let mut response = connection.send(request).await?;
        if connection.version() == Version::Http2 || response.upgrade.is_some() {
            return Ok(response);
        }
        self.connection = Some(connection);
        if response.body.is_end() {
            self.give_back();
        } else {
            let body = std::mem::take(&mut response.body);
            response.body = Body::from_source(Leased {
                body,
                lease: Some(self),
            });
        }
        Ok(response)
    }

    fn give_back(mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if connection.is_ready() {
            return self.pool.put_back(self.key, connection);
        }
        // The connection's own task has not yet seen the end of the exchange, or the request body
        // is still on its way.
        tokio::spawn(async move {
            if connection.ready().await.is_ok() {
                self.pool.put_back(self.key, connection);
            }
        });
    }
}

/// A response body that holds its connection until it ends.
struct Leased<K: Hash + Eq + Clone + Send + Sync + 'static> {
    body: Body,
    lease: Option<Lease<K>>,
}

impl<K: Hash + Eq + Clone + Send + Sync + Unpin + 'static> Source for Leased<K> {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = std::task::ready!(self.body.poll_next(cx));
        let complete = match &frame {
            None | Some(Ok(Frame::Trailers(_))) => true,
            Some(Ok(Frame::Data(_))) => self.body.is_end(),
            Some(Err(_)) => {
                self.lease = None;
                false
            }
        };
        if complete && let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}
