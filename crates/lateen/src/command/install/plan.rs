//! What an installation adds, changes, leaves alone and removes.

use std::{collections::BTreeSet, fmt};

use anyhow::bail;
use kube::{api::DynamicObject, core::TypeMeta};
use lateen_install::{
    Installation, KINDS, OWNER_NAMESPACE, Part, REVISION, TAG, is_owned, owned as installed,
    owned_alike,
};
use serde_json::{Value, json};

use super::AddonArgs;
use crate::apply::{Applier, Named};

/// The ConfigMap that the control plane writes into every namespace.
const ROOT: &str = "istio-ca-root-cert";
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
        installation: &Installation,
        parts: &[Part],
        addons: &AddonArgs,
        force: bool,
    ) -> anyhow::Result<Self> {
        let mut plan = Plan::default();
        let mut foreign = Vec::new();
        let wanted = parts.iter().flat_map(|part| &part.objects);
        for object in wanted {
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
        plan.removed = surplus(applier, installation, parts, addons).await?;
        Ok(plan)
    }

    /// Whether the object is there already, and is to stay as it is.
    pub(crate) fn is_kept(&self, object: &Value) -> anyhow::Result<bool> {
        Ok(self.kept.contains(&Named::of(object)?.to_string()))
    }

    pub(crate) fn removals(&self) -> &[Removal] {
        &self.removed
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
    installation: &Installation,
    parts: &[Part],
    addons: &AddonArgs,
) -> anyhow::Result<Vec<Removal>> {
    let mut wanted = BTreeSet::new();
    for object in parts.iter().flat_map(|part| &part.objects) {
        wanted.insert(Named::of(object)?.to_string());
    }
    // A tag is of no installation, though it leads to one.
    let selector = format!("{},!{TAG}", owned_alike(installation));
    let is_wanted = |removal: &Removal| wanted.contains(&removal.to_string());
    let mut surplus = owned(applier, &selector).await?;
    surplus.retain(|removal| !is_wanted(removal));
    // This one is meant by the name: two webhooks for it would inject twice.
    if installation.revision() == DEFAULT && makes_webhook(parts) {
        let tag = format!("{},{TAG}={DEFAULT}", installed());
        surplus.extend(owned(applier, &tag).await?);
    }
    surplus.extend(addons.surplus(applier, installation, is_wanted).await?);
    Ok(surplus)
}

fn makes_webhook(parts: &[Part]) -> bool {
    let mut objects = parts.iter().flat_map(|part| &part.objects);
    objects.any(|object| object["kind"] == "MutatingWebhookConfiguration")
}

/// What the control plane made in every namespace: the root certificate.
pub(crate) async fn spread(applier: &mut Applier) -> anyhow::Result<Vec<Removal>> {
    let kind = TypeMeta {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
    };
    let found = applier.list(&kind, "istio.io/config=true").await?;
    let roots = found.into_iter().filter_map(Removal::of);
    Ok(roots.filter(|removal| removal.name == ROOT).collect())
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
