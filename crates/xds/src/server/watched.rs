//! What one client asks for of one type and what it was sent. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arcstr::ArcStr;

use super::protocol::Wants;
use super::{Names, Resource};
use crate::TypeUrl;

const EVERYTHING: &str = "*";

/// State of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<String>,
    /// What the client has, or was sent, by name.
    sent: BTreeMap<String, Sent>,
    /// Nonce of the newest response.
    pub(super) nonce: String,
    /// Whether the newest response is still to be answered.
    pub(super) unanswered: bool,
    /// Why the newest answered response was refused.
    pub(super) refused: Option<String>,
}

#[derive(Debug)]
struct Sent {
    version: ArcStr,
    /// Kept only where a response must list everything.
    resource: Option<Arc<Resource>>,
}

/// What a request asks to be sent at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing.
    No,
    /// These names, found or not.
    Names(BTreeSet<String>),
    /// Everything subscribed; an answer is due even when it is empty.
    All,
}

/// The difference between what a client has and what there is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) changed: Vec<Arc<Resource>>,
    pub(super) removed: Vec<String>,
}

impl Watched {
    /// The first request for this type on a stream.
    pub(super) fn open(type_url: &TypeUrl, wants: Wants) -> (Self, Reply) {
        let (asked, held) = match wants {
            Wants::Change {
                subscribe, held, ..
            } => (subscribe, held),
            Wants::Exactly(names) => (names, Default::default()),
        };
        let mut names: BTreeSet<String> = asked.into_iter().collect();
        let named_all = names.remove(EVERYTHING);
        let wildcard = named_all || (names.is_empty() && type_url.is_wildcard());
        let held = held.into_iter().map(|(name, version)| {
            let version = ArcStr::from(version);
            let resource = None;
            (name, Sent { version, resource })
        });
        let reply = match (wildcard, names.is_empty()) {
            (true, _) => Reply::All,
            (false, true) => Reply::No,
            (false, false) => Reply::Names(names.clone()),
        };
        let watched = Watched {
            wildcard,
            names,
            sent: held.collect(),
            ..Watched::default()
        };
        (watched, reply)
    }

    /// A later request for this type.
    pub(super) fn change(&mut self, wants: Wants) -> Reply {
        match wants {
            Wants::Change {
                subscribe,
                unsubscribe,
                ..
            } => {
                for name in unsubscribe {
                    self.unsubscribe(&name);
                }
                self.subscribe(subscribe)
            }
            Wants::Exactly(names) => self.replace(names.into_iter().collect()),
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == EVERYTHING {
            self.wildcard = false;
            let names = &self.names;
            self.sent.retain(|name, _| names.contains(name));
        } else if self.names.remove(name) && !self.wildcard {
            self.sent.remove(name);
        }
    }

    /// A name that is subscribed again is sent again: the client may have dropped it in between.
    fn subscribe(&mut self, asked: Vec<String>) -> Reply {
        let mut asked: BTreeSet<String> = asked.into_iter().collect();
        if asked.remove(EVERYTHING) {
            self.wildcard = true;
            self.names.append(&mut asked);
            return Reply::All;
        }
        if asked.is_empty() {
            return Reply::No;
        }
        for name in &asked {
            self.sent.remove(name);
        }
        self.names.extend(asked.iter().cloned());
        Reply::Names(asked)
    }

    fn replace(&mut self, mut names: BTreeSet<String>) -> Reply {
        let named_all = names.remove(EVERYTHING);
        // Nothing by name goes on meaning "all" until the client has named something.
        let wildcard = named_all || (self.wildcard && names.is_empty());
        if wildcard {
            let new = !self.wildcard;
            self.wildcard = true;
            self.names = names;
            return if new { Reply::All } else { Reply::No };
        }
        let was_wildcard = std::mem::take(&mut self.wildcard);
        let added: BTreeSet<String> = names.difference(&self.names).cloned().collect();
        self.names = names;
        let names = &self.names;
        self.sent.retain(|name, _| names.contains(name));
        for name in &added {
            self.sent.remove(name);
        }
        match (was_wildcard, added.is_empty()) {
            (true, _) => Reply::All,
            (false, true) => Reply::No,
            (false, false) => Reply::Names(added),
        }
    }

    /// Takes an answer to a response; `false` when it is about an older one.
    pub(super) fn answer(&mut self, nonce: &str, refused: Option<String>) -> bool {
        if nonce != self.nonce {
            return false;
        }
        self.unanswered = false;
        self.refused = refused;
        true
    }

    /// Everything that is asked for.
    pub(super) fn subscription(&self) -> Names<'_> {
        if self.wildcard {
            Names::All(&self.names)
        } else {
            Names::Only(&self.names)
        }
    }

    /// What must be sent so that the client has `existing`, all that exists of its subscription.
    pub(super) fn difference(&self, existing: Vec<Arc<Resource>>) -> Difference {
        let names: BTreeSet<&str> = existing.iter().map(|r| r.name.as_str()).collect();
        let gone = self.sent.keys().filter(|n| !names.contains(n.as_str()));
        let removed = gone.cloned().collect();
        let changed = self.only_changed(existing);
        Difference { changed, removed }
    }

    /// The same for some names, of which those that do not exist are reported as removed.
    pub(super) fn difference_of(
        &self,
        asked: BTreeSet<String>,
        existing: Vec<Arc<Resource>>,
    ) -> Difference {
        let missing = |name: &String| !existing.iter().any(|r| r.name == name.as_str());
        let removed = asked.into_iter().filter(missing).collect();
        let changed = self.only_changed(existing);
        Difference { changed, removed }
    }

    fn only_changed(&self, existing: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
        let is_new = |r: &Arc<Resource>| {
            self.sent
                .get(r.name.as_str())
                .is_none_or(|sent| sent.version != r.version)
        };
        existing.into_iter().filter(is_new).collect()
    }

    /// Takes note of what is being sent. `keep` keeps the resources for [`Self::all_sent`].
    pub(super) fn record(&mut self, difference: &Difference, keep: bool) {
        for name in &difference.removed {
            self.sent.remove(name);
        }
        for resource in &difference.changed {
            let sent = Sent {
                version: resource.version.clone(),
                resource: keep.then(|| resource.clone()),
            };
            self.sent.insert(resource.name.to_string(), sent);
        }
    }

    /// All that the client has, where it is kept.
    pub(super) fn all_sent(&self) -> impl Iterator<Item = &Resource> {
        self.sent
            .values()
            .filter_map(|sent| sent.resource.as_deref())
    }

    /// How many names are kept for the client.
    pub(super) fn n_known(&self) -> usize {
        self.names.len() + self.sent.len()
    }

    pub(super) fn n_sent(&self) -> usize {
        self.sent.len()
    }

    /// Makes the next difference contain `name` although it has not changed.
    pub(super) fn forget(&mut self, name: &str) {
        self.sent.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::types::endpoint::ClusterLoadAssignment;

    fn resource(name: &str, content: &str) -> Arc<Resource> {
        let message = ClusterLoadAssignment {
            cluster_name: content.into(),
            ..ClusterLoadAssignment::default()
        };
        Arc::new(Resource::new(name, &message))
    }

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    fn change(subscribe: &[&str], unsubscribe: &[&str]) -> Wants {
        Wants::Change {
            subscribe: names(subscribe).into_iter().collect(),
            unsubscribe: names(unsubscribe).into_iter().collect(),
            held: HashMap::new(),
        }
    }

    fn exactly(of: &[&str]) -> Wants {
        Wants::Exactly(names(of).into_iter().collect())
    }

    #[test]
    fn first_requests() {
        let check = |url: TypeUrl, wants, wildcard, want| {
            let (watched, reply) = Watched::open(&url, wants);
            assert_eq!((watched.wildcard, reply), (wildcard, want), "{url:?}");
        };
        check(TypeUrl::CLUSTER, change(&[], &[]), true, Reply::All);
        check(TypeUrl::CLUSTER, change(&["*"], &[]), true, Reply::All);
        check(TypeUrl::CLUSTER, exactly(&[]), true, Reply::All);
        check(TypeUrl::ENDPOINT, exactly(&[]), false, Reply::No);
        let a = || Reply::Names(names(&["a"]));
        check(TypeUrl::ENDPOINT, change(&["a"], &[]), false, a());
        check(TypeUrl::CLUSTER, exactly(&["a"]), false, a());
    }

    #[test]
    fn delta_sends_the_difference_and_again_what_is_asked_again() {
        let wants = Wants::Change {
            subscribe: vec!["a".into(), "b".into(), "c".into()],
            unsubscribe: Vec::new(),
            held: HashMap::from([
                ("a".into(), resource("a", "1").version.to_string()),
                ("b".into(), "old".into()),
            ]),
        };
        let (mut watched, reply) = Watched::open(&TypeUrl::ENDPOINT, wants);
        let Reply::Names(asked) = reply else {
            panic!("names expected")
        };
        let existing = vec![resource("a", "1"), resource("b", "1")];
        let difference = watched.difference_of(asked, existing.clone());
        assert_eq!(difference.changed, [resource("b", "1")]);
        assert_eq!(difference.removed, ["c"]);
        watched.record(&difference, false);
        assert_eq!(watched.difference(existing.clone()), Difference::default());

        assert_eq!(
            watched.change(change(&["a"], &["b"])),
            Reply::Names(names(&["a"]))
        );
        let difference = watched.difference_of(names(&["a"]), existing[..1].to_vec());
        assert_eq!(difference.changed, [resource("a", "1")]);
    }

    #[test]
    fn state_of_the_world_names_replace_names() {
        let (mut watched, _) = Watched::open(&TypeUrl::ENDPOINT, exactly(&["a"]));
        assert_eq!(watched.change(exactly(&["a"])), Reply::No, "an ACK");
        assert_eq!(
            watched.change(exactly(&["a", "b"])),
            Reply::Names(names(&["b"]))
        );
        assert_eq!(watched.change(exactly(&[])), Reply::No, "unsubscribes all");
        assert!(watched.names.is_empty());

        let (mut watched, _) = Watched::open(&TypeUrl::CLUSTER, exactly(&[]));
        assert_eq!(watched.change(exactly(&[])), Reply::No, "an ACK");
        assert!(watched.wildcard);
        assert_eq!(watched.change(exactly(&["a"])), Reply::All, "no longer all");
        assert_eq!(watched.change(exactly(&[])), Reply::No);
        assert!(!watched.wildcard, "once named, nothing means nothing");
    }

    #[test]
    fn only_the_newest_response_can_be_answered() {
        let (mut watched, _) = Watched::open(&TypeUrl::CLUSTER, exactly(&[]));
        watched.nonce = "2".into();
        watched.unanswered = true;
        assert!(!watched.answer("1", None));
        assert!(watched.unanswered);
        assert!(watched.answer("2", Some("bad".into())));
        assert_eq!(watched.refused.as_deref(), Some("bad"));
    }
}
