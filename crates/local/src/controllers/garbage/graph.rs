//! Who owns whom, and what follows from it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::runtime::watcher::Event;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Index of its kind.
    pub(super) kind: usize,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    deleting: bool,
}

impl Node {
    pub(super) fn new(kind: usize, meta: ObjectMeta) -> Self {
        Self {
            kind,
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            owners: meta.owner_references.unwrap_or_default(),
            finalizers: meta.finalizers.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    fn waits_for(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|one| one == finalizer)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Delete {
        node: Node,
        foreground: bool,
    },
    /// Forget the owner with this uid.
    Disown {
        node: Node,
        owner: String,
    },
    /// Take off the finalizer.
    Release {
        node: Node,
        finalizer: &'static str,
    },
}

/// All objects of the kinds watched.
#[derive(Debug)]
pub(super) struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    /// Kinds of which a whole listing has been seen; before that nothing is known to be absent.
    complete: Vec<bool>,
    listed: Vec<BTreeSet<String>>,
}

impl Graph {
    pub(super) fn new(kinds: usize) -> Self {
        Self {
            nodes: BTreeMap::new(),
            dependents: BTreeMap::new(),
            complete: vec![false; kinds],
            listed: vec![BTreeSet::new(); kinds],
        }
    }

    /// Takes an event; what is to be done because of it.
    pub(super) fn take(&mut self, kind: usize, event: Event<Node>) -> Vec<Action> {
        match event {
            Event::Init => {
                self.listed[kind].clear();
                Vec::new()
            }
            Event::InitApply(node) => {
                self.listed[kind].insert(node.uid.clone());
                self.put(node)
            }
            Event::InitDone => self.listing_done(kind),
            Event::Apply(node) => self.put(node),
            Event::Delete(node) => self.remove(&node.uid),
        }
    }

    fn is_complete(&self) -> bool {
        self.complete.iter().all(|complete| *complete)
    }

    fn listing_done(&mut self, kind: usize) -> Vec<Action> {
        let was = self.is_complete();
        self.complete[kind] = true;
        let gone = |node: &&Node| node.kind == kind && !self.listed[kind].contains(&node.uid);
        let gone: Vec<String> = self
            .nodes
            .values()
            .filter(gone)
            .map(|node| node.uid.clone())
            .collect();
        let mut actions: Vec<Action> = gone.iter().flat_map(|uid| self.remove(uid)).collect();
        if !was && self.is_complete() {
            actions.extend(self.nodes.values().flat_map(|node| self.follow(node)));
        }
        actions
    }

    fn put(&mut self, node: Node) -> Vec<Action> {
        if let Some(old) = self.nodes.get(&node.uid) {
            for owner in &old.owners {
                if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                    dependents.remove(&node.uid);
                }
            }
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(node.uid.clone());
        }
        self.nodes.insert(node.uid.clone(), node.clone());
        if self.is_complete() {
            self.follow(&node)
        } else {
            Vec::new()
        }
    }

    fn remove(&mut self, uid: &str) -> Vec<Action> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
            }
        }
        if !self.is_complete() {
            return Vec::new();
        }
        let orphans = self.children(uid);
        let owners = node
            .owners
            .iter()
            .filter_map(|owner| self.nodes.get(&owner.uid));
        orphans
            .into_iter()
            .chain(owners)
            .flat_map(|node| self.follow(node))
            .collect()
    }

    fn children(&self, uid: &str) -> Vec<&Node> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents.filter_map(|uid| self.nodes.get(uid)).collect()
    }

    /// What follows from how this object is now.
    fn follow(&self, node: &Node) -> Vec<Action> {
        if node.waits_for(ORPHAN) {
            return self.orphan(node);
        }
        if node.waits_for(FOREGROUND) {
            return self.foreground(node);
        }
        if node.deleting || node.owners.is_empty() {
            return Vec::new();
        }
        // An owner that is going with its dependents is as good as gone.
        let gone = |owner: &OwnerReference| match self.nodes.get(&owner.uid) {
            Some(owner) => owner.waits_for(FOREGROUND),
            None => self.watches(owner),
        };
        if node.owners.iter().all(gone) {
            let foreground = node
                .owners
                .iter()
                .any(|owner| self.nodes.contains_key(&owner.uid));
            return vec![Action::Delete {
                node: node.clone(),
                foreground,
            }];
        }
        Vec::new()
    }

    /// Whether an owner of this kind would be known if it existed.
    fn watches(&self, owner: &OwnerReference) -> bool {
        super::KINDS.iter().any(|(group, version, kind, _)| {
            let api_version = if group.is_empty() {
                (*version).to_owned()
            } else {
                format!("{group}/{version}")
            };
            *kind == owner.kind && api_version == owner.api_version
        })
    }

    fn orphan(&self, node: &Node) -> Vec<Action> {
        let children = self.children(&node.uid);
        let disown = |child: &&Node| Action::Disown {
            node: (*child).clone(),
            owner: node.uid.clone(),
        };
        let mut actions: Vec<Action> = children.iter().map(disown).collect();
        actions.push(Action::Release {
            node: node.clone(),
            finalizer: ORPHAN,
        });
        actions
    }

    fn foreground(&self, node: &Node) -> Vec<Action> {
        let children = self.children(&node.uid);
        let blocking = |child: &&Node| {
            child
                .owners
                .iter()
                .any(|owner| owner.uid == node.uid && owner.block_owner_deletion == Some(true))
        };
        if !children.iter().any(blocking) {
            return vec![Action::Release {
                node: node.clone(),
                finalizer: FOREGROUND,
            }];
        }
        let living = children.into_iter().filter(|child| !child.deleting);
        living.flat_map(|child| self.follow(child)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: usize = 0;
    const REPLICA_SET: usize = 7;

    fn node(kind: usize, uid: &str, owners: &[&str]) -> Node {
        let owner = |uid: &&str| OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            uid: (*uid).into(),
            name: (*uid).into(),
            block_owner_deletion: Some(true),
            controller: Some(true),
        };
        let meta = ObjectMeta {
            name: Some(uid.into()),
            uid: Some(uid.into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            ..ObjectMeta::default()
        };
        Node::new(kind, meta)
    }

    fn deleting(mut node: Node, finalizer: &str) -> Node {
        node.deleting = true;
        node.finalizers.push(finalizer.into());
        node
    }

    fn graph(nodes: Vec<Node>) -> (Graph, Vec<Action>) {
        let mut graph = Graph::new(super::super::KINDS.len());
        for node in nodes {
            assert_eq!(graph.take(node.kind, Event::InitApply(node)), []);
        }
        let kinds = 0..super::super::KINDS.len();
        let actions = kinds
            .flat_map(|kind| graph.take(kind, Event::InitDone))
            .collect();
        (graph, actions)
    }

    #[test]
    fn dependents_follow_their_owner() {
        let (set, pod) = (node(REPLICA_SET, "set", &[]), node(POD, "pod", &["set"]));
        let (mut graph, actions) = graph(vec![set.clone(), pod.clone()]);
        assert_eq!(actions, []);
        let actions = graph.take(REPLICA_SET, Event::Delete(set));
        assert_eq!(
            actions,
            [Action::Delete {
                node: pod,
                foreground: false
            }]
        );
    }

    #[test]
    fn what_dangles_at_the_start_is_collected_but_not_what_others_own() {
        let dangling = node(POD, "pod", &["gone"]);
        let mut foreign = node(POD, "other", &["gone"]);
        foreign.owners[0].kind = "Widget".into();
        let (_, actions) = graph(vec![dangling.clone(), foreign]);
        assert_eq!(
            actions,
            [Action::Delete {
                node: dangling,
                foreground: false
            }]
        );
    }

    #[test]
    fn a_second_owner_keeps() {
        let set = node(REPLICA_SET, "a", &[]);
        let (mut graph, _) = graph(vec![
            set.clone(),
            node(REPLICA_SET, "b", &[]),
            node(POD, "pod", &["a", "b"]),
        ]);
        assert_eq!(graph.take(REPLICA_SET, Event::Delete(set)), []);
    }

    #[test]
    fn foreground_waits_for_the_dependents() {
        let (set, pod) = (node(REPLICA_SET, "set", &[]), node(POD, "pod", &["set"]));
        let (mut graph, _) = graph(vec![set.clone(), pod.clone()]);
        let set = deleting(set, FOREGROUND);
        let actions = graph.take(REPLICA_SET, Event::Apply(set.clone()));
        assert_eq!(
            actions,
            [Action::Delete {
                node: pod.clone(),
                foreground: true
            }]
        );
        let actions = graph.take(POD, Event::Delete(pod));
        assert_eq!(
            actions,
            [Action::Release {
                node: set,
                finalizer: FOREGROUND
            }]
        );
    }

    #[test]
    fn orphans_are_let_go_first() {
        let (set, pod) = (node(REPLICA_SET, "set", &[]), node(POD, "pod", &["set"]));
        let (mut graph, _) = graph(vec![set.clone(), pod.clone()]);
        let set = deleting(set, ORPHAN);
        let actions = graph.take(REPLICA_SET, Event::Apply(set.clone()));
        let disown = Action::Disown {
            node: pod,
            owner: "set".into(),
        };
        assert_eq!(
            actions,
            [
                disown,
                Action::Release {
                    node: set,
                    finalizer: ORPHAN
                }
            ]
        );
    }
}
