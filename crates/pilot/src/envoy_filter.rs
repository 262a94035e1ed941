//! EnvoyFilter: users' changes to the messages that generators make.
//!
//! An object is read once ([`compile`]); what of it cannot be read is named and left out. Which
//! patches hold for a proxy is decided once per kind of proxy ([`Book`]), and the set that comes out
//! is a part of the proxy's vantage and of the keys of what it changes: a patched resource is cached
//! as any other, and one that no patch concerns is shared with proxies that have no patches.
//!
//! Within a set the order is by priority, then the root namespace before others, then by age, then
//! by name; within an object as it is written. A resource is patched from the outside in: a listener
//! before its filter chains, these before their filters. A patch that does not fit is named, with
//! the resource, and leaves it as it was; others go on from there.

mod book;
mod bootstrap;
mod cluster;
mod compile;
mod edit;
mod legacy;
mod listener;
mod names;
mod patched;
mod route;
mod when;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use lateen_api::networking::PatchContext;
use lateen_core::ObjectRef;
use lateen_xds::types::bootstrap::Bootstrap;
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::core::TypedExtensionConfig;
use lateen_xds::types::listener::{Filter, FilterChain, Listener, ListenerFilter};
use lateen_xds::types::network::hcm::HttpFilter;
use lateen_xds::types::route::{Route, RouteConfiguration, VirtualHost};
use lateen_xds::{NamedMessage, pack_any};
use tracing::warn;

pub(crate) use book::{Book, Selected, Who};
pub(crate) use patched::{Added, Kind, Patched};

use edit::Edit;
use when::When;

/// One change, ready to be made.
#[derive(Debug)]
pub(crate) struct Patch {
    object: ObjectRef,
    /// Where it is written, `spec.configPatches[2]`.
    field: String,
    when: When,
    what: What,
    /// How many resources it has changed.
    applied: AtomicU64,
    /// The first resource that it does not fit, and why.
    fault: OnceLock<String>,
    /// Resources that it did not fit, so that each is logged once.
    told: Mutex<std::collections::BTreeSet<String>>,
}

/// A change of a kind of message.
#[derive(Debug)]
enum What {
    Listener(Edit<Listener>),
    ListenerFilter(Edit<ListenerFilter>),
    FilterChain(Edit<FilterChain>),
    NetworkFilter(Edit<Filter>),
    HttpFilter(Edit<HttpFilter>),
    Routes(Edit<RouteConfiguration>),
    VirtualHost(Edit<VirtualHost>),
    Route(Edit<Route>),
    Cluster(Edit<Cluster>),
    Extension(Edit<TypedExtensionConfig>),
    Bootstrap(Edit<Bootstrap>),
}

/// Resources that differ in how they do not fit a patch; more are not told apart.
const TOLD_MAX: usize = 64;

impl Patch {
    fn new(object: &ObjectRef, field: String, when: When, what: What) -> Arc<Patch> {
        Arc::new(Patch {
            object: object.clone(),
            field,
            when,
            what,
            applied: AtomicU64::new(0),
            fault: OnceLock::new(),
            told: Mutex::default(),
        })
    }

    /// Counts a resource that it was for: changed by it (`true`), or of which it found no part.
    fn done(&self, resource: &str, change: Result<bool, String>) {
        match change {
            Ok(false) => {}
            Ok(true) => {
                self.applied.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => self.does_not_fit(resource, &why),
        }
    }

    fn does_not_fit(&self, resource: &str, why: &str) {
        let fault = format!("{resource}: {why}");
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(fault.clone()) {
            warn!(object = %self.object, field = self.field, fault, "a patch was not applied");
        }
        self.fault.get_or_init(|| fault);
    }
}

/// What became of a patch since its object was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchReport {
    /// The EnvoyFilter.
    pub object: ObjectRef,
    /// Where in it, `spec.configPatches[2]`.
    pub field: String,
    /// How many resources it has changed. None, and no fault: nothing that any connected proxy has
    /// is what it is for.
    pub applied: u64,
    /// Why it could not be read, or the first resource that it did not fit.
    pub fault: Option<String>,
}

/// The patches that hold for a proxy, in the order in which they are made.
#[derive(Debug)]
pub(crate) struct Patches {
    list: Vec<Arc<Patch>>,
    router: bool,
    /// The proxy is our own, which does less than Envoy.
    ours: bool,
}

impl Patches {
    /// Those of one kind that are for a context.
    fn of<'a, T: 'a>(
        &'a self,
        context: PatchContext,
        kind: impl Fn(&'a What) -> Option<T>,
    ) -> impl Iterator<Item = (&'a Patch, T)> {
        self.list
            .iter()
            .filter(move |patch| patch.when.is_in(context))
            .filter_map(move |patch| kind(&patch.what).map(|what| (&**patch, what)))
    }

    /// Makes a patch, if the proxy can read what comes out: a resource that it refuses as a whole
    /// would cost more than the patch is worth.
    fn attempt<M: NamedMessage>(
        &self,
        (patch, resource): (&Patch, &str),
        message: &mut M,
        reads: impl Fn(&M) -> Result<(), lateen_decode::DecodeError>,
        change: impl Fn(&mut M) -> Result<bool, String>,
    ) {
        let mut changed = message.clone();
        let mut made = change(&mut changed);
        if self.ours && made == Ok(true) {
            let read = reads(&changed);
            made = read
                .map(|()| true)
                .map_err(|error| format!("Lateen's proxy does not do it: {error}"));
        }
        if made == Ok(true) {
            for field in self.ignored(message, &changed) {
                let why = format!("Lateen's proxy does nothing with {field}");
                patch.does_not_fit(resource, &why);
            }
            *message = changed;
        }
        patch.done(resource, made);
    }

    /// Fields that a change has set and that our proxy does not read.
    fn ignored<M: NamedMessage>(&self, before: &M, after: &M) -> Vec<String> {
        if !self.ours {
            return Vec::new();
        }
        let known = lateen_decode::unread(&pack_any(before)).fields;
        let found = lateen_decode::unread(&pack_any(after)).fields.into_iter();
        let new = found.filter(|field| !known.contains(field));
        let name = |message: &str, number| lateen_xds::json::field_name(message, number);
        new.map(|field| field.path(name)).collect()
    }

    /// Where a resource that leads out is used.
    fn outward(&self) -> PatchContext {
        if self.router {
            PatchContext::Gateway
        } else {
            PatchContext::SidecarOutbound
        }
    }
}
