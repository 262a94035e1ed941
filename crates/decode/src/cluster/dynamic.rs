//! Clusters whose hosts are the names that clients give.

use std::sync::Arc;
use std::time::Duration;

use lateen_xds::types::cluster as pb;
use lateen_xds::types::dynamic::{ClusterConfig, DnsCacheConfig, cluster_config};

use super::DynamicSpec;
use crate::common::duration;
use crate::unread::Kind::{Harmless, In, Off, Packed, Whole};
use crate::unread::{Reads, Types};
use crate::{DecodeError, Result, typed};

const KIND: &str = "envoy.clusters.dynamic_forward_proxy";
/// Envoy's defaults.
const REFRESH: Duration = Duration::from_secs(60);
const HOST_TTL: Duration = Duration::from_secs(300);
const MAX_HOSTS: usize = 1024;

/// What the configuration of a custom type says.
pub(super) fn of(spec: &pb::cluster::CustomClusterType) -> Result<Arc<DynamicSpec>> {
    let field = "cluster_type";
    if spec.name != KIND {
        return Err(DecodeError::unsupported(field, format!("{:?}", spec.name)));
    }
    let any = spec.typed_config.as_ref();
    let any = any.ok_or_else(|| DecodeError::new(field, "has no configuration"))?;
    let config: ClusterConfig = typed(field, any)?;
    match &config.cluster_implementation_specifier {
        Some(cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache)) => {
            Ok(Arc::new(DynamicSpec {
                allow_insecure: config.allow_insecure_cluster_options,
                ..cached(cache)
            }))
        }
        Some(cluster_config::ClusterImplementationSpecifier::SubClustersConfig(_)) => {
            Err(DecodeError::unsupported(field, "a cluster for each name"))
        }
        None => Err(DecodeError::new(field, "names no cache")),
    }
}

fn cached(spec: &DnsCacheConfig) -> DynamicSpec {
    use pb::cluster::DnsLookupFamily::{V4Only, V6Only};
    let time = |value, default| {
        let value = duration(value).filter(|value| !value.is_zero());
        value.unwrap_or(default)
    };
    DynamicSpec {
        allow_insecure: false,
        refresh: time(spec.dns_refresh_rate.as_ref(), REFRESH),
        host_ttl: time(spec.host_ttl.as_ref(), HOST_TTL),
        max_hosts: spec
            .max_hosts
            .as_ref()
            .map_or(MAX_HOSTS, |most| most.value as usize),
        v4: spec.dns_lookup_family != V6Only as i32,
        v6: spec.dns_lookup_family != V4Only as i32,
    }
}

pub(crate) static CUSTOM_TYPE: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.CustomClusterType",
    &[
        (1, "name", Whole),
        (2, "typed_config", Packed(Types::of(&[&DYNAMIC]))),
    ],
);

pub(crate) static DYNAMIC: Reads = Reads::of(
    "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    &[
        (1, "dns_cache_config", In(&CACHE)),
        (2, "allow_insecure_cluster_options", Whole),
        (3, "allow_coalesced_connections", Off),
        (4, "sub_clusters_config", Whole),
    ],
);

pub(crate) static CACHE: Reads = Reads::of(
    "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig",
    &[
        // Each cluster has a cache of its own.
        (1, "name", Harmless),
        (2, "dns_lookup_family", Whole),
        (3, "dns_refresh_rate", Whole),
        (4, "host_ttl", Whole),
        (5, "max_hosts", Whole),
    ],
);
