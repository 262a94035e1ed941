//! VirtualService: which request goes where.

use std::collections::BTreeMap;

use super::{Percent, PortSelector, StringMatch};
use crate::{
    Duration,
    compat::{OldHttpRoute, OldHttpRouteDestination},
    schema::{enumeration, message},
};

message! {
    /// Routing for a set of hosts.
    pub struct VirtualService where [
        Limit::Rule(
            "!has(self.hosts) || self.hosts.size() == 0 || !('*' in self.hosts) || \
             (has(self.gateways) && self.gateways.size() > 0 && !('mesh' in self.gateways))",
            "the host * matches everything and is not allowed for sidecars",
        ),
        Limit::Rule(
            "(has(self.hosts) && self.hosts.size() > 0) || ((!has(self.tls) || \
             self.tls.size() == 0) && (!has(self.tcp) || self.tcp.size() == 0))",
            "a delegate, which has no hosts, holds HTTP routes alone",
        ),
        // That there is no route at all is left for the webhook to say: mostly `http` is misspelt
        // then, and it names that, which the API server would hide by refusing first.
    ] {
        /// Hosts that traffic is addressed to; short names are in the object's namespace.
        pub hosts: Vec<String> where [Limit::MaxItems(1024), Limit::Each(&[Limit::MaxLength(256)])],
        /// `namespace/name` of gateways, or `mesh` for the sidecars (which is also the default).
        pub gateways: Vec<String> where [
            Limit::MaxItems(1024),
            Limit::Each(&[Limit::MaxLength(512)]),
        ],
        /// For HTTP, HTTP/2 and gRPC, in order of precedence.
        pub http: Vec<HttpRoute> where [Limit::MaxItems(2048)],
        /// For TLS that is passed through, by SNI.
        pub tls: Vec<TlsRoute> where [Limit::MaxItems(2048)],
        /// For anything else.
        pub tcp: Vec<TcpRoute> where [Limit::MaxItems(2048)],
        /// Namespaces that see this; `*` all, `.` its own.
        pub export_to: Vec<String> where [
            Limit::MaxItems(256),
            Limit::Each(&[Limit::MaxLength(63)]),
            Limit::Rule(
                "self.size() <= 1 || !self.exists(n, n in ['*', '~'])",
                "* and ~ stand for themselves alone",
            ),
        ],
    }

    /// One HTTP rule.
    #[serde(remote = "Self")]
    pub struct HttpRoute where [
        Limit::Old(OldHttpRoute::schema),
        Limit::Rule(
            "(has(self.route) && self.route.size() > 0 ? 1 : 0) + (has(self.redirect) ? 1 : 0) + \
             (has(self.directResponse) ? 1 : 0) + (has(self.delegate) ? 1 : 0) == 1",
            "an HTTP rule has exactly one of route, redirect, directResponse and delegate",
        ),
        Limit::Rule(
            "!has(self.redirect) || !has(self.rewrite)",
            "HTTP route cannot have redirect and rewrite together",
        ),
    ] {
        /// For logs and metrics.
        pub name: String,
        /// Any of these; none matches all.
        pub r#match: Vec<HttpMatchRequest> where [Limit::MaxItems(256)],
        /// Weighted destinations.
        pub route: Vec<HttpRouteDestination> where [Limit::MaxItems(128)],
        /// Answer with a redirect instead.
        pub redirect: Option<HttpRedirect>,
        /// Answer with a fixed response instead.
        pub direct_response: Option<HttpDirectResponse>,
        /// Continue in another VirtualService.
        pub delegate: Option<Delegate>,
        /// Change URI or authority before forwarding.
        pub rewrite: Option<HttpRewrite>,
        /// For the whole request; unset and zero mean none.
        pub timeout: Option<Duration>,
        /// Retry policy.
        pub retries: Option<HttpRetry>,
        /// Delays and aborts, for tests.
        pub fault: Option<HttpFaultInjection>,
        /// Copy requests there.
        pub mirror: Option<Destination>,
        /// Copy requests to several.
        pub mirrors: Vec<HttpMirrorPolicy> where [Limit::MaxItems(32)],
        /// Deprecated whole-number form of `mirrorPercentage`.
        pub mirror_percent: Option<u32> where [Limit::Max(100)],
        /// How much is mirrored; unset is all.
        pub mirror_percentage: Option<Percent>,
        /// Cross-origin rules.
        pub cors_policy: Option<CorsPolicy>,
        /// Header changes.
        pub headers: Option<Headers>,
    }

    /// All conditions of one match must hold.
    pub struct HttpMatchRequest {
        /// For logs and metrics.
        pub name: String,
        /// Path with query left off.
        pub uri: Option<StringMatch>,
        /// `http` or `https`.
        pub scheme: Option<StringMatch>,
        /// Method.
        pub method: Option<StringMatch>,
        /// Host or `:authority`.
        pub authority: Option<StringMatch>,
        /// By lower-case name.
        pub headers: BTreeMap<String, StringMatch>,
        /// Must not match.
        pub without_headers: BTreeMap<String, StringMatch>,
        /// By parameter name.
        pub query_params: BTreeMap<String, StringMatch>,
        /// Port that the request was addressed to.
        pub port: Option<u32>,
        /// Labels of the client's workload.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the client's workload.
        pub source_namespace: String,
        /// Replaces the VirtualService's gateways.
        pub gateways: Vec<String>,
        /// For exact and prefix.
        pub ignore_uri_case: bool,
        /// Prefix of the statistics of the matched route.
        pub stat_prefix: String,
    }

    /// A destination and its share.
    #[serde(remote = "Self")]
    pub struct HttpRouteDestination where [
        Limit::Old(OldHttpRouteDestination::schema),
        Limit::Required(&["destination"]),
    ] {
        /// Where to.
        pub destination: Option<Destination>,
        /// Share of requests, relative to the sum; zero gets none unless it is the only one.
        pub weight: i32 where [Limit::Min(0)],
        /// Header changes for this destination alone.
        pub headers: Option<Headers>,
    }

    /// A service, a subset of it and a port.
    pub struct Destination where [Limit::Required(&["host"])] {
        /// Host in the registry; short names are in the object's namespace.
        pub host: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// Name of a subset in the host's DestinationRule.
        pub subset: String,
        /// Needed when the host has several ports.
        pub port: Option<PortSelector>,
    }

    /// Where a delegate is.
    pub struct Delegate {
        /// Its name.
        pub name: String,
        /// Its namespace; empty is the root's.
        pub namespace: String,
    }

    /// Header changes on the way up and down.
    pub struct Headers {
        /// Before forwarding.
        pub request: Option<HeaderOperations>,
        /// Before answering.
        pub response: Option<HeaderOperations>,
    }

    /// Header changes.
    pub struct HeaderOperations {
        /// Overwrite.
        pub set: BTreeMap<String, String>,
        /// Append.
        pub add: BTreeMap<String, String>,
        /// Take away.
        pub remove: Vec<String>,
    }

    /// A redirect response.
    pub struct HttpRedirect {
        /// Replaces the path; may be `%PREFIX()%`-expanded.
        pub uri: String,
        /// Replaces the host.
        pub authority: String,
        /// Replaces the port.
        pub port: Option<u32>,
        /// Takes the port from the protocol or the request.
        pub derive_port: Option<RedirectPort>,
        /// Replaces the scheme.
        pub scheme: String,
        /// 301, 302, 303, 307 or 308; unset is 301.
        pub redirect_code: Option<u32>,
        /// Replaces the matched prefix.
        pub prefix_rewrite: Option<String>,
    }

    /// A fixed response.
    pub struct HttpDirectResponse {
        /// Status code.
        pub status: u32,
        /// Body, none when unset.
        pub body: Option<HttpBody>,
    }

    /// A fixed body.
    pub struct HttpBody {
        /// As text.
        pub string: Option<String>,
        /// As base64.
        pub bytes: Option<String>,
    }

    /// A rewrite before forwarding.
    pub struct HttpRewrite {
        /// Replaces the path, or the matched prefix.
        pub uri: String,
        /// Replaces the host.
        pub authority: String,
        /// Replaces parts of the path.
        pub uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// A substitution.
    pub struct RegexRewrite {
        /// RE2 expression.
        pub r#match: String,
        /// With `\1` for groups.
        pub rewrite: String,
    }

    /// Retry policy.
    pub struct HttpRetry {
        /// Tries after the first; zero turns retries off.
        pub attempts: i32,
        /// Limit of each try; unset is the route's timeout.
        pub per_try_timeout: Option<Duration>,
        /// Comma-separated conditions, status codes among them.
        pub retry_on: String,
        /// Whether a retry may leave the locality.
        pub retry_remote_localities: Option<bool>,
        /// Whether a retry avoids hosts already tried; unset is yes.
        pub retry_ignore_previous_hosts: Option<bool>,
        /// Least wait between tries; unset is 25 ms.
        pub backoff: Option<Duration>,
    }

    /// Mirrors with their shares.
    pub struct HttpMirrorPolicy {
        /// Where to.
        pub destination: Option<Destination>,
        /// How much; unset is all.
        pub percentage: Option<Percent>,
    }

    /// Cross-origin rules.
    pub struct CorsPolicy {
        /// Deprecated list of exact origins.
        pub allow_origin: Vec<String>,
        /// Origins that may ask.
        pub allow_origins: Vec<StringMatch>,
        /// Methods.
        pub allow_methods: Vec<String>,
        /// Request headers.
        pub allow_headers: Vec<String>,
        /// Response headers that scripts may read.
        pub expose_headers: Vec<String>,
        /// How long a preflight is good for.
        pub max_age: Option<Duration>,
        /// Whether cookies may be sent.
        pub allow_credentials: Option<bool>,
        /// What happens to a preflight that matches no origin.
        pub unmatched_preflights: UnmatchedPreflights,
    }

    /// Faults to inject.
    pub struct HttpFaultInjection {
        /// Wait before forwarding.
        pub delay: Option<FaultDelay>,
        /// Answer with an error instead.
        pub abort: Option<FaultAbort>,
    }

    /// A delay.
    pub struct FaultDelay {
        /// How long.
        pub fixed_delay: Option<Duration>,
        /// Mean of an exponential distribution; never implemented by the data plane.
        pub exponential_delay: Option<Duration>,
        /// Deprecated whole-number share of requests.
        pub percent: Option<f64>,
        /// Share of requests; unset is all.
        pub percentage: Option<Percent>,
    }

    /// An abort.
    pub struct FaultAbort {
        /// HTTP status.
        pub http_status: Option<i32>,
        /// gRPC status, by name or number.
        pub grpc_status: Option<String>,
        /// HTTP/2 error; never implemented by the data plane.
        pub http2_error: Option<String>,
        /// Old whole-number share of requests.
        pub percent: Option<f64>,
        /// Share of requests; unset is all.
        pub percentage: Option<Percent>,
    }

    /// One rule for passed-through TLS.
    pub struct TlsRoute where [Limit::Required(&["match", "route"])] {
        /// Any of these.
        pub r#match: Vec<TlsMatchAttributes> where [Limit::MinItems(1), Limit::MaxItems(256)],
        /// Weighted destinations.
        pub route: Vec<RouteDestination> where [Limit::MinItems(1), Limit::MaxItems(128)],
    }

    /// Conditions on a TLS connection.
    pub struct TlsMatchAttributes where [Limit::Required(&["sniHosts"])] {
        /// Server names, `*.` prefixes allowed. Required.
        pub sni_hosts: Vec<String> where [Limit::MinItems(1)],
        /// Addresses or CIDRs.
        pub destination_subnets: Vec<String>,
        /// Port that the connection was addressed to.
        pub port: Option<u32>,
        /// Labels of the client's workload.
        pub source_labels: BTreeMap<String, String>,
        /// Replaces the VirtualService's gateways.
        pub gateways: Vec<String>,
        /// Namespace of the client's workload.
        pub source_namespace: String,
    }

    /// One rule for opaque connections.
    pub struct TcpRoute where [Limit::Required(&["route"])] {
        /// Any of these; none matches all.
        pub r#match: Vec<L4MatchAttributes> where [Limit::MaxItems(256)],
        /// Weighted destinations.
        pub route: Vec<RouteDestination> where [Limit::MinItems(1), Limit::MaxItems(128)],
    }

    /// Conditions on a connection.
    pub struct L4MatchAttributes {
        /// Addresses or CIDRs.
        pub destination_subnets: Vec<String>,
        /// Port that the connection was addressed to.
        pub port: Option<u32>,
        /// Address or CIDR of the client.
        pub source_subnet: String,
        /// Labels of the client's workload.
        pub source_labels: BTreeMap<String, String>,
        /// Replaces the VirtualService's gateways.
        pub gateways: Vec<String>,
        /// Namespace of the client's workload.
        pub source_namespace: String,
    }

    /// A destination and its share, for connections.
    pub struct RouteDestination where [Limit::Required(&["destination"])] {
        /// Where to.
        pub destination: Option<Destination>,
        /// Share of connections.
        pub weight: i32 where [Limit::Min(0)],
    }
}

enumeration! {
    /// Where a redirect's port comes from.
    pub enum RedirectPort {
        /// 80 for HTTP, 443 for HTTPS.
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The port that was asked for.
        FromRequestPort = "FROM_REQUEST_PORT",
    }

    /// What happens to a preflight that matches no origin.
    pub enum UnmatchedPreflights {
        /// The default, which is to forward.
        Unspecified = "UNSPECIFIED",
        /// To the upstream.
        Forward = "FORWARD",
        /// Answered without CORS headers.
        Ignore = "IGNORE",
    }
}
