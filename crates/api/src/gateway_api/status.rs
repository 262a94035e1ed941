//! What the control plane says of Gateway API objects.

use super::ParentReference;
use crate::{schema::message, status::Condition};

message! {
    /// Status of a GatewayClass.
    pub struct GatewayClassStatus {
        /// `Accepted` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
        /// Features that the class supports, in alphabetical order.
        pub supported_features: Vec<SupportedFeature> where [Limit::MaxItems(64)],
    }

    /// A feature by its name in the conformance suite.
    pub struct SupportedFeature {
        /// The name.
        pub name: String,
    }

    /// Status of a Gateway.
    pub struct GatewayStatus {
        /// Where it can be reached.
        pub addresses: Vec<GatewayStatusAddress> where [Limit::MaxItems(16)],
        /// `Accepted`, `Programmed` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
        /// Status of each listener.
        pub listeners: Vec<ListenerStatus> where [Limit::MaxItems(64)],
        /// How many ListenerSets are attached.
        pub attached_listener_sets: Option<i32>,
    }

    /// Status of a ListenerSet.
    pub struct ListenerSetStatus {
        /// `Accepted`, `Programmed` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
        /// Status of each listener.
        pub listeners: Vec<ListenerStatus> where [Limit::MaxItems(64)],
    }

    /// An address of a Gateway.
    pub struct GatewayStatusAddress {
        /// `IPAddress` (default) or `Hostname`.
        pub r#type: Option<String>,
        /// The address.
        pub value: String,
    }

    /// Status of a listener.
    pub struct ListenerStatus {
        /// Its name.
        pub name: String,
        /// Kinds of routes that it takes.
        pub supported_kinds: Vec<RouteGroupKind> where [Limit::MaxItems(8)],
        /// How many routes are attached; it must be written, zero too.
        pub attached_routes: Option<i32>,
        /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
    }

    /// A kind of route.
    pub struct RouteGroupKind where [Limit::Required(&["kind"])] {
        /// API group; unset is the Gateway API's.
        pub group: Option<String> where [Limit::MaxLength(253), Limit::Default("\"gateway.networking.k8s.io\"")],
        /// Kind.
        pub kind: String where [Limit::MinLength(1), Limit::MaxLength(63)],
    }

    /// Status of a route of any kind.
    pub struct RouteStatus {
        /// Status at each parent, ours and others'.
        pub parents: Vec<RouteParentStatus> where [Limit::MaxItems(32)],
    }

    /// Status of a route at one parent.
    pub struct RouteParentStatus {
        /// The parent, as the route names it.
        pub parent_ref: Option<ParentReference>,
        /// Who says this.
        pub controller_name: String,
        /// `Accepted`, `ResolvedRefs` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
    }

    /// Status of a policy.
    pub struct PolicyStatus {
        /// Status at each ancestor of what it is attached to.
        pub ancestors: Vec<PolicyAncestorStatus> where [Limit::MaxItems(16)],
    }

    /// Status of a policy at one ancestor.
    pub struct PolicyAncestorStatus {
        /// The ancestor.
        pub ancestor_ref: Option<ParentReference>,
        /// Who says this.
        pub controller_name: String,
        /// `Accepted`, `ResolvedRefs` and others.
        pub conditions: Vec<Condition> where [Limit::MaxItems(8)],
    }
}
