//! All EnvoyFilters of a moment, and which of their patches hold for whom.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lateen_api::Object;
use lateen_api::labels::GATEWAY_NAME;
use lateen_api::networking::EnvoyFilter;
use lateen_api::security::TargetRef;
use lateen_core::Labels;
use lateen_galley::ConfigSet;

use super::compile::Compiled;
use super::{Patch, PatchReport, Patches, What};
use crate::shared::Shared;
use crate::wire;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// All patches, and the sets that some proxy has.
#[derive(Debug, Default)]
pub(crate) struct Book {
    root: String,
    /// What it was made from, to see whether that changed.
    source: Vec<Arc<Object<EnvoyFilter>>>,
    /// In the order in which they are applied.
    filters: Vec<Compiled>,
    sets: Vec<Shared<Patches>>,
}

/// What decides which patches hold for a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) router: bool,
    /// It is our own proxy.
    pub(crate) ours: bool,
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
    /// The version of Istio that it says it behaves like.
    pub(crate) version: &'a str,
    /// Texts of its node's metadata.
    pub(crate) metadata: &'a BTreeMap<String, String>,
}

/// The patches of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selected {
    pub(super) all: Option<Shared<Patches>>,
    /// Those of them that may concern anything that leads out.
    outward: Option<Shared<Patches>>,
}

impl Selected {
    /// As far as anything outbound depends on it.
    pub(crate) fn outward(&self) -> Selected {
        Selected {
            all: self.outward.clone(),
            outward: self.outward.clone(),
        }
    }
}

impl Book {
    /// Takes in a configuration. Whether anything is different.
    pub(crate) fn renew(&mut self, config: &ConfigSet) -> bool {
        let root = config.mesh.root_namespace();
        let mut pairs = self.source.iter().zip(&config.envoy_filters);
        if self.root == root
            && self.source.len() == config.envoy_filters.len()
            && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return false;
        }
        let old = self.filters.drain(..);
        let mut old: BTreeMap<_, _> = old.map(|f| (Arc::as_ptr(&f.object), f)).collect();
        let compiled = config.envoy_filters.iter().map(|object| {
            let known = old.remove(&Arc::as_ptr(object));
            known.unwrap_or_else(|| Compiled::new(object))
        });
        self.filters = compiled.collect();
        self.filters
            .sort_by_cached_key(|filter| rank(&filter.object, root));
        root.clone_into(&mut self.root);
        self.source.clone_from(&config.envoy_filters);
        true
    }

    /// Forgets sets that no vantage has any more.
    pub(crate) fn sweep(&mut self) {
        self.sets.retain(|set| Arc::strong_count(&set.0) > 1);
    }

    /// The patches for a proxy. Proxies with the same patches get the same allocation.
    pub(crate) fn select(&mut self, who: Who<'_>) -> Selected {
        let filters = self.filters.iter();
        let filters = filters.filter(|filter| is_for(&filter.object, &self.root, who));
        let patches = filters.flat_map(|filter| &filter.patches);
        let patches = patches.filter(|(of, _)| of.holds(who.version, who.metadata));
        let all: Vec<_> = patches.map(|(_, patch)| patch.clone()).collect();
        let is_outward = |patch: &&Arc<Patch>| {
            !patch.when.is_inbound() && !matches!(patch.what, What::Bootstrap(_))
        };
        let outward = all.iter().filter(is_outward);
        let outward: Vec<_> = outward.cloned().collect();
        Selected {
            all: self.shared(all, who),
            outward: self.shared(outward, who),
        }
    }

    fn shared(&mut self, list: Vec<Arc<Patch>>, who: Who<'_>) -> Option<Shared<Patches>> {
        if list.is_empty() {
            return None;
        }
        let is_same = |held: &&Shared<Patches>| {
            let mut pairs = held.list.iter().zip(&list);
            (held.router, held.ours) == (who.router, who.ours)
                && held.list.len() == list.len()
                && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if let Some(held) = self.sets.iter().find(is_same) {
            return Some(held.clone());
        }
        let made = Shared(Arc::new(Patches {
            list,
            router: who.router,
            ours: who.ours,
        }));
        self.sets.push(made.clone());
        Some(made)
    }

    /// What became of each patch, in the order in which they are applied.
    pub(crate) fn report(&self) -> Vec<PatchReport> {
        let of = |filter: &Compiled| {
            let read = filter.patches.iter().map(|(_, patch)| PatchReport {
                object: patch.object.clone(),
                field: patch.field.clone(),
                applied: patch.applied.load(Ordering::Relaxed),
                fault: patch.fault.get().cloned(),
            });
            let unread = filter.unread.iter().cloned();
            read.chain(unread).collect::<Vec<_>>()
        };
        self.filters.iter().flat_map(of).collect()
    }
}

/// By priority, then the root namespace, then age, then name.
fn rank(object: &Object<EnvoyFilter>, root: &str) -> impl Ord + use<> {
    let meta = &object.meta;
    (
        object.spec.priority,
        Reverse(meta.namespace == root),
        meta.creation_timestamp,
        format!("{}.{}", meta.name, meta.namespace),
    )
}

fn is_for(object: &Object<EnvoyFilter>, root: &str, who: Who<'_>) -> bool {
    let (meta, spec) = (&object.meta, &object.spec);
    if meta.namespace != who.namespace && meta.namespace != root {
        return false;
    }
    if !spec.target_refs.is_empty() {
        let mut targets = spec.target_refs.iter();
        return targets.any(|target| is_target(target, &meta.namespace, who));
    }
    let selector = spec.workload_selector.as_ref();
    let selector = selector.map_or(&spec.workload_labels, |selector| &selector.labels);
    wire::selects(selector, who.labels)
}

/// Of all that can be attached to, only Gateways have proxies of their own here.
fn is_target(target: &TargetRef, namespace: &str, who: Who<'_>) -> bool {
    target.group == GATEWAY_GROUP
        && target.kind == "Gateway"
        && namespace == who.namespace
        && who.labels.value(GATEWAY_NAME) == Some(&target.name)
}
