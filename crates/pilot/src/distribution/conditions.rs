//! What an object's status says of where it is in force and what is wrong with it.

use lateen_core::{Problem, ProblemKind};
use serde_json::{Value, json};

use super::Report;

/// Types of the conditions, which nobody else writes. The first two are Istio's.
pub const CONDITIONS: &[&str] = &["Reconciled", "PassedAnalysis", "Conflicted", "Ignored"];

/// What is wrong in a way that its author must do something about.
const GRAVE: [ProblemKind; 4] = [
    ProblemKind::Invalid,
    ProblemKind::Conflict,
    ProblemKind::NotPermitted,
    ProblemKind::Unresolved,
];
/// Characters of one message: what etcd is not made for is left out.
const MESSAGE_MAX: usize = 2_000;

/// The conditions of one generation of an object. `report` is of that generation, or not there
/// because the object is not in force.
pub fn conditions(report: Option<&Report>, problems: &[Problem]) -> Value {
    let of = |kinds: &[ProblemKind]| -> Vec<&Problem> {
        let found = problems
            .iter()
            .filter(|problem| kinds.contains(&problem.kind));
        found.collect()
    };
    let mut all = vec![reconciled(report, &of(&[ProblemKind::Invalid]))];
    let grave = of(&GRAVE);
    all.push(match (grave.first(), problems.first()) {
        (Some(first), _) => {
            let worst = grave.iter().map(|p| p.kind).min_by_key(|kind| rank(*kind));
            let reason = worst.unwrap_or(first.kind).as_str();
            condition("PassedAnalysis", false, reason, in_words(&grave))
        }
        (None, Some(_)) => {
            let all: Vec<_> = problems.iter().collect();
            condition("PassedAnalysis", true, "WarningsFound", in_words(&all))
        }
        (None, None) => condition("PassedAnalysis", true, "NothingFound", String::new()),
    });
    let conflicts = of(&[ProblemKind::Conflict]);
    if !conflicts.is_empty() {
        all.push(condition(
            "Conflicted",
            true,
            "Conflict",
            in_words(&conflicts),
        ));
    }
    let ignored = of(&[ProblemKind::Ignored, ProblemKind::NotSupported]);
    if let Some(first) = ignored.first() {
        let reason = first.kind.as_str();
        all.push(condition("Ignored", true, reason, in_words(&ignored)));
    }
    all.into()
}

fn rank(kind: ProblemKind) -> usize {
    let mut all = ProblemKind::ALL.iter();
    all.position(|one| *one == kind).unwrap_or_default()
}

/// Messages of one status: what etcd is not made for is left out.
pub const MESSAGES_MAX: usize = 20;

/// The same problems in the form of Istio's analysis, with its codes.
pub fn messages(problems: &[Problem]) -> Value {
    let in_form = |problem: &Problem| {
        let (code, name, level) = match problem.kind {
            ProblemKind::Invalid => ("IST0106", "SchemaValidationError", "Error"),
            ProblemKind::Unresolved => ("IST0101", "ReferencedResourceNotFound", "Error"),
            _ => ("IST0133", "SchemaWarning", "Warning"),
        };
        message((code, name), level, problem.to_string())
    };
    problems.iter().take(MESSAGES_MAX).map(in_form).collect()
}

/// An entry of a status' `validationMessages`: Istio's fields, and the words beside them.
pub fn message((code, name): (&str, &str), level: &str, text: String) -> Value {
    let page = code.to_ascii_lowercase();
    json!({
        "type": {"code": code, "name": name},
        "level": level.to_ascii_uppercase(),
        "documentationUrl": format!("https://istio.io/latest/docs/reference/config/analysis/{page}/"),
        "message": shortened(text),
    })
}

fn condition(kind: &str, status: bool, reason: &str, message: String) -> Value {
    json!({
        "type": kind,
        "status": if status { "True" } else { "False" },
        "reason": reason,
        "message": shortened(message),
    })
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MESSAGE_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn in_words(problems: &[&Problem]) -> String {
    let words: Vec<_> = problems.iter().map(ToString::to_string).collect();
    words.join("; ")
}

fn reconciled(report: Option<&Report>, faults: &[&Problem]) -> Value {
    let kind = CONDITIONS[0];
    let Some(report) = report else {
        let why = match faults {
            [] => "not published yet".to_owned(),
            faults => format!("not in force, its last valid form is: {}", in_words(faults)),
        };
        let reason = if faults.is_empty() {
            "Pending"
        } else {
            "Invalid"
        };
        return condition(kind, false, reason, why);
    };
    let mut message = format!("{} of {} proxies", report.acknowledged, report.proxies);
    if let Some((name, took)) = &report.slowest {
        message += &format!("; the slowest, {name}, after {} ms", took.as_millis());
    }
    for (name, of, why) in &report.refused {
        message += &format!("; {name} refused {of}: {why}");
    }
    if report.refused.is_empty() && !report.outstanding.is_empty() {
        message += &format!("; no answer from {}", report.outstanding.join(", "));
    }
    for replica in &report.behind {
        message += &format!("; not known of {replica}, a replica of the control plane");
    }
    let reason = match (report.is_done(), report.refused.is_empty()) {
        (true, _) => "Reconciled",
        (false, true) => "StillPropagating",
        (false, false) => "Refused",
    };
    condition(kind, report.is_done(), reason, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lateen_core::ObjectRef;

    use super::*;

    fn report(acknowledged: usize) -> Report {
        Report {
            proxies: 3,
            acknowledged,
            slowest: Some(("a.b".to_owned(), Duration::from_micros(12_700))),
            outstanding: ["c.d".to_owned()]
                .into_iter()
                .skip(acknowledged / 3)
                .collect(),
            ..Report::default()
        }
    }

    #[test]
    fn reconciled_says_on_how_many_and_who_is_slow() {
        let check = |report: Option<&Report>, status: &str, reason: &str, text: &str| {
            let all = conditions(report, &[]);
            let first = &all[0];
            assert_eq!(first["type"], "Reconciled");
            assert_eq!(
                (&first["status"], &first["reason"]),
                (&json!(status), &json!(reason))
            );
            assert_eq!(first["message"], text);
        };
        let all = "3 of 3 proxies; the slowest, a.b, after 12 ms";
        check(Some(&report(3)), "True", "Reconciled", all);
        let some = "2 of 3 proxies; the slowest, a.b, after 12 ms; no answer from c.d";
        check(Some(&report(2)), "False", "StillPropagating", some);
        let mut refused = report(2);
        refused.refused = vec![(
            "c.d".to_owned(),
            "LDS".to_owned(),
            "no such filter".to_owned(),
        )];
        let text = "2 of 3 proxies; the slowest, a.b, after 12 ms; c.d refused LDS: no such filter";
        check(Some(&refused), "False", "Refused", text);
        let mut both = report(3);
        both.add("istiod-b", Some(&report(3)));
        let text = "6 of 6 proxies; the slowest, a.b, after 12 ms";
        check(Some(&both), "True", "Reconciled", text);
        both.add("istiod-c", None);
        let text = "6 of 6 proxies; the slowest, a.b, after 12 ms; not known of istiod-c, a \
                    replica of the control plane";
        check(Some(&both), "False", "StillPropagating", text);
        check(None, "False", "Pending", "not published yet");
    }

    #[test]
    fn problems_show_by_their_gravity() {
        let problem = |kind| Problem {
            on: ObjectRef::new("VirtualService", "a", "b"),
            with: None,
            field: "spec.x".into(),
            kind,
            text: "words".to_owned(),
        };
        let check = |kinds: &[ProblemKind], expect: &[(&str, &str, &str)]| {
            let problems: Vec<_> = kinds.iter().copied().map(problem).collect();
            let all = conditions(Some(&report(3)), &problems);
            let all = all.as_array().expect("a list");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let said: Vec<_> = all[1..]
                .iter()
                .map(|c| (text(&c["type"]), text(&c["status"]), text(&c["reason"])))
                .collect();
            let expect: Vec<_> = expect
                .iter()
                .map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned()))
                .collect();
            assert_eq!(said, expect);
        };
        check(&[], &[("PassedAnalysis", "True", "NothingFound")]);
        check(
            &[ProblemKind::NotSupported],
            &[
                ("PassedAnalysis", "True", "WarningsFound"),
                ("Ignored", "True", "NotSupported"),
            ],
        );
        check(
            &[ProblemKind::Unresolved, ProblemKind::Conflict],
            &[
                ("PassedAnalysis", "False", "Conflict"),
                ("Conflicted", "True", "Conflict"),
            ],
        );
        let invalid = conditions(None, &[problem(ProblemKind::Invalid)]);
        assert_eq!(invalid[0]["reason"], "Invalid");
        assert_eq!(
            messages(&[problem(ProblemKind::Invalid)])[0]["type"]["code"],
            "IST0106"
        );
    }
}
