//! What is served from a snapshot, in the making.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::members::Scopes;
use super::scope::{Inbound, Making, Scope};
use super::state::Followed;
use super::touched::Touched;
use super::{Served, Vantage, is_same};
use crate::key::Cache;
use crate::snapshot::Snapshot;

pub(super) struct Next<'a> {
    pub(super) cache: &'a Cache,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) touched: &'a Touched,
    /// Those of gateways may have changed.
    pub(super) credentials: bool,
    pub(super) before: Scopes,
    pub(super) scopes: Scopes,
    /// The same by the address of their vantage: thousands of kinds of workloads share a few.
    by_address: HashMap<usize, Arc<Scope>, FixedState>,
}

impl<'a> Next<'a> {
    pub(super) fn new(
        cache: &'a Cache,
        snapshot: &'a Arc<Snapshot>,
        touched: &'a Touched,
        before: Scopes,
    ) -> Next<'a> {
        Next {
            cache,
            snapshot,
            touched,
            credentials: false,
            before,
            scopes: Scopes::default(),
            by_address: HashMap::default(),
        }
    }

    /// What a vantage is served, which sees `reduced` of the mesh; from what it was served before.
    pub(super) fn served(
        &mut self,
        vantage: &Arc<Vantage>,
        reduced: &Arc<Vantage>,
        before: Option<&Arc<Served>>,
    ) -> Arc<Served> {
        let scope = self.scope(reduced);
        let inbound = (!vantage.is_router()).then(|| {
            let before = before.and_then(|before| before.inbound.as_ref());
            Inbound::next(before, self.making(vantage))
        });
        self.renewed(before, vantage, scope, inbound)
    }

    fn scope(&mut self, reduced: &Arc<Vantage>) -> Arc<Scope> {
        // Each is held by the scopes that were made, so that no other one can have its address.
        let address = Arc::as_ptr(reduced).addr();
        if let Some(made) = self.by_address.get(&address) {
            return made.clone();
        }
        if let Some(made) = self.scopes.get(reduced) {
            return made.clone();
        }
        let before = self.before.get(reduced);
        let like = match before {
            Some(_) => None,
            None => self.like(reduced),
        };
        let scope = Scope::next(before, like, self.making(reduced));
        self.scopes.insert(reduced.clone(), scope.clone());
        self.by_address.insert(address, scope.clone());
        scope
    }

    /// A scope that one of its kind has much in common with.
    fn like(&self, vantage: &Vantage) -> Option<&Arc<Scope>> {
        let is_like = |other: &Vantage| {
            (other.kind, other.dialect) == (vantage.kind, vantage.dialect)
                && other.patches == vantage.patches
        };
        let mut all = self.scopes.iter();
        all.find(|(other, _)| is_like(other))
            .map(|(_, scope)| scope)
    }

    fn making<'b>(&'b self, vantage: &'b Arc<Vantage>) -> Making<'b> {
        Making {
            vantage,
            snapshot: self.snapshot,
            touched: self.touched,
            cache: self.cache,
        }
    }

    fn renewed(
        &self,
        before: Option<&Arc<Served>>,
        vantage: &Vantage,
        scope: Arc<Scope>,
        inbound: Option<Arc<Inbound>>,
    ) -> Arc<Served> {
        let generation = self.snapshot.generation;
        let uses_credentials = || {
            vantage.is_router()
                || self
                    .snapshot
                    .names_credentials(&vantage.namespace, &vantage.labels)
        };
        let woken = self.credentials && uses_credentials();
        if let Some(before) = before
            && !woken
            && before.is_made_of(&scope, inbound.as_ref())
        {
            before.standing.store(generation, Ordering::Relaxed);
            return before.clone();
        }
        let kept = before.filter(|before| is_same(before.inbound.as_ref(), inbound.as_ref()));
        let (clusters, listeners) = (&scope.clusters.state, &scope.listeners.state);
        Arc::new(Served {
            generation,
            standing: Arc::new(AtomicU64::new(generation)),
            clusters: kept.map_or_else(|| Followed::new(clusters), |b| b.clusters.next(clusters)),
            listeners: kept
                .map_or_else(|| Followed::new(listeners), |b| b.listeners.next(listeners)),
            scope,
            inbound,
            patches: vantage.patches.clone(),
        })
    }
}
