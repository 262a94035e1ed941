//! Statuses that say that something is not in force.

use super::{
    Code, Findings,
    index::Index,
    object::{list, text},
};

/// Conditions that are good when they are true.
const GOOD: [&str; 5] = [
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "Reconciled",
    "WaypointBound",
];

/// Conditions of objects and of their parents.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.all() {
        let group = object.group();
        if !group.ends_with("istio.io")
            && group != lateen_api::gateway_api::GROUP
            && !group.is_empty()
        {
            continue;
        }
        let status = &object.written.value["status"];
        let own = ("status.conditions".to_owned(), &status["conditions"]);
        let of_parents = list(&status["parents"]).iter().enumerate();
        let of_parents = of_parents.map(|(n, parent)| {
            (
                format!("status.parents[{n}].conditions"),
                &parent["conditions"],
            )
        });
        for (at, conditions) in [own].into_iter().chain(of_parents) {
            for (n, condition) in list(conditions).iter().enumerate() {
                let kind = text(&condition["type"]);
                let name = kind.rsplit('/').next().unwrap_or_default();
                if condition["status"] != "False" || !GOOD.contains(&name) {
                    continue;
                }
                let what = format!(
                    "its status says that {kind} is false, for reason {}: {}",
                    text(&condition["reason"]),
                    text(&condition["message"])
                );
                findings.add(
                    object,
                    Code::NegativeConditionStatus,
                    &format!("{at}[{n}]"),
                    what,
                );
            }
        }
    }
}
