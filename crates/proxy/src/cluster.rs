//! Clusters: the hosts that they have now, and the way to connect.

mod connect;
mod dns;
mod hosts;
mod names;
mod stats;

use std::sync::Arc;

use arcstr::ArcStr;
use lateen_balance::{Breaker, Overflow, Permit, Priority, Resource};
use lateen_decode::{ClusterSpec, Discovery, Service};
use lateen_tls::Connector;

use crate::listener::Connection;

pub(crate) use connect::{Between, ConnectError, Connected, HttpWant, To, connect, connect_http};
pub(crate) use dns::resolve_forever;
pub(crate) use hosts::{Address, Around, Host, HostSet};
pub(crate) use names::{NameCache, Unresolved, millis};
pub(crate) use stats::{ClusterStats, is_gauge};

/// How connections are secured.
pub(crate) enum Transport {
    Raw,
    Tls(Box<TlsUpstream>),
}

/// TLS towards hosts; one connector for each use, since they offer different protocols.
pub(crate) struct TlsUpstream {
    pub tcp: Connector,
    pub http1: Connector,
    pub http2: Connector,
    pub auto: Connector,
    pub sni: Option<ArcStr>,
    /// Ask for the request's authority instead.
    pub auto_sni: bool,
    /// What answers requests must have a certificate for the name that is asked for.
    pub verify_name: bool,
    /// Ask for the host's own name instead.
    pub host_sni: bool,
    /// Mutual TLS inside the mesh.
    pub mesh: bool,
}

/// A cluster with its present hosts.
pub(crate) struct Cluster {
    /// Tells this configuration of the cluster from the one before, so that connections made under
    /// one are not used under the other.
    pub id: u64,
    pub spec: Arc<ClusterSpec>,
    /// The transports of the specification, in its order.
    pub transports: Arc<[Transport]>,
    pub hosts: Arc<HostSet>,
    /// False until its hosts were heard of for the first time.
    pub warm: bool,
    pub stats: Arc<ClusterStats>,
    pub breaker: Arc<Breaker>,
    /// The names that clients gave, where they are its hosts.
    pub names: Option<Arc<NameCache>>,
    /// The service that metrics name.
    pub service: Service,
}

impl Cluster {
    /// The host of a name that a client gives, where names lead to this cluster's hosts.
    pub(crate) async fn named_host(
        &self,
        name: &str,
        port: u16,
        now: u64,
    ) -> Result<Arc<Host>, Unresolved> {
        let (Some(names), Discovery::Dynamic(spec)) = (&self.names, &self.spec.discovery) else {
            return Err(Unresolved::Failed);
        };
        let address = names.resolve(spec, name, port, now).await?;
        Ok(Arc::new(Host {
            hostname: name.into(),
            ..Host::at(address)
        }))
    }

    /// True where names that clients give lead to its hosts.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.names.is_some()
    }

    /// The addresses that connections to a host are for, where they say so: none is used for two
    /// clients then.
    pub(crate) fn client_of(&self, host: &Host, connection: &Connection) -> Option<Box<Between>> {
        let spec = self.spec.transports.get(host.transport)?;
        spec.proxy_header()?;
        Some(Box::new(connection.between()))
    }

    /// Leave for one more, within the limits for requests of that priority.
    pub(crate) fn acquire(
        &self,
        resource: Resource,
        priority: Priority,
    ) -> Result<Permit, Overflow> {
        let limits = match priority {
            Priority::Default => &self.spec.limits,
            Priority::High => &self.spec.high_limits,
        };
        let acquired = self.breaker.acquire(resource, priority, limits);
        if acquired.is_err() && resource == Resource::Connection {
            self.stats.cx_overflow.inc();
        }
        acquired
    }

    /// The same cluster with other hosts.
    pub(crate) fn with_hosts(&self, hosts: HostSet) -> Cluster {
        Cluster {
            id: self.id,
            spec: self.spec.clone(),
            transports: self.transports.clone(),
            hosts: Arc::new(hosts),
            warm: true,
            stats: self.stats.clone(),
            breaker: self.breaker.clone(),
            names: self.names.clone(),
            service: self.service.clone(),
        }
    }
}
