//! Kubernetes' Gateway API (`gateway.networking.k8s.io`): what of it is read and written.
//!
//! Names of fields, their bounds and their defaults are those of the specification. The API server
//! fills in defaults by the definitions; where that did not happen, absence means the same.

mod deployment;
mod gateway;
mod grpc_route;
mod http_route;
mod l4_route;
mod policy;
mod status;

pub use deployment::*;
pub use gateway::*;
pub use grpc_route::*;
pub use http_route::*;
pub use l4_route::*;
pub use policy::*;
pub use status::*;

use crate::schema::{enumeration, message};

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";

message! {
    /// What a route attaches itself to: a Gateway, a ListenerSet or a Service.
    pub struct ParentReference where [Limit::Required(&["name"])] {
        /// API group; unset is [`GROUP`], empty is core.
        pub group: Option<String> where [Limit::MaxLength(253), Limit::Default("\"gateway.networking.k8s.io\"")],
        /// Kind; unset is `Gateway`.
        pub kind: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63), Limit::Default("\"Gateway\"")],
        /// Namespace; unset is the route's own.
        pub namespace: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// A listener's name, or a port's; unset is all of them.
        pub section_name: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// A listener's port, or a Service's; unset is all of them.
        pub port: Option<u32> where [Limit::Min(1), Limit::Max(65535)],
    }

    /// An object in any namespace.
    pub struct ObjectReference where [Limit::Required(&["group", "kind", "name"])] {
        /// API group; empty is core.
        pub group: Option<String> where [Limit::MaxLength(253)],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Namespace; unset is the referrer's own.
        pub namespace: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63)],
    }

    /// A Secret, or the like, in any namespace.
    pub struct SecretObjectReference where [Limit::Required(&["name"])] {
        /// API group; unset and empty are core.
        pub group: Option<String> where [Limit::MaxLength(253), Limit::Default("\"\"")],
        /// Kind; unset is `Secret`.
        pub kind: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63), Limit::Default("\"Secret\"")],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Namespace; unset is the referrer's own.
        pub namespace: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63)],
    }

    /// An object in the referrer's namespace.
    pub struct LocalObjectReference where [Limit::Required(&["group", "kind", "name"])] {
        /// API group; empty is core.
        pub group: Option<String> where [Limit::MaxLength(253)],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
    }

    /// Where traffic goes, and its share of it.
    pub struct BackendRef where [Limit::Required(&["name"])] {
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
    }

    /// A header and its value.
    pub struct HttpHeaderValue where [Limit::Required(&["name", "value"])] {
        /// Name, of which case does not count.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// Value.
        pub value: String where [Limit::MinLength(1), Limit::MaxLength(4096)],
    }

    /// Header changes.
    pub struct HttpHeaderFilter {
        /// Overwrite.
        pub set: Vec<HttpHeaderValue> where [Limit::MaxItems(16)],
        /// Append.
        pub add: Vec<HttpHeaderValue> where [Limit::MaxItems(16)],
        /// Take away.
        pub remove: Vec<String> where [Limit::MaxItems(16)],
    }

    /// A part of the requests: `numerator` of `denominator`.
    pub struct Fraction where [
        Limit::Required(&["numerator"]),
        Limit::Rule(
            "!has(self.denominator) ? self.numerator <= 100 : self.numerator <= self.denominator",
            "numerator must be less than or equal to denominator",
        ),
    ] {
        /// How many.
        pub numerator: i32 where [Limit::Min(0)],
        /// Of how many; unset is 100.
        pub denominator: Option<i32> where [Limit::Min(1), Limit::Default("100")],
    }

    /// Sends a copy of requests elsewhere, and forgets the answer.
    pub struct HttpRequestMirrorFilter where [
        Limit::Required(&["backendRef"]),
        Limit::AtMostOne(&["percent", "fraction"]),
    ] {
        /// Where to; its weight has no meaning.
        pub backend_ref: Option<BackendRef>,
        /// Share; unset is all, unless a fraction says otherwise.
        pub percent: Option<i32> where [Limit::Min(0), Limit::Max(100)],
        /// Share.
        pub fraction: Option<Fraction>,
    }

    /// Keeps a client at one backend.
    pub struct SessionPersistence {
        /// Name of the cookie or header.
        pub session_name: Option<String> where [Limit::MaxLength(128)],
        /// How long from its start; a Gateway API duration.
        pub absolute_timeout: Option<String> where [Limit::MaxLength(64)],
        /// How long without use.
        pub idle_timeout: Option<String> where [Limit::MaxLength(64)],
        /// By cookie (default) or header.
        pub r#type: Option<SessionPersistenceType> where [Limit::Default("\"Cookie\"")],
        /// Settings of the cookie.
        pub cookie_config: Option<CookieConfig>,
    }

    /// Settings of a session's cookie.
    pub struct CookieConfig {
        /// How long the client keeps it; unset is `Session`.
        pub lifetime_type: Option<CookieLifetimeType> where [Limit::Default("\"Session\"")],
    }
}

enumeration! {
    /// What carries a session.
    pub enum SessionPersistenceType {
        /// A cookie.
        Cookie = "Cookie",
        /// A header.
        Header = "Header",
    }

    /// How long a client keeps a cookie.
    pub enum CookieLifetimeType {
        /// Until it ends its session.
        Session = "Session",
        /// Until the absolute timeout.
        Permanent = "Permanent",
    }
}

#[cfg(test)]
mod tests;
