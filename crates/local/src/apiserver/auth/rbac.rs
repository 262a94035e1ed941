//! Role-based access control over the stored roles and bindings.

use serde_json::Value;

use super::User;
use crate::apiserver::core::Core;
use crate::apiserver::meta;

/// What a user wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::apiserver) struct Attributes {
    pub(in crate::apiserver) verb: String,
    pub(in crate::apiserver) group: String,
    pub(in crate::apiserver) resource: String,
    pub(in crate::apiserver) subresource: String,
    pub(in crate::apiserver) namespace: String,
    pub(in crate::apiserver) name: String,
    /// Set instead of the above for paths that are not about objects.
    pub(in crate::apiserver) path: Option<String>,
}

const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// Whether some binding lets the user do it.
pub(in crate::apiserver) fn allows(core: &Core, user: &User, wanted: &Attributes) -> bool {
    user.is_master()
        || rules(core, user, &wanted.namespace)
            .iter()
            .any(|rule| rule_allows(rule, wanted))
}

/// Every rule that holds for the user, in the cluster and in the namespace.
pub(in crate::apiserver) fn rules(core: &Core, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    let (bindings, _) = core.store.list(CLUSTER_BINDINGS, None);
    for binding in bindings
        .iter()
        .filter(|binding| binds(&binding.value, user, ""))
    {
        rules.extend(rules_of(core, &binding.value, ""));
    }
    if !namespace.is_empty() {
        let (bindings, _) = core.store.list(BINDINGS, Some(namespace));
        for binding in bindings
            .iter()
            .filter(|binding| binds(&binding.value, user, namespace))
        {
            rules.extend(rules_of(core, &binding.value, namespace));
        }
    }
    rules
}

fn binds(binding: &Value, user: &User, namespace: &str) -> bool {
    meta::list(binding, "/subjects").iter().any(|subject| {
        let text = |pointer: &str| meta::text(subject, pointer).unwrap_or_default();
        match text("/kind") {
            "User" => text("/name") == user.name,
            "Group" => user.groups.iter().any(|group| group == text("/name")),
            "ServiceAccount" => {
                let of = meta::text(subject, "/namespace").unwrap_or(namespace);
                user.name == format!("system:serviceaccount:{of}:{}", text("/name"))
            }
            _ => false,
        }
    })
}

/// The rules of the role that a binding names.
pub(super) fn rules_of(core: &Core, binding: &Value, namespace: &str) -> Vec<Value> {
    let name = meta::text(binding, "/roleRef/name").unwrap_or_default();
    let role = match meta::text(binding, "/roleRef/kind") {
        Some("ClusterRole") => core.get(CLUSTER_ROLES, "", name),
        Some("Role") if !namespace.is_empty() => core.get(ROLES, namespace, name),
        _ => None,
    };
    role.map(|role| meta::list(&role.value, "/rules").to_vec())
        .unwrap_or_default()
}

/// Whether one rule lets it be done.
pub(super) fn rule_allows(rule: &Value, wanted: &Attributes) -> bool {
    let has = |list: &str, matches: &dyn Fn(&str) -> bool| {
        meta::list(rule, list)
            .iter()
            .filter_map(Value::as_str)
            .any(|one| one == "*" || matches(one))
    };
    if !has("/verbs", &|verb| verb == wanted.verb) {
        return false;
    }
    if let Some(path) = &wanted.path {
        return has("/nonResourceURLs", &|one| match one.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => one == path,
        });
    }
    let resource = match wanted.subresource.as_str() {
        "" => wanted.resource.clone(),
        sub => format!("{}/{sub}", wanted.resource),
    };
    let any_parent = format!("*/{}", wanted.subresource);
    let names = meta::list(rule, "/resourceNames");
    has("/apiGroups", &|group| group == wanted.group)
        && has("/resources", &|one| {
            one == resource || (!wanted.subresource.is_empty() && one == any_parent)
        })
        && (names.is_empty()
            || (!wanted.name.is_empty() && names.iter().any(|name| *name == wanted.name)))
}

impl Attributes {
    /// Why it is refused, in the words that `kubectl` users know.
    pub(in crate::apiserver) fn refusal(&self, user: &User) -> String {
        if let Some(path) = &self.path {
            return format!("User {:?} cannot {} path {path:?}", user.name, self.verb);
        }
        let resource = match self.subresource.as_str() {
            "" => self.resource.clone(),
            sub => format!("{}/{sub}", self.resource),
        };
        let place = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            user.name, self.verb, self.group
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(verb: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_match() {
        let rule = json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]});
        assert!(rule_allows(&rule, &wanted("get", "pods", "", "a")));
        assert!(rule_allows(&rule, &wanted("get", "pods", "log", "a")));
        assert!(!rule_allows(&rule, &wanted("get", "pods", "status", "a")));
        assert!(!rule_allows(&rule, &wanted("delete", "pods", "", "a")));
        let named = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"], "resourceNames": ["x"]});
        assert!(rule_allows(&named, &wanted("get", "secrets", "", "x")));
        assert!(!rule_allows(&named, &wanted("get", "secrets", "", "y")));
        assert!(!rule_allows(&named, &wanted("list", "secrets", "", "")));
        let path = json!({"nonResourceURLs": ["/apis/*"], "verbs": ["get"]});
        let get = Attributes {
            verb: "get".into(),
            path: Some("/apis/x".into()),
            ..Attributes::default()
        };
        assert!(rule_allows(&path, &get));
    }
}
