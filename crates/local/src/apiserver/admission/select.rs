//! Which webhooks a request concerns.

use std::sync::Arc;

use serde_json::Value;

use super::Operation;
use crate::apiserver::core::Core;
use crate::apiserver::kinds::Resource;
use crate::apiserver::meta;
use crate::apiserver::request::Call;
use crate::apiserver::selector::LabelSelector;

/// The version to show to the webhook, if it is concerned at all.
pub(super) fn matches(
    core: &Core,
    call: &Call,
    webhook: &Value,
    operation: Operation<'_>,
    object: Option<&Value>,
) -> Option<Arc<Resource>> {
    let equivalent = webhook["matchPolicy"] != "Exact";
    let rules = meta::list(webhook, "/rules");
    let own = &call.target.resource;
    let kinds = core.kinds();
    let others = kinds
        .all
        .iter()
        .filter(|other| equivalent && other.is(&own.group, &own.plural));
    let shown = std::iter::once(own).chain(others).find(|resource| {
        rules
            .iter()
            .any(|rule| rule_matches(rule, resource, &call.target.subresource, operation.verb))
    })?;
    let by_object = LabelSelector::from_object(webhook.get("objectSelector"));
    let labelled = [object, operation.old]
        .into_iter()
        .flatten()
        .any(|object| by_object.matches(object));
    (labelled && namespace_matches(core, call, webhook, object.or(operation.old)))
        .then(|| Arc::clone(shown))
}

fn rule_matches(rule: &Value, resource: &Resource, subresource: &str, verb: &str) -> bool {
    let has = |list: &str, matches: &dyn Fn(&str) -> bool| {
        meta::list(rule, list)
            .iter()
            .filter_map(Value::as_str)
            .any(|one| one == "*" || matches(one))
    };
    let scope = match meta::text(rule, "/scope") {
        Some("Namespaced") => resource.namespaced,
        Some("Cluster") => !resource.namespaced,
        _ => true,
    };
    let resources = meta::list(rule, "/resources")
        .iter()
        .filter_map(Value::as_str)
        .any(|one| {
            let (plural, sub) = one.split_once('/').unwrap_or((one, ""));
            (plural == "*" || resource.plural == plural)
                && (sub == subresource || (sub == "*" && one.contains('/')))
        });
    scope
        && resources
        && has("/operations", &|one| one == verb)
        && has("/apiGroups", &|one| resource.group == one)
        && has("/apiVersions", &|one| resource.version == one)
}

fn namespace_matches(core: &Core, call: &Call, webhook: &Value, object: Option<&Value>) -> bool {
    let selector = LabelSelector::from_object(webhook.get("namespaceSelector"));
    let resource = &call.target.resource;
    if resource.is("", "namespaces") {
        return object.is_some_and(|object| selector.matches(object));
    }
    if !resource.namespaced {
        return true;
    }
    let namespace = core.get("namespaces", "", &call.target.namespace);
    namespace.is_some_and(|namespace| selector.matches(&namespace.value))
}
