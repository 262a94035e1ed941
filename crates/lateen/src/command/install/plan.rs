//! What an installation adds, changes, leaves alone and removes.

use std::{collections::BTreeSet, fmt};

use anyhow::bail;
use kube::{api::DynamicObject, core::TypeMeta};
use lateen_install::{
    KINDS, OWNER_NAMESPACE, REVISION, TAG, is_owned, is_record, owned as installed, owned_alike,
};
use serde_json::{Value, json};

use super::{AddonArgs, Goal};
use crate::apply::{Applier, Named};

/// Kind of what has pods injected.
pub(crate) const INJECTOR: &str = "MutatingWebhookConfiguration";
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
    /// The namespace of the control plane that it was made for.
    home: Option<String>,
    is_record: bool,
}

impl Removal {
    pub(crate) fn of(object: DynamicObject) -> Option<Self> {
        let labels = object.metadata.labels.unwrap_or_default();
        Some(Removal {
            kind: object.types?,
            namespace: object.metadata.namespace,
            name: object.metadata.name?,
            home: labels.get(OWNER_NAMESPACE).cloned(),
            is_record: is_record(&labels),
        })
    }

    /// The namespace of the control plane that it was made for, if labels say so.
    pub(crate) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// Whether it says what was installed.
    pub(crate) fn is_record(&self) -> bool {
        self.is_record
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
