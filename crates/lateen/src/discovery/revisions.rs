//! Which revision of the control plane is meant where none is named: the one that tag `default` leads
//! to; without such a tag revision `default`; and where that is not there, the only one that is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client, ResourceExt, runtime::watcher};
use lateen_api::labels::REVISION;
use lateen_install::TAG;
use tokio::sync::watch;

use super::{DEFAULT_REVISION, injection::keep};

/// What is known of revisions; nothing until tags were read once.
pub(super) type Known = watch::Receiver<Option<Revisions>>;

/// The revision of this control plane, among others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Revisions {
    own: String,
    /// All that are installed, this one too.
    all: BTreeSet<String>,
    /// To which revision each tag leads.
    tags: BTreeMap<String, String>,
}

impl Revisions {
    /// `others` are revisions, or tags with the revisions that they lead to.
    pub(super) fn new(own: &str, others: impl IntoIterator<Item = Name>) -> Self {
        let own = named(own).to_owned();
        let mut revisions = Revisions {
            all: BTreeSet::from([own.clone()]),
            own,
            tags: BTreeMap::new(),
        };
        for name in others {
            match name {
                Name::Revision(revision) => {
                    revisions.all.insert(revision);
                }
                Name::Tag(tag, revision) => {
                    revisions.tags.insert(tag, revision);
                }
            }
        }
        revisions
    }

    /// This control plane's own.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Tags that lead to this control plane.
    pub(super) fn own_tags(&self) -> impl Iterator<Item = &str> {
        let own = self
            .tags
            .iter()
            .filter(|(_, revision)| **revision == self.own);
        own.map(|(tag, _)| tag.as_str())
    }

    /// Whether this control plane is the one that is meant where no revision is named.
    pub(super) fn is_default(&self) -> bool {
        match self.tags.get(DEFAULT_REVISION) {
            Some(revision) => *revision == self.own,
            None => self.own == DEFAULT_REVISION || self.all.len() == 1,
        }
    }

    /// Whether what names this revision or tag, or none, is this control plane's.
    pub(super) fn owns(&self, name: &str) -> bool {
        match name {
            "" | DEFAULT_REVISION => self.is_default(),
            name => name == self.own || self.tags.get(name) == Some(&self.own),
        }
    }
}

/// What a webhook makes known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Name {
    Revision(String),
    /// And the revision that it leads to.
    Tag(String, String),
}

impl Name {
    fn of(hook: &MutatingWebhookConfiguration) -> Option<Self> {
        let label = |name: &str| hook.labels().get(name).cloned();
        let revision = label(REVISION)?;
        Some(match label(TAG) {
            Some(tag) => Name::Tag(tag, revision),
            None => Name::Revision(revision),
        })
    }
}

/// The name of a revision that may have none.
fn named(revision: &str) -> &str {
    match revision {
        "" => DEFAULT_REVISION,
        revision => revision,
    }
}

/// Follows the revisions and tags of a cluster.
pub(super) fn follow(client: &Client, own: &str) -> Known {
    let own = own.to_owned();
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let of_revisions = watcher::Config::default().labels(REVISION);
    keep(hooks, of_revisions, move |hooks| {
        Some(Revisions::new(&own, hooks.values().filter_map(Name::of)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_where_no_revision_is_named() {
        let check = |own: &str, others: &[&str], name: &str, owns: bool| {
            let other = |other: &&str| match other.split_once(" -> ") {
                Some((tag, of)) => Name::Tag(tag.into(), of.into()),
                None => Name::Revision((*other).into()),
            };
            let revisions = Revisions::new(own, others.iter().map(other));
            assert_eq!(revisions.owns(name), owns, "{own} {others:?} {name:?}");
        };
        check("", &[], "", true);
        check("default", &["canary"], "default", true);
        check("canary", &["default"], "", false);
        check("canary", &["default"], "canary", true);
        check("canary", &["default", "default -> canary"], "", true);
        check("canary", &["default", "default -> canary"], "default", true);
        check("default", &["canary", "default -> canary"], "", false);
        check(
            "default",
            &["canary", "default -> canary"],
            "default",
            false,
        );
        check("canary", &["default", "prod -> canary"], "prod", true);
        check("default", &["canary", "prod -> canary"], "prod", false);
        check("default", &["canary"], "nonesuch", false);
        // The only one does everything; of two, nobody can say which.
        check("canary", &[], "", true);
        check("canary", &["canary", "prod -> canary"], "", true);
        check("canary", &["green"], "", false);
    }

    #[test]
    fn a_control_plane_knows_its_tags() {
        let tag = |tag: &str, of: &str| Name::Tag(tag.into(), of.into());
        let names = [
            tag("prod", "canary"),
            tag("old", "default"),
            tag("default", "canary"),
        ];
        let revisions = Revisions::new("canary", names);
        assert_eq!(
            revisions.own_tags().collect::<Vec<_>>(),
            ["default", "prod"]
        );
    }
}
