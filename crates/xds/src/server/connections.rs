//! The streams that are open and how far each got, for debugging endpoints and status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures::task::AtomicWaker;
use tokio::sync::watch;
use tokio::time::Instant;

use super::resource::NameSet;
use super::watched::Watched;
use crate::TypeUrl;

/// All open streams, in the order of their arrival.
#[derive(Debug)]
pub struct Connections<C> {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Connection<C>>>>,
    moves: Arc<Moves>,
}

/// What streams do that is worth a look.
#[derive(Debug)]
struct Moves {
    changed: watch::Sender<()>,
    /// Somebody wants to know which streams accepted everything, or ended.
    is_followed: AtomicBool,
    /// Their numbers since it was last asked.
    moved: Mutex<Vec<u64>>,
}

impl Moves {
    fn note(&self, id: u64) {
        if self.is_followed.load(Ordering::Acquire) {
            lock(&self.moved).push(id);
        }
        self.changed.send_replace(());
    }
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Connections {
            next: AtomicU64::new(1),
            open: Mutex::default(),
            moves: Arc::new(Moves {
                changed: watch::Sender::new(()),
                is_followed: AtomicBool::new(false),
                moved: Mutex::default(),
            }),
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub struct Connection<C> {
    /// A number that no other stream of this process has.
    pub id: u64,
    /// The id of the client's node.
    pub node: String,
    /// What the source knows about it.
    pub client: C,
    /// The socket's other end.
    pub address: Option<SocketAddr>,
    /// When the stream was admitted.
    pub since: SystemTime,
    /// `delta` or `sotw`.
    pub protocol: &'static str,
    acked: Mutex<Acked>,
    moves: Arc<Moves>,
    is_over: AtomicBool,
    cut: Cut,
    types: Mutex<Vec<(TypeUrl, Progress)>>,
}

/// The wish that a stream end.
#[derive(Debug, Default)]
struct Cut {
    is_asked: AtomicBool,
    stream: AtomicWaker,
}

/// The snapshot that a client has wholly accepted.
#[derive(Debug, Default)]
struct Acked {
    /// Its generation, which goes on counting while the client is left alone.
    generation: Arc<AtomicU64>,
    /// When the client accepted it.
    at: Option<Instant>,
}

/// What is kept of a stream's state for others to look at.
#[derive(Debug, Default)]
struct Progress {
    wildcard: bool,
    names: NameSet,
    n_resources: usize,
    sent: u64,
    acked: u64,
    refused: Option<(u64, Box<str>)>,
    n_held: usize,
}

/// How far a client got with one type.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    /// Everything is asked for.
    pub wildcard: bool,
    /// Names that are asked for.
    pub names: NameSet,
    /// How many resources the client was sent and has not been told to remove.
    pub resources: usize,
    /// The newest response.
    pub sent: String,
    /// The newest response that was accepted.
    pub acked: String,
    /// The newest response that was refused, and why.
    pub refused: Option<(String, String)>,
    /// How many resources are held back, as they name a cluster that the client has refused and
    /// lacks.
    pub held_back: usize,
}

impl<C> Connections<C> {
    /// The streams that are open now.
    pub fn list(&self) -> Vec<Arc<Connection<C>>> {
        lock(&self.open).values().cloned().collect()
    }

    /// Changes when a stream opens or ends, and when a client has accepted everything or refused
    /// something.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moves.changed.subscribe()
    }

    /// From now on, or not any more, [`Connections::moved`] says whose streams moved.
    pub fn follow(&self, is_followed: bool) {
        self.moves.is_followed.store(is_followed, Ordering::Release);
        if !is_followed {
            *lock(&self.moves.moved) = Vec::new();
        }
    }

    /// The numbers of streams that accepted a whole snapshot or ended since this was last asked.
    pub fn moved(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.moves.moved))
    }

    pub(super) fn open(
        self: &Arc<Self>,
        node: String,
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
            acked: Mutex::default(),
            moves: self.moves.clone(),
            is_over: AtomicBool::new(false),
            cut: Cut::default(),
            types: Mutex::default(),
        });
        lock(&self.open).insert(connection.id, connection.clone());
        self.moves.changed.send_replace(());
        Guard {
            connections: self.clone(),
            connection,
        }
    }
}

impl<C> Connection<C> {
    /// Generation of the newest snapshot that the client has wholly accepted; 0 for none.
    pub fn acked_generation(&self) -> u64 {
        lock(&self.acked).generation.load(Ordering::Relaxed)
    }

    /// When the client accepted the newest snapshot that anything was sent for; `None` before the
    /// first.
    pub fn acked_at(&self) -> Option<Instant> {
        lock(&self.acked).at
    }

    /// Whether the stream has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends the stream. The client may open another one at once.
    pub fn disconnect(&self) {
        self.cut.is_asked.store(true, Ordering::Release);
        self.cut.stream.wake();
    }

    /// Ready after [`Connection::disconnect`]. Only the stream itself asks.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.stream.register(cx.waker());
        match self.cut.is_asked.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// What the client refuses at this time: the type, and its reason.
    pub fn refusals(&self) -> Vec<(TypeUrl, String)> {
        let types = lock(&self.types);
        let refused = types.iter().filter_map(|(type_url, progress)| {
            let (_, reason) = progress.refused.as_ref()?;
            Some((type_url.clone(), reason.to_string()))
        });
        refused.collect()
    }

    /// How far the client got, by type.
    pub fn types(&self) -> BTreeMap<TypeUrl, TypeStatus> {
        let types = lock(&self.types);
        let status = |(type_url, progress): &(TypeUrl, Progress)| {
            let nonce = |n| match n {
                0 => String::new(),
                n => self.nonce(n),
            };
            let refused = progress.refused.as_ref();
            let status = TypeStatus {
                wildcard: progress.wildcard,
                names: progress.names.clone(),
                resources: progress.n_resources,
                sent: nonce(progress.sent),
                acked: nonce(progress.acked),
                held_back: progress.n_held,
                refused: refused.map(|(n, reason)| (nonce(*n), reason.to_string())),
            };
            (type_url.clone(), status)
        };
        types.iter().map(status).collect()
    }

    /// The nonce of a response: its number on the stream behind the stream's own.
    pub(super) fn nonce(&self, n_response: u64) -> String {
        format!("{}-{n_response}", self.id)
    }

    /// The number of a nonce; 0 for one that this stream has not made.
    pub(super) fn n_response(&self, nonce: &str) -> u64 {
        let number = nonce
            .split_once('-')
            .filter(|(id, _)| id.parse() == Ok(self.id))
            .and_then(|(_, number)| number.parse().ok());
        number.unwrap_or(0)
    }

    /// `standing` goes on counting while the client is left alone.
    pub(super) fn acked(&self, standing: Arc<AtomicU64>) {
        let mut acked = lock(&self.acked);
        let generation = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let is_newer = generation(&standing) > generation(&acked.generation);
        acked.generation = standing;
        if is_newer {
            acked.at = Some(Instant::now());
            drop(acked);
            self.moves.note(self.id);
        }
    }

    pub(super) fn update(&self, type_url: &TypeUrl, watched: &Watched) {
        let mut types = lock(&self.types);
        let known = types.iter().position(|(known, _)| known == type_url);
        let at = known.unwrap_or_else(|| {
            types.push((type_url.clone(), Progress::default()));
            types.len() - 1
        });
        let progress = &mut types[at].1;
        progress.wildcard = watched.wildcard;
        if !progress.names.is_same(&watched.names) {
            progress.names = watched.names.clone();
        }
        progress.n_resources = watched.sent.len();
        progress.sent = watched.n_response;
        progress.n_held = watched.n_held;
        if !watched.unanswered {
            match &watched.refused {
                Some(reason) => {
                    progress.refused = Some((watched.n_response, reason.clone()));
                    self.moves.changed.send_replace(());
                }
                None => {
                    progress.acked = watched.n_response;
                    progress.refused = None;
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
        self.connection.is_over.store(true, Ordering::Release);
        self.connections.moves.note(self.connection.id);
    }
}

/// Nothing under these locks can panic half way, so a poisoned lock holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
