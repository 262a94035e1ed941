//! What objects do to each other, which none of them shows by itself.

use std::collections::{BTreeMap, HashSet};

use lateen_api::kinds;
use lateen_api::networking::{MESH_GATEWAY, gateway_key};
use lateen_core::{ObjectRef, Problem, ProblemKind};

use crate::model::{Conflict, conflicts, unresolved};
use crate::snapshot::Snapshot;

/// Problems of each object that has any.
pub type Problems = BTreeMap<ObjectRef, Vec<Problem>>;

/// All problems in a snapshot, by object.
pub(crate) fn by_object(snapshot: &Snapshot) -> Problems {
    let mut all = Problems::new();
    let conflicts = conflicts(snapshot).into_iter().flat_map(of_both);
    let missing = missing_gateways(snapshot).into_iter();
    for problem in conflicts.chain(missing).chain(unresolved(snapshot)) {
        all.entry(problem.on.clone()).or_default().push(problem);
    }
    all
}

/// A conflict is told to both sides: only one of them has what it wants, and neither may know.
fn of_both(conflict: Conflict) -> [Problem; 2] {
    let Conflict {
        loser,
        winner,
        field,
        about,
    } = conflict;
    let won = Problem {
        on: winner.clone(),
        with: Some(loser.clone()),
        field: "".into(),
        kind: ProblemKind::Conflict,
        text: format!("{about}, which is this one"),
    };
    let lost = Problem {
        on: loser,
        with: Some(winner),
        field: field.into(),
        kind: ProblemKind::Conflict,
        text: about,
    };
    [lost, won]
}

fn missing_gateways(snapshot: &Snapshot) -> Vec<Problem> {
    let config = &snapshot.config;
    let gateways: HashSet<_> = config.gateways.iter().map(|held| held.key()).collect();
    let mut found = Vec::new();
    for object in &config.virtual_services {
        let (meta, spec) = (&object.meta, &object.spec);
        for (n, gateway) in spec.gateways.iter().enumerate() {
            let key = gateway_key(gateway, &meta.namespace);
            if key == MESH_GATEWAY || gateways.contains(&key) {
                continue;
            }
            let kind = kinds::VIRTUAL_SERVICE.kind;
            found.push(Problem {
                on: ObjectRef::new(kind, &meta.namespace, &meta.name),
                with: None,
                field: format!("spec.gateways[{n}]").into(),
                kind: ProblemKind::Unresolved,
                text: format!("there is no Gateway {key}, so these routes do not apply to it"),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn both_objects_are_told_of_their_conflict() {
        let snapshot = fixture::snapshot(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: older}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: newer}
spec:
  hosts: [ratings, reviews.default.svc.cluster.local]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec: {hosts: [ratings], gateways: [missing], http: [{route: [{destination: {host: ratings}}]}]}
",
        );
        let problems = by_object(&snapshot);
        let said: Vec<_> = problems
            .values()
            .flatten()
            .map(|problem| {
                let with = problem.with.as_ref().map_or("", |with| &with.name);
                (&*problem.on.name, with, problem.kind)
            })
            .collect();
        let conflict = ProblemKind::Conflict;
        assert_eq!(
            said,
            [
                ("edge", "", ProblemKind::Unresolved),
                ("newer", "older", conflict),
                ("older", "newer", conflict),
            ]
        );
    }
}
