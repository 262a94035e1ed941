//! The ADS service, delta and state-of-the-world, over any source of resources.
//!
//! A stream follows a watch of snapshots, so a slow client costs no queue: it gets
//! the newest snapshot when it has answered for the last one. A change goes out in three stages,
//! each of which waits for the client's answers: clusters and endpoints first, then listeners,
//! routes and the rest, and what is gone last. So nothing ever names what is not there yet. What
//! names a cluster that the client has refused and lacks is held back until it has it (`doubt`); a
//! client that does not answer gets the stages in their order.
//!
//! Thousands of streams are alike, and what they have in common exists once:
//!
//! - a [`Resource`] is encoded once, as the field that both protocols carry it in;
//! - resources that are sent together are joined to pieces of bytes (`payload`), and a response is
//!   a few bytes of the stream's own before such pieces (`body`);
//! - a [`Name`] is one allocation in the process, and a list of names and versions is one for all
//!   clients that have or ask for the same (`versions`);
//! - what must be sent is a function of what a client has, what it asks for and what there is, and
//!   is worked out once for all for whom these are equal (`plan`). What there is goes by a
//!   [`Group`]: the source says who is served the same. A client that had all of one group is
//!   brought to the next by a look at what the source says has changed, not at all there is.
//!
//! A stream's own state is a few numbers for each type. What was made of late is kept for some
//! seconds in case the next stream asks for it (`recent`), and not longer.

mod body;
mod connections;
mod doubt;
mod listen;
mod name;
mod payload;
mod plan;
mod protocol;
mod recent;
mod requests;
mod resource;
mod service;
mod stream;
mod versions;
mod watched;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::TypeUrl;
use crate::types::core::Node;
pub use connections::{Connection, Connections, TypeStatus};
pub use listen::listen;
pub use name::Name;
pub use plan::Group;
pub use resource::{NameSet, Names, Resource};
pub use service::AdsService;

/// Names of one type that one stream may ask for or hold: more than a large mesh has, and a bound to
/// what a client can make us remember.
const MAX_NAMES: usize = 250_000;

fn too_much(of: &str) -> Status {
    Status::resource_exhausted(format!("too many {of} on one stream"))
}

/// Istio's age of connections.
pub const STREAM_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Who is at the other end of a stream.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Headers of the stream (a bearer token, say).
    pub metadata: MetadataMap,
    /// What the transport knows (a client certificate, say).
    pub extensions: Extensions,
    /// The socket's other end.
    pub address: Option<SocketAddr>,
}

/// Something that happened on a stream, for metrics and logs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stream was admitted.
    Connected,
    /// A stream ended.
    Disconnected,
    /// A response was sent.
    Sent {
        /// Its type.
        type_url: &'a TypeUrl,
        /// How many resources are in it.
        resources: usize,
    },
    /// A client refused a response.
    Refused {
        /// Its type.
        type_url: &'a TypeUrl,
        /// The client's node id.
        node: &'a str,
        /// The client's reason.
        reason: &'a str,
    },
    /// Resources were held back that name a cluster which the client has refused and lacks.
    HeldBack {
        /// Their type.
        type_url: &'a TypeUrl,
        /// How many.
        resources: usize,
    },
    /// A client has answered for everything in a snapshot.
    Converged {
        /// Since the stream saw the snapshot.
        after: Duration,
    },
}

/// Where resources come from.
pub trait ResourceSource: Send + Sync + 'static {
    /// What the source knows about one client.
    type Client: Send + Sync + 'static;
    /// Everything resources are made from, at one moment. Cheap to clone.
    type Snapshot: Clone + Send + Sync + 'static;

    /// Admits a client, or says why not.
    fn connect(
        &self,
        node: &Node,
        peer: &Peer,
    ) -> impl Future<Output = Result<Self::Client, Status>> + Send;

    /// Snapshots as they change, as far as they concern a client.
    fn snapshots(&self, client: &Self::Client) -> watch::Receiver<Self::Snapshot>;

    /// A number that grows with each snapshot.
    fn generation(&self, snapshot: &Self::Snapshot) -> u64;

    /// The generation up to which a snapshot is still right for those who are served it, for
    /// sources that leave alone whom a newer one does not concern.
    fn standing(&self, snapshot: &Self::Snapshot) -> Arc<AtomicU64> {
        Arc::new(AtomicU64::new(self.generation(snapshot)))
    }

    /// The resources of a type that exist for a client: all, or those named.
    fn generate(
        &self,
        snapshot: &Self::Snapshot,
        client: &Self::Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>>;

    /// Clients for which this is the same are generated for once. By default each is alone.
    fn group(
        &self,
        snapshot: &Self::Snapshot,
        client: &Self::Client,
        type_url: &TypeUrl,
    ) -> Option<Group> {
        let _ = (snapshot, client, type_url);
        None
    }

    /// The names of all that may differ between what those in a group were given and what a client
    /// is given now; a name too many does no harm. `None` where that is not known, by default always.
    fn since(
        &self,
        snapshot: &Self::Snapshot,
        client: &Self::Client,
        type_url: &TypeUrl,
        group: Group,
    ) -> Option<Vec<Name>> {
        let _ = (snapshot, client, type_url, group);
        None
    }

    /// Types that a client asks for and whose resources lead to clusters. Before it has asked for all
    /// of them, or for some seconds for nothing new, nobody knows what it was led to on an earlier
    /// stream, and clusters that are gone are not taken from it. By default there are none.
    fn leading(&self, client: &Self::Client) -> &'static [TypeUrl] {
        let _ = client;
        &[]
    }

    /// Takes in what a client reports of itself, by a request of a type that has no resources; whether
    /// this type is of that kind. `fault` is the error of the request. By default there is none.
    fn report(&self, client: &Self::Client, type_url: &TypeUrl, fault: Option<&str>) -> bool {
        let _ = (client, type_url, fault);
        false
    }

    /// How long a stream may live. Who the client is was proved at its beginning, and what has been
    /// revoked since must not count for ever.
    fn stream_lifetime(&self) -> Duration {
        STREAM_LIFETIME
    }

    /// Takes note of something. By default of nothing.
    fn observe(&self, event: Event<'_>) {
        let _ = event;
    }
}

/// The service.
#[derive(Debug)]
pub struct Ads<S: ResourceSource> {
    source: Arc<S>,
    connections: Arc<Connections<S::Client>>,
}

impl<S: ResourceSource> Clone for Ads<S> {
    fn clone(&self) -> Self {
        Ads {
            source: self.source.clone(),
            connections: self.connections.clone(),
        }
    }
}

impl<S: ResourceSource> Ads<S> {
    /// A service over a source. Streams of all services that share `connections` are listed there.
    pub fn new(source: Arc<S>, connections: Arc<Connections<S::Client>>) -> Self {
        Ads {
            source,
            connections,
        }
    }

    /// The streams that are open.
    pub fn connections(&self) -> &Arc<Connections<S::Client>> {
        &self.connections
    }

    /// For `tonic::transport::Server::add_service`.
    pub fn into_service(self) -> AdsService<S> {
        AdsService::new(self)
    }
}
