//! Listeners of servers, by the address that they serve at.

use lateen_xds::names::ClusterName;
use lateen_xds::pack_any;
use lateen_xds::types::core::TrafficDirection;
use lateen_xds::types::listener::{FilterChain, Listener};
use lateen_xds::types::network::hcm::HttpConnectionManager;
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_match::PathSpecifier;
use lateen_xds::types::route::{
    NonForwardingAction, Route, RouteConfiguration, RouteMatch, VirtualHost,
};
use lateen_xds::types::tls::DownstreamTlsContext;

use crate::{tls, wire};

/// How agents' bootstraps say that servers ask.
pub(crate) const PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// All that one is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    /// `[::]` or `0.0.0.0`, as the server has it.
    pub(crate) address: &'static str,
    pub(crate) port: u16,
    /// Only the mesh's TLS is taken. gRPC has no port that takes both.
    pub(crate) strict: bool,
}

impl ServerKey {
    pub(crate) fn name(&self) -> String {
        format!("{PREFIX}{}:{}", self.address, self.port)
    }

    pub(crate) fn generate(&self) -> Listener {
        let address = self.address.trim_matches(['[', ']']);
        let manager = HttpConnectionManager {
            http_filters: super::http_filters(false),
            route_specifier: Some(RouteSpecifier::RouteConfig(self.table())),
            ..HttpConnectionManager::default()
        };
        let hcm = "envoy.filters.network.http_connection_manager";
        let socket = self.strict.then(|| {
            tls::server(DownstreamTlsContext {
                common_tls_context: Some(super::certificates(&[])),
                require_client_certificate: wire::boolean(true),
                ..DownstreamTlsContext::default()
            })
        });
        Listener {
            name: self.name(),
            address: Some(wire::socket_address(address, self.port)),
            traffic_direction: TrafficDirection::Inbound.into(),
            filter_chains: vec![FilterChain {
                name: format!("inbound-{}", self.port),
                filters: vec![wire::network_filter(hcm, pack_any(&manager))],
                transport_socket: socket,
                ..FilterChain::default()
            }],
            ..Listener::default()
        }
    }

    /// Everything is for the server itself.
    fn table(&self) -> RouteConfiguration {
        let everything = RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..RouteMatch::default()
        };
        RouteConfiguration {
            name: ClusterName::inbound(self.port).to_string(),
            virtual_hosts: vec![VirtualHost {
                name: format!("inbound|http|{}", self.port),
                domains: vec!["*".into()],
                routes: vec![Route {
                    r#match: Some(everything),
                    action: Some(Action::NonForwardingAction(NonForwardingAction {})),
                    ..Route::default()
                }],
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        }
    }
}
