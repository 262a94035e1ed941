//! Hosts by the names that clients give: for ServiceEntries with DYNAMIC_DNS, and for unknown hosts
//! under ALLOW_ANY_DYNAMIC_DNS.
//!
//! Envoy keeps such names in a cache that the cluster and the filters before it share by its name;
//! all who name it must describe it alike.

use lateen_api::Duration;
use lateen_api::mesh::MeshConfig;
use lateen_xds::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use lateen_xds::envoy::extensions::filters::network::set_filter_state::v3::Config as SetFilterState;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{
    ClusterDiscoveryType, CustomClusterType, DnsLookupFamily, LbPolicy,
};
use lateen_xds::types::core::{
    DataSource, SubstitutionFormatString, UpstreamHttpProtocolOptions, data_source,
    substitution_format_string,
};
use lateen_xds::types::dynamic::{
    ClusterConfig, DnsCacheConfig, FilterConfig, SniFilterConfig, cluster_config, filter_config,
    sni_filter_config,
};
use lateen_xds::{Any, pack_any};

use crate::wire;

/// The cache's name.
const CACHE: &str = "dynamic_dns";
/// Names that are kept, as Istio has it by default.
const MAX_HOSTS: u32 = 1024;
/// How often names are looked up again where the mesh does not say.
const REFRESH_SECONDS: i64 = 60;

/// How often names are looked up again.
pub(crate) fn refresh(mesh: &MeshConfig) -> Duration {
    let refresh = mesh.dns_refresh_rate;
    refresh.unwrap_or(Duration::from_secs(REFRESH_SECONDS))
}

fn cache(refresh: Duration) -> DnsCacheConfig {
    DnsCacheConfig {
        name: CACHE.into(),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        dns_refresh_rate: Some(wire::duration(refresh)),
        max_hosts: wire::number(MAX_HOSTS),
        ..DnsCacheConfig::default()
    }
}

/// Lets a cluster lead to whatever host a client names.
#[expect(
    deprecated,
    reason = "where nothing else is said of HTTP, the newer form would have to name a version of it"
)]
pub(crate) fn make(cluster: &mut Cluster, mesh: &MeshConfig) {
    let cache =
        cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache(refresh(mesh)));
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(cache),
        // What TLS asks for and verifies stands in its own context, where Envoy does not look.
        allow_insecure_cluster_options: true,
        ..ClusterConfig::default()
    };
    // Without a word the name would be that of each request, whatever that context says.
    cluster.upstream_http_protocol_options = Some(UpstreamHttpProtocolOptions::default());
    cluster.lb_policy = LbPolicy::ClusterProvided.into();
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".into(),
        typed_config: Some(pack_any(&config)),
    }));
}

/// The HTTP filter that looks up the hosts of requests for such clusters; others pass.
pub(crate) fn by_host(refresh: Duration) -> Any {
    let cache = filter_config::ImplementationSpecifier::DnsCacheConfig(cache(refresh));
    pack_any(&FilterConfig {
        implementation_specifier: Some(cache),
        ..FilterConfig::default()
    })
}

/// What tells Envoy's cluster the port of names that TLS clients ask for: without it, that is the one
/// of its own scheme.
pub(crate) fn port(port: u16) -> Any {
    let text = port.to_string();
    let source = DataSource {
        specifier: Some(data_source::Specifier::InlineString(text)),
        ..DataSource::default()
    };
    let format = substitution_format_string::Format::TextFormatSource(source);
    let value = FilterStateValue {
        key: Some(Key::ObjectKey("envoy.upstream.dynamic_port".into())),
        value: Some(Value::FormatString(SubstitutionFormatString {
            format: Some(format),
            ..SubstitutionFormatString::default()
        })),
        ..FilterStateValue::default()
    };
    pack_any(&SetFilterState {
        on_new_connection: vec![value],
        ..SetFilterState::default()
    })
}

/// The network filter that looks up the names that TLS clients ask for, at this port.
pub(crate) fn by_server_name(refresh: Duration, port: u16) -> Any {
    pack_any(&SniFilterConfig {
        dns_cache_config: Some(cache(refresh)),
        port_specifier: Some(sni_filter_config::PortSpecifier::PortValue(port.into())),
        ..SniFilterConfig::default()
    })
}
