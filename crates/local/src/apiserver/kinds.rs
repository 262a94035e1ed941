//! Which kinds there are: a table of the builtin ones, and those that CustomResourceDefinitions add.

use std::collections::HashMap;
use std::sync::Arc;

use arcstr::ArcStr;

use super::crd::{self, CustomVersion};
use crate::store::Object;

/// One served version of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub group: ArcStr,
    /// `v1`, say.
    pub version: ArcStr,
    /// `pods`, say.
    pub plural: ArcStr,
    /// `pod`, say.
    pub singular: ArcStr,
    /// `Pod`, say.
    pub kind: ArcStr,
    /// `PodList`, say.
    pub list_kind: ArcStr,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// `po`, say.
    pub short_names: Vec<ArcStr>,
    /// `all`, say.
    pub categories: Vec<ArcStr>,
    /// Whether `/status` is served and the main path leaves the status alone.
    pub status: bool,
    /// Whether `/scale` is served.
    pub scale: bool,
    /// The store's name for it, shared by all versions.
    pub storage: ArcStr,
    /// The version that objects are stored in.
    pub storage_version: ArcStr,
    /// Only for custom resources.
    pub custom: Option<Arc<CustomVersion>>,
    /// Answered on the spot, never stored (reviews).
    pub virtual_only: bool,
    /// Known, so that clients may ask, but none can be made: it would not be enforced.
    pub read_only: bool,
}

impl Resource {
    /// `pods`, or `deployments.apps`.
    #[must_use]
    pub(crate) fn qualified(&self) -> String {
        qualify(&self.plural, &self.group)
    }

    /// `Pod`, or `Deployment.apps`.
    #[must_use]
    pub(crate) fn qualified_kind(&self) -> String {
        qualify(&self.kind, &self.group)
    }

    /// `v1`, or `apps/v1`.
    #[must_use]
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether this is the given builtin kind, whatever the version.
    #[must_use]
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// `v1`, or `apps/v1`.
#[must_use]
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

struct Builtin {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    /// Letters: n namespaced, s status, c scale, a category "all", v virtual, r always empty, p category api-extensions.
    traits: &'static str,
    short: &'static [&'static str],
}

const fn row(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    traits: &'static str,
    short: &'static [&'static str],
) -> Builtin {
    Builtin {
        group,
        version,
        plural,
        kind,
        traits,
        short,
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

#[rustfmt::skip]
const BUILTIN: &[Builtin] = &[
    row("", "v1", "configmaps", "ConfigMap", "n", &["cm"]),
    row("", "v1", "endpoints", "Endpoints", "n", &["ep"]),
    row("", "v1", "events", "Event", "n", &["ev"]),
    row("", "v1", "limitranges", "LimitRange", "nr", &["limits"]),
    row("", "v1", "namespaces", "Namespace", "s", &["ns"]),
    row("", "v1", "nodes", "Node", "s", &["no"]),
    row("", "v1", "pods", "Pod", "nsa", &["po"]),
    row("", "v1", "resourcequotas", "ResourceQuota", "nr", &["quota"]),
    row("", "v1", "secrets", "Secret", "n", &[]),
    row("", "v1", "serviceaccounts", "ServiceAccount", "n", &["sa"]),
    row("", "v1", "services", "Service", "nsa", &["svc"]),
    row(ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "p", &[]),
    row(ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "p", &[]),
    row("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "sp", &["crd", "crds"]),
    row("apps", "v1", "deployments", "Deployment", "nsca", &["deploy"]),
    row("apps", "v1", "replicasets", "ReplicaSet", "nsca", &["rs"]),
    row("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", "v", &[]),
    row("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", "v", &[]),
    row("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", "nv", &[]),
    row("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", "v", &[]),
    row("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", "v", &[]),
    row("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", "v", &[]),
    row("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "nsa", &["hpa"]),
    row("batch", "v1", "jobs", "Job", "nsa", &[]),
    row("coordination.k8s.io", "v1", "leases", "Lease", "n", &[]),
    row("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "n", &[]),
    row("events.k8s.io", "v1", "events", "Event", "n", &["ev"]),
    row("networking.k8s.io", "v1", "ingressclasses", "IngressClass", "", &[]),
    row("networking.k8s.io", "v1", "ingresses", "Ingress", "ns", &["ing"]),
    row("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "ns", &["pdb"]),
    row(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", "", &[]),
    row(RBAC, "v1", "clusterroles", "ClusterRole", "", &[]),
    row(RBAC, "v1", "rolebindings", "RoleBinding", "n", &[]),
    row(RBAC, "v1", "roles", "Role", "n", &[]),
];

impl Builtin {
    fn has(&self, letter: char) -> bool {
        self.traits.contains(letter)
    }

    fn resource(&self) -> Resource {
        let storage = match (self.group, self.plural) {
            // Both event groups show the same objects.
            ("events.k8s.io", "events") => "events".into(),
            _ => qualify(self.plural, self.group).into(),
        };
        let mut categories = Vec::new();
        if self.has('a') {
            categories.push("all".into());
        }
        if self.has('p') {
            categories.push("api-extensions".into());
        }
        Resource {
            group: self.group.into(),
            version: self.version.into(),
            plural: self.plural.into(),
            singular: self.kind.to_lowercase().into(),
            kind: self.kind.into(),
            list_kind: format!("{}List", self.kind).into(),
            namespaced: self.has('n'),
            short_names: self.short.iter().map(|&name| name.into()).collect(),
            categories,
            status: self.has('s'),
            scale: self.has('c'),
            storage,
            storage_version: self.version.into(),
            custom: None,
            virtual_only: self.has('v'),
            read_only: self.has('r'),
        }
    }
}

/// Every resource that is served now; replaced as a whole when a definition changes.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// In the order of discovery.
    pub all: Vec<Arc<Resource>>,
    by_path: HashMap<(ArcStr, ArcStr, ArcStr), Arc<Resource>>,
}

impl Kinds {
    /// The builtin kinds and those of the given definitions.
    #[must_use]
    pub(crate) fn new(definitions: &[Arc<Object>]) -> Self {
        let builtin = BUILTIN.iter().map(Builtin::resource);
        let custom = definitions
            .iter()
            .flat_map(|definition| crd::resources(&definition.value));
        let all: Vec<_> = builtin.chain(custom).map(Arc::new).collect();
        let by_path = all
            .iter()
            .map(|one| {
                (
                    (one.group.clone(), one.version.clone(), one.plural.clone()),
                    Arc::clone(one),
                )
            })
            .collect();
        Self { all, by_path }
    }

    /// The resource at `/apis/{group}/{version}/{plural}`.
    #[must_use]
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_path
            .get(&(group.into(), version.into(), plural.into()))
            .cloned()
    }

    /// Groups in order, each with its versions in order, without the core group.
    #[must_use]
    pub(crate) fn groups(&self) -> Vec<(ArcStr, Vec<ArcStr>)> {
        let mut groups: Vec<(ArcStr, Vec<ArcStr>)> = Vec::new();
        for one in self.all.iter().filter(|one| !one.group.is_empty()) {
            match groups.iter_mut().find(|(group, _)| *group == one.group) {
                Some((_, versions)) if versions.contains(&one.version) => {}
                Some((_, versions)) => versions.push(one.version.clone()),
                None => groups.push((one.group.clone(), vec![one.version.clone()])),
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        }
        groups
    }

    /// The resources of one group version.
    pub(crate) fn of<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.all
            .iter()
            .filter(move |one| one.group == group && one.version == version)
    }
}

/// Orders versions as Kubernetes does: v2 before v1 before v1beta1 before v1alpha1.
fn version_rank(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().ok();
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    for (word, rank) in [("alpha", 1), ("beta", 2)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (number(major), number(minor)) {
                (Some(major), Some(minor)) => (rank, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified() {
        let kinds = Kinds::new(&[]);
        let pods = kinds.find("", "v1", "pods").expect("builtin");
        assert_eq!(
            (pods.qualified().as_str(), pods.api_version().as_str()),
            ("pods", "v1")
        );
        let deployments = kinds.find("apps", "v1", "deployments").expect("builtin");
        assert_eq!(deployments.qualified_kind(), "Deployment.apps");
        assert_eq!(deployments.api_version(), "apps/v1");
        assert!(kinds.find("apps", "v1", "statefulsets").is_none());
    }

    #[test]
    fn versions_are_ordered() {
        let mut versions = ["v1alpha1", "v1", "v1beta1", "v2", "v1alpha3", "odd"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(
            versions,
            ["v2", "v1", "v1beta1", "v1alpha3", "v1alpha1", "odd"]
        );
    }
}
