//! What a status says of its object in the form of Istio's analysis.

use lateen_core::Problem;
use lateen_galley::analyze::{Code, Message};
use lateen_pilot::MESSAGES_MAX;
use serde_json::Value;

/// What both find out, each in its own words.
const OF_BOTH: [Code; 2] = [
    Code::ReferencedResourceNotFound,
    Code::SchemaValidationError,
];

/// What is wrong with the object, and what analysis says of it; null for nothing.
pub(super) fn messages(problems: &[Problem], analysed: &[Message]) -> Value {
    let of_analysis = analysed.iter().map(in_form);
    let is_told = |message: &Value| {
        let mut both = OF_BOTH.iter().filter(|code| {
            message["type"]["code"] == code.to_string()
                && analysed.iter().any(|message| message.code == **code)
        });
        both.next().is_some()
    };
    let own = lateen_pilot::messages(problems);
    let own = own.as_array().cloned().unwrap_or_default().into_iter();
    let all: Vec<Value> = of_analysis
        .chain(own.filter(|message| !is_told(message)))
        .take(MESSAGES_MAX)
        .collect();
    match all.is_empty() {
        true => Value::Null,
        false => all.into(),
    }
}

fn in_form(message: &Message) -> Value {
    let (code, level) = (message.code.to_string(), message.code.level().to_string());
    let kind = (code.as_str(), message.code.name());
    lateen_pilot::message(kind, &level, message.text.clone())
}

#[cfg(test)]
mod tests {
    use lateen_core::{ObjectRef, ProblemKind};

    use super::*;

    #[test]
    fn what_both_find_is_said_once() {
        let problem = |kind| Problem {
            on: ObjectRef::new("VirtualService", "a", "b"),
            with: None,
            field: "spec.hosts".into(),
            kind,
            text: "words".to_owned(),
        };
        let found = |code| Message {
            code,
            text: "other words".to_owned(),
            group: "networking.istio.io".to_owned(),
            kind: "VirtualService".to_owned(),
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            field: String::new(),
            reference: None,
        };
        let check = |problems: &[ProblemKind], analysed: &[Code], expect: &[&str]| {
            let problems: Vec<_> = problems.iter().copied().map(problem).collect();
            let analysed: Vec<_> = analysed.iter().copied().map(found).collect();
            let said = messages(&problems, &analysed);
            let said = said.as_array().cloned().unwrap_or_default();
            let codes: Vec<_> = said
                .iter()
                .map(|it| format!("{} {}", it["type"]["code"], it["message"]).replace('"', ""))
                .collect();
            assert_eq!(codes.len(), expect.len(), "{codes:?}");
            for (code, expect) in codes.iter().zip(expect) {
                assert!(code.starts_with(expect), "{codes:?}");
            }
        };
        assert_eq!(messages(&[], &[]), Value::Null);
        let missing = Code::ReferencedResourceNotFound;
        check(&[ProblemKind::Unresolved], &[], &["IST0101 spec.hosts"]);
        check(&[ProblemKind::Unresolved], &[missing], &["IST0101 other"]);
        check(
            &[ProblemKind::Conflict],
            &[Code::ConflictingMeshGatewayVirtualServiceHosts, missing],
            &["IST0109", "IST0101", "IST0133"],
        );
        let said = messages(&[], &[found(Code::VirtualServiceIneffectiveMatch)]);
        assert_eq!(said[0]["level"], "INFO");
        assert_eq!(said[0]["type"]["name"], "VirtualServiceIneffectiveMatch");
        let page = "https://istio.io/latest/docs/reference/config/analysis/ist0131/";
        assert_eq!(said[0]["documentationUrl"], page);
    }
}
