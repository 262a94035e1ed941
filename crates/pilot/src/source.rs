//! Joins the generators to the discovery service.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use lateen_core::SpiffeId;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Event, Group, Name, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::core::Node;
use tokio::sync::watch;
use tonic::Status;
use tracing::warn;

use crate::auth::{self, Authenticate};
use crate::debug;
use crate::discovery::{Discovery, Settings};
use crate::engine::{self, Engine, Served};
use crate::metrics::Metrics;
use crate::proxy::{Dialect, Proxy};
use crate::registration::{self, Registrar, Registration};
use crate::rights;
use crate::secret::{self, CredentialSource};
use crate::snapshot::Snapshot;

/// A connected proxy and who it has proved to be.
#[derive(Debug)]
pub struct Client {
    /// What its node says.
    pub proxy: Proxy,
    /// What its certificate or token says; `None` on the plaintext port.
    pub identity: Option<SpiffeId>,
    /// It is in the control plane's own network namespace.
    pub is_local: bool,
    /// Its service account may read the Secrets of its namespace.
    pub reads_secrets: bool,
    /// The platform was asked whether it may, or it makes no difference. Of gateways it always is, of
    /// sidecars where rules of their namespace name credentials.
    pub is_asked: bool,
    /// What holds the WorkloadEntry of a workload that registers itself.
    pub(crate) registration: Option<Registration>,
}

/// Types that lead to clusters: what proxies of all kinds ask for, and what only ours does.
static LEADING: [TypeUrl; 3] = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST];

/// What all ports share.
pub(crate) struct Core {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) engine: Engine,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub(crate) metrics: Metrics,
    pub(crate) stream_lifetime: Duration,
    pub(crate) settings: Settings,
    /// `None` where there is nothing that entries could be written to.
    pub(crate) registrar: Option<Arc<Registrar>>,
}

impl Core {
    /// Resources of a type for a client: all there are, or those named.
    pub(crate) fn generate(
        &self,
        served: &Served,
        client: &Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        if *type_url == TypeUrl::SECRET {
            let secret = |name: &Name| secret::resource(&*self.credentials, client, name);
            return engine::named(names).iter().filter_map(secret).collect();
        }
        served.resources(&self.engine.cache, type_url, names)
    }

    /// The same as Envoy would show them: tables of routes are whole.
    pub(crate) fn shown(
        &self,
        served: &Served,
        client: &Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        if *type_url == TypeUrl::ROUTE {
            return served.whole_tables(&self.engine.cache, names);
        }
        self.generate(served, client, type_url, names)
    }
}

/// The source of one port's streams.
pub struct Source {
    pub(crate) core: Arc<Core>,
    pub(crate) auth: Arc<dyn Authenticate>,
    pub(crate) discovery: Discovery,
}

impl Source {
    async fn register(
        &self,
        node: &Node,
        proxy: &Proxy,
        identity: Option<&SpiffeId>,
    ) -> Result<Option<Registration>, Status> {
        let Some(registrar) = &self.core.registrar else {
            return registration::impossible(proxy).map(|()| None);
        };
        let world = self.core.snapshots.borrow().world.clone();
        registrar.register(node, proxy, identity, &world).await
    }

    /// Debug pages, as resources of each name that is asked for.
    fn pages(&self, client: &Client, type_url: &TypeUrl, names: Names<'_>) -> Vec<Arc<Resource>> {
        let caller = debug::Caller::of(client);
        let page = |name: &Name| debug::resource(&self.discovery, &caller, type_url, name);
        let asked = engine::named(names);
        if asked.is_empty() && type_url.debug_page().is_some() {
            return vec![Arc::new(page(&Name::new("")))];
        }
        asked.iter().map(|name| Arc::new(page(name))).collect()
    }
}

impl ResourceSource for Source {
    type Client = Client;
    type Snapshot = Arc<Served>;

    async fn connect(&self, node: &Node, peer: &Peer) -> Result<Client, Status> {
        let identity = self.auth.authenticate(peer).await?;
        let proxy =
            Proxy::from_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Who is nobody, or asks for names alone, has no use for Secrets.
        let (mut reads_secrets, mut is_asked) = (false, true);
        if let Some(identity) = &identity {
            auth::check(&proxy, identity)?;
            let snapshot = self.core.snapshots.borrow().clone();
            let uses = rights::count(&proxy, &snapshot);
            is_asked = uses || proxy.is_agent;
            reads_secrets = uses && self.auth.reads_secrets(identity).await?;
            if uses && !reads_secrets {
                warn!(
                    node = proxy.id, %identity,
                    "may not list Secrets, so that it is not given the credentials of its rules"
                );
            }
        }
        let registration = self.register(node, &proxy, identity.as_ref()).await?;
        Ok(Client {
            proxy,
            registration,
            is_local: auth::is_local(peer.address),
            identity,
            reads_secrets,
            is_asked,
        })
    }

    fn stream_lifetime(&self) -> Duration {
        self.core.stream_lifetime
    }

    fn snapshots(&self, client: &Client) -> watch::Receiver<Arc<Served>> {
        self.core.engine.join(&client.proxy)
    }

    fn leading(&self, client: &Client) -> &'static [TypeUrl] {
        match client.proxy.dialect {
            Dialect::Lateen => &LEADING,
            Dialect::Envoy => &LEADING[..2],
            // Each of its channels has a listener and a table of its own, or the one in the other.
            Dialect::Grpc => &[],
        }
    }

    fn generation(&self, served: &Arc<Served>) -> u64 {
        served.generation
    }

    fn standing(&self, served: &Arc<Served>) -> Arc<AtomicU64> {
        served.standing.clone()
    }

    fn group(&self, served: &Arc<Served>, _: &Client, type_url: &TypeUrl) -> Option<Group> {
        served.group(type_url)
    }

    fn since(
        &self,
        served: &Arc<Served>,
        _: &Client,
        type_url: &TypeUrl,
        group: Group,
    ) -> Option<Vec<Name>> {
        served.since(type_url, group)
    }

    fn generate(
        &self,
        served: &Arc<Served>,
        client: &Client,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        if debug::is_page_type(type_url) {
            return self.pages(client, type_url, names);
        }
        self.core.generate(served, client, type_url, names)
    }

    fn report(&self, client: &Client, type_url: &TypeUrl, fault: Option<&str>) -> bool {
        if *type_url != TypeUrl::HEALTH {
            return false;
        }
        // Who has registered nothing has no health that anybody asks for.
        if let Some(registration) = &client.registration {
            registration.report(fault);
        }
        true
    }

    fn observe(&self, event: Event<'_>) {
        self.core.metrics.observe(&event);
    }
}
