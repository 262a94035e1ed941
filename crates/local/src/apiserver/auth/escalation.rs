//! Nobody gives rights that they do not have: a role may hold, and a binding may give, only what
//! its writer may do, unless the writer may `escalate` or `bind`.

use http::StatusCode;
use serde_json::{Value, json};

use super::User;
use super::rbac::{self, Attributes};
use crate::apiserver::core::Core;
use crate::apiserver::error::ApiError;
use crate::apiserver::meta;
use crate::apiserver::request::Call;

/// Refuses a role or binding that gives more than its writer has.
pub(in crate::apiserver) fn check(
    core: &Core,
    call: &Call,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    if resource.group != "rbac.authorization.k8s.io" || call.user.is_master() {
        return Ok(());
    }
    let is_binding = resource.plural.ends_with("bindings");
    let keys: &[&str] = match is_binding {
        true => &["roleRef", "subjects"],
        false => &["rules", "aggregationRule"],
    };
    // By their labels roles become part of others.
    let labels = "/metadata/labels";
    if old.is_some_and(|old| {
        keys.iter().all(|key| old[*key] == new[*key]) && old.pointer(labels) == new.pointer(labels)
    }) {
        return Ok(());
    }
    let namespace = call.target.namespace.as_str();
    let (given, permission) = match is_binding {
        true => (
            rbac::rules_of(core, new, namespace),
            binding(new, namespace),
        ),
        false => (role_rules(old, new), role(call, new)),
    };
    if rbac::allows(core, &call.user, &permission) {
        return Ok(());
    }
    let own = rbac::rules(core, &call.user, namespace);
    match given.iter().find(|rule| !covers(&own, rule)) {
        None => Ok(()),
        Some(rule) => Err(refusal(call, new, rule)),
    }
}

/// What a role gives. One that takes the rules of others may come to give anything.
fn role_rules(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let mut rules = meta::list(new, "/rules").to_vec();
    let aggregation = |role: &Value| role.get("aggregationRule").cloned().unwrap_or_default();
    let now = aggregation(new);
    if !now.is_null() && old.map(aggregation) != Some(now) {
        rules.push(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
        rules.push(json!({"nonResourceURLs": ["*"], "verbs": ["*"]}));
    }
    rules
}

/// The permission to write any role.
fn role(call: &Call, new: &Value) -> Attributes {
    Attributes {
        verb: "escalate".into(),
        group: call.target.resource.group.to_string(),
        resource: call.target.resource.plural.to_string(),
        namespace: call.target.namespace.clone(),
        name: meta::name(new).to_owned(),
        ..Attributes::default()
    }
}

/// The permission to bind that role to anybody.
fn binding(new: &Value, namespace: &str) -> Attributes {
    let is_role = meta::text(new, "/roleRef/kind") == Some("Role");
    Attributes {
        verb: "bind".into(),
        group: "rbac.authorization.k8s.io".into(),
        resource: if is_role { "roles" } else { "clusterroles" }.into(),
        namespace: namespace.to_owned(),
        name: meta::text(new, "/roleRef/name")
            .unwrap_or_default()
            .to_owned(),
        ..Attributes::default()
    }
}

fn refusal(call: &Call, new: &Value, rule: &Value) -> ApiError {
    let User { name, groups, .. } = &call.user;
    let message = format!(
        "{} {:?} is forbidden: user {name:?} (groups={groups:?}) is attempting to grant RBAC permissions not currently held:\n{rule}",
        call.target.resource.qualified(),
        meta::name(new),
    );
    ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// Whether every single right of a rule is among those of others.
fn covers(own: &[Value], rule: &Value) -> bool {
    let texts = |key: &str| -> Vec<String> {
        let list = meta::list(rule, &format!("/{key}")).iter();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let or_any = |list: Vec<String>| {
        if list.is_empty() {
            vec![String::new()]
        } else {
            list
        }
    };
    let held = |wanted: &Attributes| own.iter().any(|rule| rbac::rule_allows(rule, wanted));
    for verb in texts("verbs") {
        for path in texts("nonResourceURLs") {
            let wanted = Attributes {
                verb: verb.clone(),
                path: Some(path),
                ..Attributes::default()
            };
            if !held(&wanted) {
                return false;
            }
        }
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                let (plural, sub) = resource.split_once('/').unwrap_or((&resource, ""));
                for name in or_any(texts("resourceNames")) {
                    let wanted = Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: plural.to_owned(),
                        subresource: sub.to_owned(),
                        name,
                        ..Attributes::default()
                    };
                    if !held(&wanted) {
                        return false;
                    }
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_takes_the_rules_of_others_may_give_anything() {
        let own = [json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})];
        let plain =
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
        let mut taking = plain.clone();
        taking["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        let all_covered = |old, new| role_rules(old, new).iter().all(|rule| covers(&own, rule));
        assert!(all_covered(None, &plain));
        assert!(!all_covered(None, &taking));
        assert!(!all_covered(Some(&plain), &taking));
        assert!(all_covered(Some(&taking), &taking));
    }

    #[test]
    fn rules_cover_what_they_hold() {
        let own = [
            json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}),
            json!({"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]}),
        ];
        let check = |rule: Value, expect: bool| assert_eq!(covers(&own, &rule), expect, "{rule}");
        check(
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}),
            true,
        );
        check(
            json!({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["list"]}),
            true,
        );
        check(
            json!({"apiGroups": ["apps"], "resources": ["deployments", "x/scale"], "verbs": ["update"]}),
            true,
        );
        check(
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}),
            false,
        );
        check(
            json!({"apiGroups": ["", "*"], "resources": ["pods"], "verbs": ["get"]}),
            false,
        );
        check(
            json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
            false,
        );
        check(
            json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}),
            false,
        );
    }
}
