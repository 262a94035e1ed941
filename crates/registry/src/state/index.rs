//! Who refers to what, so that a change finds those that it concerns without asking all.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use lateen_core::Labels;

use crate::store::Key;

/// Objects by something that several of them may have in common.
#[derive(Debug, PartialEq)]
pub(crate) struct Index<A>(BTreeMap<A, BTreeSet<Key>>);

impl<A> Default for Index<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A: Ord> Index<A> {
    pub(crate) fn insert(&mut self, at: A, key: &Key) {
        self.0.entry(at).or_default().insert(key.clone());
    }

    pub(crate) fn remove(&mut self, at: &A, key: &Key) {
        if let Some(keys) = self.0.get_mut(at) {
            keys.remove(key);
            if keys.is_empty() {
                self.0.remove(at);
            }
        }
    }

    /// The objects there, sorted.
    pub(crate) fn of(&self, at: &A) -> impl DoubleEndedIterator<Item = &Key> + use<'_, A> {
        self.0.get(at).into_iter().flatten()
    }
}

/// A label within a namespace, by its hash: whatever is found by it is asked again.
fn pair(namespace: &str, name: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (namespace, name, value).hash(&mut hasher);
    hasher.finish()
}

/// The labels that something is found by: its own, and none.
fn pairs(namespace: &str, labels: &Labels) -> impl Iterator<Item = u64> {
    let own = labels.iter().map(move |(n, v)| pair(namespace, n, v));
    own.chain([pair(namespace, "", "")])
}

/// The label under which a selector stands: whatever it selects has that one.
fn first_pair(namespace: &str, selector: &Labels) -> u64 {
    match selector.first_key_value() {
        Some((name, value)) => pair(namespace, name, value),
        None => pair(namespace, "", ""),
    }
}

/// What objects of one kind, the owners, select by label among objects of another, the members, of
/// their namespace. Both may come, change and go in any order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selection {
    selectors: BTreeMap<Key, Labels>,
    owners_by_pair: Index<u64>,
    members_by_pair: Index<u64>,
    selected: BTreeMap<Key, BTreeSet<Key>>,
}

impl Selection {
    /// Sets an owner's selector; `None` selects nothing. `labels_of` gives a member's labels.
    pub(crate) fn set_owner<'a>(
        &mut self,
        owner: &Key,
        selector: Option<&Labels>,
        labels_of: impl Fn(&Key) -> Option<&'a Labels>,
    ) {
        let old = self.selectors.get(owner);
        if old == selector {
            return;
        }
        if let Some(old) = old {
            self.owners_by_pair
                .remove(&first_pair(&owner.0, old), owner);
            self.selectors.remove(owner);
            self.selected.remove(owner);
        }
        let Some(selector) = selector else { return };
        let first = first_pair(&owner.0, selector);
        self.owners_by_pair.insert(first, owner);
        self.selectors.insert(owner.clone(), selector.clone());
        let candidates = self.members_by_pair.of(&first);
        let is_selected = |member: &&Key| {
            member.0 == owner.0 && labels_of(member).is_some_and(|l| selector.selects(l))
        };
        let selected: BTreeSet<Key> = candidates.filter(is_selected).cloned().collect();
        if !selected.is_empty() {
            self.selected.insert(owner.clone(), selected);
        }
    }

    /// Takes in that a member changed; the owners that selected it before or do now.
    pub(crate) fn member_changed(
        &mut self,
        member: &Key,
        old: Option<&Labels>,
        new: Option<&Labels>,
    ) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        if let Some(old) = old {
            for owner in self.owners(&member.0, old) {
                if let Some(selected) = self.selected.get_mut(&owner) {
                    selected.remove(member);
                    if selected.is_empty() {
                        self.selected.remove(&owner);
                    }
                }
                concerned.insert(owner);
            }
            pairs(&member.0, old).for_each(|pair| self.members_by_pair.remove(&pair, member));
        }
        if let Some(new) = new {
            for owner in self.owners(&member.0, new) {
                let selected = self.selected.entry(owner.clone()).or_default();
                selected.insert(member.clone());
                concerned.insert(owner);
            }
            pairs(&member.0, new).for_each(|pair| self.members_by_pair.insert(pair, member));
        }
        concerned
    }

    /// The owners of a namespace that select something with these labels.
    fn owners(&self, namespace: &str, labels: &Labels) -> Vec<Key> {
        let found = pairs(namespace, labels).flat_map(|pair| self.owners_by_pair.of(&pair));
        let selects = |owner: &&Key| owner.0 == namespace && self.selectors[*owner].selects(labels);
        found.filter(selects).cloned().collect()
    }

    /// What an owner selects, sorted.
    pub(crate) fn selected_by(&self, owner: &Key) -> impl Iterator<Item = &Key> + use<'_> {
        self.selected.get(owner).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn key(name: &str) -> Key {
        ("ns".into(), name.into())
    }

    #[test]
    fn members_follow_labels_and_selectors() {
        let mut selection = Selection::default();
        let (v1, v2) = (
            labels(&[("app", "a"), ("v", "1")]),
            labels(&[("app", "a"), ("v", "2")]),
        );
        let (one, two) = (key("one"), key("two"));
        selection.member_changed(&one, None, Some(&v1));
        let all = |key: &Key| if *key == one { Some(&v1) } else { Some(&v2) };
        selection.set_owner(&key("app"), Some(&labels(&[("app", "a")])), all);
        selection.set_owner(&key("v1"), Some(&labels(&[("app", "a"), ("v", "1")])), all);
        selection.set_owner(&key("everything"), Some(&Labels::new()), all);
        selection.member_changed(&two, None, Some(&v2));
        let check = |selection: &Selection, owner: &str, want: &[&str]| {
            let owner = key(owner);
            let found: Vec<_> = selection
                .selected_by(&owner)
                .map(|k| k.1.as_str())
                .collect();
            assert_eq!(found, want, "{owner:?}");
        };
        check(&selection, "app", &["one", "two"]);
        check(&selection, "v1", &["one"]);
        check(&selection, "everything", &["one", "two"]);
        let concerned = selection.member_changed(&one, Some(&v1), Some(&v2));
        assert_eq!(concerned.len(), 3, "v1 no longer selects it, but did");
        check(&selection, "v1", &[]);
        check(&selection, "app", &["one", "two"]);
        selection.member_changed(&one, Some(&v2), None);
        check(&selection, "everything", &["two"]);
        selection.set_owner(&key("everything"), None, all);
        check(&selection, "everything", &[]);
        let elsewhere = ("other".to_owned(), "one".to_owned());
        assert!(
            selection
                .member_changed(&elsewhere, None, Some(&v1))
                .is_empty()
        );
    }
}
