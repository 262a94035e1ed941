//! One stream: requests in, responses out, and a round of pushes per snapshot.
//!
//! What is sent is a [`Plan`], which streams that are alike share. A stream of its own has what it
//! has been sent and asks for (shared lists too), a number for its newest response, and how far the
//! client has answered.

mod answer;
mod round;
mod send;
mod types;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tracing::{debug, info, warn};

use super::body::Responses;
use super::connections::Connection;
use super::doubt::Doubt;
use super::name::Name;
use super::protocol::{Incoming, Protocol};
use super::requests::Requests;
use super::{Ads, Event, Peer, ResourceSource};
use round::Round;
use types::Types;

/// How long the next stage waits for answers to the last one. A client holds back the answer for
/// clusters until they are warm, which a dead name server or a missing secret can delay for ever.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves one stream until either side ends it.
pub(super) async fn serve<S: ResourceSource, P: Protocol>(
    ads: &Ads<S>,
    peer: Peer,
    mut requests: Requests<P>,
    responses: &Responses,
) -> Result<(), Status> {
    let Some(first) = requests.next().await? else {
        return Ok(());
    };
    let node = first
        .node
        .clone()
        .ok_or_else(|| Status::invalid_argument("the first request has no node"))?;
    let client = ads
        .source
        .connect(&node, &peer)
        .await
        .inspect_err(|status| {
            warn!(
                node = node.id,
                reason = status.message(),
                "refused a client"
            );
        })?;
    info!(node = node.id, protocol = P::NAME, "client connected");
    let guard = ads.connections.open(node.id, client, peer.address, P::NAME);
    ads.source.observe(Event::Connected);
    let ended = Ended {
        source: &*ads.source,
    };
    let mut snapshots = ads.source.snapshots(&guard.connection.client);
    let snapshot = snapshots.borrow_and_update().clone();
    let mut stream = Stream::<S, P> {
        source: &ads.source,
        connection: guard.connection.clone(),
        snapshot,
        newest: None,
        responses,
        types: Types::default(),
        round: None,
        rebuilt: Vec::new(),
        doubt: Doubt::default(),
        again: false,
        is_opening: true,
        n_sent: 0,
        last_sent: Instant::now(),
        protocol: PhantomData,
    };
    let result = stream
        .run(first, requests, WatchStream::from_changes(snapshots))
        .await;
    info!(node = guard.connection.node, "client gone");
    drop(ended);
    result
}

/// Reports the end of a stream, also when its task is dropped.
struct Ended<'a, S: ResourceSource> {
    source: &'a S,
}

impl<S: ResourceSource> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        self.source.observe(Event::Disconnected);
    }
}

struct Stream<'a, S: ResourceSource, P: Protocol> {
    source: &'a Arc<S>,
    connection: Arc<Connection<S::Client>>,
    snapshot: S::Snapshot,
    /// The one to go to next.
    newest: Option<S::Snapshot>,
    responses: &'a Responses,
    types: Types,
    round: Option<Round>,
    /// Clusters that changed while the client was away, until it asks for endpoints.
    rebuilt: Vec<Name>,
    /// Of clusters.
    doubt: Doubt,
    /// There is more to send of the snapshot as it is: what was held back may go now, or what the
    /// client has of an earlier stream is gone.
    again: bool,
    /// The client may not have said yet all that it asks for.
    is_opening: bool,
    n_sent: u64,
    last_sent: Instant,
    protocol: PhantomData<fn() -> P>,
}

/// The lifetime of a stream, less up to a tenth: those that came together do not leave together.
fn lifetime(most: Duration, id: u64) -> Duration {
    let part = u32::try_from(id % 100).unwrap_or_default();
    most - most / 1000 * part
}

impl<S: ResourceSource, P: Protocol> Stream<'_, S, P> {
    async fn run(
        &mut self,
        first: Incoming,
        mut requests: Requests<P>,
        mut snapshots: WatchStream<S::Snapshot>,
    ) -> Result<(), Status> {
        self.request(first).await?;
        let life = lifetime(self.source.stream_lifetime(), self.connection.id);
        let mut end = pin!(sleep(life));
        // Set anew when it has run out and not with each response: that is less work, and at worst
        // a look at the time.
        let mut patience = pin!(sleep_until(self.last_sent));
        let mut is_set = false;
        loop {
            self.advance().await?;
            let is_waiting = !self.settled() || self.waits_for_requests();
            if is_waiting && !is_set {
                patience.as_mut().reset(self.last_sent + PATIENCE);
                is_set = true;
            }
            let connection = &self.connection;
            tokio::select! {
                biased;
                () = poll_fn(|cx| connection.poll_cut(cx)) => {
                    return Err(Status::unavailable("told to connect anew"));
                }
                // What the client holds it names when it comes back, and is not sent again.
                () = &mut end => {
                    return Err(Status::unavailable("the stream is of age, open another one"));
                }
                newest = snapshots.next() => {
                    // The source ends only with the process; the client may then reconnect.
                    let ended = || Status::unavailable("shutting down");
                    self.newest = Some(newest.ok_or_else(ended)?);
                }
                request = requests.next() => match request? {
                    Some(request) => self.request(request).await?,
                    None => return Ok(()),
                },
                () = &mut patience, if is_waiting => {
                    is_set = false;
                    if self.last_sent + PATIENCE <= Instant::now() {
                        self.go_on();
                    }
                }
            }
        }
    }

    /// Whether the client has answered everything.
    fn settled(&self) -> bool {
        self.types.values().all(|watched| !watched.unanswered)
    }

    /// Stops waiting for answers, and for more that is asked for.
    fn go_on(&mut self) {
        self.is_opening = false;
        for (type_url, watched) in self.types.iter_mut() {
            if std::mem::take(&mut watched.unanswered) {
                debug!(
                    node = self.connection.node,
                    ?type_url,
                    "no answer, going on"
                );
            }
        }
    }
}
