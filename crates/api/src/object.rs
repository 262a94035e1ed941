//! A Kubernetes-style object around a typed spec.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The part of `metadata` that the mesh reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name, unique per kind and namespace.
    pub name: String,
    /// Namespace; empty for what is cluster wide or not yet placed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::schema::nullable"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::schema::nullable"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The store's version of the object, opaque.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// What tells it from an object of the same name that was there before, opaque.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Counts changes of the spec.
    #[serde(skip_serializing_if = "crate::schema::is_default")]
    pub generation: i64,
    /// When the object was made; the older wins where two objects compete.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::schema::nullable"
    )]
    pub creation_timestamp: Option<Timestamp>,
}

/// A typed spec and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Object<T> {
    /// Who it is.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What it says.
    pub spec: T,
}

/// Why a document is not an object of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// `metadata` is missing or of the wrong shape.
    #[error("metadata: {0}")]
    Metadata(serde_json::Error),
    /// `spec` is of the wrong shape.
    #[error("spec: {0}")]
    Spec(serde_json::Error),
}

impl<T: DeserializeOwned> Object<T> {
    /// Reads a whole document (`apiVersion`, `kind`, `metadata`, `spec`); an absent spec is empty.
    pub fn from_value(value: &Value) -> Result<Self, ObjectError> {
        let meta = value.get("metadata").unwrap_or(&Value::Null);
        let meta = Meta::deserialize(meta).map_err(ObjectError::Metadata)?;
        let empty = Value::Object(serde_json::Map::new());
        let spec = value
            .get("spec")
            .filter(|spec| !spec.is_null())
            .unwrap_or(&empty);
        let spec = T::deserialize(spec).map_err(ObjectError::Spec)?;
        Ok(Self { meta, spec })
    }
}

impl<T> Object<T> {
    /// `namespace/name`, for logs and messages.
    pub fn key(&self) -> String {
        format!("{}/{}", self.meta.namespace, self.meta.name)
    }
}
