//! `sessionPersistence`.

use super::*;
use crate::{Carrier, Session, sessions};

/// What becomes of a rule with this persistence and these backends, and whether the route is accepted.
fn read_rule(kind: &str, persistence: &str, backends: &str) -> (Vec<Option<Session>>, String) {
    let spec = format!(
        "rules: [{{backendRefs: [{{name: a, port: 81}}]}}, {{matches: [{{headers: [{{name: x, value: v1}}]}}], \
         sessionPersistence: {persistence}, backendRefs: [{backends}]}}]"
    );
    let out = read(&(edge(HTTP) + &route(kind, "r", &spec)));
    let said = status(
        &out,
        if kind == "HTTPRoute" {
            "HTTPRoute"
        } else {
            "GRPCRoute"
        },
        "r",
    );
    let conditions = said["parents"][0]["conditions"]
        .as_array()
        .expect("conditions");
    let accepted = conditions
        .iter()
        .find(|of| of["type"] == "Accepted")
        .expect("it");
    let message = match accepted["status"].as_str() {
        Some("True") => String::new(),
        _ => accepted["message"].as_str().unwrap_or_default().to_owned(),
    };
    let objects = out.virtual_services.iter();
    let found = objects.flat_map(|object| sessions(&object.meta)).collect();
    (found, message)
}

const A: &str = "{name: a, port: 80}";

#[test]
fn rules_have_sessions_of_their_own() {
    let own = |name: &str, by| {
        Some(Session {
            name: name.to_owned(),
            by,
        })
    };
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for (persistence, want) in [
            ("{}", own("default.r.1", Carrier::Cookie(0))),
            ("{sessionName: s}", own("s", Carrier::Cookie(0))),
            (
                "{sessionName: X-S, type: Header}",
                own("X-S", Carrier::Header),
            ),
            (
                "{sessionName: s, absoluteTimeout: 1m30s, cookieConfig: {lifetimeType: Permanent}}",
                own("s", Carrier::Cookie(90)),
            ),
            (
                "{sessionName: s, absoluteTimeout: 1500ms, cookieConfig: {lifetimeType: Permanent}}",
                own("s", Carrier::Cookie(2)),
            ),
        ] {
            let (found, message) = read_rule(kind, persistence, A);
            assert_eq!(message, "", "{persistence}");
            // The rule with a match is tried before the one for all.
            assert_eq!(found, [want, None], "{kind} {persistence}");
        }
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let two = format!("{A}, {{name: b, port: 80}}");
    for (persistence, backends, want) in [
        ("{idleTimeout: 1m}", A, "idleTimeout"),
        ("{absoluteTimeout: 1m}", A, "lifetimeType Permanent alone"),
        (
            "{absoluteTimeout: soon, cookieConfig: {lifetimeType: Permanent}}",
            A,
            "no duration",
        ),
        (
            "{cookieConfig: {lifetimeType: Permanent}}",
            A,
            "needs an absoluteTimeout",
        ),
        ("{type: Header, absoluteTimeout: 1m}", A, "for headers"),
        ("{sessionName: 'a b'}", A, "no name of a cookie or header"),
        ("{}", &two, "several backends"),
    ] {
        let (found, message) = read_rule("HTTPRoute", persistence, backends);
        assert!(message.contains(want), "{persistence}: {message:?}");
        assert_eq!(found, [], "{persistence}");
    }
    // One without a share is none.
    let (_, message) = read_rule(
        "HTTPRoute",
        "{}",
        &format!("{A}, {{name: b, port: 80, weight: 0}}"),
    );
    assert_eq!(message, "");
}
