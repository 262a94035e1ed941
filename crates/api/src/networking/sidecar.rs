//! Sidecar: what a workload's proxy sees and listens on.

use super::{ConnectionPoolSettings, Destination, Port, ServerTlsSettings, WorkloadSelector};
use crate::schema::{enumeration, message};

message! {
    /// Scope of the proxies that the selector picks.
    pub struct Sidecar {
        /// Whose; none is the whole namespace.
        pub workload_selector: Option<WorkloadSelector>,
        /// Inbound listeners.
        pub ingress: Vec<IstioIngressListener> where [Limit::MaxItems(512)],
        /// Outbound listeners and the hosts they know.
        pub egress: Vec<IstioEgressListener> where [Limit::MaxItems(1024)],
        /// Limits of inbound traffic.
        pub inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What happens to unknown destinations.
        pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// An inbound listener.
    pub struct IstioIngressListener where [Limit::Required(&["port"])] {
        /// Port and protocol.
        pub port: Option<Port>,
        /// Address to listen on.
        pub bind: String,
        /// How traffic gets here.
        pub capture_mode: CaptureMode,
        /// Where the application listens.
        pub default_endpoint: String,
        /// How the connection is secured.
        pub tls: Option<ServerTlsSettings>,
        /// Limits.
        pub connection_pool: Option<ConnectionPoolSettings>,
    }

    /// An outbound listener.
    pub struct IstioEgressListener where [Limit::Required(&["hosts"])] {
        /// Port and protocol; none is all.
        pub port: Option<Port>,
        /// Address to listen on.
        pub bind: String,
        /// How traffic gets here.
        pub capture_mode: CaptureMode,
        /// `namespace/host`, with `.`, `*` and `~`.
        pub hosts: Vec<String> where [
            Limit::MinItems(1),
            Limit::MaxItems(4096),
            Limit::Each(&[Limit::MaxLength(512), Limit::Pattern("^[^/]+/.+$")]),
        ],
    }

    /// What happens to unknown destinations.
    pub struct OutboundTrafficPolicy where [
        Limit::Rule(
            "!has(self.egressProxy) || (has(self.mode) && self.mode == 'ALLOW_ANY')",
            "egressProxy can be set with ALLOW_ANY alone",
        ),
    ] {
        /// Let through or refuse.
        pub mode: OutboundTrafficMode,
        /// Send there instead.
        pub egress_proxy: Option<Destination>,
    }
}

enumeration! {
    /// How traffic gets to a listener.
    pub enum CaptureMode {
        /// As the environment has it.
        Default = "DEFAULT",
        /// Redirected.
        Iptables = "IPTABLES",
        /// The application connects to it.
        None = "NONE",
    }

    /// What happens to unknown destinations.
    pub enum OutboundTrafficMode {
        /// Refused.
        RegistryOnly = "REGISTRY_ONLY",
        /// Let through.
        AllowAny = "ALLOW_ANY",
        /// Let through, resolving the name asked for.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }
}
