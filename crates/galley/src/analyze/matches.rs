//! Rules of VirtualServices that no request comes to, as earlier ones take them all.

use serde_json::Value;

use super::{
    Code, Findings,
    object::{Obj, list, text},
};

/// A match of an earlier rule, or of the same.
struct Seen<'a> {
    rule: usize,
    number: usize,
    value: Value,
    written: &'a Value,
}

/// Rules and matches without effect.
pub(super) fn check<'a>(object: &Obj<'a>, findings: &mut Findings<'a>) {
    for protocol in ["http", "tls", "tcp"] {
        check_rules(object, protocol, findings);
    }
}

fn check_rules<'a>(object: &Obj<'a>, protocol: &str, findings: &mut Findings<'a>) {
    let mut seen: Vec<Seen<'_>> = Vec::new();
    let mut all_taken: Option<usize> = None;
    for (n, rule) in list(&object.spec()[protocol]).iter().enumerate() {
        let at = format!("spec.{protocol}[{n}]");
        if let Some(earlier) = all_taken {
            let what = format!(
                "rule {} is never reached: spec.{protocol}[{earlier}] has no match and takes everything",
                name(rule, n)
            );
            findings.add(object, Code::VirtualServiceUnreachableRule, &at, what);
            continue;
        }
        let matches = list(&rule["match"]);
        if matches.is_empty() {
            all_taken = Some(n);
            continue;
        }
        let mut twice = 0;
        for (m, written) in matches.iter().enumerate() {
            let value = without_name(written);
            let same = seen.iter().find(|earlier| earlier.value == value);
            twice += usize::from(same.is_some());
            let earlier =
                same.or_else(|| seen.iter().find(|earlier| covers(&earlier.value, &value)));
            if let Some(earlier) = earlier {
                let what = format!(
                    "match {} of rule {} has no effect: match {} of spec.{protocol}[{}] takes the same \
                     requests before it",
                    name(written, m),
                    name(rule, n),
                    name(earlier.written, earlier.number),
                    earlier.rule,
                );
                let field = format!("{at}.match[{m}]");
                findings.add(object, Code::VirtualServiceIneffectiveMatch, &field, what);
            }
            seen.push(Seen {
                rule: n,
                number: m,
                value,
                written,
            });
        }
        if twice == matches.len() {
            let what = format!(
                "rule {} is never reached: earlier rules have each of its matches",
                name(rule, n)
            );
            findings.add(object, Code::VirtualServiceUnreachableRule, &at, what);
        }
    }
}

/// By its name, or by its place.
fn name(of: &Value, place: usize) -> String {
    match text(&of["name"]) {
        "" => format!("#{place}"),
        name => format!("{name:?}"),
    }
}

/// The name of a match decides nothing.
fn without_name(written: &Value) -> Value {
    let mut value = written.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("name");
    }
    value
}

/// Whether a match takes all that another does, as its prefix is shorter and it asks for nothing that
/// the other does not.
fn covers(earlier: &Value, later: &Value) -> bool {
    let (Some(earlier), Some(later)) = (earlier.as_object(), later.as_object()) else {
        return false;
    };
    let (Some(short), Some(long)) = (prefix(earlier), prefix(later)) else {
        return false;
    };
    let asks = |(key, value): (&String, &Value)| key == "uri" || later.get(key) == Some(value);
    long.starts_with(short) && earlier.iter().all(asks)
}

fn prefix(of: &serde_json::Map<String, Value>) -> Option<&str> {
    of.get("uri")?["prefix"].as_str()
}
