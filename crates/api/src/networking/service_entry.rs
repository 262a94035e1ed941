//! ServiceEntry, WorkloadEntry and WorkloadGroup: what the platform does not know.

use std::collections::BTreeMap;

use super::WorkloadSelector;
use crate::schema::{enumeration, message};

/// Without an address the gateway of the network is meant.
pub(crate) const HAS_ADDRESS: &str =
    "(has(self.address) && self.address != '') || has(self.network)";

/// Keys of maps of ports. Entries within a list are too many for it: there the webhook checks them.
pub(crate) const PORT_NAMES: &str = "!has(self.ports) || self.ports.all(k, k.size() <= 63 && \
     k.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$'))";

message! {
    /// A service that the platform does not list.
    pub struct ServiceEntry where [
        Limit::Required(&["hosts"]),
        Limit::Rule(
            "!has(self.workloadSelector) || !has(self.endpoints) || self.endpoints.size() == 0",
            "only one of WorkloadSelector or Endpoints can be set",
        ),
        Limit::Rule(
            "!has(self.addresses) || !has(self.resolution) || \
             self.resolution in ['NONE', 'STATIC'] || !self.addresses.exists(a, a.contains('/'))",
            "CIDR addresses are allowed only for NONE/STATIC resolution types",
        ),
        Limit::Rule(
            "(has(self.resolution) && self.resolution != 'NONE') || !has(self.endpoints) || \
             self.endpoints.size() == 0",
            "NONE mode cannot set endpoints",
        ),
        Limit::Rule(
            "!has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || \
             !has(self.endpoints) || self.endpoints.size() <= 1",
            "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
        ),
    ] {
        /// Its names.
        pub hosts: Vec<String> where [
            Limit::MinItems(1),
            Limit::MaxItems(256),
            Limit::Each(&[
                Limit::MaxLength(256),
                Limit::Rule("self != '*'", "hostname cannot be wildcard"),
            ]),
        ],
        /// Virtual addresses or CIDRs.
        pub addresses: Vec<String> where [
            Limit::MaxItems(256),
            Limit::Each(&[Limit::MaxLength(64)]),
        ],
        /// Its ports.
        pub ports: Vec<ServicePort> where [
            Limit::MaxItems(256),
            Limit::Rule(
                "self.all(a, self.exists_one(b, a.name == b.name))",
                "Duplicate value: two ports have one name",
            ),
            Limit::Rule(
                "self.all(a, self.exists_one(b, a.number == b.number))",
                "port number cannot be duplicated",
            ),
        ],
        /// In the mesh or not.
        pub location: ServiceLocation,
        /// Where its endpoints come from.
        pub resolution: ServiceResolution,
        /// Fixed endpoints.
        pub endpoints: Vec<WorkloadEntry> where [
            Limit::MaxItems(4096),
            Limit::Each(&[Limit::Rule(HAS_ADDRESS, "Address is required")]),
        ],
        /// Endpoints by label.
        pub workload_selector: Option<WorkloadSelector>,
        /// Namespaces that see this.
        pub export_to: Vec<String> where [
            Limit::MaxItems(256),
            Limit::Each(&[Limit::MaxLength(63)]),
            Limit::Rule(
                "self.size() <= 1 || !self.exists(n, n in ['*', '~'])",
                "* and ~ stand for themselves alone",
            ),
        ],
        /// Names that the server's certificate must have one of.
        pub subject_alt_names: Vec<String>,
    }

    /// A port of a service.
    pub struct ServicePort where [Limit::Required(&["number", "name"])] {
        /// 1 to 65535.
        pub number: u32 where [Limit::Min(1), Limit::Max(65535)],
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String where [Limit::MaxLength(64)],
        /// Label of the port.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// Port of the endpoint; unset is `number`.
        pub target_port: Option<u32> where [Limit::Min(1), Limit::Max(65535)],
    }

    /// A workload that is not a pod.
    pub struct WorkloadEntry where [
        Limit::Rule(
            "!has(self.address) || !self.address.startsWith('unix://') || \
             self.address.substring(7, 8) in ['/', '@']",
            "UDS must be an absolute path or abstract socket",
        ),
        Limit::Rule(
            "!has(self.address) || !self.address.startsWith('unix://') || \
             !self.address.endsWith('/')",
            "UDS may not be a dir",
        ),
        Limit::Rule(
            "!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports) || \
             self.ports.size() == 0",
            "UDS may not include ports",
        ),
    ] {
        /// Address, DNS name or `unix://` path.
        pub address: String where [Limit::MaxLength(256)],
        /// Port number by port name.
        pub ports: BTreeMap<String, u32> where [
            Limit::MaxItems(128),
            Limit::Each(&[Limit::Min(1), Limit::Max(65535)]),
        ],
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Network; equal ones reach each other directly.
        pub network: String,
        /// `region/zone/subzone`.
        pub locality: String,
        /// Share of traffic; zero is unset.
        pub weight: u32,
        /// Its service account, in the object's namespace.
        pub service_account: String,
    }

    /// Workloads of one kind that register themselves.
    pub struct WorkloadGroup where [Limit::Required(&["template"])] {
        /// Labels and annotations of the entries.
        pub metadata: Option<WorkloadGroupMetadata>,
        /// What the entries share.
        pub template: Option<WorkloadEntry>,
        /// Health check.
        pub probe: Option<ReadinessProbe>,
    }

    /// A health check; exactly one of the four ways is set.
    pub struct ReadinessProbe where [Limit::AtMostOne(&["httpGet", "tcpSocket", "exec", "grpc"])] {
        /// Seconds before the first check.
        pub initial_delay_seconds: i32 where [Limit::Min(0)],
        /// Seconds that a check may take; zero is 1.
        pub timeout_seconds: i32 where [Limit::Min(0)],
        /// Seconds between checks; zero is 10.
        pub period_seconds: i32 where [Limit::Min(0)],
        /// Good checks in a row that make it ready; zero is 1.
        pub success_threshold: i32 where [Limit::Min(0)],
        /// Bad checks in a row that make it not ready; zero is 3.
        pub failure_threshold: i32 where [Limit::Min(0)],
        /// A request that is to be answered with 200 to 399.
        pub http_get: Option<HttpHealthCheck>,
        /// A connection that is to be accepted.
        pub tcp_socket: Option<TcpHealthCheck>,
        /// A command that is to end with zero.
        pub exec: Option<ExecHealthCheck>,
        /// gRPC's health service.
        pub grpc: Option<GrpcHealthCheck>,
    }

    /// Health by an HTTP request.
    pub struct HttpHealthCheck {
        /// Path; empty is `/`.
        pub path: String,
        /// Port of the workload.
        pub port: u32 where [Limit::Max(65535)],
        /// Host; empty is the workload itself.
        pub host: String,
        /// `HTTP` (default) or `HTTPS`.
        pub scheme: String,
        /// Headers of the request.
        pub http_headers: Vec<HttpHeader>,
    }

    /// A header of a request.
    pub struct HttpHeader {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// Health by a connection.
    pub struct TcpHealthCheck {
        /// Host; empty is the workload itself.
        pub host: String,
        /// Port.
        pub port: u32 where [Limit::Max(65535)],
    }

    /// Health by a command.
    pub struct ExecHealthCheck {
        /// The command and its arguments, without a shell.
        pub command: Vec<String>,
    }

    /// Health by gRPC.
    pub struct GrpcHealthCheck {
        /// Port of the workload.
        pub port: u32 where [Limit::Max(65535)],
        /// Service to ask for; empty is the whole server.
        pub service: String,
    }

    /// Labels and annotations of the entries.
    pub struct WorkloadGroupMetadata {
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Annotations.
        pub annotations: BTreeMap<String, String>,
    }
}

enumeration! {
    /// In the mesh or not.
    pub enum ServiceLocation {
        /// Not; no mutual TLS by default.
        MeshExternal = "MESH_EXTERNAL",
        /// In it.
        MeshInternal = "MESH_INTERNAL",
    }

    /// Where endpoints come from.
    pub enum ServiceResolution {
        /// The address that the client asked for.
        None = "NONE",
        /// The endpoints listed.
        Static = "STATIC",
        /// DNS, all answers.
        Dns = "DNS",
        /// DNS, the first answer of each connection.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// DNS of the name that the client asked for.
        DynamicDns = "DYNAMIC_DNS",
    }
}
