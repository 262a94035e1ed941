//! Patches of EnvoyFilters that depend on what others do, or that do nothing.

use super::{
    Code, Findings,
    index::Index,
    object::{Obj, list, text},
};

const FILTERS: [&str; 3] = ["HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER"];
/// There is no list that these could be added to or removed from.
const NO_LIST: [&str; 2] = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"];

/// Each object is told once of each code: its patches are most often alike.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("EnvoyFilter") {
        let mut told: Vec<Code> = Vec::new();
        for (n, patch) in list(&object.spec()["configPatches"]).iter().enumerate() {
            for (code, what) in faults(object, patch) {
                if told.contains(&code) {
                    continue;
                }
                told.push(code);
                findings.add(
                    object,
                    code,
                    &format!("spec.configPatches[{n}].patch.operation"),
                    what,
                );
            }
        }
    }
}

fn faults(object: &Obj<'_>, patch: &serde_json::Value) -> Vec<(Code, String)> {
    let operation = text(&patch["patch"]["operation"]);
    let place = text(&patch["applyTo"]);
    let of_filter = FILTERS.contains(&place);
    match operation {
        "REPLACE" if !of_filter && place != "VIRTUAL_HOST" => vec![(
            Code::EnvoyFilterUsesReplaceOperationIncorrectly,
            format!("REPLACE is for filters and virtual hosts; for {place} it has no effect"),
        )],
        "ADD" if NO_LIST.contains(&place) => vec![(
            Code::EnvoyFilterUsesAddOperationIncorrectly,
            format!("ADD has no effect for {place}; to add a route, use INSERT_FIRST"),
        )],
        "REMOVE" if NO_LIST.contains(&place) => vec![(
            Code::EnvoyFilterUsesRemoveOperationIncorrectly,
            format!("REMOVE has no effect for {place}"),
        )],
        "INSERT_BEFORE" | "INSERT_AFTER" | "REPLACE" if of_filter => {
            relative(object, patch, operation)
        }
        _ => Vec::new(),
    }
}

/// Without a priority, which of two EnvoyFilters comes first depends on their age.
fn relative(object: &Obj<'_>, patch: &serde_json::Value, operation: &str) -> Vec<(Code, String)> {
    if object.spec()["priority"].as_i64().unwrap_or_default() != 0 {
        return Vec::new();
    }
    let mut found = vec![(
        Code::EnvoyFilterUsesRelativeOperation,
        format!(
            "{operation} stands relative to a filter that another EnvoyFilter may add or remove, and \
             without spec.priority their age says which comes first; set spec.priority"
        ),
    )];
    if !text(&patch["match"]["proxy"]["proxyVersion"]).is_empty() {
        found.push((
            Code::EnvoyFilterUsesRelativeOperationWithProxyVersion,
            format!(
                "{operation} is for some versions of the proxy only, and stands relative to a filter \
                 that another EnvoyFilter may add; set spec.priority"
            ),
        ));
    }
    found
}
