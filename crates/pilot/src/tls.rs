//! TLS settings of both directions.
//!
//! The mesh marks its own TLS by ALPN, so that a server that takes both plain and mutual TLS can
//! tell them from the application's. Istio's proxies choose the marks per connection by a filter
//! that Envoy does not have; here they are fixed per cluster by the protocol of the port, which
//! Envoy accepts everywhere:
//!
//! - HTTP/1.1 ports offer `istio-http/1.1, istio, http/1.1`,
//! - HTTP/2 and gRPC ports offer `istio-h2, istio, h2`,
//! - all others offer `istio`: a port whose protocol is unknown is carried as bytes, because one
//!   list must do for whatever turns up.
//!
//! Servers choose from `h2, http/1.1, istio`. `istio-peer-exchange` is never offered: it promises a
//! preamble that only Istio's own filter sends.

use lateen_api::mesh::{TlsConfig, TlsConfigProtocol};
use lateen_xds::names;
use lateen_xds::pack_any;
use lateen_xds::types::core::{ConfigSource, DataSource, TransportSocket, data_source};
use lateen_xds::types::tls::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext, common_tls_context,
    subject_alt_name_matcher, tls_parameters,
};

use crate::wire;

/// The version of HTTP that a cluster's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    One,
    Two,
    /// The one that the client of the request speaks.
    OfClient,
}

/// ALPN values of the mesh that say HTTP.
pub(crate) const MESH_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Those of them that say "bytes".
pub(crate) const MESH_TCP_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];
/// All that marks the mesh's TLS.
pub(crate) const ANY_MESH_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// What plain HTTP looks like to the inspector.
pub(crate) const PLAIN_HTTP_ALPN: [&str; 2] = ["http/1.1", "h2c"];

const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

pub(crate) fn secret(name: impl Into<String>, from: ConfigSource) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(from),
    }
}

/// The client's side of TLS inside the mesh. What is offered must be what is spoken then: a server may
/// go by it.
pub(crate) fn mesh_client(
    speaks: Option<HttpVersion>,
    sni: String,
    accounts: &[String],
) -> TransportSocket {
    let alpn: &[&str] = match speaks {
        Some(HttpVersion::Two) => &["istio-h2", "istio", "h2"],
        Some(HttpVersion::One) => &["istio-http/1.1", "istio", "http/1.1"],
        Some(HttpVersion::OfClient) | None => &["istio"],
    };
    client(UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: owned(alpn),
            validation_context_type: Some(mesh_peers(accounts)),
            ..mesh_identity()
        }),
        sni,
        ..UpstreamTlsContext::default()
    })
}

pub(crate) fn client(context: UpstreamTlsContext) -> TransportSocket {
    wire::transport_socket(TLS_SOCKET, pack_any(&context))
}

pub(crate) fn server(context: DownstreamTlsContext) -> TransportSocket {
    wire::transport_socket(TLS_SOCKET, pack_any(&context))
}

/// The server's side of mutual TLS inside the mesh, for clients of these trust domains and within the
/// limits that the mesh has for it.
pub(crate) fn mesh_server(trust_domains: &[String], limits: Option<&TlsConfig>) -> TransportSocket {
    let mut params = at_least_1_2();
    if let Some(limits) = limits {
        if limits.min_protocol_version == TlsConfigProtocol::V1_3 {
            params.tls_minimum_protocol_version = tls_parameters::TlsProtocol::TlSv13.into();
        }
        params.ecdh_curves.clone_from(&limits.ecdh_curves);
        params.cipher_suites.clone_from(&limits.cipher_suites);
    }
    server(DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: owned(&["h2", "http/1.1", "istio"]),
            validation_context_type: Some(peers(
                trust_domains.iter().map(|own| of_domain(own)).collect(),
                names::SECRET_ROOT,
                wire::agent_secrets(),
            )),
            tls_params: Some(params),
            ..mesh_identity()
        }),
        require_client_certificate: wire::boolean(true),
        ..DownstreamTlsContext::default()
    })
}

/// The workload's own certificate.
pub(crate) fn mesh_identity() -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret(
            names::SECRET_DEFAULT,
            wire::agent_secrets(),
        )],
        ..CommonTlsContext::default()
    }
}

/// Peers signed by the mesh's roots that have one of these names; any name when there are none.
pub(crate) fn mesh_peers(accounts: &[String]) -> common_tls_context::ValidationContextType {
    let sans = sans(accounts, SanType::Uri);
    peers(sans, names::SECRET_ROOT, wire::agent_secrets())
}

pub(crate) use subject_alt_name_matcher::SanType;

/// Peers with one of these names, or any name when there are none.
pub(crate) fn peers(
    sans: Vec<SubjectAltNameMatcher>,
    root: &str,
    from: ConfigSource,
) -> common_tls_context::ValidationContextType {
    common_tls_context::ValidationContextType::CombinedValidationContext(
        common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(CertificateValidationContext {
                match_typed_subject_alt_names: sans,
                ..CertificateValidationContext::default()
            }),
            validation_context_sds_secret_config: Some(secret(root, from)),
            ..Default::default()
        },
    )
}

pub(crate) fn sans(names: &[String], san: SanType) -> Vec<SubjectAltNameMatcher> {
    let matcher = |name: &String| SubjectAltNameMatcher {
        san_type: if name.contains("://") {
            SanType::Uri
        } else {
            san
        }
        .into(),
        matcher: Some(wire::exact(name)),
        ..SubjectAltNameMatcher::default()
    };
    names.iter().map(matcher).collect()
}

/// Any workload of a trust domain.
fn of_domain(trust_domain: &str) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(wire::prefix(&format!("spiffe://{trust_domain}/"))),
        ..SubjectAltNameMatcher::default()
    }
}

pub(crate) fn at_least_1_2() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: tls_parameters::TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: tls_parameters::TlsProtocol::TlSv13.into(),
        ..TlsParameters::default()
    }
}

/// A certificate that the proxy reads from its own files.
pub(crate) fn file_certificate(chain: &str, key: &str) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(file(chain)),
        private_key: Some(file(key)),
        ..TlsCertificate::default()
    }
}

pub(crate) fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::Filename(path.into())),
        ..DataSource::default()
    }
}

/// Trusts no peer that a list in this file names. Where no peer is verified at all, the webhook has
/// said so.
pub(crate) fn revoke(common: &mut CommonTlsContext, lists: &str) {
    if !lists.is_empty()
        && let Some(context) = verification(common)
    {
        context.crl = Some(file(lists));
    }
}

/// How peers are verified; `None` where none is asked for a certificate.
pub(crate) fn verification(
    common: &mut CommonTlsContext,
) -> Option<&mut CertificateValidationContext> {
    use common_tls_context::ValidationContextType;
    match common.validation_context_type.as_mut()? {
        ValidationContextType::ValidationContext(context) => Some(context),
        ValidationContextType::CombinedValidationContext(combined) => {
            Some(combined.default_validation_context.get_or_insert_default())
        }
        _ => None,
    }
}

pub(crate) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
