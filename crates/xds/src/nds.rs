//! The names that the agent beside a proxy answers, as Istio's control plane tells them.
//!
//! Two messages, written by hand; the type is [`TypeUrl::NAME_TABLE`], of which there is one
//! resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TypeUrl;

/// Hosts with their addresses.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct NameTable {
    /// By host name, which may begin with `*.`.
    #[prost(btree_map = "string, message", tag = "1")]
    #[serde(default)]
    pub table: BTreeMap<String, NameInfo>,
}

impl prost::Name for NameTable {
    const NAME: &'static str = "NameTable";
    const PACKAGE: &'static str = "istio.networking.nds.v1";

    fn type_url() -> String {
        TypeUrl::NAME_TABLE.as_str().to_owned()
    }
}

/// What is known of a host.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct NameInfo {
    /// Its addresses, of both families.
    #[prost(string, repeated, tag = "1")]
    #[serde(default)]
    pub ips: Vec<String>,
    /// Who told of it: `Kubernetes`, or `External`.
    #[prost(string, tag = "2")]
    #[serde(default)]
    pub registry: String,
    /// For a service of Kubernetes, its name alone; clients may use it, with the namespace or in it.
    #[prost(string, tag = "3")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shortname: String,
    /// For a service of Kubernetes, its namespace.
    #[prost(string, tag = "4")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// The registry whose services have short names.
pub const KUBERNETES: &str = "Kubernetes";
/// The registry of hosts that users name.
pub const EXTERNAL: &str = "External";
