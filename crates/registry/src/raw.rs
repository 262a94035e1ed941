//! The mesh's own objects as they were written, for galley to judge.

use std::sync::Arc;

use lateen_api::{Kind, kinds};
use lateen_core::ObjectRef;
use serde_json::Value;

use crate::SharedMap;

/// All objects at one moment. Unchanged objects are the same allocation as in the set before.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// Whole documents.
    pub objects: SharedMap<ObjectRef, Arc<Value>>,
    /// Key `mesh` of ConfigMap `istio`, as YAML.
    pub mesh: Option<Arc<str>>,
    /// Its key `meshNetworks`.
    pub networks: Option<Arc<str>>,
}

/// The kinds that are watched.
pub const WATCHED_KINDS: &[Kind] = &[
    kinds::VIRTUAL_SERVICE,
    kinds::DESTINATION_RULE,
    kinds::GATEWAY,
    kinds::SERVICE_ENTRY,
    kinds::WORKLOAD_ENTRY,
    kinds::SIDECAR,
    kinds::PEER_AUTHENTICATION,
    kinds::ENVOY_FILTER,
    kinds::PROXY_CONFIG,
    kinds::gateway_api::GATEWAY_CLASS,
    kinds::gateway_api::KUBERNETES_GATEWAY,
    kinds::gateway_api::LISTENER_SET,
    kinds::gateway_api::HTTP_ROUTE,
    kinds::gateway_api::GRPC_ROUTE,
    kinds::gateway_api::TLS_ROUTE,
    kinds::gateway_api::TCP_ROUTE,
    kinds::gateway_api::UDP_ROUTE,
    kinds::gateway_api::REFERENCE_GRANT,
    kinds::gateway_api::BACKEND_TLS_POLICY,
    kinds::gateway_api::INGRESS,
    kinds::gateway_api::INGRESS_CLASS,
];
