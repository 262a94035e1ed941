//! Custom resources: what a CustomResourceDefinition adds to the served kinds.

pub(super) mod cel;
pub(super) mod schema;

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::Resource;
use super::meta;

/// What is particular to one served version of a custom resource.
#[derive(Debug)]
pub(crate) struct CustomVersion {
    /// `openAPIV3Schema`, if any.
    pub schema: Option<Value>,
    /// The rules of the schema, compiled.
    pub rules: cel::Rules,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Value>,
    /// Field selectors beyond name and namespace, as `spec.color`.
    pub selectable_fields: Vec<String>,
    /// `subresources.scale`, if any.
    pub scale: Option<Value>,
}

/// The resources that one definition serves.
#[must_use]
pub(crate) fn resources(definition: &Value) -> Vec<Resource> {
    let text = |pointer: &str| meta::text(definition, pointer).unwrap_or_default();
    let words = |pointer: &str| -> Vec<arcstr::ArcStr> {
        meta::list(definition, pointer)
            .iter()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect()
    };
    let (group, plural, kind) = (
        text("/spec/group"),
        text("/spec/names/plural"),
        text("/spec/names/kind"),
    );
    let versions = meta::list(definition, "/spec/versions");
    let storage_version = versions
        .iter()
        .find(|version| version["storage"] == true)
        .and_then(|version| meta::text(version, "/name"))
        .unwrap_or_default();
    versions
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| Resource {
            group: group.into(),
            version: meta::text(version, "/name").unwrap_or_default().into(),
            plural: plural.into(),
            singular: meta::text(definition, "/spec/names/singular")
                .map_or_else(|| kind.to_lowercase(), str::to_owned)
                .into(),
            kind: kind.into(),
            list_kind: meta::text(definition, "/spec/names/listKind")
                .map_or_else(|| format!("{kind}List"), str::to_owned)
                .into(),
            namespaced: text("/spec/scope") == "Namespaced",
            short_names: words("/spec/names/shortNames"),
            categories: words("/spec/names/categories"),
            status: version.pointer("/subresources/status").is_some(),
            scale: version.pointer("/subresources/scale").is_some(),
            storage: format!("{plural}.{group}").into(),
            storage_version: storage_version.into(),
            custom: Some(Arc::new(custom_version(version))),
            virtual_only: false,
            read_only: false,
        })
        .collect()
}

fn custom_version(version: &Value) -> CustomVersion {
    let schema = version.pointer("/schema/openAPIV3Schema");
    CustomVersion {
        schema: schema.cloned(),
        rules: schema.map(cel::Rules::of).unwrap_or_default(),
        columns: meta::list(version, "/additionalPrinterColumns").to_vec(),
        selectable_fields: meta::list(version, "/selectableFields")
            .iter()
            .filter_map(|field| meta::text(field, "/jsonPath"))
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect(),
        scale: version.pointer("/subresources/scale").cloned(),
    }
}

/// Accepts the names and declares the definition established, in `status`.
pub(crate) fn establish(definition: &mut Value, old: Option<&Value>) {
    let names = definition
        .pointer("/spec/names")
        .cloned()
        .unwrap_or_default();
    let storage: Vec<Value> = meta::list(definition, "/spec/versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    let mut stored = old
        .map(|old| meta::list(old, "/status/storedVersions").to_vec())
        .unwrap_or_default();
    stored.extend(
        storage
            .into_iter()
            .filter(|name| !stored.contains(name))
            .collect::<Vec<_>>(),
    );
    let since = old
        .and_then(|old| meta::text(old, "/status/conditions/0/lastTransitionTime"))
        .map_or_else(meta::now, str::to_owned);
    let terminating = meta::is_deleting(definition);
    let mut conditions = vec![
        json!({"type": "NamesAccepted", "status": "True", "lastTransitionTime": since,
               "reason": "NoConflicts", "message": "no conflicts found"}),
        json!({"type": "Established", "status": "True", "lastTransitionTime": since,
               "reason": "InitialNamesAccepted", "message": "the initial names have been accepted"}),
    ];
    if terminating {
        conditions.push(json!({"type": "Terminating", "status": "True", "lastTransitionTime": meta::now(),
            "reason": "InstanceDeletionPending", "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"}));
    }
    definition["status"] =
        json!({"acceptedNames": names, "storedVersions": stored, "conditions": conditions});
}
