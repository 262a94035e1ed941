//! What whoever runs a command must be allowed to do, asked before anything is done: half an
//! installation helps nobody.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams, core::TypeMeta, discovery::Scope};
use lateen_install::{KINDS, Part};

use super::install::Removal;
use crate::apply::{Applier, Named};

/// Questions that the API server is asked at once.
const AT_ONCE: usize = 8;
/// What an applied object takes: it is looked at, made where it is not there, changed where it is.
const APPLY: [&str; 3] = ["get", "create", "patch"];
/// What the lock takes.
const HOLD: [&str; 4] = ["get", "create", "update", "delete"];

/// Rights that a command needs.
#[derive(Debug, Default)]
pub(crate) struct Rights(BTreeSet<Right>);

/// One of them. Without a namespace it is for all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    namespace: Option<String>,
    verb: &'static str,
}

impl Rights {
    /// Those that installing parts takes, with a control plane in a namespace.
    pub(crate) async fn to_install(
        applier: &mut Applier,
        parts: &[Part],
        namespace: &str,
    ) -> anyhow::Result<Self> {
        let mut rights = Rights::default();
        rights.finding(applier).await?;
        rights.locking(namespace);
        for object in parts.iter().flat_map(|part| &part.objects) {
            let object = Named::of(object)?;
            let (kind, namespace) = (&object.kind, object.namespace);
            rights.add(applier, kind, namespace, &APPLY).await?;
            if matches!(kind.kind.as_str(), "Deployment" | "DaemonSet") {
                // Its pods say what holds it up.
                rights.insert("", "pods", namespace, &["list"]);
            }
        }
        Ok(rights)
    }

    /// Those that taking objects away takes.
    pub(crate) async fn to_remove(
        applier: &mut Applier,
        removals: &[Removal],
    ) -> anyhow::Result<Self> {
        let mut rights = Rights::default();
        for removal in removals {
            let (kind, namespace) = (removal.types(), removal.namespace());
            rights.add(applier, kind, namespace, &["delete"]).await?;
        }
        Ok(rights)
    }

    /// Those that it takes to put a revision in the place of a tag, besides.
    pub(crate) fn taking_over(mut self) -> Self {
        let group = "admissionregistration.k8s.io";
        self.insert(group, "mutatingwebhookconfigurations", None, &["update"]);
        self
    }

    /// Those that removing takes, and those that uninstalling takes beside it: it holds locks where things were.
    pub(crate) async fn to_uninstall<'a>(
        applier: &mut Applier,
        removals: &[Removal],
        namespaces: impl IntoIterator<Item = &'a String>,
    ) -> anyhow::Result<Self> {
        let mut rights = Self::to_remove(applier, removals).await?;
        for namespace in namespaces {
            rights.locking(namespace);
            rights.insert("", "pods", Some(namespace), &["list"]);
        }
        Ok(rights)
    }

    /// What installations made is found by its labels, wherever it is.
    async fn finding(&mut self, applier: &mut Applier) -> anyhow::Result<()> {
        for (api_version, kind) in KINDS {
            let types = TypeMeta {
                api_version: (*api_version).to_owned(),
                kind: (*kind).to_owned(),
            };
            self.add(applier, &types, None, &["list"]).await?;
        }
        Ok(())
    }

    fn locking(&mut self, namespace: &str) {
        self.insert("", "namespaces", None, &["get"]);
        self.insert("coordination.k8s.io", "leases", Some(namespace), &HOLD);
    }

    /// A kind that the API server does not have is told by whoever needs it.
    async fn add(
        &mut self,
        applier: &mut Applier,
        types: &TypeMeta,
        namespace: Option<&str>,
        verbs: &[&'static str],
    ) -> anyhow::Result<()> {
        if let Some((resource, scope)) = applier.known(types).await? {
            let namespace = namespace.filter(|_| scope == Scope::Namespaced);
            self.insert(&resource.group, &resource.plural, namespace, verbs);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
        verbs: &[&'static str],
    ) {
        self.0.extend(verbs.iter().map(|verb| Right {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
            verb,
        }));
    }

    /// Fails with all that is lacking; `what` is done with them, as in "installing".
    pub(crate) async fn check(self, client: &Client, what: &str) -> anyhow::Result<()> {
        let all = Right {
            group: "*".to_owned(),
            resource: "*".to_owned(),
            namespace: None,
            verb: "*",
        };
        // An administrator is asked once.
        if self.0.is_empty() || all.is_given(client).await? {
            return Ok(());
        }
        let answers = stream::iter(self.0).map(|right: Right| async move {
            let is_given = right.is_given(client).await?;
            anyhow::Ok((!is_given).then_some(right))
        });
        let lacking: Vec<Option<Right>> = answers.buffered(AT_ONCE).try_collect().await?;
        let lacking: Vec<Right> = lacking.into_iter().flatten().collect();
        if lacking.is_empty() {
            return Ok(());
        }
        bail!(
            "you may not do in this cluster what {what} takes:\n{}choose another --context or user (--as), or ask an administrator for these rights or the role cluster-admin",
            lines(&lacking)
        )
    }
}

impl Right {
    async fn is_given(&self, client: &Client) -> anyhow::Result<bool> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(self.group.clone()),
                    resource: Some(self.resource.clone()),
                    namespace: self.namespace.clone(),
                    verb: Some(self.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.context("cannot ask the API server what you may do")?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// A line for each kind in each namespace, with all verbs.
fn lines(lacking: &[Right]) -> String {
    let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for right in lacking {
        let resource = match right.group.as_str() {
            "" => right.resource.clone(),
            group => format!("{}.{group}", right.resource),
        };
        let place = match &right.namespace {
            Some(namespace) => format!("{resource} in {namespace}"),
            None => resource,
        };
        verbs.entry(place).or_default().push(right.verb);
    }
    let lines = verbs.iter();
    lines
        .map(|(place, verbs)| format!("  {} {place}\n", verbs.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_lacking_is_told() {
        let mut rights = Rights::default();
        rights.insert("", "pods", Some("shop"), &["list"]);
        rights.insert("apps", "deployments", None, &["patch", "create"]);
        let all: Vec<Right> = rights.0.into_iter().collect();
        assert_eq!(
            lines(&all),
            "  create, patch deployments.apps\n  list pods in shop\n"
        );
    }
}
