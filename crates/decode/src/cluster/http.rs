//! What HTTP a cluster's connections speak, and their limits.

use std::time::Duration;

use lateen_xds::types::cluster as pb;
use lateen_xds::types::core::{Http2ProtocolOptions, KeepaliveSettings};
use lateen_xds::types::upstream::http::HttpProtocolOptions;
use lateen_xds::types::upstream::http::http_protocol_options::UpstreamProtocolOptions;
use lateen_xds::types::upstream::http::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::errors::ERRORS;
use super::spec::{ByHost, Verify};
use super::{Discovery, HttpOptions, Pings, UpstreamProtocol};
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
pub(super) fn options(
    spec: &pb::Cluster,
    options: Option<&HttpProtocolOptions>,
) -> Result<HttpOptions> {
    let (protocol, http2) = match options {
        Some(options) => protocol(options)?.unwrap_or_else(|| legacy(spec)),
        None => legacy(spec),
    };
    #[allow(deprecated)]
    let legacy = spec.common_http_protocol_options.as_ref();
    let common = options
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

/// What TLS towards the hosts takes from each request's host: by default nothing, at clusters whose
/// hosts are the names that clients give everything.
///
/// # Errors
/// On such a cluster that would take any certificate for any name, unless it says that it may; and
/// where a name is to be verified that is not asked for.
pub(super) fn by_host(
    spec: &pb::Cluster,
    options: Option<&HttpProtocolOptions>,
    discovery: &Discovery,
) -> Result<ByHost> {
    #[allow(deprecated)]
    let said = match options {
        Some(options) => options.upstream_http_protocol_options.as_ref(),
        None => spec.upstream_http_protocol_options.as_ref(),
    };
    let found = match (said, discovery) {
        (Some(said), _) => ByHost {
            ask: said.auto_sni,
            verify: match said.auto_san_validation {
                true => Verify::Always,
                false => Verify::Never,
            },
        },
        // As Envoy has it: the default holds where nothing of HTTP is said.
        (None, Discovery::Dynamic(dynamic)) if options.is_none() => ByHost {
            ask: true,
            verify: match dynamic.allow_insecure {
                true => Verify::WherePossible,
                false => Verify::Always,
            },
        },
        (None, _) => ByHost::default(),
    };
    let is_all = found.ask && found.verify == Verify::Always;
    match discovery {
        Discovery::Dynamic(dynamic) if !dynamic.allow_insecure && !is_all => {
            let reason = "must be true together with auto_san_validation at a cluster of names \
                that clients give, unless allow_insecure_cluster_options is";
            Err(DecodeError::new(
                "upstream_http_protocol_options.auto_sni",
                reason,
            ))
        }
        _ if found.verify == Verify::Always && !found.ask => Err(DecodeError::unsupported(
            "upstream_http_protocol_options.auto_san_validation",
            "a check of a name that is not asked for (auto_sni is false)",
        )),
        _ => Ok(found),
    }
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
        (2, "upstream_http_protocol_options", In(&UPSTREAM_HTTP)),
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

pub(crate) static UPSTREAM_HTTP: Reads = Reads::of(
    "envoy.config.core.v3.UpstreamHttpProtocolOptions",
    &[(1, "auto_sni", Whole), (2, "auto_san_validation", Whole)],
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

#[cfg(test)]
mod tests {
    use lateen_xds::types::core::UpstreamHttpProtocolOptions;

    use super::super::dynamic;
    use super::*;

    /// What the options of a cluster of clients' names come to: whether TLS follows hosts.
    fn follows(insecure: bool, options: Option<Option<(bool, bool)>>) -> Result<(bool, Verify)> {
        use lateen_xds::types::dynamic::{ClusterConfig, DnsCacheConfig, cluster_config};
        let cache = DnsCacheConfig::default();
        let config = ClusterConfig {
            allow_insecure_cluster_options: insecure,
            cluster_implementation_specifier: Some(
                cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache),
            ),
            ..ClusterConfig::default()
        };
        let kind = pb::cluster::CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".into(),
            typed_config: Some(lateen_xds::pack_any(&config)),
        };
        let discovery = Discovery::Dynamic(dynamic::of(&kind)?);
        let options = options.map(|said| HttpProtocolOptions {
            upstream_http_protocol_options: said.map(|(auto_sni, auto_san_validation)| {
                UpstreamHttpProtocolOptions {
                    auto_sni,
                    auto_san_validation,
                    ..UpstreamHttpProtocolOptions::default()
                }
            }),
            ..HttpProtocolOptions::default()
        });
        let found = by_host(&pb::Cluster::default(), options.as_ref(), &discovery)?;
        Ok((found.ask, found.verify))
    }

    #[test]
    fn servers_of_names_that_clients_give_are_verified() {
        let refused = |found: Result<_>| found.expect_err("insecure").field;
        let all = Ok((true, Verify::Always));
        assert_eq!(follows(false, None), all, "the default");
        assert_eq!(follows(false, Some(Some((true, true)))), all);
        for said in [None, Some((true, false)), Some((false, true))] {
            let field = refused(follows(false, Some(said)));
            assert_eq!(field, "upstream_http_protocol_options.auto_sni");
        }
        for said in [None, Some((true, false))] {
            let ask = said.is_some();
            let found = follows(true, Some(said));
            assert_eq!(found, Ok((ask, Verify::Never)), "allowed");
        }
        assert_eq!(follows(true, Some(Some((true, true)))), all);
        let field = refused(follows(true, Some(Some((false, true)))));
        assert_eq!(field, "upstream_http_protocol_options.auto_san_validation");
        // That it may be otherwise does not make it so.
        assert_eq!(follows(true, None), Ok((true, Verify::WherePossible)));
    }
}
