//! Joins the generators to the discovery service.

use std::sync::Arc;
use std::time::Duration;

use lateen_core::SpiffeId;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Event, Name, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::core::Node;
use tokio::sync::watch;
use tonic::Status;

use crate::auth::{self, Authenticate};
use crate::key::{Cache, Key};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::secret::{self, CredentialSource};
use crate::snapshot::Snapshot;
use crate::view::View;

/// A connected proxy and who it has proved to be.
#[derive(Debug)]
pub struct Client {
    /// What its node says.
    pub proxy: Proxy,
    /// What its certificate or token says; `None` on the plaintext port.
    pub identity: Option<SpiffeId>,
    /// It is a gateway whose service account may read the Secrets of its namespace.
    pub reads_secrets: bool,
}

/// What all ports share.
pub(crate) struct Core {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) cache: Cache,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub(crate) metrics: Metrics,
    pub(crate) stream_lifetime: Duration,
}

impl Core {
    /// Resources of a type for a client: all there are, or those named.
    pub(crate) fn generate(
        &self,
        snapshot: &Snapshot,
        client: &Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        let view = View {
            snapshot,
            proxy: &client.proxy,
        };
        if *type_url == TypeUrl::SECRET {
            let secret = |name: &Name| secret::resource(&*self.credentials, client, name);
            return named(names).filter_map(secret).collect();
        }
        let keys = if *type_url == TypeUrl::CLUSTER {
            view.clusters()
        } else if *type_url == TypeUrl::LISTENER {
            view.listeners()
        } else if *type_url == TypeUrl::ENDPOINT {
            let key = |name: &Name| view.endpoints(name).map(Key::Endpoints);
            named(names).filter_map(key).collect()
        } else if *type_url == TypeUrl::ROUTE {
            named(names).filter_map(|name| view.routes(name)).collect()
        } else {
            Vec::new()
        };
        keys.into_iter()
            .filter(|key| names.contains(&Name::new(key.name())))
            .map(|key| self.cache.resource(key, snapshot.generation))
            .collect()
    }
}

/// The names in a subscription.
fn named<'a>(names: Names<'a>) -> impl Iterator<Item = &'a Name> {
    let (Names::All(names) | Names::Only(names)) = names;
    names.iter()
}

/// The source of one port's streams.
pub struct Source {
    pub(crate) core: Arc<Core>,
    pub(crate) auth: Arc<dyn Authenticate>,
}

impl ResourceSource for Source {
    type Client = Client;
    type Snapshot = Arc<Snapshot>;

    async fn connect(&self, node: &Node, peer: &Peer) -> Result<Client, Status> {
        let identity = self.auth.authenticate(peer).await?;
        let proxy =
            Proxy::from_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut reads_secrets = false;
        if let Some(identity) = &identity {
            auth::check(&proxy, identity)?;
            // That it is a gateway is only what its node says.
            reads_secrets = proxy.is_router() && self.auth.reads_secrets(identity).await?;
        }
        Ok(Client {
            proxy,
            identity,
            reads_secrets,
        })
    }

    fn stream_lifetime(&self) -> Duration {
        self.core.stream_lifetime
    }

    fn snapshots(&self, _client: &Client) -> watch::Receiver<Arc<Snapshot>> {
        self.core.snapshots.clone()
    }

    fn generation(&self, snapshot: &Arc<Snapshot>) -> u64 {
        snapshot.generation
    }

    fn generate(
        &self,
        snapshot: &Arc<Snapshot>,
        client: &Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        self.core.generate(snapshot, client, type_url, names)
    }

    fn observe(&self, event: Event<'_>) {
        self.core.metrics.observe(&event);
    }
}
