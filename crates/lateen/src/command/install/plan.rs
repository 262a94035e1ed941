//! What an installation adds, changes, leaves alone and removes.

use std::{collections::BTreeSet, fmt};

use anyhow::bail;
use kube::{api::DynamicObject, core::TypeMeta};
use lateen_api::kinds::gateway_api::GATEWAY_CLASS;
use lateen_galley::CLASS;
use lateen_install::{
    KINDS, OWNER_NAMESPACE, REVISION, TAG, is_owned, owned as installed, owned_alike,
};
use serde_json::{Value, json};

use super::{AddonArgs, Goal};
use crate::{
    apply::{Applier, Named},
    discovery::{GATEWAY_CONTROLLER, is_lease},
};

/// The ConfigMap that the control plane writes into every namespace.
const ROOT: &str = "istio-ca-root-cert";
/// The Secret with the authority that a control plane made for itself.
const AUTHORITY: &str = "istio-ca-secret";
const AUTHORITY_TYPE: &str = "istio.io/ca-root";
/// Kind of what has pods injected.
pub(super) const INJECTOR: &str = "MutatingWebhookConfiguration";
/// The revision, and the tag, that is meant where none is named.
const DEFAULT: &str = "default";

/// What an installation does to a cluster.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    added: Vec<String>,
    applied: Vec<String>,
    /// There already, and somebody else's business.
    kept: BTreeSet<String>,
    removed: Vec<Removal>,
    /// Of those, the tag whose place the revision takes.
    tags: Vec<Removal>,
}

/// An object that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    kind: TypeMeta,
    namespace: Option<String>,
    name: String,
}

impl Removal {
    fn of(object: DynamicObject) -> Option<Self> {
        Some(Removal {
            kind: object.types?,
            namespace: object.metadata.namespace,
            name: object.metadata.name?,
        })
    }

    /// Its kind with the version.
    pub(crate) fn types(&self) -> &TypeMeta {
        &self.kind
    }

    /// Its kind, as manifests have it.
    pub(crate) fn kind(&self) -> &str {
        &self.kind.kind
    }

    /// Its namespace, if it is in one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The object without anything in it.
    pub(crate) fn manifest(&self) -> Value {
        json!({
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": {"namespace": self.namespace, "name": self.name},
        })
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Named {
            kind: self.kind.clone(),
            namespace: self.namespace.as_deref(),
            name: &self.name,
        };
        named.fmt(f)
    }
}

impl Plan {
    /// Compares what is wanted with what is there. An object that somebody else made is not taken
    /// over without being asked to: a namespace is used as it is, anything else is refused.
    pub(crate) async fn of(
        applier: &mut Applier,
        goal: &Goal,
        addons: &AddonArgs,
        force: bool,
    ) -> anyhow::Result<Self> {
        let mut plan = Plan::default();
        let mut foreign = Vec::new();
        for object in goal.objects() {
            let name = Named::of(object)?.to_string();
            match applier.get(object).await {
                Ok(None) => plan.added.push(name),
                Ok(Some(held)) if is_ours(&held) => plan.applied.push(name),
                // Taken over, it would go with the mesh, and all that is in it.
                Ok(Some(_)) if object["kind"] == "Namespace" => {
                    plan.kept.insert(name);
                }
                Ok(Some(_)) if force => plan.applied.push(name),
                Ok(Some(_)) => foreign.push(name),
                Err(error) => return Err(error),
            }
        }
        if !foreign.is_empty() {
            bail!(
                "these objects are there already, and no installation made them: {}; remove them, or take them over with --force",
                foreign.join(", ")
            );
        }
        plan.tags = replaced_tags(applier, goal).await?;
        plan.removed = surplus(applier, goal, addons).await?;
        plan.removed.extend(plan.tags.iter().cloned());
        Ok(plan)
    }

    /// Whether the object is there already, and is to stay as it is.
    pub(crate) fn is_kept(&self, object: &Value) -> anyhow::Result<bool> {
        Ok(self.kept.contains(&Named::of(object)?.to_string()))
    }

    pub(crate) fn removals(&self) -> &[Removal] {
        &self.removed
    }

    /// Those of the removals that are the tag whose place the revision takes.
    pub(crate) fn tags(&self) -> &[Removal] {
        &self.tags
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.added {
            writeln!(f, "+ {name}")?;
        }
        for name in &self.applied {
            writeln!(f, "~ {name}")?;
        }
        for name in &self.kept {
            writeln!(f, "= {name}")?;
        }
        for removal in &self.removed {
            writeln!(f, "- {removal}")?;
        }
        writeln!(
            f,
            "{} to add, {} to apply, {} to leave alone, {} to remove",
            self.added.len(),
            self.applied.len(),
            self.kept.len(),
            self.removed.len(),
        )
    }
}

/// Labels say so.
fn is_ours(object: &DynamicObject) -> bool {
    object.metadata.labels.as_ref().is_some_and(is_owned)
}

/// What an earlier installation of the revision made and this one does not, and the same of the addons
/// that are named. The base stays, as other revisions need it, and so do other addons.
async fn surplus(
    applier: &mut Applier,
    goal: &Goal,
    addons: &AddonArgs,
) -> anyhow::Result<Vec<Removal>> {
    let mut wanted = BTreeSet::new();
    for object in goal.objects() {
        wanted.insert(Named::of(object)?.to_string());
    }
    let is_wanted = |removal: &Removal| wanted.contains(&removal.to_string());
    let mut surplus = Vec::new();
    if goal.is_mesh {
        // A tag is of no installation, though it leads to one.
        let selector = format!("{},!{TAG}", owned_alike(&goal.installation));
        surplus = owned(applier, &selector).await?;
        surplus.retain(|removal| !is_wanted(removal));
    }
    let of_addons = addons.surplus(applier, &goal.installation, is_wanted);
    surplus.extend(of_addons.await?);
    Ok(surplus)
}

/// The tag `default`, where the revision of the name is installed: two webhooks for it would inject
/// twice. One that leads to another mesh is not this one's to remove.
async fn replaced_tags(applier: &mut Applier, goal: &Goal) -> anyhow::Result<Vec<Removal>> {
    let makes_webhook = goal.objects().any(|object| object["kind"] == INJECTOR);
    if goal.installation.revision() != DEFAULT || !makes_webhook {
        return Ok(Vec::new());
    }
    let home = goal.installation.namespace();
    let kind = TypeMeta {
        api_version: "admissionregistration.k8s.io/v1".to_owned(),
        kind: INJECTOR.to_owned(),
    };
    let tag = format!("{TAG}={DEFAULT}");
    for held in applier.list(&kind, &tag).await? {
        let labels = held.metadata.labels.unwrap_or_default();
        if is_owned(&labels) && labels.get(OWNER_NAMESPACE).is_some_and(|own| own == home) {
            continue;
        }
        let of = |label: &str| labels.get(label).map_or("unknown", String::as_str);
        bail!(
            "{INJECTOR} {} injects what names no revision, for revision {} of the mesh in namespace {}, and pods would be injected twice: remove it with `lateen tag remove {DEFAULT}`, or install this mesh with a --revision of its own",
            held.metadata.name.unwrap_or_default(),
            of(REVISION),
            of(OWNER_NAMESPACE),
        );
    }
    owned(
        applier,
        &format!("{},{OWNER_NAMESPACE}={home},{tag}", installed()),
    )
    .await
}

/// What control planes in these namespaces made by themselves: the root certificate everywhere, the
/// class of Gateways, the authority's key, and the Leases by which one of them leads.
pub(crate) async fn spread(
    applier: &mut Applier,
    homes: &BTreeSet<String>,
) -> anyhow::Result<Vec<Removal>> {
    let kind = |api_version: &str, kind: &str| TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let maps = kind("v1", "ConfigMap");
    let roots = applier.list(&maps, "istio.io/config=true").await?;
    let mut all: Vec<_> = roots.into_iter().filter_map(Removal::of).collect();
    all.retain(|removal| removal.name == ROOT);
    let classes = kind(&GATEWAY_CLASS.api_version(), GATEWAY_CLASS.kind);
    let classes = applier.list(&classes, "").await?.into_iter();
    all.extend(classes.filter(is_declared).filter_map(Removal::of));
    let leases = kind("coordination.k8s.io/v1", "Lease");
    let leases = applier.list(&leases, "").await?.into_iter();
    let leases = leases.filter_map(Removal::of);
    let is_home = |removal: &Removal| removal.namespace().is_some_and(|it| homes.contains(it));
    all.extend(leases.filter(|lease| is_home(lease) && is_lease(&lease.name)));
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

/// Everything that installations made, in the order in which it can be taken away.
pub(crate) async fn owned(applier: &mut Applier, selector: &str) -> anyhow::Result<Vec<Removal>> {
    let mut all = Vec::new();
    for kind in kinds() {
        let found = applier.list(&kind, selector).await?;
        // What another object owns has its labels, and goes with it.
        let own = found.into_iter().filter(|object| {
            let owners = object.metadata.owner_references.as_ref();
            owners.is_none_or(Vec::is_empty)
        });
        all.extend(own.filter_map(Removal::of));
    }
    Ok(all)
}

/// The revisions of which anything is installed, with their control plane in a namespace.
pub(crate) async fn revisions(
    applier: &mut Applier,
    namespace: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let mut revisions = BTreeSet::new();
    let selector = format!(
        "{},{OWNER_NAMESPACE}={namespace},{REVISION},!{TAG}",
        installed()
    );
    for kind in kinds() {
        for object in applier.list(&kind, &selector).await? {
            let labels = object.metadata.labels.unwrap_or_default();
            revisions.extend(labels.get(REVISION).cloned());
        }
    }
    Ok(revisions)
}

fn kinds() -> impl Iterator<Item = TypeMeta> {
    KINDS.iter().map(|(api_version, kind)| TypeMeta {
        api_version: (*api_version).to_owned(),
        kind: (*kind).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use kube::{
        Api, Client,
        api::{Patch, PatchParams},
    };

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
            let found = spread(&mut applier, &homes).await.expect("an answer");
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
    }
}
