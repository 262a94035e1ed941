//! What there is of one type at one moment, and what made it differ from what there was before.

use std::sync::Arc;

use lateen_xds::server::{Group, Name};

/// Changes that are remembered. A client that is further behind is compared with all there is.
const REMEMBERED: usize = 8;

/// With more names than this a comparison with all there is costs no more.
const NAMES_MAX: usize = 2048;

/// A group, and how it came from those before it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) group: Group,
    /// The newest first.
    log: Arc<[Step]>,
}

/// One change: the group before it, and the names that may differ since.
#[derive(Clone)]
struct Step {
    before: Group,
    names: Arc<[Name]>,
}

impl State {
    pub(super) fn new() -> State {
        State {
            group: Group::new(),
            log: Arc::default(),
        }
    }

    /// The state after these have changed; the same one where none has.
    pub(super) fn then(&self, names: Vec<Name>) -> State {
        match names.is_empty() {
            true => self.clone(),
            false => self.moved(names),
        }
    }

    /// A new state, in which these may differ of what somebody has asked for. What nobody has asked
    /// for yet may differ too, so that who asks from now on must not be told what was right before.
    pub(super) fn moved(&self, names: Vec<Name>) -> State {
        if names.len() > NAMES_MAX {
            return State::new();
        }
        let newest = Step {
            before: self.group,
            names: names.into(),
        };
        let older = self.log.iter().take(REMEMBERED - 1).cloned();
        State {
            group: Group::new(),
            log: [newest].into_iter().chain(older).collect(),
        }
    }

    /// The names that may differ since a group; `None` where that is too long ago.
    pub(super) fn since(&self, group: Group) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        if group == self.group {
            return Some(names);
        }
        for step in &*self.log {
            names.extend_from_slice(&step.names);
            if step.before == group {
                return Some(names);
            }
        }
        None
    }
}

/// What a vantage has of a type: what its scope has, and more that seldom changes.
#[derive(Clone)]
pub(super) struct Followed {
    pub(super) group: Group,
    /// Groups of its own with the scope's group at that time, the newest first.
    past: Vec<(Group, Group)>,
}

impl Followed {
    pub(super) fn new(scope: &State) -> Followed {
        let group = Group::new();
        Followed {
            group,
            past: vec![(group, scope.group)],
        }
    }

    /// The same after the scope's part has changed, if it has.
    pub(super) fn next(&self, scope: &State) -> Followed {
        if self.past.first().is_some_and(|(_, of)| *of == scope.group) {
            return self.clone();
        }
        let mut next = Followed::new(scope);
        next.past.extend(self.past.iter().take(REMEMBERED - 1));
        next
    }

    /// The names that may differ since a group of its own.
    pub(super) fn since(&self, scope: &State, group: Group) -> Option<Vec<Name>> {
        let mut past = self.past.iter();
        let (_, of_scope) = past.find(|(own, _)| *own == group)?;
        scope.since(*of_scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<Name> {
        of.iter().map(Name::new).collect()
    }

    #[test]
    fn a_state_knows_what_changed_since_an_earlier_one() {
        let first = State::new();
        let second = first.then(names(&["a", "b"]));
        assert_eq!(second.then(Vec::new()).group, second.group);
        let third = second.then(names(&["c"]));
        assert_eq!(third.since(third.group), Some(Vec::new()));
        assert_eq!(third.since(second.group), Some(names(&["c"])));
        assert_eq!(third.since(first.group), Some(names(&["c", "a", "b"])));
        assert_eq!(first.since(third.group), None, "of what is to come");
        let mut late = third.clone();
        for _ in 0..REMEMBERED {
            late = late.then(names(&["d"]));
        }
        assert!(late.since(third.group).is_some());
        assert_eq!(late.since(second.group), None, "too long ago");
    }

    #[test]
    fn a_vantage_follows_its_scope() {
        let scope = State::new();
        let own = Followed::new(&scope);
        assert_eq!(own.next(&scope).group, own.group);
        let after = scope.then(names(&["a"]));
        let next = own.next(&after);
        assert_ne!(next.group, own.group);
        assert_eq!(next.since(&after, own.group), Some(names(&["a"])));
        assert_eq!(next.since(&after, next.group), Some(Vec::new()));
        assert_eq!(Followed::new(&after).since(&after, own.group), None);
    }
}
