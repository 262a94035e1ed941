//! What gRPC's own xDS clients and servers are served, without a proxy.
//!
//! They speak the same protocol and read a part of the same messages (gRFC A27 and those after it),
//! and refuse some of what Envoy takes. A client asks for a listener by the name that it dials,
//! which names a table, which names clusters; a server asks for a listener by the address that it
//! serves at. What gRPC has no part for is left out here; `docs/grpc.md` says what that is.

mod client;
mod cluster;
mod route;
mod server;
mod view;

use lateen_xds::names::ClusterName;
use lateen_xds::types::core::{ConfigSource, TransportSocket};
use lateen_xds::types::http_filter::{fault::HttpFault, router::Router};
use lateen_xds::types::network::hcm::{HttpFilter, http_filter};
use lateen_xds::types::tls::common_tls_context::{
    CertificateProviderInstance, CombinedCertificateValidationContext, ValidationContextType,
};
use lateen_xds::types::tls::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
};
use lateen_xds::{Any, pack_any};

pub(crate) use client::ApiListenerKey;
pub(crate) use cluster::ClusterKey;
pub(crate) use route::virtual_host;
pub(crate) use server::ServerKey;
pub(crate) use view::cluster;

use crate::key::Message;

/// The certificate provider of bootstraps that agents write.
const PROVIDER: &str = "default";
const FAULT: &str = "envoy.filters.http.fault";
const ROUTER: &str = "envoy.filters.http.router";

/// All that a resource in gRPC's dialect is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Client(ApiListenerKey),
    Server(ServerKey),
    Cluster(ClusterKey),
}

impl Key {
    pub(crate) fn message(&self) -> Message {
        match self {
            Key::Client(key) => Message::Listener(key.generate()),
            Key::Server(key) => Message::Listener(key.generate()),
            Key::Cluster(key) => Message::Cluster(key.generate()),
        }
    }

    /// The name of the resource, known before it is made.
    pub(crate) fn name(&self) -> String {
        match self {
            Key::Client(key) => key.name.clone(),
            Key::Server(key) => key.name(),
            Key::Cluster(key) => key.0.name().to_string(),
        }
    }

    /// The route table that it leads to.
    pub(crate) fn table(&self) -> Option<String> {
        match self {
            Key::Client(key) => Some(table(key.port, &key.host)),
            Key::Server(_) | Key::Cluster(_) => None,
        }
    }
}

/// The name of the table of a service's port, that of its cluster.
pub(crate) fn table(port: u16, host: &str) -> String {
    ClusterName::outbound(port, "", host).to_string()
}

fn ads() -> Option<ConfigSource> {
    Some(crate::wire::ads())
}

/// Faults for clients; a server has only the end of the list, which must be the router.
fn http_filters(faults: bool) -> Vec<HttpFilter> {
    let filter = |name: &str, config: Any| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    let fault = faults.then(|| filter(FAULT, pack_any(&HttpFault::default())));
    let router = filter(ROUTER, pack_any(&Router::default()));
    fault.into_iter().chain([router]).collect()
}

/// The workload's certificate and the mesh's roots, as the bootstrap's provider has them. Peers have
/// one of these names, or any where there are none.
#[expect(
    deprecated,
    reason = "older releases of gRPC read the older fields, newer ones both"
)]
fn certificates(accounts: &[String]) -> CommonTlsContext {
    let plugin = |name: &str| CertificateProviderPluginInstance {
        instance_name: PROVIDER.into(),
        certificate_name: name.into(),
    };
    let instance = |name: &str| CertificateProviderInstance {
        instance_name: PROVIDER.into(),
        certificate_name: name.into(),
    };
    let exact = accounts.iter().map(|account| crate::wire::exact(account));
    let context = CertificateValidationContext {
        ca_certificate_provider_instance: Some(plugin("ROOTCA")),
        match_subject_alt_names: exact.collect(),
        ..CertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_certificate_provider_instance: Some(plugin("default")),
        tls_certificate_certificate_provider_instance: Some(instance("default")),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                validation_context_certificate_provider_instance: Some(instance("ROOTCA")),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        ..CommonTlsContext::default()
    }
}

/// TLS from a client of the mesh.
fn client_tls(accounts: &[String]) -> TransportSocket {
    crate::tls::client(lateen_xds::types::tls::UpstreamTlsContext {
        common_tls_context: Some(certificates(accounts)),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests;
