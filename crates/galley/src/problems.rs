//! What is wrong with a stored object, for its status: what the webhook would have said of it.

use lateen_api::kinds;
use lateen_core::{ObjectRef, Problem, ProblemKind};
use serde_json::Value;

use crate::{Fault, shape, unsupported, validate};

/// Everything that can be said of a stored document by itself.
pub fn problems(on: &ObjectRef, document: &Value) -> Vec<Problem> {
    let faults = validate(document);
    let mut found: Vec<_> = faults.iter().map(|fault| of_fault(on, fault)).collect();
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    let Some(kind) = kinds::find(text("apiVersion"), text("kind")) else {
        return found;
    };
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    unsupported::not_in_force(kind.kind, &mut refused, &mut warnings);
    unsupported::check(kind.kind, document, &mut refused, &mut warnings);
    let of_warning = |warning: String| {
        let (field, text) = warning.split_once(": ").unwrap_or(("", &warning));
        problem(on, ProblemKind::NotSupported, field, text.to_owned())
    };
    // What the webhook refuses is stored where the webhook was not asked.
    found.extend(refused.iter().map(|fault| Problem {
        kind: ProblemKind::NotSupported,
        ..of_fault(on, fault)
    }));
    found.extend(warnings.into_iter().map(of_warning));
    found
}

fn of_fault(on: &ObjectRef, fault: &Fault) -> Problem {
    // A stored object with an unknown field is in force without it.
    let kind = match fault.reason.as_str() {
        shape::UNKNOWN_FIELD => ProblemKind::Ignored,
        _ => ProblemKind::Invalid,
    };
    let text = match fault.help.as_str() {
        "" => fault.reason.clone(),
        help => format!("{}; {help}", fault.reason),
    };
    problem(on, kind, &fault.field, text)
}

fn problem(on: &ObjectRef, kind: ProblemKind, field: &str, text: String) -> Problem {
    Problem {
        on: on.clone(),
        with: None,
        field: field.into(),
        kind,
        text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_problem_has_its_field_and_its_kind() {
        let check = |kind: &'static str, spec: Value, expect: &[(&str, ProblemKind)]| {
            let document = json!({
                "apiVersion": "networking.istio.io/v1", "kind": kind, "spec": spec,
                "metadata": {"name": "a", "namespace": "b"},
            });
            let found = problems(&ObjectRef::new(kind, "b", "a"), &document);
            let found: Vec<_> = found.iter().map(|p| (p.field.as_str(), p.kind)).collect();
            assert_eq!(found, expect, "{document}");
        };
        check("DestinationRule", json!({"host": "a"}), &[]);
        check(
            "DestinationRule",
            json!({"host": "a", "hots": "b"}),
            &[("spec.hots", ProblemKind::Ignored)],
        );
        check(
            "DestinationRule",
            json!({"host": 3}),
            &[("spec.host", ProblemKind::Invalid)],
        );
        check(
            "Gateway",
            json!({"servers": [{"hosts": ["a"], "defaultEndpoint": "127.0.0.1:80",
                "port": {"number": 80, "name": "a", "protocol": "HTTP"}}]}),
            &[("spec.servers[0].defaultEndpoint", ProblemKind::NotSupported)],
        );
    }
}
