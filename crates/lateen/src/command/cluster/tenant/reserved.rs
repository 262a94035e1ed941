//! Namespaces that no tenant is given: whoever writes one of them is the master of more than it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::{ConfigMap, Namespace},
    rbac::v1::{ClusterRoleBinding, RoleBinding, Subject},
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde_yaml_ng::Value;

use lateen_local::HOST_USERS;

use super::HOME;

/// What is a cluster's or a mesh's by its name, whether or not it is there. In `default` is the Service by
/// which all pods reach the API server.
const NAMES: [&str; 3] = ["istio-system", "default", HOME];
const PREFIX: &str = "kube-";
/// The ConfigMap of a mesh's settings, and what begins those of its revisions.
const MESH: &str = "istio";
/// The groups of service accounts, by namespace.
const ACCOUNTS: &str = "system:serviceaccounts:";
/// What begins the name of a service account as a user; its namespace and its own name follow.
const ACCOUNT: &str = "system:serviceaccount:";

/// Refuses what is reserved in every cluster.
pub(super) fn check_name(namespace: &str) -> anyhow::Result<()> {
    if NAMES.contains(&namespace) || namespace.starts_with(PREFIX) {
        bail!(
            "namespace {namespace} is the cluster's own or the mesh's, and no tenant's; name another"
        );
    }
    Ok(())
}

/// Refuses what is reserved by how this cluster is set up. What other tenants have opened to whoever has a
/// namespace is their own affair, and told.
pub(super) async fn check_use(client: &Client, namespaces: &[String]) -> anyhow::Result<()> {
    let (reserved, opened) = in_use(client)
        .await
        .context("cannot find out which namespaces are the mesh's")?;
    for namespace in namespaces {
        if let Some(why) = reserved.get(namespace) {
            bail!("namespace {namespace} is no tenant's, as {why}; name another");
        }
        if let Some(why) = opened.get(namespace) {
            eprintln!("Warning: {why}, which whoever has namespace {namespace} may use");
        }
    }
    Ok(())
}

/// Namespaces by a reason.
type Reasons = BTreeMap<String, String>;

/// Namespaces by why nobody is given them, and by what tenants of others have opened to them.
async fn in_use(client: &Client) -> anyhow::Result<(Reasons, Reasons)> {
    let all = ListParams::default();
    let of_tenants = ListParams::default().labels(&format!("{HOST_USERS}=false"));
    let tenants: Api<Namespace> = Api::all(client.clone());
    let tenants = tenants.list(&of_tenants).await?.items;
    let tenants: BTreeSet<String> = tenants.iter().map(Namespace::name_any).collect();
    let mut opened = BTreeMap::new();
    let mut reserved = BTreeMap::new();
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for one in hooks.list(&all).await?.items {
        let services = one.webhooks.iter().flatten();
        let services = services.filter_map(|hook| hook.client_config.service.clone());
        let places = services.map(|service| service.namespace);
        note_hooks(&mut reserved, &one.name_any(), places);
    }
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for one in hooks.list(&all).await?.items {
        let services = one.webhooks.iter().flatten();
        let services = services.filter_map(|hook| hook.client_config.service.clone());
        let places = services.map(|service| service.namespace);
        note_hooks(&mut reserved, &one.name_any(), places);
    }
    let maps: Api<ConfigMap> = Api::all(client.clone());
    for map in maps.list(&all).await?.items {
        if let Some(root) = root_namespace(&map, &reserved) {
            let why = format!(
                "ConfigMap {} of {} names it as the root namespace of the mesh",
                map.name_any(),
                map.namespace().unwrap_or_default()
            );
            reserved.entry(root).or_insert(why);
        }
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    for binding in bindings.list(&all).await?.items {
        let named = format!("ClusterRoleBinding {}", binding.name_any());
        let subjects = binding.subjects.iter().flatten();
        note_binding(&mut reserved, subjects, &named, "the whole cluster", None);
    }
    let bindings: Api<RoleBinding> = Api::all(client.clone());
    for binding in bindings.list(&all).await?.items {
        let place = binding.namespace().unwrap_or_default();
        let named = format!("RoleBinding {} of {place}", binding.name_any());
        let subjects = binding.subjects.iter().flatten();
        let (of_place, own) = (format!("namespace {place}"), Some(&*place));
        // Tenants bind whom they like in what is theirs, and keep nobody from a namespace by it.
        let noted = match tenants.contains(&place) {
            true => &mut opened,
            false => &mut reserved,
        };
        note_binding(noted, subjects, &named, &of_place, own);
    }
    Ok((reserved, opened))
}

/// Whoever answers a webhook decides about everybody's objects.
fn note_hooks(
    reserved: &mut BTreeMap<String, String>,
    name: &str,
    namespaces: impl Iterator<Item = String>,
) {
    for namespace in namespaces {
        let why = format!("webhook {name} is answered there");
        reserved.entry(namespace).or_insert(why);
    }
}

/// The root namespace that a mesh's settings name. They count where its control plane is.
fn root_namespace(map: &ConfigMap, reserved: &BTreeMap<String, String>) -> Option<String> {
    let name = map.name_any();
    let is_mesh = name == MESH || name.strip_prefix(MESH)?.starts_with('-');
    if !is_mesh || !reserved.contains_key(&map.namespace()?) {
        return None;
    }
    let settings: Value = serde_yaml_ng::from_str(map.data.as_ref()?.get("mesh")?).ok()?;
    let root = settings.get("rootNamespace")?.as_str()?;
    (!root.is_empty()).then(|| root.to_owned())
}

/// Whoever may make pods or tokens in a namespace has what its accounts have. Rights in that namespace
/// itself, `own`, are the tenant's as well.
fn note_binding<'a>(
    reserved: &mut BTreeMap<String, String>,
    subjects: impl Iterator<Item = &'a Subject>,
    binding: &str,
    place: &str,
    own: Option<&str>,
) {
    for subject in subjects {
        let namespace = match &*subject.kind {
            "ServiceAccount" => subject.namespace.as_deref(),
            "Group" => subject.name.strip_prefix(ACCOUNTS),
            "User" => account_of(&subject.name),
            _ => None,
        };
        // Tenants themselves may have been given more by the administrator.
        let namespace = namespace.filter(|it| *it != HOME && Some(*it) != own);
        if let Some(namespace) = namespace {
            let why = format!("{binding} gives an account of it rights in {place}");
            reserved.entry(namespace.to_owned()).or_insert(why);
        }
    }
}

/// The namespace of a service account that is named as a user.
fn account_of(user: &str) -> Option<&str> {
    let account = user.strip_prefix(ACCOUNT)?;
    account.split_once(':').map(|(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_control_planes_namespaces_are_no_tenants() {
        for namespace in [
            "istio-system",
            "kube-system",
            "kube-public",
            "default",
            HOME,
        ] {
            assert!(check_name(namespace).is_err(), "{namespace}");
        }
        check_name("shop").expect("a tenant's");
    }

    #[test]
    fn what_a_cluster_is_run_from_is_reserved() {
        let mut reserved = BTreeMap::new();
        note_hooks(&mut reserved, "injector", ["mesh".to_owned()].into_iter());
        let map = |namespace: &str, name: &str| -> ConfigMap {
            let mesh = "rootNamespace: roots\n";
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": namespace}, "data": {"mesh": mesh},
            }))
            .expect("a ConfigMap")
        };
        let root = |namespace, name| root_namespace(&map(namespace, name), &reserved);
        assert_eq!(root("mesh", "istio").as_deref(), Some("roots"));
        assert_eq!(root("mesh", "istio-canary").as_deref(), Some("roots"));
        // A tenant's own, and another of the mesh's.
        assert_eq!(root("shop", "istio"), None);
        assert_eq!(root("mesh", "istiox"), None);
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "all"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "a", "namespace": "tools"},
                {"kind": "ServiceAccount", "name": "ann", "namespace": HOME},
                {"kind": "Group", "name": "system:serviceaccounts:jobs"},
                {"kind": "Group", "name": "system:authenticated"},
                {"kind": "User", "name": "system:serviceaccount:users:bob"},
                {"kind": "User", "name": "bob"},
            ],
        }))
        .expect("a binding");
        let subjects = || binding.subjects.iter().flatten();
        note_binding(&mut reserved, subjects(), "a binding", "all", None);
        let names: Vec<_> = reserved.keys().map(String::as_str).collect();
        assert_eq!(names, ["jobs", "mesh", "tools", "users"]);
        let mut reserved = BTreeMap::new();
        note_binding(
            &mut reserved,
            subjects(),
            "a binding",
            "tools",
            Some("tools"),
        );
        let names: Vec<_> = reserved.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["jobs", "users"],
            "rights at home are no more than a tenant has"
        );
    }
}
