//! TLSRoute and TCPRoute: destinations of connections. UDPRoute: of datagrams.

use lateen_api::{gateway_api::L4RouteRule, networking::RouteDestination};

use super::{
    Around,
    backend::{End, nowhere},
    routes::Converted,
};

/// Reads the rules of a route. The share of backends that cannot be used is refused.
pub(super) fn convert(around: Around<'_>, from: End<'_>, rules: &[L4RouteRule]) -> Converted {
    let mut out = Converted::default();
    for to in rules.iter().flat_map(|rule| &rule.backend_refs) {
        let weight = to.weight.unwrap_or(1).max(0);
        let destination = out.findings.backend(around, from, to);
        let destination = destination.unwrap_or_else(|verdict| {
            out.findings.unresolved(verdict);
            nowhere()
        });
        if weight > 0 {
            out.l4.push(RouteDestination {
                destination: Some(destination),
                weight,
            });
        }
    }
    if out.l4.is_empty() {
        out.l4.push(RouteDestination {
            destination: Some(nowhere()),
            weight: 1,
        });
    }
    out
}
