//! Which transport a cluster's connections use.

use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{ClientTlsMode, ClientTlsSettings, ProxyProtocolVersion};
use lateen_registry::{Resolution, Service};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{
    ClusterDiscoveryType, DiscoveryType, TransportSocketMatch,
};
use lateen_xds::types::core::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config::Version,
};
use lateen_xds::types::proxy_protocol::ProxyProtocolUpstreamTransport;
use lateen_xds::types::tls::{
    CertificateValidationContext, CommonTlsContext, UpstreamTlsContext, common_tls_context,
};
use lateen_xds::types::wkt::Struct;

use super::{OutboundKey, settings};
use crate::policy::Policy;
use crate::secret::{certificate_name, roots_name};
use crate::tls::HttpVersion;
use crate::{tls, wire};

/// The endpoint label, and the metadata key, that says an endpoint takes the mesh's TLS.
pub(crate) const TLS_MODE: &str = "tlsMode";
/// Its value where it does.
pub(crate) const TLS_MODE_MESH: &str = "istio";

pub(super) fn apply(cluster: &mut Cluster, key: &OutboundKey, policy: &Policy<'_>) {
    let Some(settings) = policy.tls else {
        automatic(cluster, key, policy);
        return;
    };
    match settings.mode {
        ClientTlsMode::Disable => {}
        ClientTlsMode::IstioMutual => {
            cluster.transport_socket = Some(mesh(key, policy, Some(settings)));
        }
        // A sidecar would wait for a credential that nobody gives it. As in Istio, its connections are
        // what they would be without the rule's TLS: those to a gateway that has the credential.
        ClientTlsMode::Simple | ClientTlsMode::Mutual if is_for_gateways(key, settings) => {}
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            cluster.transport_socket = Some(originate(key, policy, settings));
        }
    }
}

/// Whether the mesh's TLS is spoken to whoever takes it, where no rule says anything of TLS.
pub(crate) fn is_automatic(mesh: &MeshConfig, service: &Service, accounts: &[String]) -> bool {
    mesh.auto_mtls() && (!service.external || !accounts.is_empty())
}

/// Connections say which client they are for before anything else.
pub(super) fn name_clients(cluster: &mut Cluster, version: ProxyProtocolVersion) {
    let version = match version {
        ProxyProtocolVersion::V1 => Version::V1,
        ProxyProtocolVersion::V2 => Version::V2,
    };
    let wrap = |inner: Option<TransportSocket>| {
        let config = ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version.into(),
                ..ProxyProtocolConfig::default()
            }),
            transport_socket: Some(inner.unwrap_or_else(wire::raw_buffer)),
            ..ProxyProtocolUpstreamTransport::default()
        };
        let config = lateen_xds::pack_any(&config);
        wire::transport_socket("envoy.transport_sockets.upstream_proxy_protocol", config)
    };
    if cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(wrap(cluster.transport_socket.take()));
    }
    for option in &mut cluster.transport_socket_matches {
        option.transport_socket = Some(wrap(option.transport_socket.take()));
    }
}

/// Mutual TLS to those endpoints that take it, plain to the others. Where endpoints are not listed
/// (the original destination) there is nothing to tell one from another by: it is all or none.
fn automatic(cluster: &mut Cluster, key: &OutboundKey, policy: &Policy<'_>) {
    if !is_automatic(&key.mesh, &key.service, &key.accounts) {
        return;
    }
    let original = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
    if cluster.cluster_discovery_type == Some(original) {
        cluster.transport_socket = key.all_take_tls.then(|| mesh(key, policy, None));
        return;
    }
    let mode = wire::record([(TLS_MODE, wire::text(TLS_MODE_MESH))]);
    let option = |name: &str, matches: Struct, socket: TransportSocket| TransportSocketMatch {
        name: name.into(),
        r#match: Some(matches),
        transport_socket: Some(socket),
    };
    cluster.transport_socket_matches = vec![
        option("tlsMode-istio", mode, mesh(key, policy, None)),
        option("tlsMode-disabled", Struct::default(), wire::raw_buffer()),
    ];
}

fn mesh(
    key: &OutboundKey,
    policy: &Policy<'_>,
    settings: Option<&ClientTlsSettings>,
) -> TransportSocket {
    let sni = settings
        .map(|s| s.sni.as_str())
        .filter(|sni| !sni.is_empty());
    let sni = sni.map_or_else(|| key.name().sni(), str::to_owned);
    let names = settings.map(|s| s.subject_alt_names.as_slice());
    let names = names.filter(|n| !n.is_empty()).unwrap_or(&key.accounts);
    tls::mesh_client(speaks(key, policy), sni, names)
}

fn speaks(key: &OutboundKey, policy: &Policy<'_>) -> Option<HttpVersion> {
    settings::http_version(policy, key.spoken(), &key.mesh)
}

/// Whether the settings name a credential that this client is not given: without a selector of
/// workloads, it is for gateways.
fn is_for_gateways(key: &OutboundKey, settings: &ClientTlsSettings) -> bool {
    let mut rules = key.rules.iter();
    !key.router
        && !settings.credential_name.is_empty()
        && rules.all(|rule| rule.spec.workload_selector.is_none())
}

/// TLS that a rule asks for, towards a server that is not of the mesh.
fn originate(
    key: &OutboundKey,
    policy: &Policy<'_>,
    settings: &ClientTlsSettings,
) -> TransportSocket {
    let mut common = CommonTlsContext::default();
    if speaks(key, policy) == Some(HttpVersion::Two) {
        common.alpn_protocols = tls::owned(&["h2"]);
    }
    let mutual = settings.mode == ClientTlsMode::Mutual;
    let credential = settings.credential_name.as_str();
    let insecure = settings.insecure_skip_verify.unwrap_or(false);
    let san = tls::SanType::Dns;
    if !credential.is_empty() {
        // The control plane decides who gets the Secrets of a namespace.
        let name = certificate_name(credential);
        if mutual {
            common.tls_certificate_sds_secret_configs = vec![tls::secret(&name, wire::ads())];
        }
        if !insecure {
            let root = roots_name(credential);
            let sans = tls::sans(&settings.subject_alt_names, san);
            common.validation_context_type = Some(tls::peers(sans, &root, wire::ads()));
        }
    } else {
        if mutual {
            let (chain, key) = (&settings.client_certificate, &settings.private_key);
            common.tls_certificates = vec![tls::file_certificate(chain, key)];
        }
        if !insecure && !settings.ca_certificates.is_empty() {
            let context = CertificateValidationContext {
                trusted_ca: Some(tls::file(&settings.ca_certificates)),
                match_typed_subject_alt_names: tls::sans(&settings.subject_alt_names, san),
                ..CertificateValidationContext::default()
            };
            let context = common_tls_context::ValidationContextType::ValidationContext(context);
            common.validation_context_type = Some(context);
        }
    }
    if !key.client_certificate.is_empty() {
        let name = certificate_name(&key.client_certificate);
        common.tls_certificate_sds_secret_configs = vec![tls::secret(name, wire::ads())];
    }
    tls::revoke(&mut common, &settings.ca_crl);
    // Nobody but the client knows which names there are to verify.
    let auto_sni_san_validation = key.service.resolution == Resolution::DynamicDns
        && settings.sni.is_empty()
        && settings.subject_alt_names.is_empty()
        && common.validation_context_type.is_some();
    tls::client(UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: settings.sni.clone(),
        // Without a name of its own, that of the server; HTTP's is that of each request.
        auto_host_sni: settings.sni.is_empty(),
        auto_sni_san_validation,
        ..UpstreamTlsContext::default()
    })
}
