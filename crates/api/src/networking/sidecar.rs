//! Sidecar: what a workload's proxy sees and listens on.

use super::{ConnectionPoolSettings, Destination, Port, ServerTlsSettings, WorkloadSelector};
use crate::schema::{enumeration, message};

message! {
    /// Scope of the proxies that the selector picks.
    pub struct Sidecar {
        /// Whose; none is the whole namespace.
        pub workload_selector: Option<WorkloadSelector>,
        /// Inbound listeners.
        pub ingress: Vec<IstioIngressListener>,
        /// Outbound listeners and the hosts they know.
        pub egress: Vec<IstioEgressListener>,
        /// Limits of inbound traffic.
        pub inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What happens to unknown destinations.
        pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// An inbound listener.
    pub struct IstioIngressListener {
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
    pub struct IstioEgressListener {
        /// Port and protocol; none is all.
        pub port: Option<Port>,
        /// Address to listen on.
        pub bind: String,
        /// How traffic gets here.
        pub capture_mode: CaptureMode,
        /// `namespace/host`, with `.`, `*` and `~`.
        pub hosts: Vec<String>,
    }

    /// What happens to unknown destinations.
    pub struct OutboundTrafficPolicy {
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
    }
}
