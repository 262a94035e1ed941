//! Which fields of listeners are read.

use super::udp::{UDP_LISTENER, UDP_PROXY};
use crate::access_log::ACCESS_LOG;
use crate::common::{ADDRESS, CIDR_RANGE};
use crate::hcm::HCM;
use crate::tcp::TCP_PROXY;
use crate::tls::reads::{DOWNSTREAM_TLS, RAW_BUFFER};
use crate::unread::Kind::{Harmless, In, Off, Packed, Whole};
use crate::unread::{Reads, Types};

pub(crate) static LISTENER: Reads = Reads::of(
    "envoy.config.listener.v3.Listener",
    &[
        (1, "name", Whole),
        (2, "address", In(&ADDRESS)),
        (3, "filter_chains[]", In(&FILTER_CHAIN)),
        (4, "use_original_dst", Whole),
        (6, "metadata", Harmless),
        (7, "deprecated_v1", In(&DEPRECATED)),
        (9, "listener_filters[]", In(&LISTENER_FILTER)),
        (10, "transparent", Off),
        (11, "freebind", Off),
        (15, "listener_filters_timeout", Whole),
        (16, "traffic_direction", Whole),
        (17, "continue_on_listener_filters_timeout", Whole),
        (18, "udp_listener_config", In(&UDP_LISTENER)),
        (19, "api_listener", Whole),
        (21, "reuse_port", Harmless),
        (22, "access_log[]", In(&ACCESS_LOG)),
        (25, "default_filter_chain", In(&FILTER_CHAIN)),
        (26, "bind_to_port", Whole),
        (28, "stat_prefix", Harmless),
        (29, "enable_reuse_port", Harmless),
        (32, "filter_chain_matcher", Whole),
        (33, "additional_addresses[]", In(&ADDITIONAL_ADDRESS)),
    ],
);

pub(crate) static DEPRECATED: Reads = Reads::of(
    "envoy.config.listener.v3.Listener.DeprecatedV1",
    &[(1, "bind_to_port", Whole)],
);

pub(crate) static ADDITIONAL_ADDRESS: Reads = Reads::of(
    "envoy.config.listener.v3.AdditionalAddress",
    &[(1, "address", In(&ADDRESS))],
);

pub(crate) static LISTENER_FILTER: Reads = Reads::of(
    "envoy.config.listener.v3.ListenerFilter",
    &[
        (1, "name", Whole),
        (
            3,
            "typed_config",
            Packed(Types::of(&[
                &ORIGINAL_DST,
                &PROXY_PROTOCOL,
                &TLS_INSPECTOR,
                &HTTP_INSPECTOR,
                &UDP_PROXY,
            ])),
        ),
        (5, "config_discovery", Whole),
    ],
);

pub(crate) static ORIGINAL_DST: Reads = Reads::of(
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    &[],
);

pub(crate) static PROXY_PROTOCOL: Reads = Reads::of(
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    &[
        (2, "allow_requests_without_proxy_protocol", Whole),
        (4, "disallowed_versions[]", Whole),
        (5, "stat_prefix", Harmless),
    ],
);

pub(crate) static TLS_INSPECTOR: Reads = Reads::of(
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    &[],
);

pub(crate) static HTTP_INSPECTOR: Reads = Reads::of(
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    &[],
);

pub(crate) static FILTER_CHAIN: Reads = Reads::of(
    "envoy.config.listener.v3.FilterChain",
    &[
        (1, "filter_chain_match", In(&CHAIN_MATCH)),
        (3, "filters[]", In(&FILTER)),
        (4, "use_proxy_proto", Whole),
        (5, "metadata", Harmless),
        (6, "transport_socket", In(&DOWNSTREAM_SOCKET)),
        (7, "name", Whole),
        (9, "transport_socket_connect_timeout", Whole),
    ],
);

pub(crate) static CHAIN_MATCH: Reads = Reads::of(
    "envoy.config.listener.v3.FilterChainMatch",
    &[
        (3, "prefix_ranges[]", In(&CIDR_RANGE)),
        (4, "address_suffix", Whole),
        (6, "source_prefix_ranges[]", In(&CIDR_RANGE)),
        (7, "source_ports[]", Whole),
        (8, "destination_port", Whole),
        (9, "transport_protocol", Whole),
        (10, "application_protocols[]", Whole),
        (11, "server_names[]", Whole),
        (12, "source_type", Whole),
        (13, "direct_source_prefix_ranges[]", Whole),
    ],
);

pub(crate) static FILTER: Reads = Reads::of(
    "envoy.config.listener.v3.Filter",
    &[
        (1, "name", Harmless),
        (
            4,
            "typed_config",
            Packed(Types {
                read: &[&HCM, &TCP_PROXY, &SNI_NAMES],
                implied: &super::IMPLIED,
            }),
        ),
        (5, "config_discovery", Whole),
    ],
);

pub(crate) static SNI_NAMES: Reads = Reads::of(
    "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
    &[
        // The cluster says the same.
        (1, "dns_cache_config", Harmless),
        (2, "port_value", Whole),
    ],
);

pub(crate) static DOWNSTREAM_SOCKET: Reads = Reads::of(
    "envoy.config.core.v3.TransportSocket",
    &[
        (1, "name", Whole),
        (
            3,
            "typed_config",
            Packed(Types::of(&[&RAW_BUFFER, &DOWNSTREAM_TLS])),
        ),
    ],
);
