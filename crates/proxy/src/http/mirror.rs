//! Copies of requests for other clusters, whose answers nobody waits for.
//!
//! A body is copied as it passes. What a copy has not taken yet waits for it, up to a limit: beyond
//! it the copy is given up, so that it neither holds up the original nor fills the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lateen_balance::{Priority, Resource};
use lateen_decode::UpstreamProtocol;
use lateen_http::{Body, BodyError, BodyFault, Frame, RequestHead, Source};
use lateen_route::{Forward, Fraction};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::forward::add_peer;
use super::rewrite::timeout;
use crate::cluster::{Cluster, HttpWant, To, connect_http};
use crate::listener::Connection;
use crate::worker::{Tried, Worker};

/// How many bytes a copy may lag behind its original: Envoy's default for the buffer of a
/// connection.
const LIMIT: usize = 1024 * 1024;
/// What a piece of a body takes beside its bytes, roughly.
const PER_PIECE: usize = 64;

/// Sends the copies that the route asks for. The body goes on as the original's.
pub(crate) fn mirror(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    action: &Forward,
    head: &RequestHead,
    body: Body,
) -> Body {
    let mut copies = Vec::new();
    for mirror in &action.mirrors {
        let share = Fraction {
            millionths: mirror.millionths,
        };
        if !share.hits(fastrand::u64(..)) {
            continue;
        }
        let given_up = CancellationToken::new();
        let body = body.duplicate().unwrap_or_else(|| {
            let (copy, source) = copy(body.remaining(), given_up.clone());
            copies.push(copy);
            Body::from_source(source)
        });
        let request = Shadow {
            head: shadow(head),
            body,
            limit: timeout(action, head),
            given_up,
        };
        let (worker, cluster) = (worker.clone(), mirror.cluster.clone());
        let connection = connection.clone();
        tokio::spawn(async move {
            if let Err(error) = request.send(&worker, &connection, &cluster).await {
                tracing::debug!(%cluster, error, "mirrored request failed");
            }
        });
    }
    if copies.is_empty() {
        return body;
    }
    Body::from_source(Tee { body, copies })
}

/// The head of a copy. Envoy marks them, so that logs can tell them.
fn shadow(head: &RequestHead) -> RequestHead {
    let mut head = head.clone();
    let marked = match head.authority().rsplit_once(':') {
        Some((host, port)) => format!("{host}-shadow:{port}"),
        None => format!("{}-shadow", head.authority()),
    };
    // A longer name is as valid as it was.
    let _ = head.set_authority(&marked);
    head
}

/// A copy to be sent.
struct Shadow {
    head: RequestHead,
    body: Body,
    /// The route's own limit.
    limit: Option<Duration>,
    /// The body will not come to its end.
    given_up: CancellationToken,
}

impl Shadow {
    async fn send(
        self,
        worker: &Worker,
        connection: &Connection,
        cluster: &str,
    ) -> Result<(), String> {
        let cluster = worker.shared.cluster(cluster).await;
        let cluster = cluster.ok_or("unknown cluster")?;
        let Shadow {
            head,
            body,
            limit,
            given_up,
        } = self;
        let exchange = exchange(worker, connection, &cluster, head, body);
        let limit = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = exchange => result,
            // A copy whose upstream takes nothing does not look at its body.
            () = given_up.cancelled() => Err(String::new()),
            () = limit => {
                cluster.stats.rq_timeout.inc();
                return Err("timeout".to_owned());
            }
        };
        if result.is_err() && given_up.is_cancelled() {
            cluster.stats.rq_tx_reset.inc();
            return Err("it lagged too far behind its original, or that was cut off".to_owned());
        }
        result
    }
}

async fn exchange(
    worker: &Worker,
    connection: &Connection,
    cluster: &Arc<Cluster>,
    mut head: RequestHead,
    body: Body,
) -> Result<(), String> {
    let index = worker.shared.pick(cluster, None, Tried::default());
    let host = cluster.hosts.hosts[index.ok_or("no healthy host")?].clone();
    let want = match cluster.spec.http.protocol {
        UpstreamProtocol::Http2 => HttpWant::Http2,
        _ => HttpWant::Http1,
    };
    add_peer(worker, connection, cluster, &host, &mut head);
    let authority = head.authority();
    let permit = cluster.acquire(Resource::Connection, Priority::Default);
    let permit = permit.map_err(|error| error.to_string())?;
    let to = To {
        address: &host.address,
        name: &host.hostname,
        transport: host.transport,
        client: connection.between(),
    };
    let connecting = connect_http(cluster, to, authority, want, permit);
    let connection = connecting.await.map_err(|error| error.to_string())?;
    cluster.stats.rq_total.inc();
    let response = connection.send(&head, body).await;
    let mut response = response.map_err(|error| error.to_string())?;
    cluster.stats.response(response.head.status);
    while let Some(frame) = response.body.next().await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The way of a body's pieces to a copy; none is the end.
fn copy(remaining: Option<u64>, given_up: CancellationToken) -> (Copy, CopySource) {
    let (pieces_tx, pieces_rx) = mpsc::unbounded_channel();
    let lag = Arc::new(AtomicUsize::new(0));
    let copy = Copy {
        pieces: pieces_tx,
        lag: lag.clone(),
        given_up,
    };
    let source = CopySource {
        pieces: pieces_rx,
        lag,
        remaining,
        ended: false,
    };
    (copy, source)
}

struct Copy {
    pieces: mpsc::UnboundedSender<Option<Frame>>,
    /// Bytes that the copy has not taken.
    lag: Arc<AtomicUsize>,
    given_up: CancellationToken,
}

impl Copy {
    /// False where the copy is given up, or has ended by itself.
    fn push(&self, frame: Option<&Frame>) -> bool {
        let size = frame.map_or(0, size);
        if self.lag.fetch_add(size, Ordering::Relaxed) + size > LIMIT {
            self.given_up.cancel();
            return false;
        }
        self.pieces.send(frame.cloned()).is_ok()
    }
}

fn size(frame: &Frame) -> usize {
    match frame {
        Frame::Data(data) => data.len() + PER_PIECE,
        Frame::Trailers(trailers) => {
            let fields = trailers.iter();
            fields
                .map(|(name, value)| name.len() + value.len() + PER_PIECE)
                .sum()
        }
    }
}

/// The original's body, which tells its copies what passes. Where it does not come to its end, nor
/// do they.
struct Tee {
    body: Body,
    copies: Vec<Copy>,
}

impl Tee {
    fn push(&mut self, frame: Option<&Frame>) {
        self.copies.retain(|copy| copy.push(frame));
    }

    fn end(&mut self) {
        self.push(None);
        self.copies.clear();
    }

    fn give_up(&mut self) {
        for copy in self.copies.drain(..) {
            copy.given_up.cancel();
        }
    }
}

impl Source for Tee {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.body.poll_next(cx));
        match &frame {
            Some(Ok(piece)) => {
                self.push(Some(piece));
                if self.body.is_end() || matches!(piece, Frame::Trailers(_)) {
                    self.end();
                }
            }
            Some(Err(_)) => self.give_up(),
            None => self.end(),
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

impl Drop for Tee {
    fn drop(&mut self) {
        // Nobody asks for an end that can be seen.
        match self.body.is_end() {
            true => self.end(),
            false => self.give_up(),
        }
    }
}

/// The body of a copy.
struct CopySource {
    pieces: mpsc::UnboundedReceiver<Option<Frame>>,
    lag: Arc<AtomicUsize>,
    remaining: Option<u64>,
    ended: bool,
}

impl Source for CopySource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(piece) = ready!(self.pieces.poll_recv(cx)) else {
            let error = BodyError::new(BodyFault::Local, "the original is not whole");
            return Poll::Ready(Some(Err(error)));
        };
        let Some(frame) = piece else {
            self.ended = true;
            return Poll::Ready(None);
        };
        self.lag.fetch_sub(size(&frame), Ordering::Relaxed);
        if let Frame::Data(data) = &frame {
            let length = data.len() as u64;
            self.remaining = self.remaining.map(|left| left.saturating_sub(length));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    fn is_end(&self) -> bool {
        self.ended
    }
}
