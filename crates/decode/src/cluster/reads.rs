//! Which fields of clusters are read.

use super::balancing::{LB_POLICY, LEAST_REQUEST, MAGLEV, RING_HASH, ROUND_ROBIN};
use super::dynamic::CUSTOM_TYPE;
use super::http::{CLIENT_HTTP, CLIENT_HTTP2, HTTP_PROTOCOL_OPTIONS, UPSTREAM_HTTP};
use crate::common::{CONFIG_SOURCE, SOCKET_ADDRESS};
use crate::endpoint::ASSIGNMENT;
use crate::tls::reads::{RAW_BUFFER, UPSTREAM_TLS};
use crate::unread::Kind::{Harmless, In, Map, Off, Packed, Whole};
use crate::unread::{Reads, Types};

pub(crate) static CLUSTER: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster",
    &[
        (1, "name", Whole),
        (2, "type", Whole),
        (3, "eds_cluster_config", In(&EDS_CONFIG)),
        (4, "connect_timeout", Whole),
        (6, "lb_policy", Whole),
        (9, "max_requests_per_connection", Whole),
        (10, "circuit_breakers", In(&BREAKERS)),
        (14, "http2_protocol_options", In(&CLIENT_HTTP2)),
        (16, "dns_refresh_rate", Whole),
        (17, "dns_lookup_family", Whole),
        (19, "outlier_detection", In(&OUTLIER)),
        (21, "upstream_bind_config", In(&BIND)),
        (22, "lb_subset_config", Whole),
        (23, "ring_hash_lb_config", In(&RING_HASH)),
        (24, "transport_socket", In(&UPSTREAM_SOCKET)),
        (25, "metadata", Whole),
        (26, "protocol_selection", Whole),
        (27, "common_lb_config", In(&COMMON_LB)),
        (28, "alt_stat_name", Harmless),
        (29, "common_http_protocol_options", In(&CLIENT_HTTP)),
        (30, "upstream_connection_options", In(&CONNECTION_OPTIONS)),
        (33, "load_assignment", In(&ASSIGNMENT)),
        (34, "original_dst_lb_config", In(&ORIGINAL_DST_LB)),
        (
            36,
            "typed_extension_protocol_options",
            Map(Types::of(&[&HTTP_PROTOCOL_OPTIONS])),
        ),
        (37, "least_request_lb_config", In(&LEAST_REQUEST)),
        (38, "cluster_type", In(&CUSTOM_TYPE)),
        // Names are resolved anew at the refresh rate.
        (39, "respect_dns_ttl", Harmless),
        (41, "load_balancing_policy", In(&LB_POLICY)),
        (43, "transport_socket_matches[]", In(&SOCKET_MATCH)),
        (46, "upstream_http_protocol_options", In(&UPSTREAM_HTTP)),
        (52, "maglev_lb_config", In(&MAGLEV)),
        (56, "round_robin_lb_config", In(&ROUND_ROBIN)),
        (59, "transport_socket_matcher", Whole),
    ],
);

pub(crate) static EDS_CONFIG: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    &[
        (1, "eds_config", In(&CONFIG_SOURCE)),
        (2, "service_name", Whole),
    ],
);

pub(crate) static BREAKERS: Reads = Reads::of(
    "envoy.config.cluster.v3.CircuitBreakers",
    &[(1, "thresholds[]", In(&THRESHOLDS))],
);

pub(crate) static THRESHOLDS: Reads = Reads::of(
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    &[
        (1, "priority", Whole),
        (2, "max_connections", Whole),
        (3, "max_pending_requests", Whole),
        (4, "max_requests", Whole),
        (5, "max_retries", Whole),
        (6, "track_remaining", Harmless),
        (8, "retry_budget", In(&RETRY_BUDGET)),
    ],
);

pub(crate) static RETRY_BUDGET: Reads = Reads::of(
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
    &[
        (1, "budget_percent", Whole),
        (2, "min_retry_concurrency", Whole),
    ],
);

pub(crate) static OUTLIER: Reads = Reads::of(
    "envoy.config.cluster.v3.OutlierDetection",
    &[
        (1, "consecutive_5xx", Whole),
        (2, "interval", Harmless),
        (3, "base_ejection_time", Whole),
        (4, "max_ejection_percent", Whole),
        (5, "enforcing_consecutive_5xx", Whole),
        (6, "enforcing_success_rate", Off),
        (10, "consecutive_gateway_failure", Whole),
        (11, "enforcing_consecutive_gateway_failure", Whole),
        (12, "split_external_local_origin_errors", Whole),
        (13, "consecutive_local_origin_failure", Whole),
        (14, "enforcing_consecutive_local_origin_failure", Whole),
        (15, "enforcing_local_origin_success_rate", Off),
        (17, "enforcing_failure_percentage", Off),
        (18, "enforcing_failure_percentage_local_origin", Off),
        (21, "max_ejection_time", Whole),
    ],
);

pub(crate) static BIND: Reads = Reads::of(
    "envoy.config.core.v3.BindConfig",
    &[
        (1, "source_address", In(&SOCKET_ADDRESS)),
        (2, "freebind", Off),
        (5, "extra_source_addresses[]", In(&EXTRA_SOURCE)),
    ],
);

static EXTRA_SOURCE: Reads = Reads::of(
    "envoy.config.core.v3.ExtraSourceAddress",
    &[(1, "address", In(&SOCKET_ADDRESS))],
);

pub(crate) static UPSTREAM_SOCKET: Reads = Reads::of(
    "envoy.config.core.v3.TransportSocket",
    &[
        (1, "name", Whole),
        (
            3,
            "typed_config",
            Packed(Types::of(&[&RAW_BUFFER, &UPSTREAM_TLS, &UPSTREAM_PROXY])),
        ),
    ],
);

pub(crate) static UPSTREAM_PROXY: Reads = Reads::of(
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    &[
        (1, "config", In(&PROXY_CONFIG)),
        (2, "transport_socket", In(&UPSTREAM_SOCKET)),
        (3, "allow_unspecified_address", Harmless),
    ],
);

pub(crate) static PROXY_CONFIG: Reads = Reads::of(
    "envoy.config.core.v3.ProxyProtocolConfig",
    &[(1, "version", Whole)],
);

pub(crate) static SOCKET_MATCH: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
    &[
        (1, "name", Harmless),
        (2, "match", Whole),
        (3, "transport_socket", In(&UPSTREAM_SOCKET)),
    ],
);

pub(crate) static COMMON_LB: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    &[
        (1, "healthy_panic_threshold", Whole),
        (2, "zone_aware_lb_config", In(&ZONE_AWARE)),
        (3, "locality_weighted_lb_config", Whole),
    ],
);

pub(crate) static ZONE_AWARE: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
    &[
        (1, "routing_enabled", Whole),
        (2, "min_cluster_size", Whole),
        (3, "fail_traffic_on_panic", Whole),
    ],
);

pub(crate) static CONNECTION_OPTIONS: Reads = Reads::of(
    "envoy.config.cluster.v3.UpstreamConnectionOptions",
    &[(1, "tcp_keepalive", In(&TCP_KEEPALIVE))],
);

pub(crate) static TCP_KEEPALIVE: Reads = Reads::of(
    "envoy.config.core.v3.TcpKeepalive",
    &[
        (1, "keepalive_probes", Whole),
        (2, "keepalive_time", Whole),
        (3, "keepalive_interval", Whole),
    ],
);

pub(crate) static ORIGINAL_DST_LB: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
    &[
        (1, "use_http_header", Whole),
        (2, "http_header_name", Whole),
        (3, "upstream_port_override", Whole),
    ],
);
