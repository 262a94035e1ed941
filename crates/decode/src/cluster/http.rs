//! What HTTP a cluster's connections speak, and their limits.

use std::time::Duration;

use lateen_xds::types::cluster as pb;
use lateen_xds::types::core::{Http2ProtocolOptions, KeepaliveSettings};
use lateen_xds::types::upstream::http::HttpProtocolOptions;
use lateen_xds::types::upstream::http::http_protocol_options::UpstreamProtocolOptions;
use lateen_xds::types::upstream::http::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::errors::ERRORS;
use super::{HttpOptions, Pings, UpstreamProtocol};
use crate::common::duration;
use crate::unread::Kind::{In, Whole};
use crate::unread::Reads;
use crate::{DecodeError, Result, typed};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The options of a cluster that are about HTTP.
pub(super) fn protocol_options(spec: &pb::Cluster) -> Result<Option<HttpProtocolOptions>> {
    let options = spec.typed_extension_protocol_options.get(HTTP_OPTIONS);
    let decode = |any| typed::<HttpProtocolOptions>("http_protocol_options", any);
    options.map(decode).transpose()
}

/// What a cluster says of HTTP.
pub(super) fn options(spec: &pb::Cluster) -> Result<HttpOptions> {
    let options = protocol_options(spec)?;
    let (protocol, http2) = match options.as_ref() {
        Some(options) => protocol(options)?.unwrap_or_else(|| legacy(spec)),
        None => legacy(spec),
    };
    #[allow(deprecated)]
    let legacy = spec.common_http_protocol_options.as_ref();
    let common = options
        .as_ref()
        .and_then(|options| options.common_http_protocol_options.as_ref())
        .or(legacy);
    let idle = common.and_then(|common| duration(common.idle_timeout.as_ref()));
    #[allow(deprecated)]
    let older = spec.max_requests_per_connection.as_ref();
    let max_requests = common
        .and_then(|common| common.max_requests_per_connection.as_ref())
        .or(older);
    let max_streams = http2.and_then(|http2| http2.max_concurrent_streams.as_ref());
    let keepalive = http2.and_then(|http2| http2.connection_keepalive.as_ref());
    Ok(HttpOptions {
        protocol,
        idle_timeout: idle.filter(|idle| !idle.is_zero()),
        max_requests: max_requests.map_or(0, |most| most.value),
        max_streams: max_streams.map_or(u32::MAX, |most| most.value),
        keepalive: keepalive.map(pings).transpose()?.flatten(),
    })
}

type Spoken<'a> = (UpstreamProtocol, Option<&'a Http2ProtocolOptions>);

/// The protocol with its settings for HTTP/2; none where the options do not say.
fn protocol(options: &HttpProtocolOptions) -> Result<Option<Spoken<'_>>> {
    use UpstreamProtocolOptions::{AutoConfig, ExplicitHttpConfig, UseDownstreamProtocolConfig};
    Ok(match &options.upstream_protocol_options {
        Some(ExplicitHttpConfig(explicit)) => Some(match &explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                (UpstreamProtocol::Http2, Some(http2))
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(DecodeError::unsupported("explicit_http_config", "HTTP/3"));
            }
            _ => (UpstreamProtocol::Http1, None),
        }),
        Some(UseDownstreamProtocolConfig(config)) => Some((
            UpstreamProtocol::Downstream,
            config.http2_protocol_options.as_ref(),
        )),
        Some(AutoConfig(config)) => Some((
            UpstreamProtocol::Auto,
            config.http2_protocol_options.as_ref(),
        )),
        None => None,
    })
}

/// What the fields say that the options have replaced.
#[allow(deprecated)]
fn legacy(spec: &pb::Cluster) -> Spoken<'_> {
    let http2 = spec.http2_protocol_options.as_ref();
    let protocol = match (spec.protocol_selection == 1, http2) {
        (true, _) => UpstreamProtocol::Downstream,
        (false, Some(_)) => UpstreamProtocol::Http2,
        (false, None) => UpstreamProtocol::Http1,
    };
    (protocol, http2)
}

/// PINGs; none without an interval. The answer is waited for as long as the interval where nothing
/// says how long, which Envoy refuses.
fn pings(spec: &KeepaliveSettings) -> Result<Option<Pings>> {
    let interval = duration(spec.interval.as_ref()).filter(|interval| !interval.is_zero());
    let Some(interval) = interval else {
        return Ok(None);
    };
    let timeout = duration(spec.timeout.as_ref()).unwrap_or(interval);
    if timeout < Duration::from_millis(1) {
        let text = "is below one millisecond";
        return Err(DecodeError::new("connection_keepalive.timeout", text));
    }
    Ok(Some(Pings { interval, timeout }))
}

pub(crate) static HTTP_PROTOCOL_OPTIONS: Reads = Reads::of(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    &[
        (1, "common_http_protocol_options", In(&CLIENT_HTTP)),
        (3, "explicit_http_config", In(&EXPLICIT_HTTP)),
        (4, "use_downstream_protocol_config", In(&DOWNSTREAM_HTTP)),
        (5, "auto_config", In(&AUTO_HTTP)),
        (8, "outlier_detection", In(&ERRORS)),
    ],
);

pub(crate) static EXPLICIT_HTTP: Reads = Reads::of(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    &[
        (1, "http_protocol_options", In(&CLIENT_HTTP1)),
        (2, "http2_protocol_options", In(&CLIENT_HTTP2)),
        (3, "http3_protocol_options", Whole),
    ],
);

pub(crate) static DOWNSTREAM_HTTP: Reads = Reads::of(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    &[
        (1, "http_protocol_options", In(&CLIENT_HTTP1)),
        (2, "http2_protocol_options", In(&CLIENT_HTTP2)),
    ],
);

pub(crate) static AUTO_HTTP: Reads = Reads::of(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
    &[
        (1, "http_protocol_options", In(&CLIENT_HTTP1)),
        (2, "http2_protocol_options", In(&CLIENT_HTTP2)),
    ],
);

pub(crate) static CLIENT_HTTP: Reads = Reads::of(
    "envoy.config.core.v3.HttpProtocolOptions",
    &[
        (1, "idle_timeout", Whole),
        (6, "max_requests_per_connection", Whole),
    ],
);

pub(crate) static CLIENT_HTTP1: Reads = Reads::of("envoy.config.core.v3.Http1ProtocolOptions", &[]);

pub(crate) static CLIENT_HTTP2: Reads = Reads::of(
    "envoy.config.core.v3.Http2ProtocolOptions",
    &[
        (2, "max_concurrent_streams", Whole),
        (15, "connection_keepalive", In(&PINGS)),
    ],
);

pub(crate) static PINGS: Reads = Reads::of(
    "envoy.config.core.v3.KeepaliveSettings",
    &[(1, "interval", Whole), (2, "timeout", Whole)],
);
