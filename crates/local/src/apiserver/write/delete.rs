//! Deletion: at once, after a grace period, or when the last finalizer has gone.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{PATCH_ATTEMPTS, Refused, prepare, written};
use crate::apiserver::admission::{self, Operation};
use crate::apiserver::core::{Core, DEFINITIONS};
use crate::apiserver::error::ApiError;
use crate::apiserver::kinds::Resource;
use crate::apiserver::request::{Call, Target};
use crate::apiserver::selector::Selectors;
use crate::apiserver::{meta, read, serve};
use crate::store::{Expect, Object, StoreError};

/// Namespaces without which there is no cluster.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
struct Options {
    grace: Option<i64>,
    uid: Option<String>,
    revision: Option<String>,
    propagation: Option<String>,
    dry_run: bool,
}

impl Options {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let body = if call.body.is_empty() {
            json!({})
        } else {
            call.json_body()?
        };
        let text = |pointer: &str| meta::text(&body, pointer).map(str::to_owned);
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                ApiError::bad_request(format!("gracePeriodSeconds: {text:?} is not a number"))
            })
        };
        let grace = match (
            body["gracePeriodSeconds"].as_i64(),
            call.parameter("gracePeriodSeconds"),
        ) {
            (Some(seconds), _) => Some(seconds),
            (None, text) => text.map(number).transpose()?,
        };
        let orphans = body["orphanDependents"]
            .as_bool()
            .map(|orphan| if orphan { "Orphan" } else { "Background" });
        let propagation = text("/propagationPolicy")
            .or_else(|| call.parameter("propagationPolicy").map(str::to_owned))
            .or_else(|| orphans.map(str::to_owned));
        let dry_run =
            call.is_dry_run()? || meta::list(&body, "/dryRun").iter().any(|one| one == "All");
        if let Some(policy) = &propagation
            && !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground")
        {
            return Err(ApiError::bad_request(format!(
                "invalid DeletionPropagation {policy:?}: must be Orphan, Background or Foreground"
            )));
        }
        Ok(Self {
            grace,
            uid: text("/preconditions/uid"),
            revision: text("/preconditions/resourceVersion"),
            propagation,
            dry_run,
        })
    }

    fn check(&self, resource: &Resource, object: &Object) -> Result<(), ApiError> {
        let uid = meta::text(&object.value, "/metadata/uid").unwrap_or_default();
        let (what, asked, actual) = match (&self.uid, &self.revision) {
            (Some(asked), _) if asked != uid => ("UID", asked, uid.to_owned()),
            (_, Some(asked)) if *asked != object.revision.to_string() => {
                ("ResourceVersion", asked, object.revision.to_string())
            }
            _ => return Ok(()),
        };
        let why = format!(
            "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {actual}"
        );
        Err(ApiError::conflict(resource, &object.key.name, &why))
    }
}

/// Answers `delete`.
pub(in crate::apiserver) async fn delete(core: &Arc<Core>, call: &Call) -> Result<Value, ApiError> {
    if !call.target.subresource.is_empty() || call.target.resource.virtual_only {
        return Err(ApiError::method_not_allowed("delete"));
    }
    let options = Options::read(call)?;
    delete_one(core, call, &call.target, &options).await
}

async fn delete_one(
    core: &Arc<Core>,
    call: &Call,
    target: &Target,
    options: &Options,
) -> Result<Value, ApiError> {
    for attempt in 1.. {
        let object = read::object(core, target)?;
        options.check(&target.resource, &object)?;
        match try_delete(core, call, target, options, &object).await {
            Err(Refused::Store(StoreError::Conflict)) if attempt < PATCH_ATTEMPTS => {}
            Err(Refused::Store(error)) => {
                return Err(ApiError::from_store(error, &target.resource, &target.name));
            }
            Err(Refused::Api(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        }
    }
    unreachable!("the loop ends by returning")
}

async fn try_delete(
    core: &Arc<Core>,
    call: &Call,
    target: &Target,
    options: &Options,
    object: &Arc<Object>,
) -> Result<Value, Refused> {
    let resource = &target.resource;
    if resource.is("", "namespaces") && IMMORTAL.contains(&target.name.as_str()) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden(resource, &target.name, why).into());
    }
    if !meta::is_deleting(&object.value) {
        let operation = Operation {
            verb: "DELETE",
            old: Some(&object.value),
        };
        admission::validate(core, call, operation, None).await?;
    }
    let mut value = object.value.clone();
    begin(resource, options, &mut value);
    if is_finished(resource, &value) {
        if !options.dry_run {
            core.store
                .delete(object.key.clone(), Some(object.revision))
                .await
                .map_err(Refused::Store)?;
            written(core, resource);
            if resource.storage == DEFINITIONS {
                delete_instances(core, &target.name).await;
            }
        }
        return Ok(
            if resource.is("", "pods") || resource.is("", "namespaces") {
                read::converted(resource, &value)
            } else {
                removed(resource, &value)
            },
        );
    }
    if value == object.value || options.dry_run {
        return Ok(read::converted(resource, &value));
    }
    prepare::bump_generation(resource, &object.value, &mut value);
    let stored = core
        .store
        .put(object.key.clone(), value, Expect::Revision(object.revision))
        .await;
    let stored = stored.map_err(Refused::Store)?;
    written(core, resource);
    Ok(read::converted(resource, &stored.value))
}

/// Removes the objects of a definition that has gone: nobody could reach them any more, and they
/// would come back with the next definition of that name.
async fn delete_instances(core: &Arc<Core>, definition: &str) {
    let (objects, _) = core.store.list(definition, None);
    for object in objects {
        if let Err(error) = core.store.delete(object.key.clone(), None).await {
            tracing::warn!(?error, key = ?object.key, "an object outlives its definition");
        }
    }
}

fn removed(resource: &Resource, value: &Value) -> Value {
    let mut details = json!({"name": meta::name(value), "kind": resource.plural, "uid": value["metadata"]["uid"]});
    if !resource.group.is_empty() {
        details["group"] = Value::String(resource.group.to_string());
    }
    serve::success(details)
}

/// Marks an object as being deleted, with the finalizers that the policy asks for.
fn begin(resource: &Resource, options: &Options, value: &mut Value) {
    match options.propagation.as_deref() {
        Some("Foreground") => meta::add_finalizer(value, "foregroundDeletion"),
        Some("Orphan") => meta::add_finalizer(value, "orphan"),
        _ => {}
    }
    let grace = grace(resource, options, value);
    let before = value
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let metadata = meta::metadata(value);
    // A second deletion can only shorten the first one's grace.
    let grace = before.map_or(grace, |before| before.min(grace));
    if before != Some(grace) || !metadata.contains_key("deletionTimestamp") {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        metadata.insert("deletionTimestamp".into(), meta::timestamp(at).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    }
    if resource.is("", "namespaces") {
        meta::child(value, "status").insert("phase".into(), "Terminating".into());
    }
}

/// Only pods on a node end gracefully.
fn grace(resource: &Resource, options: &Options, value: &Value) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    let bound = meta::text(value, "/spec/nodeName").is_some_and(|node| !node.is_empty());
    let ended = matches!(
        meta::text(value, "/status/phase"),
        Some("Succeeded" | "Failed")
    );
    if !bound || ended {
        return 0;
    }
    let own = value
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}

/// Whether nothing holds a deleted object back any more.
pub(super) fn is_finished(resource: &Resource, value: &Value) -> bool {
    let held = !meta::finalizers(value).is_empty()
        || (resource.is("", "namespaces") && !meta::list(value, "/spec/finalizers").is_empty());
    let grace = value
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    meta::is_deleting(value) && !held && grace == 0
}

/// Answers `deletecollection`.
pub(in crate::apiserver) async fn delete_collection(
    core: &Arc<Core>,
    call: &Call,
) -> Result<Value, ApiError> {
    let target = &call.target;
    let options = Options::read(call)?;
    let selectors = Selectors::parse(&call.query, &target.resource)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let (objects, revision) = core.store.list(&target.resource.storage, namespace);
    let mut items = Vec::new();
    for object in objects
        .iter()
        .filter(|object| selectors.matches(&object.value))
    {
        let one = Target {
            namespace: object.key.namespace.clone(),
            name: object.key.name.clone(),
            ..target.clone()
        };
        match delete_one(core, call, &one, &options).await {
            Ok(_) => items.push(read::converted(&target.resource, &object.value)),
            Err(error) if error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(json!({
        "kind": target.resource.list_kind, "apiVersion": target.resource.api_version(),
        "metadata": {"resourceVersion": revision.to_string()}, "items": items,
    }))
}

/// Answers `POST …/pods/{name}/eviction`; budgets are stored but not enforced.
pub(in crate::apiserver) async fn evict(core: &Arc<Core>, call: &Call) -> Result<Value, ApiError> {
    let body = call.json_body()?;
    let given = &body["deleteOptions"];
    let options = Options {
        grace: given["gracePeriodSeconds"].as_i64(),
        uid: meta::text(given, "/preconditions/uid").map(str::to_owned),
        dry_run: call.is_dry_run()?,
        ..Options::default()
    };
    delete_one(core, call, &call.target, &options).await?;
    Ok(serve::success(Value::Null))
}
