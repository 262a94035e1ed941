//! What objects do to each other, which none of them shows by itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lateen_api::kinds;
use lateen_api::networking::{MESH_GATEWAY, gateway_key};
use lateen_core::{ObjectRef, Problem, ProblemKind};
use tracing::warn;

use crate::envoy_filter::PatchReport;
use crate::model::{Conflict, Conflicts, Unresolved};
use crate::snapshot::Snapshot;

/// Problems of each object that has any.
pub type Problems = BTreeMap<ObjectRef, Vec<Problem>>;

/// Finds problems, by what changed since it last did.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    conflicts: Conflicts,
    unresolved: Unresolved,
    /// Conflicts that the log tells of.
    told: BTreeSet<Conflict>,
}

impl Finder {
    /// All problems in a snapshot, by object.
    pub(crate) fn by_object(&mut self, snapshot: &Snapshot, patches: Vec<PatchReport>) -> Problems {
        let mut all = Problems::new();
        let conflicts: BTreeSet<_> = self.conflicts.of(snapshot).cloned().collect();
        tell(conflicts.difference(&self.told));
        let of_both = conflicts.iter().cloned().flat_map(of_both);
        let missing = missing_gateways(snapshot).into_iter();
        let patches = patches.into_iter().filter_map(of_patch);
        let unresolved = self.unresolved.of(snapshot).cloned();
        for problem in of_both.chain(missing).chain(unresolved).chain(patches) {
            all.entry(problem.on.clone()).or_default().push(problem);
        }
        self.told = conflicts;
        all
    }
}

/// Each conflict is told once, when it comes up.
fn tell<'a>(new: impl Iterator<Item = &'a Conflict>) {
    for conflict in new {
        let Conflict {
            loser,
            winner,
            field,
            about,
        } = conflict;
        warn!(%loser, %winner, field, "a part of an object has no effect: {about}");
    }
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

/// A patch that could not be made.
fn of_patch(report: PatchReport) -> Option<Problem> {
    Some(Problem {
        text: format!("the patch is left out: {}", report.fault?),
        on: report.object,
        with: None,
        field: report.field.into(),
        kind: ProblemKind::Ignored,
    })
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
        let patch = |name, fault: Option<&str>| PatchReport {
            object: ObjectRef::new("EnvoyFilter", "default", name),
            field: "spec.configPatches[0]".to_owned(),
            applied: 0,
            fault: fault.map(str::to_owned),
        };
        let patches = vec![patch("bad", Some("no such field")), patch("good", None)];
        let problems = Finder::default().by_object(&snapshot, patches);
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
                ("bad", "", ProblemKind::Ignored),
                ("edge", "", ProblemKind::Unresolved),
                ("newer", "older", conflict),
                ("older", "newer", conflict),
            ]
        );
    }
}
