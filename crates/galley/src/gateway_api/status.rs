//! Statuses of routes and policies.

use std::collections::BTreeMap;

use lateen_api::{
    gateway_api::{
        ParentReference, PolicyAncestorStatus, PolicyStatus, PolicyTargetReference,
        RouteParentStatus, RouteStatus,
    },
    kinds::gateway_api::BACKEND_TLS_POLICY,
};
use lateen_core::ObjectRef;

use super::{
    Around, CONTROLLER, Said,
    conditions::{Verdict, holds},
};

/// Status of a route at one parent.
pub(super) fn parent(
    parent: &ParentReference,
    refused: Option<&Verdict>,
    unresolved: Option<&Verdict>,
    generation: i64,
) -> RouteParentStatus {
    let accepted = ("Accepted", "Route was valid");
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

/// A policy is told at each of its targets that it is not in force.
pub(super) fn policies(around: Around<'_>, out: &mut BTreeMap<ObjectRef, Said>) {
    for policy in around.objects.backend_tls_policies.values() {
        let meta = &policy.meta;
        let refused = Verdict::new(
            "Invalid",
            "BackendTLSPolicy is not supported: its backends are not called by routes",
        );
        let ancestor = |target: &PolicyTargetReference| PolicyAncestorStatus {
            ancestor_ref: Some(ParentReference {
                group: target.group.clone(),
                kind: Some(target.kind.clone()),
                namespace: Some(meta.namespace.clone()),
                name: target.name.clone(),
                section_name: target.section_name.clone(),
                port: None,
            }),
            controller_name: CONTROLLER.into(),
            conditions: vec![refused.no("Accepted", meta.generation)],
        };
        let status = PolicyStatus {
            ancestors: policy.spec.target_refs.iter().map(ancestor).collect(),
        };
        let key = ObjectRef::new(BACKEND_TLS_POLICY.id(), &meta.namespace, &meta.name);
        out.insert(key, said(&status, meta.generation));
    }
}

pub(super) fn said(status: &impl serde::Serialize, generation: i64) -> Said {
    Said {
        generation,
        status: serde_json::to_value(status).expect("a status is plain data"),
    }
}
