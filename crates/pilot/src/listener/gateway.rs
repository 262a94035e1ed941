//! Listeners of gateways: one per port, with a chain per TLS server.

use lateen_api::networking::TlsProtocol;
use lateen_xds::names;
use lateen_xds::types::core::{TrafficDirection, TransportSocket};
use lateen_xds::types::listener::{FilterChain, FilterChainMatch, Listener};
use lateen_xds::types::tls::{
    CommonTlsContext, DownstreamTlsContext, TlsParameters, common_tls_context, tls_parameters,
};

use super::Logging;
use super::chains::distinct;
use super::filters::{self, Routes, Side};
use super::outbound::{TcpRule, tcp_chains};
use crate::{tls, wire};

/// All that a gateway's listener is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatewayKey {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) servers: Vec<GatewayServer>,
    pub(crate) logging: Logging,
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
}

/// How TLS ends at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerTls {
    /// Name of the credential; empty where files are given.
    pub(crate) credential: String,
    /// Certificate, key and roots as files of the gateway.
    pub(crate) files: [String; 3],
    /// A client certificate is required (`Some(true)`), or checked when there is one.
    pub(crate) client: Option<bool>,
    /// The mesh's own certificates on both sides.
    pub(crate) mesh: bool,
    pub(crate) names: Vec<String>,
    pub(crate) versions: (TlsVersion, TlsVersion),
    pub(crate) ciphers: Vec<String>,
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
        names::listener(&self.address, self.port)
    }

    pub(crate) fn generate(&self) -> Listener {
        let chains = self.servers.iter().flat_map(|server| self.chains(server));
        let inspects = self.servers.iter().any(|server| match server {
            GatewayServer::Http { .. } => false,
            GatewayServer::Https { .. } => true,
            GatewayServer::Tcp { rules, tls } => {
                tls.is_some() || rules.iter().any(|rule| !rule.sni.is_empty())
            }
        });
        Listener {
            name: self.name(),
            address: Some(wire::socket_address(&self.address, self.port)),
            filter_chains: distinct(chains),
            listener_filters: inspects.then(filters::tls_inspector).into_iter().collect(),
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Listener::default()
        }
    }

    fn chains(&self, server: &GatewayServer) -> Vec<FilterChain> {
        match server {
            GatewayServer::Http { routes } => vec![FilterChain {
                filters: vec![self.http(routes)],
                ..FilterChain::default()
            }],
            GatewayServer::Https { routes, sni, tls } => vec![FilterChain {
                filter_chain_match: by_sni(sni),
                filters: vec![self.http(routes)],
                transport_socket: Some(tls.socket()),
                ..FilterChain::default()
            }],
            GatewayServer::Tcp { rules, tls } => {
                let mut chains = tcp_chains(rules, &self.logging);
                if let Some((sni, tls)) = tls {
                    for chain in &mut chains {
                        chain.filter_chain_match = by_sni(sni);
                        chain.transport_socket = Some(tls.socket());
                    }
                    chains.truncate(1);
                }
                chains
            }
        }
    }

    fn http(&self, routes: &str) -> lateen_xds::types::listener::Filter {
        let prefix = format!("outbound_{};", self.name());
        let routes = Routes::Named(routes.to_owned());
        filters::http(Side::Gateway, prefix, routes, &self.logging)
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
        } else if self.credential.is_empty() {
            let [chain, key, roots] = &self.files;
            common.tls_certificates = vec![tls::file_certificate(chain, key)];
            if self.client.is_some() {
                common.validation_context_type = Some(self.file_peers(roots));
            }
        } else {
            let name = format!("{}{}", names::SECRET_KUBERNETES, self.credential);
            common.tls_certificate_sds_secret_configs = vec![tls::secret(&name, wire::ads())];
            if self.client.is_some() {
                let root = format!("{name}{}", names::SECRET_CA_SUFFIX);
                let peers = tls::peers(&self.names, &root, wire::ads(), tls::SanType::Dns);
                common.validation_context_type = Some(peers);
            }
        }
        tls::server(DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: wire::boolean(self.mesh || self.client == Some(true)),
            ..DownstreamTlsContext::default()
        })
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
