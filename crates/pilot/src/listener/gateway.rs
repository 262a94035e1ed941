//! Listeners of gateways: one per port, with a chain per TLS server.

use lateen_api::mesh::{ForwardClientCertDetails, GatewayTopology};
use lateen_api::networking::TlsProtocol;
use lateen_xds::names;
use lateen_xds::types::core::{TrafficDirection, TransportSocket};
use lateen_xds::types::listener::{FilterChain, FilterChainMatch, Listener};
use lateen_xds::types::tls::{
    CommonTlsContext, DownstreamTlsContext, TlsParameters, common_tls_context, tls_parameters,
};

use super::Logging;
use super::chains::distinct;
use super::datagrams::{self, DatagramRule};
use super::filters::{self, Routes, Side};
use super::outbound::{EVERYWHERE, TcpRule, tcp_chains};
use crate::families::additional;
use crate::secret::{certificate_name, roots_name};
use crate::{tls, wire};

/// All that a gateway's listener is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatewayKey {
    /// The first is in its name.
    pub(crate) addresses: Vec<String>,
    pub(crate) port: u16,
    pub(crate) servers: Vec<GatewayServer>,
    pub(crate) logging: Logging,
    pub(crate) topology: Topology,
    /// Requests may lead to hosts by their names.
    pub(crate) by_name: bool,
}

/// What is before a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Topology {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: u32,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub(crate) client_certificates: ForwardClientCertDetails,
    /// Connections begin with a PROXY header.
    pub(crate) proxy_protocol: bool,
}

impl From<&GatewayTopology> for Topology {
    fn from(of: &GatewayTopology) -> Topology {
        Topology {
            trusted_proxies: of.num_trusted_proxies,
            client_certificates: of.forward_client_cert_details,
            proxy_protocol: of.proxy_protocol.is_some(),
        }
    }
}

/// One server of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GatewayServer {
    /// Plain HTTP, by this route table.
    Http { routes: String },
    /// TLS ends here and HTTP is inside, by this route table.
    Https {
        routes: String,
        sni: Vec<String>,
        tls: ServerTls,
    },
    /// Bytes; where TLS ends here, only for these server names.
    Tcp {
        rules: Vec<TcpRule>,
        tls: Option<(Vec<String>, ServerTls)>,
    },
    /// Datagrams: the only server of its port, as far as they go.
    Datagrams(DatagramRule),
}

/// How TLS ends at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerTls {
    /// Names of the credentials; empty where files are given.
    pub(crate) credentials: Vec<String>,
    /// Certificates and their keys as files of the gateway.
    pub(crate) files: Vec<[String; 2]>,
    /// Name of the credential with the roots of clients, where it is not the first one.
    pub(crate) roots: String,
    /// The same as a file.
    pub(crate) roots_file: String,
    /// The file with lists of revoked certificates; may be empty.
    pub(crate) revoked_file: String,
    /// A client certificate is required (`Some(true)`), or checked when there is one.
    pub(crate) client: Option<bool>,
    /// The mesh's own certificates on both sides.
    pub(crate) mesh: bool,
    pub(crate) names: Vec<String>,
    /// Digests of certificates, and of public keys, of which a client must have one.
    pub(crate) pins: [Vec<String>; 2],
    pub(crate) versions: (TlsVersion, TlsVersion),
    pub(crate) ciphers: Vec<String>,
    pub(crate) curves: Vec<String>,
    pub(crate) http: bool,
}

/// A TLS version, or the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TlsVersion(pub(crate) Option<u8>);

impl From<TlsProtocol> for TlsVersion {
    fn from(protocol: TlsProtocol) -> Self {
        TlsVersion(match protocol {
            TlsProtocol::Auto => None,
            TlsProtocol::V1_0 => Some(0),
            TlsProtocol::V1_1 => Some(1),
            TlsProtocol::V1_2 => Some(2),
            TlsProtocol::V1_3 => Some(3),
        })
    }
}

impl TlsVersion {
    fn or(self, default: tls_parameters::TlsProtocol) -> i32 {
        use tls_parameters::TlsProtocol as Wire;
        let chosen = match self.0 {
            None => default,
            Some(0) => Wire::TlSv10,
            Some(1) => Wire::TlSv11,
            Some(2) => Wire::TlSv12,
            Some(_) => Wire::TlSv13,
        };
        chosen.into()
    }
}

impl GatewayKey {
    pub(crate) fn name(&self) -> String {
        match self.datagrams() {
            Some(_) => names::datagram_listener(self.address(), self.port),
            None => names::listener(self.address(), self.port),
        }
    }

    /// Where datagrams go, where the listener takes them.
    pub(crate) fn datagrams(&self) -> Option<&DatagramRule> {
        let mut servers = self.servers.iter();
        servers.find_map(|server| match server {
            GatewayServer::Datagrams(rule) => Some(rule),
            _ => None,
        })
    }

    pub(crate) fn address(&self) -> &str {
        self.addresses.first().map_or(EVERYWHERE, String::as_str)
    }

    pub(crate) fn generate(&self) -> Listener {
        if let Some(rule) = self.datagrams() {
            return self.generate_datagrams(rule);
        }
        let chains = self.chains().into_iter();
        let inspects = self.servers.iter().any(|server| match server {
            GatewayServer::Http { .. } | GatewayServer::Datagrams(_) => false,
            GatewayServer::Https { .. } => true,
            GatewayServer::Tcp { rules, tls } => {
                tls.is_some() || rules.iter().any(|rule| !rule.sni.is_empty())
            }
        });
        let header = self.topology.proxy_protocol;
        let header = header.then(filters::proxy_protocol);
        let listener_filters = header.into_iter();
        let listener_filters = listener_filters
            .chain(inspects.then(filters::tls_inspector))
            .collect();
        Listener {
            name: self.name(),
            address: Some(wire::address(self.address(), self.port)),
            additional_addresses: additional(&self.addresses, self.port),
            filter_chains: chains.map(|(_, chain)| chain).collect(),
            listener_filters,
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Listener::default()
        }
    }

    fn generate_datagrams(&self, rule: &DatagramRule) -> Listener {
        let name = self.name();
        let mut more = additional(&self.addresses, self.port);
        for extra in &mut more {
            extra.address = extra.address.take().map(datagrams::for_datagrams);
        }
        let address = wire::address(self.address(), self.port);
        Listener {
            address: Some(datagrams::for_datagrams(address)),
            additional_addresses: more,
            listener_filters: vec![datagrams::proxy(&name, rule, &self.logging)],
            udp_listener_config: Some(datagrams::config()),
            traffic_direction: TrafficDirection::Outbound.into(),
            name,
            ..Listener::default()
        }
    }

    /// The chains of all servers, those of bytes each with its rule.
    pub(crate) fn chains(&self) -> Vec<(Option<&TcpRule>, FilterChain)> {
        let servers = self.servers.iter();
        distinct(servers.flat_map(|server| self.chains_of(server)))
    }

    fn chains_of<'a>(&self, server: &'a GatewayServer) -> Vec<(Option<&'a TcpRule>, FilterChain)> {
        let of_no_rule = |chain| vec![(None, chain)];
        match server {
            // They have no connections to choose chains for.
            GatewayServer::Datagrams(_) => Vec::new(),
            GatewayServer::Http { routes } => of_no_rule(FilterChain {
                filters: vec![self.http(routes)],
                ..FilterChain::default()
            }),
            GatewayServer::Https { routes, sni, tls } => of_no_rule(FilterChain {
                filter_chain_match: by_sni(sni),
                filters: vec![self.http(routes)],
                transport_socket: Some(tls.socket()),
                ..FilterChain::default()
            }),
            GatewayServer::Tcp { rules, tls } => {
                let mut chains = tcp_chains(rules, &self.logging);
                if let Some((sni, tls)) = tls {
                    for (_, chain) in &mut chains {
                        // The ranges of the rule stay: each may have a chain of its own.
                        let of_rule = chain.filter_chain_match.take().unwrap_or_default();
                        let matches = FilterChainMatch {
                            prefix_ranges: of_rule.prefix_ranges,
                            source_prefix_ranges: of_rule.source_prefix_ranges,
                            ..by_sni(sni).unwrap_or_default()
                        };
                        let anything = matches == FilterChainMatch::default();
                        chain.filter_chain_match = (!anything).then_some(matches);
                        chain.transport_socket = Some(tls.socket());
                    }
                }
                let chains = chains.into_iter();
                chains.map(|(rule, chain)| (Some(rule), chain)).collect()
            }
        }
    }

    fn http(&self, routes: &str) -> lateen_xds::types::listener::Filter {
        let prefix = format!("outbound_{};", self.name());
        let routes = Routes::Named(routes.to_owned());
        let side = Side::Gateway(self.topology);
        filters::http(side, prefix, routes, self.by_name, &self.logging)
    }
}

fn by_sni(names: &[String]) -> Option<FilterChainMatch> {
    (!names.is_empty()).then(|| FilterChainMatch {
        server_names: names.to_vec(),
        transport_protocol: "tls".into(),
        ..FilterChainMatch::default()
    })
}

impl ServerTls {
    pub(super) fn socket(&self) -> TransportSocket {
        let mut common = CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: self
                    .versions
                    .0
                    .or(tls_parameters::TlsProtocol::TlSv12),
                tls_maximum_protocol_version: self
                    .versions
                    .1
                    .or(tls_parameters::TlsProtocol::TlSv13),
                cipher_suites: self.ciphers.clone(),
                ecdh_curves: self.curves.clone(),
                ..TlsParameters::default()
            }),
            ..CommonTlsContext::default()
        };
        if self.http {
            common.alpn_protocols = tls::owned(&["h2", "http/1.1"]);
        }
        if self.mesh {
            common.tls_certificate_sds_secret_configs =
                tls::mesh_identity().tls_certificate_sds_secret_configs;
            common.validation_context_type = Some(tls::mesh_peers(&self.names));
        } else {
            let pairs = self.files.iter();
            let pair = |[chain, key]: &[String; 2]| tls::file_certificate(chain, key);
            common.tls_certificates = pairs.map(pair).collect();
            let secrets = self.credentials.iter();
            let secret = |of: &String| tls::secret(certificate_name(of), wire::ads());
            common.tls_certificate_sds_secret_configs = secrets.map(secret).collect();
            if self.client.is_some() {
                common.validation_context_type = Some(match self.roots.as_str() {
                    "" => self.file_peers(&self.roots_file),
                    _ => {
                        let root = roots_name(&self.roots);
                        let sans = tls::sans(&self.names, tls::SanType::Dns);
                        tls::peers(sans, &root, wire::ads())
                    }
                });
            }
        }
        self.pin(&mut common);
        tls::revoke(&mut common, &self.revoked_file);
        tls::server(DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: wire::boolean(self.mesh || self.client == Some(true)),
            ..DownstreamTlsContext::default()
        })
    }

    fn pin(&self, common: &mut CommonTlsContext) {
        let [certificates, keys] = &self.pins;
        if certificates.is_empty() && keys.is_empty() {
            return;
        }
        // The webhook says where nobody is asked for a certificate.
        let Some(context) = tls::verification(common) else {
            return;
        };
        context.verify_certificate_hash.clone_from(certificates);
        context.verify_certificate_spki.clone_from(keys);
    }

    fn file_peers(&self, roots: &str) -> common_tls_context::ValidationContextType {
        use lateen_xds::types::tls::CertificateValidationContext;
        let context = CertificateValidationContext {
            trusted_ca: Some(tls::file(roots)),
            match_typed_subject_alt_names: tls::sans(&self.names, tls::SanType::Dns),
            ..CertificateValidationContext::default()
        };
        common_tls_context::ValidationContextType::ValidationContext(context)
    }
}
