//! Listeners and their filter chains.

pub(crate) mod reads;
#[cfg(test)]
mod tests;
pub(crate) mod udp;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arcstr::ArcStr;
use lateen_core::Direction;
use lateen_route::{ChainMatch, Chains};
use lateen_xds::TypeUrl;
use lateen_xds::types::core;
use lateen_xds::types::core::proxy_protocol_config::Version;
use lateen_xds::types::dynamic::{SniFilterConfig, sni_filter_config};
use lateen_xds::types::listener_filter::ProxyProtocol;
use lateen_xds::types::{listener as pb, network, tls as tls_pb};
use prost::Message;

use super::access_log::AccessLogSpec;
use super::common::{duration, listener_address, prefix};
use super::hcm::HcmSpec;
use super::tcp::TcpProxySpec;
use super::tls::TlsSpec;
use super::{DecodeError, Result, access_log, hcm, tcp, tls, typed};
use udp::UdpProxySpec;

/// A listener.
#[derive(Debug)]
pub struct ListenerSpec {
    /// Its name.
    pub name: ArcStr,
    /// The first is the main one; none where it is at a path.
    pub addresses: Vec<SocketAddr>,
    /// The socket in the file system, where it is at one.
    pub pipe: Option<Pipe>,
    /// False for a listener that only takes connections from another one.
    pub bind: bool,
    /// Hand connections to the listener of their original destination, where there is one.
    pub use_original_dst: bool,
    /// Take the original destination for the local address.
    pub original_dst: bool,
    /// Connections begin with a PROXY header, where it says so.
    pub proxy_header: Option<ProxyHeader>,
    /// Look at the beginning of connections for TLS.
    pub inspect_tls: bool,
    /// Look at the beginning of connections for HTTP.
    pub inspect_http: bool,
    /// How long looking may take.
    pub filter_timeout: Duration,
    /// Go on after that with what is known; else the connection is closed.
    pub continue_on_timeout: bool,
    /// Whose traffic it is, where it says so.
    pub direction: Option<Direction>,
    /// Which connections belong to which of the chains.
    pub matches: Chains,
    /// The chains, in the order of the matches.
    pub chains: Vec<FilterChainSpec>,
    /// The chain of connections that belong to no other.
    pub default_chain: Option<FilterChainSpec>,
    /// Where connections are logged.
    pub access_logs: Vec<AccessLogSpec>,
    /// Set where it takes datagrams; of the rest, its name and addresses count then.
    pub udp: Option<Box<UdpProxySpec>>,
}

/// A socket in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// Its path; after `@`, the name of one that is in no file system.
    pub path: ArcStr,
    /// Who may connect, as the mode of a file; 0 leaves it to the process.
    pub mode: u32,
}

/// What is asked of the header that begins a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Connections without one are served as they are.
    pub optional: bool,
    /// The text form is taken.
    pub v1: bool,
    /// The binary form is taken.
    pub v2: bool,
}

/// A filter chain.
#[derive(Debug)]
pub struct FilterChainSpec {
    /// Its name; may be empty.
    pub name: String,
    /// Of the configuration, so that a chain that did not change can be kept.
    pub hash: u64,
    /// How the client's side is secured.
    pub transport: DownstreamSpec,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// What serves the bytes.
    pub network: NetworkSpec,
}

/// How the client's side is secured.
#[derive(Debug)]
pub enum DownstreamSpec {
    /// Not at all.
    Raw,
    /// By TLS.
    Tls(Box<TlsSpec>),
}

/// What serves the bytes.
#[derive(Debug)]
pub enum NetworkSpec {
    /// Nothing does: connections are closed.
    Close,
    /// Carried on as they are.
    Tcp(Box<TcpProxySpec>),
    /// As HTTP.
    Http(Box<HcmSpec>),
}

/// The bits of a file's mode that are permissions.
const MODE_MAX: u32 = 0o777;

/// Envoy's default for listener filters.
const FILTER_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the listener of a connection's original destination may be bound, best first: at that
/// address, or at any with its port.
pub fn bound_at(destination: SocketAddr) -> [SocketAddr; 2] {
    let any = match destination.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    [destination, SocketAddr::new(any, destination.port())]
}

/// Compiles a listener.
///
/// # Errors
/// On what is not supported, with the chain and the field.
pub fn listener(spec: &pb::Listener) -> Result<ListenerSpec> {
    if spec.api_listener.is_some() {
        return Err(DecodeError::unsupported(
            "api_listener",
            "a listener without an address",
        ));
    }
    if spec.filter_chain_matcher.is_some() {
        return Err(DecodeError::unsupported(
            "filter_chain_matcher",
            "a matcher tree",
        ));
    }
    let pipe = pipe(spec)?;
    let (addresses, is_udp) = match &pipe {
        Some(_) => (Vec::new(), false),
        None => addresses(spec)?,
    };
    if spec.udp_listener_config.is_some() && !is_udp {
        return Err(DecodeError::new(
            "udp_listener_config",
            "is for addresses of protocol UDP",
        ));
    }
    let udp = is_udp.then(|| udp::udp_proxy(spec).map(Box::new));
    let udp = udp.transpose()?;
    let direction = match spec.traffic_direction {
        1 => Some(Direction::Inbound),
        2 => Some(Direction::Outbound),
        _ => None,
    };
    let mut matches = Vec::new();
    let mut chains = Vec::new();
    for (index, chain) in spec.filter_chains.iter().enumerate() {
        let at = |error: DecodeError| {
            let name = if chain.name.is_empty() {
                index.to_string()
            } else {
                chain.name.clone()
            };
            DecodeError::new(
                format!("filter_chains[{name}].{}", error.field),
                error.reason,
            )
        };
        matches.push(chain_match(chain.filter_chain_match.as_ref()).map_err(at)?);
        chains.push(filter_chain(chain, direction).map_err(at)?);
    }
    let default_chain = spec
        .default_filter_chain
        .as_ref()
        .map(|chain| filter_chain(chain, direction))
        .transpose()?;
    let is = |value: &Option<lateen_xds::types::wkt::BoolValue>, default: bool| {
        value.as_ref().map_or(default, |value| value.value)
    };
    let inspectors = match &udp {
        None => listener_filters(&spec.listener_filters)?,
        Some(_) => Inspectors::default(),
    };
    let bind = is(&spec.bind_to_port, true)
        && spec
            .deprecated_v1
            .as_ref()
            .is_none_or(|v1| is(&v1.bind_to_port, true));
    Ok(ListenerSpec {
        name: spec.name.as_str().into(),
        addresses,
        bind,
        pipe,
        use_original_dst: is(&spec.use_original_dst, false),
        original_dst: inspectors.original_dst || is(&spec.use_original_dst, false),
        proxy_header: match inspectors.proxy_header {
            Some(header) => Some(header),
            None => by_chains(spec)?,
        },
        inspect_tls: inspectors.tls,
        inspect_http: inspectors.http,
        filter_timeout: duration(spec.listener_filters_timeout.as_ref()).unwrap_or(FILTER_TIMEOUT),
        continue_on_timeout: spec.continue_on_listener_filters_timeout,
        direction,
        matches: Chains::new(matches),
        chains,
        default_chain,
        access_logs: access_log::access_logs(&spec.access_log)?,
        udp,
    })
}

/// The socket in the file system that a listener is at.
fn pipe(spec: &pb::Listener) -> Result<Option<Pipe>> {
    let main = spec.address.as_ref().and_then(|of| of.address.as_ref());
    let Some(core::address::Address::Pipe(pipe)) = main else {
        return Ok(None);
    };
    let field = "address.pipe";
    if !spec.additional_addresses.is_empty() {
        let what = "another address beside a path";
        return Err(DecodeError::unsupported("additional_addresses", what));
    }
    if pipe.path.is_empty() || pipe.mode > MODE_MAX {
        let reason = "needs a path, and a mode of no more than 0777";
        return Err(DecodeError::new(field, reason));
    }
    if pipe.mode != 0 && pipe.path.starts_with('@') {
        let reason = "a socket that is in no file system has no mode";
        return Err(DecodeError::new(field, reason));
    }
    Ok(Some(Pipe {
        path: pipe.path.as_str().into(),
        mode: pipe.mode,
    }))
}

/// All addresses, and whether they take datagrams.
fn addresses(spec: &pb::Listener) -> Result<(Vec<SocketAddr>, bool)> {
    let (main, is_udp) = listener_address("address", spec.address.as_ref())?;
    let mut addresses = vec![main];
    for (index, extra) in spec.additional_addresses.iter().enumerate() {
        let field = format!("additional_addresses[{index}]");
        let (address, is_extra_udp) = listener_address(&field, extra.address.as_ref())?;
        if is_extra_udp != is_udp {
            return Err(DecodeError::new(
                field,
                "is of another protocol than the first",
            ));
        }
        addresses.push(address);
    }
    Ok((addresses, is_udp))
}

#[derive(Default)]
struct Inspectors {
    original_dst: bool,
    proxy_header: Option<ProxyHeader>,
    tls: bool,
    http: bool,
}

/// The older way to ask for a header. It is read before a chain is chosen, so that all must agree;
/// Envoy asks the first one and disregards the others.
fn by_chains(spec: &pb::Listener) -> Result<Option<ProxyHeader>> {
    let asks = |chain: &pb::FilterChain| chain.use_proxy_proto.is_some_and(|asked| asked.value);
    let chains = || spec.filter_chains.iter().chain(&spec.default_filter_chain);
    let asked = chains().any(asks);
    if asked && !chains().all(asks) {
        return Err(DecodeError::unsupported(
            "filter_chains.use_proxy_proto",
            "a PROXY header for some of the chains",
        ));
    }
    Ok(asked.then_some(ProxyHeader {
        optional: false,
        v1: true,
        v2: true,
    }))
}

fn proxy_header(spec: &ProxyProtocol) -> ProxyHeader {
    let taken = |version: Version| !spec.disallowed_versions.contains(&(version as i32));
    ProxyHeader {
        optional: spec.allow_requests_without_proxy_protocol,
        v1: taken(Version::V1),
        v2: taken(Version::V2),
    }
}

fn listener_filters(list: &[pb::ListenerFilter]) -> Result<Inspectors> {
    let mut inspectors = Inspectors::default();
    for filter in list {
        let kind = match &filter.config_type {
            Some(pb::listener_filter::ConfigType::TypedConfig(any)) => {
                TypeUrl::new(&any.type_url).message().to_owned()
            }
            _ => filter.name.clone(),
        };
        match kind.rsplit('.').next().unwrap_or("") {
            "ProxyProtocol" | "proxy_protocol" => {
                let spec = match &filter.config_type {
                    Some(pb::listener_filter::ConfigType::TypedConfig(any)) => {
                        typed(&format!("listener_filters[{}]", filter.name), any)?
                    }
                    _ => ProxyProtocol::default(),
                };
                inspectors.proxy_header = Some(proxy_header(&spec));
            }
            "OriginalDst" | "original_dst" => inspectors.original_dst = true,
            "TlsInspector" | "tls_inspector" => inspectors.tls = true,
            "HttpInspector" | "http_inspector" => inspectors.http = true,
            _ => {
                let field = format!("listener_filters[{}]", filter.name);
                return Err(DecodeError::unsupported(
                    field,
                    format!("the filter type {kind}"),
                ));
            }
        }
    }
    Ok(inspectors)
}

fn chain_match(spec: Option<&pb::FilterChainMatch>) -> Result<ChainMatch> {
    let Some(spec) = spec else {
        return Ok(ChainMatch::default());
    };
    if !spec.direct_source_prefix_ranges.is_empty() || !spec.address_suffix.is_empty() {
        return Err(DecodeError::unsupported(
            "filter_chain_match",
            "this criterion",
        ));
    }
    let port = |port: u32| {
        u16::try_from(port)
            .map_err(|_| DecodeError::new("filter_chain_match", format!("port {port}")))
    };
    let ranges = |list: &[lateen_xds::types::core::CidrRange]| {
        list.iter()
            .map(|range| prefix("filter_chain_match", range))
            .collect::<Result<Vec<_>>>()
    };
    Ok(ChainMatch {
        destination_port: spec
            .destination_port
            .as_ref()
            .map(|p| port(p.value))
            .transpose()?,
        destinations: ranges(&spec.prefix_ranges)?,
        server_names: spec.server_names.clone(),
        transport: (!spec.transport_protocol.is_empty()).then(|| spec.transport_protocol.clone()),
        application: spec.application_protocols.clone(),
        source_local: match spec.source_type {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        },
        sources: ranges(&spec.source_prefix_ranges)?,
        source_ports: spec
            .source_ports
            .iter()
            .map(|p| port(*p))
            .collect::<Result<_>>()?,
    })
}

fn filter_chain(spec: &pb::FilterChain, direction: Option<Direction>) -> Result<FilterChainSpec> {
    let mut hasher = DefaultHasher::new();
    spec.encode_to_vec().hash(&mut hasher);
    direction.map(Direction::as_str).hash(&mut hasher);
    let transport = match &spec.transport_socket {
        None => DownstreamSpec::Raw,
        Some(socket) => transport(socket)?,
    };
    let handshake = duration(spec.transport_socket_connect_timeout.as_ref());
    Ok(FilterChainSpec {
        name: spec.name.clone(),
        hash: hasher.finish(),
        transport,
        // Envoy has no default; a client that never finishes its handshake is not kept for ever.
        handshake_timeout: handshake.unwrap_or(Duration::from_secs(15)),
        network: network_filters(&spec.filters)?,
    })
}

fn transport(socket: &lateen_xds::types::core::TransportSocket) -> Result<DownstreamSpec> {
    use lateen_xds::types::core::transport_socket::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return match socket.name.as_str() {
            "envoy.transport_sockets.raw_buffer" => Ok(DownstreamSpec::Raw),
            name => Err(DecodeError::unsupported(
                "transport_socket",
                format!("{name:?}"),
            )),
        };
    };
    match TypeUrl::new(&any.type_url).message() {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => Ok(DownstreamSpec::Raw),
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => {
            let spec: tls_pb::DownstreamTlsContext = typed("transport_socket", any)?;
            Ok(DownstreamSpec::Tls(Box::new(tls::downstream(&spec)?)))
        }
        kind => Err(DecodeError::unsupported(
            "transport_socket",
            format!("the type {kind}"),
        )),
    }
}

/// Filters whose work the engine does on its own.
const IMPLIED: [&str; 3] = [
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
    "envoy.extensions.filters.network.set_filter_state.v3.Config",
];

fn network_filters(list: &[pb::Filter]) -> Result<NetworkSpec> {
    let mut network = NetworkSpec::Close;
    let mut name_port = None;
    for filter in list {
        let field = format!("filters[{}]", filter.name);
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            return Err(DecodeError::unsupported(
                field,
                "a filter without a typed config",
            ));
        };
        if !matches!(network, NetworkSpec::Close) {
            return Err(DecodeError::new(field, "stands behind a terminal filter"));
        }
        match TypeUrl::new(&any.type_url).message() {
            kind if kind.ends_with(".http_connection_manager.v3.HttpConnectionManager") => {
                let spec: network::hcm::HttpConnectionManager = typed(&field, any)?;
                network = NetworkSpec::Http(Box::new(hcm::hcm(&spec)?));
            }
            kind if kind.ends_with(".tcp_proxy.v3.TcpProxy") => {
                let spec: network::tcp_proxy::TcpProxy = typed(&field, any)?;
                let mut tcp = tcp::tcp_proxy(&spec)?;
                tcp.name_port = name_port;
                network = NetworkSpec::Tcp(Box::new(tcp));
            }
            "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig" => {
                let spec: SniFilterConfig = typed(&field, any)?;
                let sni_filter_config::PortSpecifier::PortValue(port) =
                    spec.port_specifier.ok_or_else(|| {
                        DecodeError::new(format!("{field}.port_value"), "is required")
                    })?;
                let port = u16::try_from(port);
                let fault = |_| DecodeError::new(format!("{field}.port_value"), "is no port");
                name_port = Some(port.map_err(fault)?);
            }
            "envoy.extensions.filters.network.sni_cluster.v3.SniCluster" => {
                return Err(DecodeError::unsupported(field, "routing by SNI cluster"));
            }
            kind if IMPLIED.contains(&kind) => {}
            kind => return Err(DecodeError::unsupported(field, format!("the type {kind}"))),
        }
    }
    if name_port.is_some() && !matches!(network, NetworkSpec::Tcp(_)) {
        return Err(DecodeError::new(
            "filters",
            "sni_dynamic_forward_proxy looks names up for a tcp_proxy, and none stands behind it",
        ));
    }
    Ok(network)
}
