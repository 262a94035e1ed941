//! Statuses of routes.

use lateen_api::gateway_api::{ParentReference, RouteParentStatus, RouteStatus};

use super::{
    CONTROLLER, Said,
    conditions::{Verdict, holds},
    routes::Findings,
};

/// Status of a route at one parent; `behind` says what of an accepted route is not in force.
pub(super) fn parent(
    parent: &ParentReference,
    refused: Option<&Verdict>,
    findings: &Findings,
    behind: Option<&str>,
    generation: i64,
) -> RouteParentStatus {
    let refused = refused.or(findings.refused.as_ref());
    let unresolved = findings.unresolved.as_ref();
    let accepted = ("Accepted", behind.unwrap_or("Route was valid"));
    let resolved = ("ResolvedRefs", "All references resolved");
    RouteParentStatus {
        parent_ref: Some(parent.clone()),
        controller_name: CONTROLLER.into(),
        conditions: vec![
            holds("Accepted", refused, accepted, generation),
            holds("ResolvedRefs", unresolved, resolved, generation),
        ],
    }
}

pub(super) fn route(parents: Vec<RouteParentStatus>, generation: i64) -> Said {
    said(&RouteStatus { parents }, generation)
}

pub(super) fn said(status: &impl serde::Serialize, generation: i64) -> Said {
    Said {
        generation,
        status: serde_json::to_value(status).expect("a status is plain data"),
    }
}
