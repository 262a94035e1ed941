//! TLSRoute and TCPRoute: destinations of connections. UDPRoute: of datagrams.

use lateen_api::{gateway_api::L4RouteRule, networking::RouteDestination};

use super::{
    Around,
    backend::{End, nowhere},
    routes::{Common, Converted},
};
use crate::sources::Source;

/// Where a route leads, of which there is one for each listener or port of a Service.
#[derive(Clone, Debug, Default)]
pub(super) struct L4 {
    pub(super) route: Vec<RouteDestination>,
    /// What it was made of.
    pub(super) source: Source,
}

impl L4 {
    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.route.is_empty()
    }
}

/// Reads the rules of a route. The share of backends that cannot be used is refused.
pub(super) fn convert(around: Around<'_>, of: Common<'_>, rules: &[L4RouteRule]) -> Converted {
    let mut out = Converted::default();
    let from = End::of(of.kind.kind, &of.meta.namespace);
    let mut backends = Vec::new();
    for (n, rule) in rules.iter().enumerate() {
        for (b, to) in rule.backend_refs.iter().enumerate() {
            let weight = to.weight.unwrap_or(1).max(0);
            let destination = out.findings.backend(around, from, to);
            let destination = destination.unwrap_or_else(|verdict| {
                out.findings.unresolved(verdict);
                nowhere()
            });
            if weight > 0 {
                out.l4.route.push(RouteDestination {
                    destination: Some(destination),
                    weight,
                });
                backends.push(format!("spec.rules[{n}].backendRefs[{b}]"));
            }
        }
    }
    if out.l4.is_empty() {
        out.l4.route.push(RouteDestination {
            destination: Some(nowhere()),
            weight: 1,
        });
    }
    let rule = match rules {
        [_] => "spec.rules[0]",
        _ => "spec.rules",
    };
    out.l4.source = Source {
        backends,
        condition: match of.hostnames {
            [] => String::new(),
            _ => "spec.hostnames".to_owned(),
        },
        ..Source::new(of.kind.id(), of.meta, rule)
    };
    out
}
