//! TLSRoute, TCPRoute and UDPRoute: which connection goes where.

use super::{BackendRef, ParentReference};
use crate::schema::message;

message! {
    /// Routing of TLS by the server name.
    pub struct TlsRoute where [Limit::Required(&["hostnames", "rules"])] {
        /// What it attaches itself to.
        pub parent_refs: Vec<ParentReference> where [Limit::MaxItems(32)],
        /// Server names.
        pub hostnames: Vec<String> where [
            Limit::MinItems(1),
            Limit::MaxItems(16),
            Limit::Each(&[Limit::MinLength(1), Limit::MaxLength(253)]),
        ],
        /// Its rule.
        pub rules: Vec<L4RouteRule> where [Limit::MinItems(1), Limit::MaxItems(1)],
    }

    /// Routing of connections.
    pub struct TcpRoute where [Limit::Required(&["rules"])] {
        /// What it attaches itself to.
        pub parent_refs: Vec<ParentReference> where [Limit::MaxItems(32)],
        /// Its rule.
        pub rules: Vec<L4RouteRule> where [Limit::MinItems(1), Limit::MaxItems(1)],
    }

    /// Routing of datagrams.
    pub struct UdpRoute where [Limit::Required(&["rules"])] {
        /// What it attaches itself to.
        pub parent_refs: Vec<ParentReference> where [Limit::MaxItems(32)],
        /// Its rule.
        pub rules: Vec<L4RouteRule> where [Limit::MinItems(1), Limit::MaxItems(1)],
    }

    /// Where connections go.
    pub struct L4RouteRule where [Limit::Required(&["backendRefs"])] {
        /// Unique in its route.
        pub name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// The backends.
        pub backend_refs: Vec<BackendRef> where [Limit::MinItems(1), Limit::MaxItems(16)],
    }
}
