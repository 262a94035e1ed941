//! Listeners of datagrams: one filter, which carries them to hosts and back.

mod routes;

use std::time::Duration;

use arcstr::ArcStr;
use lateen_route::DatagramRoutes;
use lateen_xds::types::udp::{self, UdpProxyConfig, udp_proxy_config};
use lateen_xds::types::{core, listener as pb, wkt};
use lateen_xds::{Any, TypeUrl};

use crate::access_log::{self, ACCESS_LOG, AccessLogSpec};
use crate::common::duration;
use crate::unread::Kind::{Harmless, In, Whole};
use crate::unread::Reads;
use crate::{DecodeError, Result, typed};

/// How datagrams are carried.
#[derive(Debug)]
pub struct UdpProxySpec {
    /// What its statistics are called.
    pub stat_prefix: ArcStr,
    /// Where datagrams go.
    pub routes: DatagramRoutes,
    /// How long a session lives without a datagram.
    pub idle_timeout: Duration,
    /// What hosts are chosen by, where the cluster hashes.
    pub hash: Option<DatagramHash>,
    /// A host is chosen for each datagram, not for each session.
    pub per_datagram: bool,
    /// Where sessions are logged when they end.
    pub access_logs: Vec<AccessLogSpec>,
    /// Longer datagrams of clients are dropped, in bytes.
    pub max_request: usize,
    /// Longer datagrams of hosts are dropped, in bytes.
    pub max_response: usize,
}

/// What hosts are chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatagramHash {
    /// The client's IP address.
    SourceIp,
    /// This text: one host for all.
    Key(String),
}

/// Envoy's default: a session without a datagram for so long has ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Envoy's default, in bytes: what fits the usual network without fragments.
const MAX_DATAGRAM: u64 = 1500;
/// What the length field of a datagram can say (RFC 768), in bytes.
const LARGEST_DATAGRAM: u64 = 65_535;

/// Compiles the filter of a listener of datagrams.
///
/// # Errors
/// On what is not supported, and on what belongs to listeners of connections.
pub(super) fn udp_proxy(spec: &pb::Listener) -> Result<UdpProxySpec> {
    if !spec.filter_chains.is_empty() || spec.default_filter_chain.is_some() {
        return Err(DecodeError::new(
            "filter_chains",
            "a listener of datagrams has no connections to choose chains for",
        ));
    }
    if !spec.access_log.is_empty() {
        return Err(DecodeError::unsupported(
            "access_log",
            "a log of a listener of datagrams: the filter's own access_log",
        ));
    }
    let [filter] = &spec.listener_filters[..] else {
        return Err(DecodeError::new(
            "listener_filters",
            "a listener of datagrams has one filter",
        ));
    };
    let field = format!("listener_filters[{}]", filter.name);
    let Some(pb::listener_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(DecodeError::unsupported(
            field,
            "a filter without a typed config",
        ));
    };
    let mut udp = filter_config(&field, any)?;
    if let Some(config) = &spec.udp_listener_config {
        if config.quic_options.is_some() {
            return Err(DecodeError::unsupported(
                "udp_listener_config.quic_options",
                "QUIC",
            ));
        }
        let field = "udp_listener_config.downstream_socket_config";
        udp.max_request = max_datagram(field, config.downstream_socket_config.as_ref(), false)?;
    }
    Ok(udp)
}

fn filter_config(field: &str, any: &Any) -> Result<UdpProxySpec> {
    let kind = TypeUrl::new(&any.type_url);
    if kind.message() != UDP_PROXY.message {
        return Err(DecodeError::unsupported(
            field,
            format!("the filter type {} of datagrams", kind.message()),
        ));
    }
    let spec: UdpProxyConfig = typed(field, any)?;
    let at = |name: &str| format!("{field}.{name}");
    let refused = [
        (spec.use_original_src_ip, "use_original_src_ip"),
        (!spec.session_filters.is_empty(), "session_filters"),
        (spec.tunneling_config.is_some(), "tunneling_config"),
        (!spec.proxy_access_log.is_empty(), "proxy_access_log"),
    ];
    if let Some((_, name)) = refused.iter().find(|(is_set, _)| *is_set) {
        return Err(DecodeError::unsupported(at(name), "this"));
    }
    if spec.stat_prefix.is_empty() {
        return Err(DecodeError::new(at("stat_prefix"), "is required"));
    }
    let flushes = spec.access_log_options.as_ref();
    if flushes.is_some_and(|options| options.access_log_flush_interval.is_some()) {
        return Err(DecodeError::unsupported(
            at("access_log_options"),
            "a log of sessions that have not ended",
        ));
    }
    let upstream = spec.upstream_socket_config.as_ref();
    Ok(UdpProxySpec {
        stat_prefix: spec.stat_prefix.as_str().into(),
        routes: route_specifier(field, spec.route_specifier.as_ref())?,
        idle_timeout: duration(spec.idle_timeout.as_ref()).unwrap_or(IDLE_TIMEOUT),
        hash: hash(&at("hash_policies"), &spec.hash_policies)?,
        per_datagram: spec.use_per_packet_load_balancing,
        access_logs: access_log::access_logs(&spec.access_log)?,
        max_request: max_datagram(field, None, false)?,
        max_response: max_datagram(&at("upstream_socket_config"), upstream, true)?,
    })
}

fn route_specifier(
    field: &str,
    specifier: Option<&udp_proxy_config::RouteSpecifier>,
) -> Result<DatagramRoutes> {
    use udp_proxy_config::RouteSpecifier;
    match specifier {
        Some(RouteSpecifier::Cluster(cluster)) => Ok(DatagramRoutes::all_to(cluster.as_str())),
        Some(RouteSpecifier::Matcher(matcher)) => {
            routes::routes(&format!("{field}.matcher"), matcher)
        }
        None => Err(DecodeError::new(
            format!("{field}.route_specifier"),
            "is required",
        )),
    }
}

fn hash(field: &str, list: &[udp_proxy_config::HashPolicy]) -> Result<Option<DatagramHash>> {
    use udp::udp_proxy_config::hash_policy::PolicySpecifier;
    let policy = match list {
        [] => return Ok(None),
        [one] => one.policy_specifier.as_ref(),
        _ => return Err(DecodeError::new(field, "has more than one policy")),
    };
    match policy {
        Some(PolicySpecifier::SourceIp(true)) => Ok(Some(DatagramHash::SourceIp)),
        Some(PolicySpecifier::Key(key)) if !key.is_empty() => {
            Ok(Some(DatagramHash::Key(key.clone())))
        }
        Some(_) | None => Err(DecodeError::new(field, "says nothing to choose hosts by")),
    }
}

/// The longest datagram that is taken. Envoy has room for any where it takes several at once, which
/// is its default on one of the two sides.
fn max_datagram(
    field: &str,
    config: Option<&core::UdpSocketConfig>,
    takes_several: bool,
) -> Result<usize> {
    let max = config.and_then(|config| config.max_rx_datagram_size.as_ref());
    let max = max.map_or(MAX_DATAGRAM, |max: &wkt::UInt64Value| max.value);
    if !(1..=LARGEST_DATAGRAM).contains(&max) {
        let reason = format!("{max} is not between 1 and {LARGEST_DATAGRAM}");
        return Err(DecodeError::new(
            format!("{field}.max_rx_datagram_size"),
            reason,
        ));
    }
    let several = config.and_then(|config| config.prefer_gro.as_ref());
    let takes_several = several.map_or(takes_several, |several| several.value);
    let max = if takes_several { LARGEST_DATAGRAM } else { max };
    let fault = |_| DecodeError::new(field, "is out of range");
    usize::try_from(max).map_err(fault)
}

pub(crate) static UDP_LISTENER: Reads = Reads::of(
    "envoy.config.listener.v3.UdpListenerConfig",
    &[
        (5, "downstream_socket_config", In(&UDP_SOCKET)),
        (7, "quic_options", Whole),
        // It says how datagrams are written, not which.
        (8, "udp_packet_packet_writer_config", Harmless),
    ],
);

pub(crate) static UDP_SOCKET: Reads = Reads::of(
    "envoy.config.core.v3.UdpSocketConfig",
    &[(1, "max_rx_datagram_size", Whole), (2, "prefer_gro", Whole)],
);

pub(crate) static UDP_PROXY: Reads = Reads::of(
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
    &[
        (1, "stat_prefix", Whole),
        (2, "cluster", Whole),
        (3, "idle_timeout", Whole),
        (4, "use_original_src_ip", Whole),
        (5, "hash_policies[]", In(&UDP_HASH)),
        (6, "upstream_socket_config", In(&UDP_SOCKET)),
        (7, "use_per_packet_load_balancing", Whole),
        (8, "access_log[]", In(&ACCESS_LOG)),
        // What of a tree is not understood is refused.
        (9, "matcher", Whole),
        (10, "proxy_access_log[]", Whole),
        (11, "session_filters[]", Whole),
        (12, "tunneling_config", Whole),
        (13, "access_log_options", In(&UDP_LOG_OPTIONS)),
    ],
);

pub(crate) static UDP_HASH: Reads = Reads::of(
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.HashPolicy",
    &[(1, "source_ip", Whole), (2, "key", Whole)],
);

pub(crate) static UDP_LOG_OPTIONS: Reads = Reads::of(
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.UdpAccessLogOptions",
    &[
        (1, "access_log_flush_interval", Whole),
        // There are no tunnels.
        (2, "flush_access_log_on_tunnel_connected", Harmless),
    ],
);
