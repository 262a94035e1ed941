//! ServiceEntry, WorkloadEntry and WorkloadGroup: what the platform does not know.

use std::collections::BTreeMap;

use serde_json::Value;

use super::WorkloadSelector;
use crate::schema::{enumeration, message};

message! {
    /// A service that the platform does not list.
    pub struct ServiceEntry {
        /// Its names.
        pub hosts: Vec<String>,
        /// Virtual addresses or CIDRs.
        pub addresses: Vec<String>,
        /// Its ports.
        pub ports: Vec<ServicePort>,
        /// In the mesh or not.
        pub location: ServiceLocation,
        /// Where its endpoints come from.
        pub resolution: ServiceResolution,
        /// Fixed endpoints.
        pub endpoints: Vec<WorkloadEntry>,
        /// Endpoints by label.
        pub workload_selector: Option<WorkloadSelector>,
        /// Namespaces that see this.
        pub export_to: Vec<String>,
        /// Names that the server's certificate must have one of.
        pub subject_alt_names: Vec<String>,
    }

    /// A port of a service.
    pub struct ServicePort {
        /// 1 to 65535.
        pub number: u32,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String,
        /// Label of the port.
        pub name: String,
        /// Port of the endpoint; unset is `number`.
        pub target_port: Option<u32>,
    }

    /// A workload that is not a pod.
    pub struct WorkloadEntry {
        /// Address, DNS name or `unix://` path.
        pub address: String,
        /// Port number by port name.
        pub ports: BTreeMap<String, u32>,
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
    pub struct WorkloadGroup {
        /// Labels and annotations of the entries.
        pub metadata: Option<WorkloadGroupMetadata>,
        /// What the entries share.
        pub template: Option<WorkloadEntry>,
        /// Health check.
        pub probe: Option<Value>,
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
