//! Reads an EnvoyFilter into patches. What cannot be read is named; the rest holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::networking::{
    ApplyTo, EnvoyConfigObjectPatch, EnvoyFilter, PatchOperation, ProxyMatch,
};
use lateen_api::{Kind, Object, kinds};
use lateen_core::ObjectRef;
use lateen_xds::names::PREFIX;
use lateen_xds::{NamedMessage, json};
use regex::Regex;
use serde_json::Value;
use tracing::warn;

use super::edit::Edit;
use super::when::When;
use super::{Patch, PatchReport, What, legacy};

/// One EnvoyFilter.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) object: Arc<Object<EnvoyFilter>>,
    pub(super) patches: Vec<(OfProxy, Arc<Patch>)>,
    /// What cannot be read.
    pub(super) unread: Vec<PatchReport>,
}

/// What a patch asks of the proxy.
#[derive(Debug, Default)]
pub(super) struct OfProxy {
    version: Option<Regex>,
    metadata: BTreeMap<String, String>,
}

impl OfProxy {
    pub(super) fn holds(&self, version: &str, metadata: &BTreeMap<String, String>) -> bool {
        let says = |(key, value): (&String, &String)| metadata.get(key) == Some(value);
        self.version.as_ref().is_none_or(|of| of.is_match(version))
            && self.metadata.iter().all(says)
    }

    fn new(of: Option<&ProxyMatch>) -> Result<OfProxy, String> {
        let Some(of) = of else {
            return Ok(OfProxy::default());
        };
        let version = (!of.proxy_version.is_empty()).then(|| Regex::new(&of.proxy_version));
        Ok(OfProxy {
            version: version
                .transpose()
                .map_err(|error| format!("match.proxy.proxyVersion: {error}"))?,
            metadata: of.metadata.clone(),
        })
    }
}

impl Compiled {
    pub(super) fn new(object: &Arc<Object<EnvoyFilter>>) -> Compiled {
        const KIND: Kind = kinds::ENVOY_FILTER;
        let name = ObjectRef::new(KIND.kind, &object.meta.namespace, &object.meta.name);
        let mut compiled = Compiled {
            object: object.clone(),
            patches: Vec::new(),
            unread: Vec::new(),
        };
        for (n, patch) in object.spec.config_patches.iter().enumerate() {
            let at = format!("spec.configPatches[{n}]");
            compiled.add(&name, at, read_patch(patch));
        }
        for (n, filter) in object.spec.filters.iter().enumerate() {
            let at = format!("spec.filters[{n}]");
            let read = legacy::compile(filter);
            let read = read.map(|(when, what)| (OfProxy::default(), when, what));
            compiled.add(&name, at, read);
        }
        compiled
    }

    fn add(
        &mut self,
        object: &ObjectRef,
        field: String,
        read: Result<(OfProxy, When, What), String>,
    ) {
        match read {
            Ok((of_proxy, when, what)) => {
                let patch = Patch::new(object, field, when, what);
                self.patches.push((of_proxy, patch));
            }
            Err(fault) => {
                warn!(%object, field, fault, "a patch cannot be read");
                self.unread.push(PatchReport {
                    object: object.clone(),
                    field,
                    applied: 0,
                    fault: Some(fault),
                });
            }
        }
    }
}

fn read_patch(of: &EnvoyConfigObjectPatch) -> Result<(OfProxy, When, What), String> {
    let of_proxy = OfProxy::new(of.r#match.as_ref().and_then(|m| m.proxy.as_ref()))?;
    let what = match of.apply_to {
        ApplyTo::Listener => What::Listener(edit(of)?),
        ApplyTo::ListenerFilter => What::ListenerFilter(edit(of)?),
        ApplyTo::FilterChain => What::FilterChain(edit(of)?),
        ApplyTo::NetworkFilter => What::NetworkFilter(edit(of)?),
        ApplyTo::HttpFilter => What::HttpFilter(edit(of)?),
        ApplyTo::RouteConfiguration => What::Routes(edit(of)?),
        ApplyTo::VirtualHost => What::VirtualHost(edit(of)?),
        ApplyTo::HttpRoute => What::Route(edit(of)?),
        ApplyTo::Cluster => What::Cluster(edit(of)?),
        ApplyTo::ExtensionConfig => What::Extension(edit(of)?),
        ApplyTo::Bootstrap => What::Bootstrap(edit(of)?),
        ApplyTo::Invalid => return Err("applyTo: say what kind of object is patched".into()),
    };
    Ok((of_proxy, When::new(of.r#match.as_ref()), what))
}

fn edit<M: NamedMessage>(of: &EnvoyConfigObjectPatch) -> Result<Edit<M>, String> {
    let patch = of.patch.as_ref().ok_or("patch: say what is done")?;
    let operation = patch.operation;
    if !is_possible(of.apply_to, operation) {
        return Err(format!(
            "patch.operation: {operation} has no meaning for {}",
            of.apply_to
        ));
    }
    let value = if operation == PatchOperation::Remove {
        M::default()
    } else {
        read(patch.value.clone())?
    };
    Ok(Edit {
        operation,
        value: Box::new(value),
        class: patch.filter_class,
    })
}

fn is_possible(apply_to: ApplyTo, operation: PatchOperation) -> bool {
    use PatchOperation as Do;
    let changes = matches!(operation, Do::Merge | Do::MergeAndReplaceList);
    let inserts = matches!(
        operation,
        Do::InsertBefore | Do::InsertAfter | Do::InsertFirst
    );
    match apply_to {
        ApplyTo::RouteConfiguration => changes,
        ApplyTo::ExtensionConfig => operation == Do::Add,
        // The whole is not known here.
        ApplyTo::Bootstrap => operation == Do::Merge,
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::VirtualHost | ApplyTo::Cluster => {
            !inserts && operation != Do::Invalid
        }
        _ => operation != Do::Invalid,
    }
}

/// Reads a message, or a part of one.
pub(super) fn read<M: NamedMessage>(mut value: Value) -> Result<M, String> {
    untangle(&mut value);
    json::from_value(value).map_err(|error| format!("value: {error}"))
}

/// Writes a `TypedStruct` as the message that it stands for, where that is known: a merge meets its
/// fields, and a misspelt one is found here and not by each proxy.
fn untangle(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(untangle),
        Value::Object(fields) => {
            fields.values_mut().for_each(untangle);
            let held_as = fields.get("@type").and_then(Value::as_str);
            let is_struct = held_as.is_some_and(|url| url.ends_with(".TypedStruct"));
            let url = ["type_url", "typeUrl"];
            let url = url.iter().find_map(|key| fields.get(*key)?.as_str());
            let Some(url) = url.filter(|_| is_struct).map(str::to_owned) else {
                return;
            };
            if !url.strip_prefix(PREFIX).is_some_and(json::knows) {
                return;
            }
            let mut held = match fields.get_mut("value").map(Value::take) {
                Some(Value::Object(held)) => held,
                _ => serde_json::Map::new(),
            };
            held.insert("@type".into(), Value::String(url));
            *fields = held;
        }
        _ => {}
    }
}
