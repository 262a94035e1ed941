//! From specifications to what the data plane runs on: certificates, open log files, chains that
//! drain. What was decoded and cannot be had is refused here, like what cannot be decoded.

use std::path::Path;
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_decode::{
    AccessLogSpec, Codec, DecodeError, DownstreamSpec, FilterChainSpec, HcmSpec, ListenerSpec,
    NetworkSpec, TcpProxySpec, TransportSpec, UdpProxySpec,
};
use lateen_http::{Protocol, Value};
use lateen_telemetry::access_log::Sink;

use crate::cluster::Transport;
use crate::drain::Drain;
use crate::http::Hcm;
use crate::http::log::AccessLog;
use crate::listener::{Downstream, FilterChain, Listener, Network, TcpProxy};
use crate::secrets::Secrets;
use crate::stats::Stats;
use crate::udp::UdpProxy;

type Result<T> = std::result::Result<T, DecodeError>;

/// A listener. Chains that did not change are taken over from the one before.
pub(crate) fn listener(
    spec: ListenerSpec,
    secrets: &Secrets,
    stats: &Stats,
    before: Option<&Listener>,
) -> Result<Listener> {
    let ListenerSpec {
        name,
        addresses,
        pipe,
        bind,
        use_original_dst,
        original_dst,
        proxy_header,
        inspect_tls,
        inspect_http,
        filter_timeout,
        continue_on_timeout,
        direction,
        matches,
        chains,
        default_chain,
        access_logs: logs,
        udp,
    } = spec;
    let chain = |spec: FilterChainSpec| {
        let same = before.and_then(|before| before.chain_by_hash(spec.hash));
        same.map_or_else(|| filter_chain(spec, secrets), Ok)
    };
    Ok(Listener {
        name,
        addresses,
        pipe,
        bind,
        use_original_dst,
        original_dst,
        proxy_header,
        inspect_tls,
        inspect_http,
        filter_timeout,
        continue_on_timeout,
        direction,
        matches,
        chains: chains.into_iter().map(chain).collect::<Result<_>>()?,
        default_chain: default_chain.map(chain).transpose()?,
        access_logs: access_logs(logs)?,
        udp: udp.map(|udp| udp_proxy(*udp, stats)).transpose()?,
    })
}

fn udp_proxy(spec: UdpProxySpec, stats: &Stats) -> Result<Arc<UdpProxy>> {
    let UdpProxySpec {
        stat_prefix,
        routes,
        idle_timeout,
        hash,
        per_datagram,
        access_logs: logs,
        max_request,
        max_response,
    } = spec;
    Ok(Arc::new(UdpProxy {
        routes,
        idle_timeout,
        hash,
        per_datagram,
        access_logs: access_logs(logs)?,
        max_request,
        max_response,
        stats: stats.udp(&stat_prefix),
    }))
}

fn filter_chain(spec: FilterChainSpec, secrets: &Secrets) -> Result<Arc<FilterChain>> {
    let FilterChainSpec {
        name,
        hash,
        transport,
        handshake_timeout,
        network,
    } = spec;
    let at = |error: DecodeError| {
        DecodeError::new(
            format!("filter_chains[{name}].{}", error.field),
            error.reason,
        )
    };
    Ok(Arc::new(FilterChain {
        name: ArcStr::from(&*name),
        hash,
        transport: match transport {
            DownstreamSpec::Raw => Downstream::Raw,
            DownstreamSpec::Tls(tls) => Downstream::Tls(secrets.acceptor(&tls).map_err(at)?),
        },
        handshake_timeout,
        network: match network {
            NetworkSpec::Close => Network::Close,
            NetworkSpec::Tcp(tcp) => Network::Tcp(Arc::new(tcp_proxy(*tcp).map_err(at)?)),
            NetworkSpec::Http(spec) => Network::Http(Arc::new(hcm(*spec).map_err(at)?)),
        },
        drain: Drain::default(),
    }))
}

fn tcp_proxy(spec: TcpProxySpec) -> Result<TcpProxy> {
    let TcpProxySpec {
        target,
        idle_timeout,
        max_duration,
        connect_attempts,
        access_logs: logs,
        by_source,
        tunnel,
        name_port,
    } = spec;
    Ok(TcpProxy {
        target,
        idle_timeout,
        max_duration,
        connect_attempts,
        access_logs: access_logs(logs)?,
        by_source,
        tunnel,
        name_port,
    })
}

fn hcm(mut spec: HcmSpec) -> Result<Hcm> {
    let server_name = Value::new(spec.server_name.as_bytes())
        .map_err(|error| DecodeError::new("server_name", error.to_string()))?;
    Ok(Hcm {
        protocol: match spec.codec {
            Codec::Auto => Protocol::Auto,
            Codec::Http1 => Protocol::Http1,
            Codec::Http2 => Protocol::Http2,
        },
        access_logs: access_logs(std::mem::take(&mut spec.access_logs))?,
        server_name,
        spec,
    })
}

fn access_logs(list: Vec<AccessLogSpec>) -> Result<Vec<AccessLog>> {
    list.into_iter().map(access_log).collect()
}

fn access_log(spec: AccessLogSpec) -> Result<AccessLog> {
    let AccessLogSpec {
        shape,
        path,
        only_flagged,
    } = spec;
    let sink = Sink::open(Path::new(&path))
        .map_err(|error| DecodeError::new("access_log", format!("{path}: {error}")))?;
    Ok(AccessLog {
        shape,
        sink,
        only_flagged,
    })
}

/// The transports of a cluster, in their order.
pub(crate) fn transports(list: &[TransportSpec], secrets: &Secrets) -> Result<Arc<[Transport]>> {
    list.iter().map(|spec| transport(spec, secrets)).collect()
}

fn transport(spec: &TransportSpec, secrets: &Secrets) -> Result<Transport> {
    match spec {
        TransportSpec::Raw => Ok(Transport::Raw),
        TransportSpec::Tls(tls) => Ok(Transport::Tls(Box::new(secrets.connector(tls)?))),
        // What connections begin with is read from the specification.
        TransportSpec::Proxied(_, inner) => transport(inner, secrets),
    }
}
