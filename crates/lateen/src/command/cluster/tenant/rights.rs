//! Which rights a tenant has, found by whom a binding names.
//!
//! Tenants may write the bindings of their namespaces, labels and all. Whom one of them gives a role is what
//! counts in the cluster, so that nobody can hide from this and keep the role.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, Subject},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{EVERYBODYS, HOME};

/// The name of the binding that makes somebody a tenant of a namespace.
pub(super) fn binding_of(tenant: &str) -> String {
    format!("lateen-tenant-{tenant}")
}

/// The tenant that a subject is, if it is one.
fn tenant(subject: &Subject) -> Option<&str> {
    let is_account = subject.kind == "ServiceAccount";
    let is_home = subject.namespace.as_deref() == Some(HOME);
    (is_account && is_home).then_some(&*subject.name)
}

fn subjects(binding: &RoleBinding) -> &[Subject] {
    binding.subjects.as_deref().unwrap_or_default()
}

/// Every tenant, with `namespace:role` for each right; none for one that has lost them all.
pub(super) async fn all(client: &Client) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), HOME);
    let accounts = accounts.list(&ListParams::default()).await?.items;
    let names = accounts.iter().map(|account| account.name_any());
    let bindings: Api<RoleBinding> = Api::all(client.clone());
    let bindings = bindings.list(&ListParams::default()).await?.items;
    Ok(table(names, &bindings))
}

fn table(
    names: impl Iterator<Item = String>,
    bindings: &[RoleBinding],
) -> BTreeMap<String, Vec<String>> {
    let names = names.filter(|name| name != EVERYBODYS);
    let mut tenants: BTreeMap<String, Vec<String>> = names.map(|name| (name, Vec::new())).collect();
    for binding in bindings {
        let namespace = binding.namespace().unwrap_or_default();
        let right = format!("{namespace}:{}", binding.role_ref.name);
        for name in subjects(binding).iter().filter_map(tenant) {
            let rights = tenants.entry(name.to_owned()).or_default();
            if !rights.contains(&right) {
                rights.push(right.clone());
            }
        }
    }
    tenants
}

/// What takes a binding from a tenant.
#[derive(Debug, PartialEq)]
enum Step {
    Delete,
    /// Others have it too, and keep it.
    Keep(Vec<Subject>),
}

/// What is to be done with a binding so that it gives the tenant nothing.
fn step(binding: &RoleBinding, name: &str) -> Option<Step> {
    let is_own = binding.name_any() == binding_of(name);
    let others: Vec<Subject> = subjects(binding)
        .iter()
        .filter(|subject| tenant(subject) != Some(name))
        .cloned()
        .collect();
    let gives_it = others.len() < subjects(binding).len();
    match (gives_it, is_own, others.is_empty()) {
        // Whatever has become of it: it was made with the tenant, and goes with it.
        (_, true, _) | (true, _, true) => Some(Step::Delete),
        (true, false, false) => Some(Step::Keep(others)),
        (false, false, _) => None,
    }
}

/// Takes all rights from a tenant; whether there were any.
pub(super) async fn take_away(client: &Client, name: &str) -> anyhow::Result<bool> {
    let all: Api<RoleBinding> = Api::all(client.clone());
    let mut had_any = false;
    for binding in all.list(&ListParams::default()).await?.items {
        let Some(step) = step(&binding, name) else {
            continue;
        };
        had_any = true;
        let namespace = binding.namespace().unwrap_or_default();
        let api: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
        let done = match step {
            Step::Delete => {
                let params = DeleteParams::default();
                api.delete(&binding.name_any(), &params).await.map(drop)
            }
            Step::Keep(subjects) => {
                // For this revision alone: whoever is added meanwhile must not be lost.
                let patch = json!({
                    "metadata": {"resourceVersion": binding.resource_version()},
                    "subjects": subjects,
                });
                let (name, patch) = (binding.name_any(), Patch::Merge(patch));
                let patched = api.patch(&name, &PatchParams::default(), &patch).await;
                patched.map(drop)
            }
        };
        match done {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            done => done?,
        }
    }
    Ok(had_any)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn binding(namespace: &str, name: &str, role: &str, subjects: Value) -> RoleBinding {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        }))
        .expect("a binding")
    }

    fn account(name: &str) -> Value {
        json!({"kind": "ServiceAccount", "name": name, "namespace": HOME})
    }

    #[test]
    fn rights_are_known_by_whom_they_are_given_to() {
        let user = json!({"kind": "User", "name": "bob"});
        let elsewhere = json!({"kind": "ServiceAccount", "name": "ann", "namespace": "shop"});
        let bindings = [
            // Without the label, under a name of the tenant's own, and beside others.
            binding(
                "shop",
                "lateen-tenant-ann",
                "admin",
                json!([account("ann")]),
            ),
            binding("cart", "mine", "edit", json!([account("ann"), user])),
            binding("shop", "again", "admin", json!([account("ann")])),
            binding("shop", "mate", "edit", json!([user, elsewhere])),
        ];
        let names = ["ann", "eve", "default"].map(str::to_owned).into_iter();
        let tenants = table(names, &bindings);
        let shown: Vec<_> = tenants
            .iter()
            .map(|(name, rights)| format!("{name} {}", rights.join(",")))
            .collect();
        assert_eq!(shown, ["ann shop:admin,cart:edit", "eve "]);
        let steps = bindings.each_ref().map(|binding| step(binding, "ann"));
        assert_eq!(steps[0], Some(Step::Delete));
        let Some(Step::Keep(kept)) = &steps[1] else {
            panic!("{:?}", steps[1]);
        };
        assert_eq!(
            kept.iter().map(|one| &*one.name).collect::<Vec<_>>(),
            ["bob"]
        );
        assert_eq!(steps[2], Some(Step::Delete));
        assert_eq!(steps[3], None);
    }

    #[test]
    fn the_binding_of_a_tenant_goes_whomever_it_names_by_now() {
        let user = json!([{"kind": "User", "name": "bob"}]);
        let own = binding("shop", "lateen-tenant-ann", "admin", user);
        assert_eq!(step(&own, "ann"), Some(Step::Delete));
        assert_eq!(step(&own, "eve"), None);
    }
}
