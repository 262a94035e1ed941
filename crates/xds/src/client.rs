//! A delta ADS client: one task that keeps one stream open and hands on what arrives.
//!
//! It remembers which versions were accepted, so that after a reconnect the server sends only the
//! difference; what was accepted stays in force while there is no server. The user of the client
//! decides about each [`Update`] by [`Update::ack`] or [`Update::nack`].

mod session;
mod subscriptions;

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::types::core::Node;
use crate::{Any, TypeUrl};
use session::Session;

/// The first delay before a reconnect, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Updates that wait for their user; beyond that the stream itself is held back.
const PENDING_UPDATES: usize = 16;

/// A channel to a server, and the metadata (a bearer token, say) for the stream.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where the stream is opened.
    pub channel: Channel,
    /// Sent with the stream's headers.
    pub metadata: MetadataMap,
}

impl From<Channel> for Connection {
    fn from(channel: Channel) -> Self {
        Connection {
            channel,
            metadata: MetadataMap::new(),
        }
    }
}

/// What a failed attempt to connect was about.
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// Where the stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No stream yet, the first attempt is under way.
    Connecting,
    /// The stream is open.
    Connected,
    /// The last attempt or stream ended with this error; another follows.
    Disconnected(String),
}

/// One resource as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name, unique in its type.
    pub name: String,
    /// The server's version of it.
    pub version: String,
    /// The encoded message; absent only from a server that sends a heartbeat.
    pub body: Option<Any>,
}

/// A response, to be taken or refused as a whole.
#[derive(Debug)]
#[must_use = "an update that is neither acknowledged nor refused stalls the server"]
pub struct Update {
    /// The type of all resources in it.
    pub type_url: TypeUrl,
    /// New and changed resources.
    pub resources: Vec<Resource>,
    /// Names of resources that are gone, or that do not exist although subscribed.
    pub removed: Vec<String>,
    ticket: Ticket,
}

/// Ties an answer to its response and stream.
#[derive(Debug)]
struct Ticket {
    commands: mpsc::UnboundedSender<Command>,
    stream: u64,
    nonce: String,
}

impl Update {
    /// Accepts everything in the update.
    pub fn ack(self) {
        self.answer(None);
    }

    /// Refuses the update. The state before it stays in force; the reason goes to the server.
    pub fn nack(self, reason: impl Into<String>) {
        self.answer(Some(reason.into()));
    }

    fn answer(self, refused: Option<String>) {
        let versions = self.resources.into_iter().map(|r| (r.name, r.version));
        let answer = Answer {
            type_url: self.type_url,
            versions: versions.collect(),
            removed: self.removed,
            stream: self.ticket.stream,
            nonce: self.ticket.nonce,
            refused,
        };
        // A client that has ended needs no answer.
        let _ = self.ticket.commands.send(Command::Answer(answer));
    }
}

#[derive(Debug)]
struct Answer {
    type_url: TypeUrl,
    versions: Vec<(String, String)>,
    removed: Vec<String>,
    stream: u64,
    nonce: String,
    refused: Option<String>,
}

#[derive(Debug)]
enum Command {
    Wildcard(TypeUrl),
    Subscribe(TypeUrl, Vec<String>),
    Unsubscribe(TypeUrl, Vec<String>),
    Answer(Answer),
    Report(TypeUrl, Option<String>),
}

/// Changes what the client asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscriber {
    commands: mpsc::UnboundedSender<Command>,
}

impl Subscriber {
    /// Asks for every resource of a type (clusters, listeners).
    pub fn wildcard(&self, type_url: TypeUrl) {
        let _ = self.commands.send(Command::Wildcard(type_url));
    }

    /// Asks for resources by name; those already asked for are left alone.
    pub fn subscribe(&self, type_url: TypeUrl, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().collect();
        let _ = self.commands.send(Command::Subscribe(type_url, names));
    }

    /// Reports something of the client itself, by a request of a type that has no resources: all is
    /// well, or this is wrong. The last report is made again on each new stream.
    pub fn report(&self, type_url: TypeUrl, fault: Option<String>) {
        let _ = self.commands.send(Command::Report(type_url, fault));
    }

    /// No longer asks for these names. Their state is the caller's to drop; a response that was
    /// already on its way may still bring them, and is to be ignored.
    pub fn unsubscribe(&self, type_url: TypeUrl, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().collect();
        let _ = self.commands.send(Command::Unsubscribe(type_url, names));
    }
}

/// The ends of a running client.
#[derive(Debug)]
pub struct Client {
    /// What to ask for.
    pub subscriber: Subscriber,
    /// What arrives, in the server's order. The client's task ends when this is dropped.
    pub updates: mpsc::Receiver<Update>,
    /// Where the stream stands.
    pub state: watch::Receiver<State>,
}

/// Starts the client's task on the current runtime.
///
/// `connect` makes a channel for each attempt, so that the caller brings TLS, Unix sockets and
/// fresh tokens.
pub fn spawn<C, F>(node: Node, connect: C) -> Client
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<Connection, ConnectError>> + Send + 'static,
{
    let (commands_tx, commands_rx) = mpsc::unbounded_channel();
    let (updates_tx, updates_rx) = mpsc::channel(PENDING_UPDATES);
    let (state_tx, state_rx) = watch::channel(State::Connecting);
    let session = Session::new(node, commands_tx.clone(), commands_rx, updates_tx, state_tx);
    tokio::spawn(session.run(connect));
    Client {
        subscriber: Subscriber {
            commands: commands_tx,
        },
        updates: updates_rx,
        state: state_rx,
    }
}
