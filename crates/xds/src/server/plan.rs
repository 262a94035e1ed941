//! What must be sent to bring a client from what it has to what there is.
//!
//! That is a function of what the client has, what it asks for and what there is, and nothing else.
//! Where clients are alike in all three the answer is worked out once, and so are the list of what
//! they have afterwards and the bytes of the response.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::Resource;
use super::name::Name;
use super::payload::{Form, Payload};
use super::recent::Recent;
use super::resource::NameSet;
use super::versions::{Change, Entry, Versions};
use super::watched::{Watched, removals};
use crate::TypeUrl;

/// What there is of one type for some clients at one moment: whoever is given the same group is
/// given the same resource for the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(u64);

impl Group {
    /// A group that nobody else in the process is in.
    #[expect(clippy::new_without_default, reason = "two new ones are not equal")]
    pub fn new() -> Group {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Group(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    type_url: TypeUrl,
    group: Group,
    form: Form,
    wildcard: bool,
    names: u128,
    sent: u128,
    about: Digest,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Digest {
    All,
    Asked(u128),
    Since(Group),
}

/// The difference between what a client has and what there is.
pub(super) struct Plan {
    pub(super) changed: Vec<Arc<Resource>>,
    pub(super) removed: Arc<[Name]>,
    /// What the client has all of after it; `None` where that cannot be said.
    pub(super) leads_to: Option<Group>,
    /// Some of what the client has is gone, which is to be told later.
    pub(super) is_late: bool,
    before: Versions,
    /// Whether responses list everything.
    lists_all: bool,
    form: Form,
    /// With what is removed, and without.
    steps: [OnceLock<Step>; 2],
}

/// One response, and what the client has after it.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) payload: Payload,
    pub(super) after: Versions,
}

static PLANS: Recent<Question, Arc<OnceLock<Arc<Plan>>>> = Recent::new();

/// Which part of what a client asks for is looked at.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    /// Everything.
    All,
    /// These names, whose absence is to be reported.
    Asked(&'a NameSet),
    /// What differs from what there was for a group, all of which the client has.
    Since(Group),
}

/// What a client gets, which already has something.
pub(super) struct Need<'a> {
    pub(super) type_url: &'a TypeUrl,
    pub(super) watched: &'a Watched,
    pub(super) about: About<'a>,
    pub(super) form: Form,
    pub(super) lists_all: bool,
}

impl Need<'_> {
    /// The plan, worked out by another stream if there is one that is alike. `look` gives what there
    /// is of what this is about, and where that is a difference, the names that were looked at.
    pub(super) fn plan(&self, group: Option<Group>, look: impl FnOnce() -> Look) -> Arc<Plan> {
        let Some(group) = group else {
            return Arc::new(self.work_out(None, look()));
        };
        let watched = self.watched;
        let question = Question {
            type_url: self.type_url.clone(),
            group,
            form: self.form,
            wildcard: watched.wildcard,
            names: watched.names.0.digest(),
            sent: watched.sent.digest(),
            about: match self.about {
                About::All => Digest::All,
                About::Asked(asked) => Digest::Asked(asked.0.digest()),
                About::Since(group) => Digest::Since(group),
            },
        };
        let cell = PLANS.get(question, Arc::default);
        let plan = cell.get_or_init(|| Arc::new(self.work_out(Some(group), look())));
        plan.clone()
    }

    fn work_out(&self, group: Option<Group>, look: Look) -> Plan {
        let Watched {
            sent,
            names,
            wildcard,
            ..
        } = self.watched;
        let leads_to_all = match self.about {
            About::Asked(asked) => !wildcard && asked.0.digest() == names.0.digest(),
            About::All | About::Since(_) => true,
        };
        let Look { existing, names } = look;
        let there: HashSet<&Name, FixedState> =
            existing.iter().map(|resource| &resource.name).collect();
        let is_gone = |name: &&Name| !there.contains(*name);
        let is_held = |name: &Name| sent.get(name).is_some();
        let removed: Arc<[Name]> = match self.about {
            // What the client has from an earlier stream may still be in use: it is told with all else
            // that is gone, in the order in which that is safe.
            About::Asked(asked) => {
                let gone = asked.iter().filter(is_gone);
                gone.filter(|name| !is_held(name)).cloned().collect()
            }
            About::Since(_) => {
                let had = names.iter().filter(|name| is_held(name));
                had.filter(is_gone).cloned().collect()
            }
            About::All => {
                let sent = sent.iter().map(|entry| &entry.name);
                sent.filter(is_gone).cloned().collect()
            }
        };
        let is_late = match self.about {
            About::Asked(asked) => asked.iter().filter(is_gone).any(is_held),
            About::All | About::Since(_) => false,
        };
        let is_new = |r: &&Arc<Resource>| sent.get(&r.name).is_none_or(|s| s.version != r.hash);
        Plan {
            changed: existing.iter().filter(is_new).cloned().collect(),
            removed,
            leads_to: group.filter(|_| leads_to_all && !is_late),
            is_late,
            before: sent.clone(),
            lists_all: self.lists_all,
            form: self.form,
            steps: Default::default(),
        }
    }
}

/// What was looked at.
#[derive(Default)]
pub(super) struct Look {
    /// All that there is of it.
    pub(super) existing: Vec<Arc<Resource>>,
    /// The names, where not everything was; each once.
    pub(super) names: Vec<Name>,
}

impl Plan {
    /// The same without some of what has changed, and what that is.
    pub(super) fn without(&self, is_held: impl Fn(&Resource) -> bool) -> (Plan, Vec<Name>) {
        let (held, changed): (Vec<_>, Vec<_>) =
            self.changed.iter().cloned().partition(|r| is_held(r));
        let plan = Plan {
            changed,
            removed: self.removed.clone(),
            leads_to: None,
            is_late: self.is_late,
            before: self.before.clone(),
            lists_all: self.lists_all,
            form: self.form,
            steps: Default::default(),
        };
        (plan, held.iter().map(|r| r.name.clone()).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// The response with what has changed, and what is removed or not.
    pub(super) fn step(&self, with_removed: bool) -> Step {
        let step = self.steps[usize::from(with_removed)].get_or_init(|| {
            let mut changes = Vec::new();
            if with_removed {
                changes = removals(&self.removed);
            }
            changes.extend(self.changed.iter().map(|resource| {
                Change::Set(Entry {
                    name: resource.name.clone(),
                    version: resource.hash,
                    resource: self.lists_all.then(|| resource.clone()),
                })
            }));
            let after = self.before.after(changes);
            let payload = if self.lists_all {
                all_of(&after)
            } else {
                Payload::new(self.form, self.changed.iter().map(|r| &**r))
            };
            Step { payload, after }
        });
        step.clone()
    }
}

/// The response that tells what is gone from what a client has.
pub(super) fn removal(form: Form, lists_all: bool, sent: &Versions, removed: &[Name]) -> Step {
    let after = sent.after(removals(removed));
    let payload = if lists_all {
        all_of(&after)
    } else {
        Payload::new(form, std::iter::empty())
    };
    Step { payload, after }
}

/// Everything that a client has, as a state-of-the-world response lists it.
fn all_of(versions: &Versions) -> Payload {
    let kept = versions
        .iter()
        .filter_map(|entry| entry.resource.as_deref());
    Payload::new(Form::Any, kept)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Wants;
    use super::*;
    use crate::types::endpoint::ClusterLoadAssignment;

    fn resource(name: &str, content: &str) -> Arc<Resource> {
        let message = ClusterLoadAssignment {
            cluster_name: content.into(),
            ..ClusterLoadAssignment::default()
        };
        Arc::new(Resource::new(name, &message))
    }

    fn plan(
        watched: &Watched,
        asked: Option<&[&str]>,
        group: Option<Group>,
        existing: &[Arc<Resource>],
    ) -> Arc<Plan> {
        let asked = asked.map(|names| NameSet::of(names.iter().map(Name::new)));
        let need = Need {
            type_url: &TypeUrl::ENDPOINT,
            watched,
            about: asked.as_ref().map_or(About::All, About::Asked),
            form: Form::Delta,
            lists_all: false,
        };
        need.plan(group, || Look {
            existing: existing.to_vec(),
            names: Vec::new(),
        })
    }

    fn subscribe(names: &[&str], held: Vec<(Name, u64)>) -> Wants {
        Wants::Change {
            subscribe: names.iter().map(Name::new).collect(),
            unsubscribe: Vec::new(),
            held,
        }
    }

    #[test]
    fn delta_sends_the_difference_and_again_what_is_asked_again() {
        let held = vec![
            (Name::new("a"), resource("a", "1").hash),
            (Name::new("b"), 1),
        ];
        let wants = subscribe(&["a", "b", "c"], held);
        let (mut watched, _) = Watched::open(&TypeUrl::ENDPOINT, wants);
        let existing = [resource("a", "1"), resource("b", "1")];
        let first = plan(&watched, Some(&["a", "b", "c"]), None, &existing);
        assert_eq!(first.changed, [resource("b", "1")]);
        assert_eq!(*first.removed, [Name::new("c")]);
        assert!(!first.is_late);
        let gone = plan(&watched, Some(&["a", "b", "c"]), None, &existing[1..]);
        assert_eq!(*gone.removed, [Name::new("c")], "what it never had");
        assert!(gone.is_late, "what it has is told later");
        watched.sent = first.step(true).after;
        assert!(plan(&watched, None, None, &existing).is_empty());

        watched.change(subscribe(&["a"], Vec::new()));
        let again = plan(&watched, Some(&["a"]), None, &existing[..1]);
        assert_eq!(again.changed, [resource("a", "1")]);
    }

    #[test]
    fn clients_that_are_alike_share_a_plan_and_others_do_not() {
        let group = Some(Group::new());
        let client =
            |names: &[&str]| Watched::open(&TypeUrl::ENDPOINT, subscribe(names, Vec::new())).0;
        let existing = [resource("a", "1"), resource("b", "1")];
        let first = plan(&client(&["a", "b"]), None, group, &existing);
        let alike = plan(&client(&["b", "a"]), None, group, &[]);
        assert!(Arc::ptr_eq(&first, &alike));
        for (client, group) in [
            (client(&["a"]), group),
            (client(&["a", "b"]), Some(Group::new())),
            (client(&["a", "b"]), None),
        ] {
            let other = plan(&client, None, group, &existing[..1]);
            assert!(!Arc::ptr_eq(&first, &other));
        }
        let mut ahead = client(&["a", "b"]);
        ahead.sent = first.step(true).after;
        assert!(plan(&ahead, None, group, &existing).is_empty());
    }

    #[test]
    fn who_had_all_of_a_group_is_brought_to_the_next_by_what_differs() {
        let (before, after) = (Group::new(), Some(Group::new()));
        let (mut watched, _) = Watched::open(&TypeUrl::CLUSTER, subscribe(&["*"], Vec::new()));
        let old = [resource("a", "1"), resource("b", "1"), resource("c", "1")];
        let first = plan(&watched, None, Some(before), &old);
        watched.sent = first.step(true).after;
        watched.has_all_of(first.leads_to);
        assert_eq!(watched.had_all_of(), Some(before));

        let need = Need {
            type_url: &TypeUrl::CLUSTER,
            watched: &watched,
            about: About::Since(before),
            form: Form::Delta,
            lists_all: false,
        };
        // Of `c` nothing is said, so it is not looked at; `d` never was.
        let next = need.plan(after, || Look {
            existing: vec![resource("a", "2")],
            names: ["a", "b", "d"].map(Name::new).to_vec(),
        });
        assert_eq!(next.changed, [resource("a", "2")]);
        assert_eq!(*next.removed, [Name::new("b")]);
        assert_eq!(next.leads_to, after);
    }
}
