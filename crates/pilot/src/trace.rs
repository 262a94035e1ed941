//! From what a proxy is served back to what users wrote: which field of which object a route, a
//! cluster or a server was made of.
//!
//! Nothing is decided here. Routes are walked as their generator walks them, policies are found by
//! the very references that generators use, and what does not become a route is told with the
//! condition that kept it out. Nothing of it is sent to proxies.

mod cluster;
mod connection;
mod inbound;
mod passed_over;
mod route;

use lateen_api::Meta;
use lateen_core::{Labels, ObjectRef};
use lateen_galley::Source;
use lateen_registry::WATCHED_KINDS;

use crate::engine::Vantage;
use crate::listener::Mode;
use crate::mtls;
use crate::offline::Offline;
use crate::view::View;

pub use cluster::ClusterTrace;
pub use connection::{L4Condition, L4Fate, L4Trace};
pub use passed_over::PassedOver;
pub use route::{Condition, RuleFate, RuleTrace, Setting};

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The object.
    pub object: ObjectRef,
    /// The field: `spec.http[2].match[1]`.
    pub field: String,
}

impl Origin {
    pub(crate) fn new(kind: &'static str, meta: &Meta, field: impl Into<String>) -> Origin {
        Origin {
            object: ObjectRef::new(kind, &meta.namespace, &meta.name),
            field: field.into(),
        }
    }

    /// An object as a user wrote it: what it stands for, where the mesh made it for itself.
    fn of_written(meta: &Meta, field: impl Into<String>) -> Origin {
        let sources = lateen_galley::sources(meta);
        let made_of = sources.into_iter().chain(lateen_galley::l4_sources(meta));
        match made_of.flatten().next() {
            Some(source) => Origin::of_source(&source, ""),
            None => Origin::new("VirtualService", meta, field),
        }
    }

    /// What an object that the mesh made for itself stands for.
    fn of_source(source: &Source, field: &str) -> Origin {
        Origin {
            object: ObjectRef::new(kind_of(source), &source.namespace, &source.name),
            field: field.to_owned(),
        }
    }
}

/// Which servers of Gateways are meant at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServersOf<'a> {
    /// Those whose requests go by a route table.
    Table(&'a str),
    /// Those of connections that are no HTTP.
    Connections,
    /// Those of datagrams.
    Datagrams,
}

/// The kind of a source, of which there are those that are watched and Services.
fn kind_of(source: &Source) -> &'static str {
    let mut ids = WATCHED_KINDS.iter().map(lateen_api::Kind::id);
    ids.find(|id| *id == source.kind).unwrap_or("Service")
}

impl Offline {
    /// What becomes of each rule for a virtual host of a table, in their order; empty where it is made
    /// of no rules.
    pub fn trace_routes(&self, table: &str, host: &str) -> Vec<RuleTrace> {
        self.seen(|view| {
            let table = view.routes(table);
            let hosts = table.into_iter().flat_map(|table| table.hosts);
            let own = hosts.filter(|key| key.name() == host);
            own.flat_map(|key| route::trace(view, &key)).collect()
        })
    }

    /// What a cluster of a service is made of; `None` for others.
    pub fn trace_cluster(&self, name: &str) -> Option<ClusterTrace> {
        self.seen(|view| cluster::trace(view, name))
    }

    /// The servers of Gateways that a gateway's chain stands for: those at a port of its pod, and for a
    /// host where one is asked for.
    pub fn trace_servers(&self, port: u16, of: ServersOf<'_>, host: Option<&str>) -> Vec<Origin> {
        self.seen(|view| {
            let servers = view.servers_at(port, of, host).into_iter();
            let origin = |(gateway, place): (&lateen_api::Object<_>, usize)| {
                let sources = lateen_galley::sources(&gateway.meta);
                match sources.as_ref().and_then(|sources| sources.get(place)) {
                    Some(source) => Origin::of_source(source, &source.rule),
                    None => Origin::new("Gateway", &gateway.meta, format!("spec.servers[{place}]")),
                }
            };
            servers.map(origin).collect()
        })
    }

    /// What becomes of each rule for connections at a listener that leads out, or of a gateway.
    pub fn trace_connections(&self, address: &str, port: u16) -> Vec<L4Trace> {
        self.seen(|view| connection::trace(view, address, port))
    }

    /// The rule that leads datagrams on which come to a port of a gateway.
    pub fn trace_datagrams(&self, port: u16) -> Option<L4Trace> {
        self.seen(|view| connection::datagrams(view, port))
    }

    /// What says how a port of the workload takes TLS, and in a word, how.
    pub fn trace_inbound_tls(&self, port: u16) -> Vec<(&'static str, Origin)> {
        let vantage = self.vantage();
        inbound::tls(View::new(&self.snapshot, &vantage), port)
    }

    /// What workloads take of which no policy speaks: `PERMISSIVE` or `STRICT`.
    pub fn unsaid_tls(&self) -> &'static str {
        match mtls::unsaid(&self.snapshot) {
            Mode::Strict => "STRICT",
            Mode::Permissive => "PERMISSIVE",
            Mode::Disable => "DISABLE",
        }
    }

    /// How workloads of a namespace with some labels take TLS at a port, in a word, and what says so;
    /// `None` where nothing does.
    pub fn trace_tls_of(
        &self,
        namespace: &str,
        labels: &Labels,
        port: u16,
    ) -> Option<(&'static str, Origin)> {
        let said = mtls::said(&self.snapshot, namespace, labels, Some(port))?;
        Some(inbound::of_policy(&said, port))
    }

    /// VirtualServices for a host that have no say in what becomes of its requests (or connections, where
    /// it is no HTTP) at a port; `chosen` is the host whose rules decide.
    pub fn trace_passed_over(
        &self,
        host: &str,
        chosen: &str,
        port: u16,
        http: bool,
    ) -> Vec<PassedOver> {
        self.seen(|view| passed_over::trace(view, host, chosen, port, http))
    }

    /// The Sidecar that says what the proxy's workload sees.
    pub fn trace_sidecar(&self) -> Option<ObjectRef> {
        self.seen(|view| {
            let sidecar = view.from.sidecar.as_ref()?;
            Some(Origin::new("Sidecar", &sidecar.meta, "spec").object)
        })
    }

    /// Looks out from where the proxy is.
    fn seen<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        let snapshot = &*self.snapshot;
        look(View::new(snapshot, &self.vantage().outbound(snapshot)))
    }

    /// All that counts of the proxy's workload.
    fn vantage(&self) -> Vantage {
        let snapshot = &*self.snapshot;
        let workload = snapshot.world.workload(self.proxy.ip);
        let vantage = Vantage::of_node(&self.proxy);
        vantage.with(workload.map(|of| &**of), snapshot.node_counts())
    }
}

#[cfg(test)]
mod tests;
