//! What control planes make by themselves, beside what is installed, and which of it others still use.

use std::collections::{BTreeMap, BTreeSet};

use kube::{api::DynamicObject, core::TypeMeta};
use lateen_api::kinds::gateway_api::GATEWAY_CLASS;
use lateen_galley::CLASS;
use lateen_install::{REVISION, is_owned};
use serde_json::json;

use crate::{
    apply::Applier,
    command::install::{INJECTOR, Removal},
    discovery::{GATEWAY_CONTROLLER, is_lease},
};

/// The ConfigMap that the control plane writes into every namespace.
const ROOT: &str = "istio-ca-root-cert";
/// The Secret with the authority that a control plane made for itself.
const AUTHORITY: &str = "istio-ca-secret";
const AUTHORITY_TYPE: &str = "istio.io/ca-root";

fn kind(api_version: &str, kind: &str) -> TypeMeta {
    TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    }
}

/// Control planes that no installation of this program made, such as Istio's: their revisions, by
/// namespace. What control planes make by themselves has the same names everywhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Others(BTreeMap<String, BTreeSet<String>>);

impl Others {
    /// Those of the cluster, by what runs and by what has pods injected.
    pub(super) async fn find(applier: &mut Applier) -> anyhow::Result<Self> {
        let mut others = Others::default();
        let deployments = kind("apps/v1", "Deployment");
        for object in applier.list(&deployments, "app=istiod").await? {
            let namespace = object.metadata.namespace.clone();
            others.note(&object, namespace);
        }
        let injectors = kind("admissionregistration.k8s.io/v1", INJECTOR);
        for object in applier.list(&injectors, "app=sidecar-injector").await? {
            let service = object
                .data
                .pointer("/webhooks/0/clientConfig/service/namespace");
            let namespace = service.and_then(|it| it.as_str()).map(str::to_owned);
            others.note(&object, namespace);
        }
        Ok(others)
    }

    fn note(&mut self, object: &DynamicObject, namespace: Option<String>) {
        let labels = object.metadata.labels.as_ref();
        if labels.is_some_and(is_owned) {
            return;
        }
        let revision = labels.and_then(|labels| labels.get(REVISION));
        let revision = revision.map_or("default", String::as_str).to_owned();
        let namespace = namespace.unwrap_or_default();
        self.0.entry(namespace).or_default().insert(revision);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one in the namespace.
    fn are_in(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// Whether a pod of a control plane, by its revision, is theirs.
    pub(super) fn have(&self, namespace: &str, revision: Option<&str>) -> bool {
        let revision = revision.unwrap_or("default");
        let theirs = self.0.get(namespace);
        theirs.is_some_and(|revisions| revisions.contains(revision))
    }

    /// The namespaces that they are in.
    pub(super) fn namespaces(&self) -> String {
        let names = self.0.keys().filter(|name| !name.is_empty());
        let names: Vec<&str> = names.map(String::as_str).collect();
        match names.is_empty() {
            true => "another cluster".to_owned(),
            false => names.join(", "),
        }
    }
}

/// What control planes in these namespaces made by themselves: the root certificate everywhere, the
/// class of Gateways, the authority's key, and the Leases by which one of them leads. What others use
/// as well is not in it.
pub(super) async fn spread(
    applier: &mut Applier,
    homes: &BTreeSet<String>,
    others: &Others,
) -> anyhow::Result<Vec<Removal>> {
    let mut all = Vec::new();
    if others.is_empty() {
        let maps = kind("v1", "ConfigMap");
        let roots = applier.list(&maps, "istio.io/config=true").await?;
        all.extend(roots.into_iter().filter_map(Removal::of));
        all.retain(|removal| removal.name() == ROOT);
        let classes = kind(&GATEWAY_CLASS.api_version(), GATEWAY_CLASS.kind);
        let classes = applier.list(&classes, "").await?.into_iter();
        all.extend(classes.filter(is_declared).filter_map(Removal::of));
    }
    let leases = kind("coordination.k8s.io/v1", "Lease");
    let leases = applier.list(&leases, "").await?.into_iter();
    let leases = leases.filter_map(Removal::of);
    let homes = homes.iter().filter(|home| !others.are_in(home));
    let homes: BTreeSet<&str> = homes.map(String::as_str).collect();
    let is_home = |removal: &Removal| removal.namespace().is_some_and(|it| homes.contains(it));
    all.extend(leases.filter(|lease| is_home(lease) && is_lease(lease.name())));
    for home in homes {
        let named = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": home, "name": AUTHORITY},
        });
        let held = applier.get(&named).await?;
        // One of the name that somebody else made is of another type.
        let own = held.filter(|secret| secret.data["type"] == AUTHORITY_TYPE);
        all.extend(own.and_then(Removal::of));
    }
    Ok(all)
}

/// Whether a control plane has declared the class, and not a user.
fn is_declared(class: &DynamicObject) -> bool {
    let managers = class.metadata.managed_fields.iter().flatten();
    let is_own = managers
        .clone()
        .any(|it| it.manager.as_deref() == Some(GATEWAY_CONTROLLER));
    class.metadata.name.as_deref() == Some(CLASS) && is_own
}

#[cfg(test)]
mod tests {
    use kube::{
        Api, Client,
        api::{Patch, PatchParams},
    };

    use serde_json::Value;

    use super::*;
    use crate::discovery::platform;

    async fn apply(client: &Client, manager: &str, object: Value) {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = object["kind"].as_str().unwrap_or_default();
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = kube::core::ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply(manager);
        let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
        applied.expect("it is applied");
    }

    #[tokio::test]
    async fn what_control_planes_made_by_themselves_is_found() {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        let mut applier = Applier::new(client.clone());
        let definitions = lateen_install::gateway_api_definitions();
        applier.apply_all(&definitions).await.expect("definitions");
        for namespace in ["istio-system", "other"] {
            let object =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            apply(&client, "test", object).await;
        }
        let class = |name: &str| {
            json!({
                "apiVersion": GATEWAY_CLASS.api_version(), "kind": GATEWAY_CLASS.kind,
                "metadata": {"name": name}, "spec": {"controllerName": "istio.io/gateway-controller"},
            })
        };
        let lease = |namespace: &str, name: &str| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": namespace, "name": name}, "spec": {"holderIdentity": "a"},
            })
        };
        let secret = |namespace: &str, of_type: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": of_type,
                "metadata": {"namespace": namespace, "name": AUTHORITY},
            })
        };
        apply(&client, GATEWAY_CONTROLLER, class("own")).await;
        apply(&client, "somebody", class(CLASS)).await;
        for object in [
            lease("istio-system", "istio-leader"),
            lease("istio-system", "istio-gateway-deployment-canary"),
            lease("istio-system", "istio-leader-of-somebody"),
            lease("other", "istio-leader"),
            secret("istio-system", AUTHORITY_TYPE),
            secret("other", AUTHORITY_TYPE),
        ] {
            apply(&client, "istiod", object).await;
        }
        let mut found = async |homes: &[&str]| {
            let homes = homes.iter().map(|home| (*home).to_owned()).collect();
            let others = Others::find(&mut applier).await.expect("an answer");
            let found = spread(&mut applier, &homes, &others).await;
            let found = found.expect("an answer");
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let in_home = [
            "Lease istio-system/istio-gateway-deployment-canary",
            "Lease istio-system/istio-leader",
            "Secret istio-system/istio-ca-secret",
        ];
        assert_eq!(
            found(&["istio-system"]).await,
            in_home,
            "the class is a user's"
        );
        assert_eq!(found(&[]).await, [""; 0]);
        apply(&client, GATEWAY_CONTROLLER, class(CLASS)).await;
        assert_eq!(found(&[]).await, ["GatewayClass istio"]);
        let labels = json!({"app": "istiod", REVISION: "default"});
        let istio = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "other", "name": "istiod", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "discovery", "image": "pilot"}]},
                },
            },
        });
        apply(&client, "helm", istio).await;
        assert_eq!(
            found(&["istio-system", "other"]).await,
            in_home,
            "the class and what is beside it are another mesh's"
        );
    }
}
