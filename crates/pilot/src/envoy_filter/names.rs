//! Names that filters had in Istio 1.0's time, with today's name and the type of their
//! configuration, which is what an untyped configuration means.

/// One filter.
pub(super) struct Known {
    pub(super) old: &'static str,
    pub(super) name: &'static str,
    /// The full name of the message.
    pub(super) message: &'static str,
}

pub(super) const HCM: &str = "envoy.filters.network.http_connection_manager";
pub(super) const ROUTER: &str = "envoy.filters.http.router";

const fn known(old: &'static str, name: &'static str, message: &'static str) -> Known {
    Known { old, name, message }
}

/// Filters of the HTTP connection manager.
pub(super) const HTTP: &[Known] = &[
    known(
        "envoy.buffer",
        "envoy.filters.http.buffer",
        "envoy.extensions.filters.http.buffer.v3.Buffer",
    ),
    known(
        "envoy.cors",
        "envoy.filters.http.cors",
        "envoy.extensions.filters.http.cors.v3.Cors",
    ),
    known(
        "envoy.ext_authz",
        "envoy.filters.http.ext_authz",
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    ),
    known(
        "envoy.fault",
        "envoy.filters.http.fault",
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
    ),
    known(
        "envoy.grpc_http1_bridge",
        "envoy.filters.http.grpc_http1_bridge",
        "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
    ),
    known(
        "envoy.grpc_json_transcoder",
        "envoy.filters.http.grpc_json_transcoder",
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    ),
    known(
        "envoy.grpc_web",
        "envoy.filters.http.grpc_web",
        "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    ),
    known(
        "envoy.health_check",
        "envoy.filters.http.health_check",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    ),
    known(
        "envoy.ip_tagging",
        "envoy.filters.http.ip_tagging",
        "envoy.extensions.filters.http.ip_tagging.v3.IPTagging",
    ),
    known(
        "envoy.lua",
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
    ),
    known(
        "envoy.rate_limit",
        "envoy.filters.http.ratelimit",
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    ),
    known(
        "envoy.router",
        ROUTER,
        "envoy.extensions.filters.http.router.v3.Router",
    ),
];

/// Filters of a filter chain.
pub(super) const NETWORK: &[Known] = &[
    known(
        "envoy.echo",
        "envoy.filters.network.echo",
        "envoy.extensions.filters.network.echo.v3.Echo",
    ),
    known(
        "envoy.ext_authz",
        "envoy.filters.network.ext_authz",
        "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
    ),
    known(
        "envoy.http_connection_manager",
        HCM,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    known(
        "envoy.mongo_proxy",
        "envoy.filters.network.mongo_proxy",
        "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",
    ),
    known(
        "envoy.ratelimit",
        "envoy.filters.network.ratelimit",
        "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
    ),
    known(
        "envoy.redis_proxy",
        "envoy.filters.network.redis_proxy",
        "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
    ),
    known(
        "envoy.tcp_proxy",
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ),
];

const LISTENER: [(&str, &str); 4] = [
    (
        "envoy.listener.http_inspector",
        "envoy.filters.listener.http_inspector",
    ),
    (
        "envoy.listener.original_dst",
        "envoy.filters.listener.original_dst",
    ),
    (
        "envoy.listener.proxy_protocol",
        "envoy.filters.listener.proxy_protocol",
    ),
    (
        "envoy.listener.tls_inspector",
        "envoy.filters.listener.tls_inspector",
    ),
];

/// Today's name of a listener filter.
pub(super) fn listener(name: &str) -> &str {
    let found = LISTENER.iter().find(|(old, _)| *old == name);
    found.map_or(name, |(_, today)| *today)
}

/// Today's name of a filter of a list.
pub(super) fn today<'a>(list: &'static [Known], name: &'a str) -> &'a str {
    let found = list.iter().find(|known| known.old == name);
    found.map_or(name, |known| known.name)
}
