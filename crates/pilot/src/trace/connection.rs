//! Rules of VirtualServices for connections, and what became VirtualServices; the same for datagrams.

use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{RouteDestination, VirtualService};
use lateen_core::ObjectRef;
use lateen_xds::types::listener::FilterChainMatch;

use super::{Origin, route};
use crate::key::Key;
use crate::listener::{L4Place, Written};
use crate::view::{self, View, l4_takers};

/// What became of a rule of a user for connections, or of one match of it.
#[derive(Clone, Debug)]
pub struct L4Trace {
    /// What became of it.
    pub fate: L4Fate,
    object: ObjectRef,
    /// `spec.tcp[1]`.
    rule: String,
    /// `spec.tcp[1].match[0]`; empty where it is for all connections.
    condition: String,
    /// The field of each destination, in the order of the clusters.
    destinations: Vec<String>,
    /// Fields of conditions are those of a VirtualService.
    is_virtual_service: bool,
    /// The service whose connections it is for; `None` at a gateway.
    pub service: Option<String>,
}

/// What became of a rule for connections.
#[derive(Clone, Debug, PartialEq)]
pub enum L4Fate {
    /// Filter chains that ask for this; none for datagrams.
    Chains(Vec<FilterChainMatch>),
    /// It is for other clients or listeners: the condition, and in words why it does not hold.
    Elsewhere {
        /// The field of the condition within the match: `port`.
        field: String,
        /// What it wants, and what there is.
        why: String,
    },
    /// Its names are not those of the server.
    OtherNames,
    /// It does not say where to.
    Nowhere,
    /// Rules before it take all that it asks for.
    Behind,
}

/// A condition of a filter chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4Condition {
    /// On the name that a TLS client asks for.
    ServerName,
    /// On where the connection goes.
    Destination,
    /// On where it comes from.
    Source,
}

impl L4Trace {
    /// The match, or the rule where it has none.
    pub fn origin(&self) -> Origin {
        match self.condition.as_str() {
            "" => self.field(self.rule.clone()),
            condition => self.field(condition.to_owned()),
        }
    }

    /// The field of a condition; that of the whole match where the condition has none of its own.
    pub fn condition(&self, of: L4Condition) -> Origin {
        let within = match of {
            L4Condition::ServerName => "sniHosts",
            L4Condition::Destination => "destinationSubnets",
            L4Condition::Source => "sourceSubnet",
        };
        self.within(within)
    }

    /// A field of the match by its name.
    pub fn within(&self, field: &str) -> Origin {
        match self.is_virtual_service && !self.condition.is_empty() {
            true => self.field(format!("{}.{field}", self.condition)),
            false => self.origin(),
        }
    }

    /// The field of the destination that is one of its clusters.
    pub fn destination(&self, n: usize) -> Option<Origin> {
        Some(self.field(self.destinations.get(n)?.clone()))
    }

    fn field(&self, field: String) -> Origin {
        Origin {
            object: self.object.clone(),
            field,
        }
    }
}

/// What becomes of each rule for connections at a listener.
pub(super) fn trace(view: View<'_>, address: &str, port: u16) -> Vec<L4Trace> {
    let chains = chains(view, address, port);
    let is_same = |written: &Written, object: &Arc<Object<VirtualService>>, place: L4Place| {
        let of = written.0.as_ref();
        of.is_some_and(|(of, at)| Arc::ptr_eq(of, object) && *at == place)
    };
    let mut traces = Vec::new();
    for source in view.l4_sources(address, port) {
        let object = &source.hosted.object;
        let mut add = |place: L4Place, fate: view::L4Fate<'_>| {
            let fate = match fate {
                view::L4Fate::Rule(_) => {
                    let own = chains.iter();
                    let own = own.filter(|(written, _)| is_same(written, object, place));
                    let own: Vec<_> = own.map(|(_, matches)| matches.clone()).collect();
                    match own.is_empty() {
                        true => L4Fate::Behind,
                        false => L4Fate::Chains(own),
                    }
                }
                view::L4Fate::Elsewhere(unmet) => {
                    let (field, why) = route::told(&unmet);
                    L4Fate::Elsewhere { field, why }
                }
                view::L4Fate::OtherNames => L4Fate::OtherNames,
                view::L4Fate::Nowhere => L4Fate::Nowhere,
            };
            traces.push(L4Trace {
                service: source.service.map(ToString::to_string),
                ..traced(object, place, fate)
            });
        };
        for (tls, _) in [true, false]
            .into_iter()
            .zip(source.parts)
            .filter(|(_, counts)| *counts)
        {
            let only = source.only.as_deref();
            view.walk_l4(
                source.hosted,
                &source.gateway,
                source.port,
                tls,
                only,
                &mut add,
            );
        }
    }
    traces
}

/// The rule that datagrams to a port of a gateway follow.
pub(super) fn datagrams(view: View<'_>, port: u16) -> Option<L4Trace> {
    let keys = view.unpatched_listeners();
    let mut gateways = keys.iter().filter_map(|key| match key {
        Key::Gateway(key) if key.port == port => key.datagrams(),
        _ => None,
    });
    let (object, place) = gateways.next()?.written.0.as_ref()?;
    Some(traced(object, *place, L4Fate::Chains(Vec::new())))
}

/// The chains of a listener and the rules that they come from.
fn chains(view: View<'_>, address: &str, port: u16) -> Vec<(Written, FilterChainMatch)> {
    let keys = view.unpatched_listeners();
    let chains = keys.iter().find_map(|key| match key {
        Key::Listener(key) if key.address() == address && key.port == port => Some(key.chains()),
        Key::Gateway(key)
            if key.address() == address && key.port == port && key.datagrams().is_none() =>
        {
            Some(key.chains())
        }
        _ => None,
    });
    let chains = chains.into_iter().flatten();
    let ruled = chains.filter_map(|(rule, chain)| {
        let written = rule?.written.clone();
        Some((written, chain.filter_chain_match.unwrap_or_default()))
    });
    ruled.collect()
}

fn traced(object: &Object<VirtualService>, place: L4Place, fate: L4Fate) -> L4Trace {
    let (part, routes) = match place.is_tls {
        true => ("tls", object.spec.tls.get(place.rule).map(|of| &of.route)),
        false => ("tcp", object.spec.tcp.get(place.rule).map(|of| &of.route)),
    };
    let rule = format!("spec.{part}[{}]", place.rule);
    let sources = lateen_galley::l4_sources(&object.meta);
    match sources.and_then(|sources| sources.into_iter().nth(place.rule)) {
        Some(source) => L4Trace {
            fate,
            object: Origin::of_source(&source, "").object,
            rule: source.rule,
            condition: source.condition,
            destinations: source.backends,
            is_virtual_service: false,
            service: None,
        },
        None => L4Trace {
            fate,
            object: Origin::new("VirtualService", &object.meta, "").object,
            condition: place
                .of
                .map_or_else(String::new, |of| format!("{rule}.match[{of}]")),
            destinations: routes.map_or_else(Vec::new, |routes| destinations(&rule, routes)),
            rule,
            is_virtual_service: true,
            service: None,
        },
    }
}

/// The field of each destination that gets connections.
fn destinations(rule: &str, routes: &[RouteDestination]) -> Vec<String> {
    let takers = l4_takers(routes).into_iter();
    takers
        .map(|(at, _)| format!("{rule}.route[{at}]"))
        .collect()
}
