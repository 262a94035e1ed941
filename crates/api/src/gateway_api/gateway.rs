//! GatewayClass, Gateway and ListenerSet: where traffic comes in.

use std::collections::BTreeMap;

use super::{LocalObjectReference, ObjectReference, RouteGroupKind, SecretObjectReference};
use crate::{
    mesh::NamespaceSelector,
    schema::{enumeration, message},
};

message! {
    /// A kind of gateways, and who runs them.
    pub struct GatewayClass where [Limit::Required(&["controllerName"])] {
        /// Who runs them.
        pub controller_name: String where [
            Limit::MinLength(1),
            Limit::MaxLength(253),
            Limit::Rule("self == oldSelf", "Value is immutable"),
        ],
        /// Settings of the controller.
        pub parameters_ref: Option<ObjectReference>,
        /// For people.
        pub description: Option<String> where [Limit::MaxLength(64)],
    }

    /// A place where traffic comes in.
    pub struct Gateway where [Limit::Required(&["gatewayClassName", "listeners"])] {
        /// Its class.
        pub gateway_class_name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Its listeners.
        pub listeners: Vec<Listener> where [
            Limit::MinItems(1),
            Limit::MaxItems(64),
            Limit::Rule(
                "self.all(a, self.exists_one(b, a.name == b.name))",
                "Listener name must be unique within the Gateway",
            ),
        ],
        /// Addresses that are asked for.
        pub addresses: Vec<GatewaySpecAddress> where [Limit::MaxItems(16)],
        /// What its infrastructure is to have.
        pub infrastructure: Option<GatewayInfrastructure>,
        /// Which ListenerSets may attach themselves; unset is none.
        pub allowed_listeners: Option<AllowedListeners>,
        /// TLS towards clients and backends.
        pub tls: Option<GatewayTlsConfig>,
    }

    /// An address that is asked for.
    pub struct GatewaySpecAddress {
        /// `IPAddress` (default) or `Hostname`.
        pub r#type: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253), Limit::Default("\"IPAddress\"")],
        /// The address; empty is any of the type.
        pub value: String where [Limit::MaxLength(253)],
    }

    /// What a gateway's infrastructure is to have.
    pub struct GatewayInfrastructure {
        /// Labels of the objects that are made.
        pub labels: BTreeMap<String, String> where [Limit::MaxItems(8)],
        /// Annotations of the objects that are made.
        pub annotations: BTreeMap<String, String> where [Limit::MaxItems(8)],
        /// Settings.
        pub parameters_ref: Option<LocalObjectReference>,
    }

    /// Which ListenerSets may attach themselves.
    pub struct AllowedListeners {
        /// Of which namespaces.
        pub namespaces: Option<ListenerNamespaces> where [Limit::Default("{\"from\": \"None\"}")],
    }

    /// Namespaces of ListenerSets.
    pub struct ListenerNamespaces {
        /// Which; unset is `None`.
        pub from: Option<FromNamespaces> where [Limit::Default("\"None\"")],
        /// For `Selector`.
        pub selector: Option<NamespaceSelector>,
    }

    /// A port, a protocol and a host.
    pub struct Listener where [Limit::Required(&["name", "port", "protocol"])] {
        /// Unique in its Gateway.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Host; unset is all.
        pub hostname: Option<String> where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Port.
        pub port: u32 where [Limit::Min(1), Limit::Max(65535)],
        /// `HTTP`, `HTTPS`, `TLS`, `TCP` or `UDP`.
        pub protocol: String where [Limit::MinLength(1), Limit::MaxLength(255)],
        /// How TLS is ended or passed through.
        pub tls: Option<ListenerTlsConfig>,
        /// Which routes may attach themselves; unset is those of the same namespace.
        pub allowed_routes: Option<AllowedRoutes> where [Limit::Default("{\"namespaces\": {\"from\": \"Same\"}}")],
    }

    /// How a listener does TLS.
    pub struct ListenerTlsConfig {
        /// Ended (default) or passed through.
        pub mode: Option<TlsModeType> where [Limit::Default("\"Terminate\"")],
        /// Certificates.
        pub certificate_refs: Vec<SecretObjectReference> where [Limit::MaxItems(64)],
        /// Settings of the implementation.
        pub options: BTreeMap<String, String> where [Limit::MaxItems(16)],
    }

    /// TLS of a Gateway as a whole.
    pub struct GatewayTlsConfig {
        /// Towards backends.
        pub backend: Option<GatewayBackendTls>,
        /// Towards clients.
        pub frontend: Option<FrontendTlsConfig>,
    }

    /// TLS towards backends.
    pub struct GatewayBackendTls {
        /// The gateway's own certificate.
        pub client_certificate_ref: Option<SecretObjectReference>,
    }

    /// TLS towards clients.
    pub struct FrontendTlsConfig {
        /// For all ports of HTTPS.
        pub default: Option<FrontendTls>,
        /// For single ports.
        pub per_port: Vec<TlsPortConfig> where [Limit::MaxItems(64)],
    }

    /// TLS towards the clients of one port.
    pub struct TlsPortConfig where [Limit::Required(&["port", "tls"])] {
        /// The port.
        pub port: u32 where [Limit::Min(1), Limit::Max(65535)],
        /// What holds there.
        pub tls: Option<FrontendTls>,
    }

    /// Whether and how clients prove who they are.
    pub struct FrontendTls {
        /// How certificates of clients are verified.
        pub validation: Option<FrontendTlsValidation>,
    }

    /// How certificates of clients are verified.
    pub struct FrontendTlsValidation where [Limit::Required(&["caCertificateRefs"])] {
        /// Roots: ConfigMaps with `ca.crt`, or Secrets.
        pub ca_certificate_refs: Vec<ObjectReference> where [
            Limit::MinItems(1),
            Limit::MaxItems(8),
        ],
        /// Whether a client without a valid certificate is let in.
        pub mode: Option<FrontendValidationMode> where [Limit::Default("\"AllowValidOnly\"")],
    }

    /// Which routes may attach themselves.
    pub struct AllowedRoutes {
        /// Of which namespaces.
        pub namespaces: Option<RouteNamespaces> where [Limit::Default("{\"from\": \"Same\"}")],
        /// Of which kinds; none is those that the protocol suggests.
        pub kinds: Vec<RouteGroupKind> where [Limit::MaxItems(8)],
    }

    /// Namespaces of routes.
    pub struct RouteNamespaces {
        /// Which; unset is `Same`.
        pub from: Option<FromNamespaces> where [Limit::Default("\"Same\"")],
        /// For `Selector`.
        pub selector: Option<NamespaceSelector>,
    }

    /// More listeners for a Gateway of another owner.
    pub struct ListenerSet where [Limit::Required(&["parentRef", "listeners"])] {
        /// The Gateway.
        pub parent_ref: Option<ParentGatewayReference>,
        /// The listeners.
        pub listeners: Vec<Listener> where [
            Limit::MinItems(1),
            Limit::MaxItems(64),
            Limit::Rule(
                "self.all(a, self.exists_one(b, a.name == b.name))",
                "Listener name must be unique within the ListenerSet",
            ),
        ],
    }

    /// The Gateway of a ListenerSet.
    pub struct ParentGatewayReference where [Limit::Required(&["name"])] {
        /// API group; unset is the Gateway API's.
        pub group: Option<String> where [Limit::MaxLength(253), Limit::Default("\"gateway.networking.k8s.io\"")],
        /// Kind; unset is `Gateway`.
        pub kind: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63), Limit::Default("\"Gateway\"")],
        /// Name.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(253)],
        /// Namespace; unset is the ListenerSet's own.
        pub namespace: Option<String> where [Limit::MinLength(1), Limit::MaxLength(63)],
    }
}

enumeration! {
    /// Which namespaces.
    pub enum FromNamespaces {
        /// The same.
        Same = "Same",
        /// All.
        All = "All",
        /// Those that the selector picks.
        Selector = "Selector",
        /// None.
        None = "None",
    }

    /// How a listener does TLS.
    pub enum TlsModeType {
        /// Ends it.
        Terminate = "Terminate",
        /// Passes it through.
        Passthrough = "Passthrough",
    }

    /// Whether a client without a valid certificate is let in.
    pub enum FrontendValidationMode {
        /// No.
        AllowValidOnly = "AllowValidOnly",
        /// Yes.
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}
