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
];
