//! Judges one document: every fault at once, each with its field, its reason and what to do.

mod common;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod proxy_config;
mod security;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_group;

use std::{collections::BTreeMap, sync::LazyLock};

use lateen_api::{Kind, Object, kinds};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Fault,
    fault::{Faults, Path},
    shape, unsupported,
};
pub(crate) use common::is_token;

/// All faults of a document; none means that it is valid. A kind that the mesh does not define is
/// not judged.
pub fn validate(document: &Value) -> Vec<Fault> {
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let mut faults = Faults::default();
    let Some(kind) = kinds::find(api_version, kind) else {
        unknown_kind(api_version, kind, &mut faults);
        return faults.0;
    };
    internal_annotations(document, &mut faults);
    let at = Path::root("spec");
    let spec = document.get("spec").unwrap_or(&Value::Null);
    if spec.is_null() {
        faults.add(&at, "Required value", "add a spec");
        return faults.0;
    }
    shape::check(spec, schema(kind), &at, &mut faults);
    // What has the wrong shape cannot be read, so its meaning is judged only once the shape is right.
    // Unknown fields do not hinder reading.
    let readable = faults
        .0
        .iter()
        .all(|fault| fault.reason == shape::UNKNOWN_FIELD);
    if readable {
        judge(kind.kind, document, &mut faults);
        shape::limits(spec, schema(kind), &at, &mut faults);
    }
    faults.0
}

/// Everything that the webhook says of a document by itself: what it refuses, also because the mesh
/// would not enforce it, and what it warns of.
pub fn review(document: &Value) -> (Vec<Fault>, Vec<String>) {
    let (mut faults, mut warnings) = (validate(document), Vec::new());
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    if let Some(kind) = kinds::find(text("apiVersion"), text("kind")) {
        unsupported::not_in_force(kind.kind, &mut faults, &mut warnings);
        unsupported::check(kind.kind, document, &mut faults, &mut warnings);
    }
    (faults, warnings)
}

/// Schemas are made once: they are large, and the same for all documents of a kind.
fn schema(kind: &Kind) -> &'static Value {
    static SCHEMAS: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
        kinds::ALL
            .iter()
            .map(|kind| (kind.kind, kind.spec_schema()))
            .collect()
    });
    SCHEMAS.get(kind.kind).unwrap_or(&Value::Null)
}

/// What such an annotation says of an object that the mesh made, nobody else may say.
fn internal_annotations(document: &Value, faults: &mut Faults) {
    let annotations = document.pointer("/metadata/annotations");
    let names = annotations.and_then(Value::as_object).into_iter().flatten();
    for (name, _) in names.filter(|(name, _)| name.starts_with(crate::gateway_api::INTERNAL)) {
        let root = Path::root("metadata");
        let at = root.field("annotations");
        faults.add(&at.key(name), "reserved for the mesh itself", "remove it");
    }
}

fn unknown_kind(api_version: &str, kind: &str, faults: &mut Faults) {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(known) = kinds::ALL
        .iter()
        .find(|k| k.group == group && k.kind == kind)
    {
        faults.add(
            &Path::root("apiVersion"),
            format!("{group} has no version {version:?} of {kind}"),
            format!("use {}", known.api_version()),
        );
    }
}

fn judge(kind: &str, document: &Value, faults: &mut Faults) {
    match kind {
        "VirtualService" => read(document, faults, virtual_service::check),
        "DestinationRule" => read(document, faults, destination_rule::check),
        "Gateway" => read(document, faults, gateway::check),
        "ServiceEntry" => read(document, faults, service_entry::check),
        "WorkloadEntry" => read(document, faults, service_entry::check_workload_entry),
        "WorkloadGroup" => read(document, faults, workload_group::check),
        "Sidecar" => read(document, faults, sidecar::check),
        "EnvoyFilter" => read(document, faults, envoy_filter::check),
        "ProxyConfig" => read(document, faults, proxy_config::check),
        "PeerAuthentication" => {
            read(document, faults, |object, faults| {
                security::check_peer(object, document, faults)
            });
        }
        "AuthorizationPolicy" => read(document, faults, security::check_authorization),
        _ => {}
    }
}

fn read<T: DeserializeOwned>(
    document: &Value,
    faults: &mut Faults,
    check: impl FnOnce(&Object<T>, &mut Faults),
) {
    match Object::from_value(document) {
        Ok(object) => check(&object, faults),
        Err(error) => faults.add(&Path::root("spec"), error.to_string(), ""),
    }
}

#[cfg(test)]
mod tests;
