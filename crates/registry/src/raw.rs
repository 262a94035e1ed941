//! The mesh's own objects as they were written, for galley to judge.

use std::{collections::BTreeMap, sync::Arc};

use lateen_api::{Kind, kinds};
use serde_json::Value;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// All objects at one moment. Unchanged objects are the same allocation as in the set before.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// Whole documents.
    pub objects: BTreeMap<ObjectKey, Arc<Value>>,
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
];
