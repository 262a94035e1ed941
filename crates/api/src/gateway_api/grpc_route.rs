//! GRPCRoute: which call goes where.

use super::{
    HttpHeaderFilter, HttpHeaderMatch, HttpRequestMirrorFilter, LocalObjectReference, MatchType,
    ParentReference, SessionPersistence,
};
use crate::schema::message;

message! {
    /// Routing of gRPC.
    pub struct GrpcRoute {
        /// What it attaches itself to.
        pub parent_refs: Vec<ParentReference> where [Limit::MaxItems(32)],
        /// Hosts; none is all of the parent.
        pub hostnames: Vec<String> where [
            Limit::MaxItems(16),
            Limit::Each(&[Limit::MinLength(1), Limit::MaxLength(253)]),
        ],
        /// Rules; the most specific match of all wins, whatever their order.
        pub rules: Vec<GrpcRouteRule> where [Limit::MaxItems(16)],
    }

    /// One rule.
    pub struct GrpcRouteRule {
        /// Unique in its route.
        pub name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Any of these; none is every call.
        pub matches: Vec<GrpcRouteMatch> where [Limit::MaxItems(64)],
        /// Applied to what matches.
        pub filters: Vec<GrpcRouteFilter> where [Limit::MaxItems(16)],
        /// Where calls go.
        pub backend_refs: Vec<GrpcBackendRef> where [Limit::MaxItems(16)],
        /// Keeps a client at one backend.
        pub session_persistence: Option<SessionPersistence>,
    }

    /// Conditions on a call: all of them must hold.
    pub struct GrpcRouteMatch {
        /// Service and method; unset is any.
        pub method: Option<GrpcMethodMatch>,
        /// Headers.
        pub headers: Vec<HttpHeaderMatch> where [Limit::MaxItems(16)],
    }

    /// A condition on service and method; one of them at least is set.
    pub struct GrpcMethodMatch where [
        Limit::Rule(
            "has(self.service) || has(self.method)",
            "one or both of 'service' or 'method' must be specified",
        ),
    ] {
        /// How; unset is `Exact`.
        pub r#type: Option<MatchType> where [Limit::Default("\"Exact\"")],
        /// The service, with its package.
        pub service: Option<String> where [Limit::MaxLength(1024)],
        /// The method.
        pub method: Option<String> where [Limit::MaxLength(1024)],
    }

    /// What is done with a call that matches.
    pub struct GrpcRouteFilter where [Limit::Required(&["type"])] {
        /// Which of the fields is set.
        pub r#type: String where [Limit::MaxLength(63)],
        /// Changes of request headers.
        pub request_header_modifier: Option<HttpHeaderFilter>,
        /// Changes of response headers.
        pub response_header_modifier: Option<HttpHeaderFilter>,
        /// A copy goes elsewhere.
        pub request_mirror: Option<HttpRequestMirrorFilter>,
        /// A filter of the implementation.
        pub extension_ref: Option<LocalObjectReference>,
    }

    /// A backend and what is done on the way to it.
    pub struct GrpcBackendRef where [Limit::Required(&["name"])] {
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
        pub filters: Vec<GrpcRouteFilter> where [Limit::MaxItems(16)],
    }
}
