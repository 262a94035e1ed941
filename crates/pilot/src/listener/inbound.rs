//! `virtualInbound`: everything that comes to the workload arrives here.
//!
//! Each port of the application has the filter chains that its protocol and the mutual TLS mode ask
//! for. Ports that no service names have the same as a port of unknown protocol.

use std::sync::Arc;

use lateen_api::mesh::MeshConfig;
use lateen_core::{Protocol, ports};
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::core::{TrafficDirection, TransportSocket};
use lateen_xds::types::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use lateen_xds::types::route::RetryPolicy;

use super::Logging;
use super::filters::{self, Routes, Side};
use super::{EVERYWHERE, ServerTls};
use crate::families::{Families, additional};
use crate::shared::Shared;
use crate::{route, tls, wire};

/// Which transport security a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Mutual TLS only.
    Strict,
    /// Both.
    Permissive,
    /// Plain only.
    Disable,
}

/// All that `virtualInbound` is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundKey {
    pub(crate) ports: Vec<InboundPort>,
    /// For ports that are not listed.
    pub(crate) mode: Mode,
    /// Ports that are not listed and have a mode of their own.
    pub(crate) other_modes: Vec<(u16, Mode)>,
    /// Trust domains of clients that mutual TLS is for.
    pub(crate) trust_domains: Arc<[String]>,
    /// The mesh, where it limits TLS.
    pub(crate) mesh: Option<Shared<MeshConfig>>,
    pub(crate) logging: Logging,
    pub(crate) families: Families,
}

/// One port of the application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundPort {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) mode: Mode,
    /// The oldest service that leads here, and its port, for traces.
    pub(crate) service: (String, u16),
    /// TLS that a Sidecar ends here, for clients that are not of the mesh. It counts where the mesh's
    /// own is turned off.
    pub(crate) tls: Option<ServerTls>,
    /// Trust domains of clients that mutual TLS is for.
    pub(crate) trust_domains: Arc<[String]>,
    /// The mesh, where it says how often the application is tried again, or limits TLS.
    pub(crate) mesh: Option<Shared<MeshConfig>>,
}

/// A listener at an address of its own, which a Sidecar has for traffic that is not redirected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BoundKey {
    /// The first is in its name.
    pub(crate) addresses: Vec<String>,
    pub(crate) port: InboundPort,
    pub(crate) logging: Logging,
}

impl BoundKey {
    pub(crate) fn name(&self) -> String {
        names::listener(self.address(), self.port.port)
    }

    pub(crate) fn address(&self) -> &str {
        self.addresses.first().map_or(EVERYWHERE, String::as_str)
    }

    pub(crate) fn generate(&self) -> Listener {
        Listener {
            name: self.name(),
            address: Some(wire::socket_address(self.address(), self.port.port)),
            additional_addresses: additional(&self.addresses, self.port.port),
            filter_chains: self.port.chains(None, &self.logging),
            listener_filters: vec![filters::tls_inspector(), filters::http_inspector()],
            listener_filters_timeout: Some(wire::duration(self.logging.detection)),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Inbound.into(),
            ..Listener::default()
        }
    }
}

impl InboundPort {
    /// Clients of gRPC have retries of their own.
    fn retries(&self) -> Option<RetryPolicy> {
        if self.protocol == Protocol::Grpc {
            return None;
        }
        let mesh = self.mesh.as_ref();
        route::inbound_retries(mesh.and_then(|m| m.default_inbound_http_retry_policy.as_ref()))
    }

    /// `captured` is the port that was asked for, where that tells which port is meant.
    fn chains(&self, captured: Option<u16>, logging: &Logging) -> Vec<FilterChain> {
        let own = self.tls.as_ref().filter(|_| self.mode == Mode::Disable);
        let kinds = match own {
            Some(_) => own_tls(self.protocol),
            None => matrix(self.protocol, self.mode),
        };
        let cluster = ClusterName::inbound(self.port).to_string();
        let chain = |(when, then): (If<'_>, Then)| {
            let filter = match then {
                Then::Http => {
                    let (host, port) = &self.service;
                    let operation = Some((host.as_str(), *port));
                    let table = route::inbound_table(Some(self.port), operation, self.retries());
                    http(format!("inbound_0.0.0.0_{};", self.port), table, logging)
                }
                Then::Tcp => {
                    let to = filters::to_cluster(&cluster);
                    filters::tcp(&cluster, to, logging)
                }
            };
            let of_mesh = || mesh_socket(&self.trust_domains, self.mesh.as_ref());
            let socket = || own.map_or_else(of_mesh, ServerTls::socket);
            let name = format!("{EVERYWHERE}_{}", self.port);
            when.chain(name, captured, filter, socket)
        };
        kinds.into_iter().map(chain).collect()
    }
}

fn mesh_socket(trust_domains: &[String], mesh: Option<&Shared<MeshConfig>>) -> TransportSocket {
    let limits = mesh.and_then(|mesh| mesh.mesh_mtls.as_ref());
    tls::mesh_server(trust_domains, limits)
}

fn http(
    prefix: String,
    table: lateen_xds::types::route::RouteConfiguration,
    logging: &Logging,
) -> Filter {
    let routes = Routes::Inline(Box::new(table));
    filters::http(Side::Inbound, prefix, routes, false, logging)
}

/// What a filter chain does with its connections.
#[derive(Clone, Copy)]
enum Then {
    Http,
    Tcp,
}

/// What a filter chain asks of a connection.
#[derive(Clone, Copy)]
struct If<'a> {
    transport: &'static str,
    alpn: &'a [&'static str],
    terminate: bool,
}

impl InboundKey {
    pub(crate) fn generate(&self) -> Listener {
        let mut filter_chains = vec![self.loop_guard()];
        filter_chains.extend(self.passthrough(None, self.mode));
        for (port, mode) in &self.other_modes {
            filter_chains.extend(self.passthrough(Some(*port), *mode));
        }
        for port in &self.ports {
            filter_chains.extend(port.chains(Some(port.port), &self.logging));
        }
        let addresses = self.families.expand(EVERYWHERE);
        Listener {
            name: names::VIRTUAL_INBOUND.into(),
            address: Some(wire::socket_address(&addresses[0], ports::INBOUND)),
            additional_addresses: additional(&addresses, ports::INBOUND),
            filter_chains,
            listener_filters: vec![
                filters::original_dst(),
                filters::tls_inspector(),
                filters::http_inspector(),
            ],
            // An inspector waits as long as the client does: a server may be the first to speak.
            listener_filters_timeout: Some(wire::duration(self.logging.detection)),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Inbound.into(),
            ..Listener::default()
        }
    }

    /// A connection to this very port was not captured, and would come back for ever.
    fn loop_guard(&self) -> FilterChain {
        let to = filters::to_cluster(names::BLACK_HOLE_CLUSTER);
        FilterChain {
            name: "virtualInbound-blackhole".into(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: wire::number(u32::from(ports::INBOUND)),
                ..FilterChainMatch::default()
            }),
            filters: vec![filters::tcp("BlackHoleCluster", to, &self.logging)],
            ..FilterChain::default()
        }
    }

    fn passthrough(&self, port: Option<u16>, mode: Mode) -> Vec<FilterChain> {
        let chain = |(of, then): (If<'_>, Then)| {
            let (name, filter) = match then {
                Then::Http => {
                    let table = route::inbound_table(None, None, None);
                    let prefix = names::INBOUND_PASSTHROUGH_CLUSTER.to_owned();
                    let filter = http(prefix, table, &self.logging);
                    ("virtualInbound-catchall-http", filter)
                }
                Then::Tcp => {
                    let to = filters::to_cluster(names::INBOUND_PASSTHROUGH_CLUSTER);
                    let prefix = names::INBOUND_PASSTHROUGH_CLUSTER;
                    ("virtualInbound", filters::tcp(prefix, to, &self.logging))
                }
            };
            of.chain(name.to_owned(), port, filter, || {
                mesh_socket(&self.trust_domains, self.mesh.as_ref())
            })
        };
        matrix(Protocol::Unsupported, mode)
            .into_iter()
            .map(chain)
            .collect()
    }
}

impl If<'_> {
    fn chain(
        self,
        name: String,
        port: Option<u16>,
        filter: Filter,
        socket: impl FnOnce() -> TransportSocket,
    ) -> FilterChain {
        FilterChain {
            name,
            filter_chain_match: Some(FilterChainMatch {
                destination_port: port.and_then(|port| wire::number(u32::from(port))),
                transport_protocol: self.transport.into(),
                application_protocols: tls::owned(self.alpn),
                ..FilterChainMatch::default()
            }),
            filters: vec![filter],
            transport_socket: self.terminate.then(socket),
            ..FilterChain::default()
        }
    }
}

/// Which chains a port has where a Sidecar ends TLS at it.
fn own_tls(protocol: Protocol) -> Vec<(If<'static>, Then)> {
    const fn tls(alpn: &'static [&'static str]) -> If<'static> {
        If {
            transport: "tls",
            alpn,
            terminate: true,
        }
    }
    match protocol {
        p if p.is_http() => vec![(tls(&[]), Then::Http)],
        // What is inside shows only by what the client offers.
        p if p.is_unsupported() => vec![
            (tls(&["h2", "http/1.1"]), Then::Http),
            (tls(&[]), Then::Tcp),
        ],
        _ => vec![(tls(&[]), Then::Tcp)],
    }
}

/// Which chains a port has, from its protocol and mode.
fn matrix(protocol: Protocol, mode: Mode) -> Vec<(If<'static>, Then)> {
    /// The mesh's TLS, taken off.
    const fn mesh(alpn: &'static [&'static str]) -> If<'static> {
        If {
            transport: "tls",
            alpn,
            terminate: true,
        }
    }
    const fn plain(alpn: &'static [&'static str]) -> If<'static> {
        If {
            transport: "raw_buffer",
            alpn,
            terminate: false,
        }
    }
    /// The application's own TLS, passed on.
    const OPAQUE: If<'static> = If {
        transport: "tls",
        alpn: &[],
        terminate: false,
    };
    const ANY: &[&str] = &tls::ANY_MESH_ALPN;
    const MESH_HTTP: &[&str] = &tls::MESH_HTTP_ALPN;
    const MESH_TCP: &[&str] = &tls::MESH_TCP_ALPN;
    const PLAIN_HTTP: &[&str] = &tls::PLAIN_HTTP_ALPN;
    match (protocol, mode) {
        (p, Mode::Strict) if p.is_http() => vec![(mesh(&[]), Then::Http)],
        (p, Mode::Permissive) if p.is_http() => {
            vec![(mesh(ANY), Then::Http), (plain(&[]), Then::Http)]
        }
        (p, Mode::Disable) if p.is_http() => vec![(plain(&[]), Then::Http)],
        (p, Mode::Strict) if p.is_unsupported() => {
            vec![(mesh(MESH_HTTP), Then::Http), (mesh(&[]), Then::Tcp)]
        }
        (p, Mode::Permissive) if p.is_unsupported() => vec![
            (mesh(MESH_HTTP), Then::Http),
            (plain(PLAIN_HTTP), Then::Http),
            (mesh(MESH_TCP), Then::Tcp),
            (plain(&[]), Then::Tcp),
            (OPAQUE, Then::Tcp),
        ],
        (p, Mode::Disable) if p.is_unsupported() => vec![
            (plain(PLAIN_HTTP), Then::Http),
            (plain(&[]), Then::Tcp),
            (OPAQUE, Then::Tcp),
        ],
        (_, Mode::Strict) => vec![(mesh(&[]), Then::Tcp)],
        (_, Mode::Permissive) => vec![
            (mesh(ANY), Then::Tcp),
            (OPAQUE, Then::Tcp),
            (plain(&[]), Then::Tcp),
        ],
        (_, Mode::Disable) => vec![(plain(&[]), Then::Tcp), (OPAQUE, Then::Tcp)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_of_protocols_and_modes() {
        let check = |protocol, mode, want: &[(&str, usize, bool, bool)]| {
            let found: Vec<_> = matrix(protocol, mode)
                .into_iter()
                .map(|(of, then)| {
                    let http = matches!(then, Then::Http);
                    (of.transport, of.alpn.len(), of.terminate, http)
                })
                .collect();
            assert_eq!(found, want, "{protocol:?} {mode:?}");
        };
        check(Protocol::Http, Mode::Strict, &[("tls", 0, true, true)]);
        check(
            Protocol::Grpc,
            Mode::Permissive,
            &[("tls", 5, true, true), ("raw_buffer", 0, false, true)],
        );
        check(Protocol::Tcp, Mode::Strict, &[("tls", 0, true, false)]);
        check(
            Protocol::Unsupported,
            Mode::Permissive,
            &[
                ("tls", 3, true, true),
                ("raw_buffer", 2, false, true),
                ("tls", 2, true, false),
                ("raw_buffer", 0, false, false),
                ("tls", 0, false, false),
            ],
        );
    }
}
