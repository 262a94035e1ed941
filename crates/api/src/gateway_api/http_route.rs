//! HTTPRoute: which request goes where.

use super::{
    BackendRef, HttpHeaderFilter, HttpRequestMirrorFilter, LocalObjectReference, ParentReference,
    SessionPersistence,
};
use crate::schema::{enumeration, message};

message! {
    /// Routing of HTTP.
    pub struct HttpRoute {
        /// What it attaches itself to.
        pub parent_refs: Vec<ParentReference> where [Limit::MaxItems(32)],
        /// Hosts; none is all of the parent.
        pub hostnames: Vec<String> where [
            Limit::MaxItems(16),
            Limit::Each(&[Limit::MinLength(1), Limit::MaxLength(253)]),
        ],
        /// Rules; the most specific match of all wins, whatever their order.
        pub rules: Vec<HttpRouteRule> where [Limit::MinItems(1), Limit::MaxItems(16), Limit::Default("[{\"matches\": [{\"path\": {\"type\": \"PathPrefix\", \"value\": \"/\"}}]}]")],
    }

    /// One rule.
    pub struct HttpRouteRule {
        /// Unique in its route.
        pub name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Any of these; none is every path.
        pub matches: Vec<HttpRouteMatch> where [Limit::MaxItems(64), Limit::Default("[{\"path\": {\"type\": \"PathPrefix\", \"value\": \"/\"}}]")],
        /// Applied to what matches.
        pub filters: Vec<HttpRouteFilter> where [Limit::MaxItems(16)],
        /// Where requests go.
        pub backend_refs: Vec<HttpBackendRef> where [Limit::MaxItems(16)],
        /// Limits in time.
        pub timeouts: Option<HttpRouteTimeouts>,
        /// When a request is tried again.
        pub retry: Option<HttpRouteRetry>,
        /// Keeps a client at one backend.
        pub session_persistence: Option<SessionPersistence>,
    }

    /// Conditions on a request: all of them must hold.
    pub struct HttpRouteMatch {
        /// Path; unset is the prefix `/`.
        pub path: Option<HttpPathMatch> where [Limit::Default("{\"type\": \"PathPrefix\", \"value\": \"/\"}")],
        /// Headers.
        pub headers: Vec<HttpHeaderMatch> where [Limit::MaxItems(16)],
        /// Query parameters.
        pub query_params: Vec<HttpQueryParamMatch> where [Limit::MaxItems(16)],
        /// Method; unset is any.
        pub method: Option<HttpMethod>,
    }

    /// A condition on the path.
    pub struct HttpPathMatch {
        /// How; unset is `PathPrefix`.
        pub r#type: Option<PathMatchType> where [Limit::Default("\"PathPrefix\"")],
        /// With what; unset is `/`.
        pub value: Option<String> where [Limit::MaxLength(1024), Limit::Default("\"/\"")],
    }

    /// A condition on a header.
    pub struct HttpHeaderMatch where [Limit::Required(&["name", "value"])] {
        /// How; unset is `Exact`.
        pub r#type: Option<MatchType> where [Limit::Default("\"Exact\"")],
        /// Name, of which case does not count.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// With what.
        pub value: String where [Limit::MinLength(1), Limit::MaxLength(4096)],
    }

    /// A condition on a query parameter.
    pub struct HttpQueryParamMatch where [Limit::Required(&["name", "value"])] {
        /// How; unset is `Exact`.
        pub r#type: Option<MatchType> where [Limit::Default("\"Exact\"")],
        /// Name, of which case counts.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// With what.
        pub value: String where [Limit::MinLength(1), Limit::MaxLength(1024)],
    }

    /// What is done with a request that matches.
    pub struct HttpRouteFilter where [Limit::Required(&["type"])] {
        /// Which of the fields is set.
        pub r#type: String where [Limit::MaxLength(63)],
        /// Changes of request headers.
        pub request_header_modifier: Option<HttpHeaderFilter>,
        /// Changes of response headers.
        pub response_header_modifier: Option<HttpHeaderFilter>,
        /// A copy goes elsewhere.
        pub request_mirror: Option<HttpRequestMirrorFilter>,
        /// Answered with a redirect.
        pub request_redirect: Option<HttpRequestRedirectFilter>,
        /// Host or path are changed.
        pub url_rewrite: Option<HttpUrlRewriteFilter>,
        /// Cross-origin rules.
        pub cors: Option<HttpCorsFilter>,
        /// A filter of the implementation.
        pub extension_ref: Option<LocalObjectReference>,
    }

    /// Answered with a redirect.
    pub struct HttpRequestRedirectFilter {
        /// `http` or `https`; unset is the request's.
        pub scheme: Option<String> where [Limit::MaxLength(16)],
        /// Unset is the request's.
        pub hostname: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Unset is the request's path.
        pub path: Option<HttpPathModifier>,
        /// Unset is that of the scheme, or the listener's.
        pub port: Option<u32> where [Limit::Min(1), Limit::Max(65535)],
        /// Unset is 302.
        pub status_code: Option<i32> where [Limit::Default("302")],
    }

    /// Host or path are changed.
    pub struct HttpUrlRewriteFilter {
        /// Unset is the request's.
        pub hostname: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Unset is the request's.
        pub path: Option<HttpPathModifier>,
    }

    /// How a path is changed.
    pub struct HttpPathModifier where [Limit::Required(&["type"])] {
        /// Which of the fields is set.
        pub r#type: PathModifierType,
        /// Replaces the whole path.
        pub replace_full_path: Option<String> where [Limit::MaxLength(1024)],
        /// Replaces the prefix that matched.
        pub replace_prefix_match: Option<String> where [Limit::MaxLength(1024)],
    }

    /// Cross-origin rules.
    pub struct HttpCorsFilter {
        /// Origins that may ask.
        pub allow_origins: Vec<String> where [Limit::MaxItems(64)],
        /// Whether cookies may be sent.
        pub allow_credentials: Option<bool>,
        /// Methods.
        pub allow_methods: Vec<String> where [Limit::MaxItems(9)],
        /// Request headers.
        pub allow_headers: Vec<String> where [Limit::MaxItems(64)],
        /// Response headers that scripts may read.
        pub expose_headers: Vec<String> where [Limit::MaxItems(64)],
        /// Seconds that a preflight is good for; unset is 5.
        pub max_age: Option<i32> where [Limit::Min(1), Limit::Default("5")],
    }

    /// A backend and what is done on the way to it.
    pub struct HttpBackendRef where [Limit::Required(&["name"])] {
        /// API group; unset and empty are core.
        pub group: Option<String> where [Limit::MaxLength(253), Limit::Default("\"\"")],
        /// Kind; unset is `Service`.
        pub kind: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63), Limit::Default("\"Service\"")],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Namespace; unset is the route's own.
        pub namespace: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Port; a Service needs it.
        pub port: Option<u32> where [Limit::Min(1), Limit::Max(65535)],
        /// Share, relative to the sum; unset is 1, zero gets nothing.
        pub weight: Option<i32> where [Limit::Min(0), Limit::Max(1_000_000), Limit::Default("1")],
        /// Applied to what goes there.
        pub filters: Vec<HttpRouteFilter> where [Limit::MaxItems(16)],
    }

    /// Limits in time, as Gateway API durations.
    pub struct HttpRouteTimeouts {
        /// From the request to the end of the response; zero is none.
        pub request: Option<String> where [Limit::MaxLength(64)],
        /// Of each try; zero is none.
        pub backend_request: Option<String> where [Limit::MaxLength(64)],
    }

    /// When a request is tried again.
    pub struct HttpRouteRetry {
        /// Status codes that are tried again.
        pub codes: Vec<i32> where [
            Limit::MaxItems(64),
            Limit::Each(&[Limit::Min(400), Limit::Max(599)]),
        ],
        /// Tries after the first.
        pub attempts: Option<i32> where [Limit::Min(0)],
        /// Least wait between tries.
        pub backoff: Option<String> where [Limit::MaxLength(64)],
    }
}

impl HttpBackendRef {
    /// The backend alone.
    pub fn backend(&self) -> BackendRef {
        BackendRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            port: self.port,
            weight: self.weight,
        }
    }
}

enumeration! {
    /// How a path is compared.
    pub enum PathMatchType {
        /// By its first elements.
        PathPrefix = "PathPrefix",
        /// As a whole.
        Exact = "Exact",
        /// By an expression.
        RegularExpression = "RegularExpression",
    }

    /// How a value is compared.
    pub enum MatchType {
        /// As a whole.
        Exact = "Exact",
        /// By an expression.
        RegularExpression = "RegularExpression",
    }

    /// How a path is changed.
    pub enum PathModifierType {
        /// As a whole.
        ReplaceFullPath = "ReplaceFullPath",
        /// The prefix that matched.
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }

    /// A method.
    pub enum HttpMethod {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
    }
}
