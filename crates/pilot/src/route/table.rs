//! Route tables as what they are made of: a few settings and one virtual host for each destination.
//!
//! A virtual host is made and encoded by itself. Where a client takes it as a resource of its own it
//! is sent as such; for all others the tables are put together of the same bytes.

use lateen_xds::server::Resource;
use lateen_xds::types::route::{RouteConfiguration, Vhds, VirtualHost};

use super::gateway::{AnswerKey, GatewayHost, nothing};
use super::{Context, HostKey, Others, others};
use crate::{grpc, wire};

/// The number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;

/// A route table: its name, and what its virtual hosts are made from, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Clients name the port, which tells hosts apart.
    pub(crate) by_port: bool,
    pub(crate) hosts: Vec<VirtualHostKey>,
}

/// All that a virtual host is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VirtualHostKey {
    /// The table that it is in.
    pub(crate) table: String,
    pub(crate) kind: HostKind,
}

/// What a virtual host stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostKind {
    /// A destination of a sidecar.
    Outbound(HostKey),
    /// A destination of a gRPC client.
    Grpc(HostKey),
    /// Everything that a sidecar knows nothing of.
    Others(Others),
    /// A host of a gateway.
    Gateway(GatewayHost),
    /// A host of a gateway that has one answer.
    Answer(AnswerKey),
    /// A gateway's port without any host.
    Nothing { port: u16 },
}

impl VirtualHostKey {
    /// The name of the virtual host in its table.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            HostKind::Outbound(key) | HostKind::Grpc(key) => key.name(),
            HostKind::Others(others) => others.name().to_owned(),
            HostKind::Gateway(key) => key.name(),
            HostKind::Answer(key) => key.name(),
            HostKind::Nothing { port } => format!("blackhole:{port}"),
        }
    }

    /// The port of its table, where it says that.
    pub(crate) fn port(&self) -> Option<u16> {
        match &self.kind {
            HostKind::Outbound(key) | HostKind::Grpc(key) => Some(key.port),
            HostKind::Gateway(key) => Some(key.port),
            HostKind::Answer(key) => Some(key.port),
            HostKind::Nothing { port } => Some(*port),
            HostKind::Others(_) => None,
        }
    }

    /// The VirtualServices that its routes are made of, each with all that these depend on.
    pub(crate) fn contexts(&self) -> Vec<Context<'_>> {
        match &self.kind {
            HostKind::Outbound(key) | HostKind::Grpc(key) => key.context().into_iter().collect(),
            HostKind::Gateway(key) => key.contexts().collect(),
            HostKind::Answer(_) | HostKind::Others(_) | HostKind::Nothing { .. } => Vec::new(),
        }
    }

    pub(crate) fn generate(&self) -> VirtualHost {
        match &self.kind {
            HostKind::Outbound(key) => key.generate(),
            HostKind::Grpc(key) => grpc::virtual_host(key.generate(), key.port),
            HostKind::Others(of) => others(of),
            HostKind::Gateway(key) => key.generate(),
            HostKind::Answer(key) => key.generate(),
            HostKind::Nothing { .. } => nothing(self.name()),
        }
    }
}

impl Table {
    /// The whole table.
    pub(crate) fn generate(&self) -> RouteConfiguration {
        RouteConfiguration {
            virtual_hosts: self.hosts.iter().map(VirtualHostKey::generate).collect(),
            ..settings(&self.name, self.by_port)
        }
    }
}

/// A table whose virtual hosts come as resources of their own.
pub(crate) fn head(name: &str, by_port: bool) -> Resource {
    let message = RouteConfiguration {
        vhds: Some(Vhds {
            config_source: Some(wire::ads()),
        }),
        ..settings(name, by_port)
    };
    Resource::new(name, &message)
}

/// A whole table of virtual hosts that are encoded already.
pub(crate) fn assemble<'a>(
    name: &str,
    by_port: bool,
    hosts: impl Iterator<Item = &'a Resource>,
) -> Resource {
    Resource::composed(name, &settings(name, by_port), VIRTUAL_HOSTS, hosts)
}

/// A table without virtual hosts.
fn settings(name: &str, by_port: bool) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: wire::boolean(false),
        max_direct_response_body_size_bytes: wire::number(1 << 20),
        ignore_port_in_host_matching: !by_port,
        ..RouteConfiguration::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_put_together_of_bytes_is_the_table() {
        let host = |kind| VirtualHostKey {
            table: "80".into(),
            kind,
        };
        let table = Table {
            name: "80".into(),
            port: 80,
            by_port: false,
            hosts: vec![
                host(HostKind::Nothing { port: 80 }),
                host(HostKind::Others(Others::Allow)),
                host(HostKind::Others(Others::Block)),
            ],
        };
        let host = |key: &VirtualHostKey| Resource::new(key.name(), &key.generate());
        let hosts: Vec<_> = table.hosts.iter().map(host).collect();
        assert_eq!(hosts[1].name.as_str(), "allow_any");
        let whole = assemble("80", false, hosts.iter());
        let read = |resource: &Resource| -> RouteConfiguration {
            lateen_xds::decode_any(&resource.body()).expect("a table")
        };
        assert_eq!(read(&whole), table.generate());
        let head = read(&head("80", false));
        assert!(head.vhds.is_some() && head.virtual_hosts.is_empty());
    }
}
