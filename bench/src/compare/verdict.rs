//! What became of a case, whether that is within the rules, and where two proxies differ.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::cases::{Case, MARKER};
use super::client::Heard;
use super::recorder::{Record, Seen};
use super::strict::Message;

/// Fields that proxies add, and those that say how the message is framed, which shows in its body.
const OWN_FIELDS: [&str; 15] = [
    "connection",
    "content-length",
    "forwarded",
    "keep-alive",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-expected-rq-timeout-ms",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "host",
];

/// What a proxy made of a case.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) heard: Heard,
    pub(super) record: Record,
    /// A good request afterwards, on a connection of its own.
    pub(super) probe: Heard,
    pub(super) probe_record: Record,
}

/// What became of a case's first request. One whose beginning was forwarded before its end proved to
/// be none counts as refused: the backend knows that it is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Refused,
    Waiting,
}

impl Outcome {
    fn fate(&self) -> Fate {
        let heard = &self.heard;
        if self.cases().next().is_some() || !self.record.faults.is_empty() {
            Fate::Forwarded
        } else if heard.closed || !heard.answers.is_empty() {
            Fate::Refused
        } else {
            Fate::Waiting
        }
    }

    /// The requests without their marker.
    fn cases(&self) -> impl Iterator<Item = &Seen> {
        self.record
            .seen
            .iter()
            .filter(|seen| !is_marker(&seen.request))
    }

    /// For people: what happened, in a line.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        let statuses: Vec<_> = self
            .heard
            .answers
            .iter()
            .map(|answer| answer.status.to_string())
            .collect();
        for seen in &self.record.seen {
            let request = &seen.request;
            let [method, target, _] = &request.line;
            let _ = write!(text, "[{method} {target}");
            for (name, value) in other_fields(request, true) {
                let _ = write!(text, " {name}={}", value.escape_ascii());
            }
            if !request.body.is_empty() {
                let _ = write!(text, " body={}", request.body.escape_ascii());
            }
            text.push_str("] ");
        }
        for unfinished in &self.record.unfinished {
            let _ = write!(text, "[in part: {}] ", unfinished.escape_ascii());
        }
        for fault in &self.record.faults {
            let _ = write!(text, "[FAULT {fault}] ");
        }
        let _ = write!(text, "-> {}", statuses.join(","));
        if let Some(fault) = &self.heard.fault {
            let _ = write!(text, " [FAULT {fault}]");
        }
        if !self.heard.unfinished.is_empty() {
            text.push_str(" and a part");
        }
        text.push_str(if self.heard.closed {
            " closed"
        } else {
            " silent"
        });
        text
    }

    /// The rules that every case has to keep, and those that this one broke.
    pub(super) fn broken(&self, case: &Case) -> Vec<String> {
        let mut broken: Vec<String> = self.record.faults.clone();
        broken.extend(
            self.heard
                .fault
                .clone()
                .map(|fault| format!("to the client: {fault}")),
        );
        let seen = &self.record.seen;
        // Where a connection breaks before its answer, what is idempotent (RFC 9110, 9.2.2) may be
        // tried on another.
        let idempotent = ["GET", "HEAD", "PUT", "DELETE"].contains(&case.method.as_str());
        let most = case.requests + usize::from(case.script.is_some() && idempotent && !case.begun);
        if self.cases().count() > most || seen.len() > most + 1 {
            broken.push(format!("{} requests of {}", seen.len(), case.requests + 1));
        }
        if seen
            .iter()
            .any(|seen| seen.request.line[1].contains("smuggled"))
        {
            broken.push("the smuggled request was seen".to_owned());
        }
        let holds_marker = |seen: &Seen| contains(&seen.request.body, MARKER);
        if !case.eats && seen.iter().any(holds_marker) {
            broken.push("the marker was swallowed".to_owned());
        }
        let added = ["x-forwarded-for", "x-forwarded-proto", "x-request-id"];
        for name in added {
            if seen.iter().any(|seen| seen.request.field(name).is_none()) {
                broken.push(format!("{name} was lost"));
            }
        }
        broken.extend(self.counts(case));
        broken.extend(self.probe_faults());
        broken
    }

    /// Each request seen has its own answer, in order.
    fn counts(&self, case: &Case) -> Vec<String> {
        let mut broken = Vec::new();
        let sent: Vec<u64> = self
            .record
            .seen
            .iter()
            .filter(|seen| !seen.scripted)
            .map(|seen| seen.number)
            .collect();
        let got: Vec<u64> = self
            .heard
            .answers
            .iter()
            .filter_map(|answer| answer.mark)
            .collect();
        if sent != got {
            broken.push(format!("requests {sent:?} were seen, {got:?} answered"));
        }
        // A response that was cut off counts: the client knows that it is none.
        let n_answers = self.heard.answers.len() + usize::from(!self.heard.unfinished.is_empty());
        if n_answers > case.requests + 1 {
            broken.push(format!(
                "{n_answers} answers to {} requests",
                case.requests + 1
            ));
        }
        let scripted = self.record.seen.iter().any(|seen| seen.scripted);
        // A connection that breaks off tells the client as well; what follows must not be answered then.
        if scripted && n_answers == got.len() && !got.is_empty() {
            broken.push("a request got no answer, and the next did".to_owned());
        }
        if self
            .heard
            .answers
            .iter()
            .any(|answer| contains(&answer.body, "POISON"))
        {
            broken.push("a client got the poison".to_owned());
        }
        broken
    }

    fn probe_faults(&self) -> Option<String> {
        let marks = |heard: &Heard| {
            heard
                .answers
                .iter()
                .map(|answer| answer.mark)
                .collect::<Vec<_>>()
        };
        let expected: Vec<_> = self
            .probe_record
            .seen
            .iter()
            .map(|seen| Some(seen.number))
            .collect();
        let good = marks(&self.probe) == expected && expected.len() == 1;
        (!good).then(|| format!("the request afterwards got {:?}", self.probe.answers))
    }
}

/// In what two proxies differ where the first forwards: names for the table of reasons.
pub(super) fn differences(ours: &Outcome, other: &Outcome) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    match (ours.fate(), other.fate()) {
        (Fate::Refused, _) | (Fate::Waiting, Fate::Waiting) => return found,
        (Fate::Forwarded, Fate::Waiting) => {
            found.insert("waiting");
            return found;
        }
        (_, Fate::Refused) => {
            found.insert("refused");
            return found;
        }
        (Fate::Forwarded | Fate::Waiting, Fate::Forwarded) => {}
    }
    if !other.record.faults.is_empty() {
        found.insert("ambiguous");
        return found;
    }
    let (mine, theirs): (Vec<_>, Vec<_>) = (ours.cases().collect(), other.cases().collect());
    if mine.len() != theirs.len() {
        found.insert("count");
    }
    for (mine, theirs) in mine.iter().zip(theirs) {
        let (mine, theirs) = (&mine.request, &theirs.request);
        let mut check = |name, same: bool| {
            if !same {
                found.insert(name);
            }
        };
        check("method", mine.line[0] == theirs.line[0]);
        check("target", mine.line[1] == theirs.line[1]);
        check("host", mine.field("host") == theirs.field("host"));
        check("body", mine.body == theirs.body);
        check("trailers", mine.trailers == theirs.trailers);
        check(
            "fields",
            other_fields(mine, false) == other_fields(theirs, false),
        );
    }
    found
}

fn other_fields(message: &Message, with_host: bool) -> BTreeSet<(String, &[u8])> {
    let named = message
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_slice()));
    named
        .filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()) || (with_host && name == "host"))
        .collect()
}

fn is_marker(request: &Message) -> bool {
    request.line[1] == "/marker"
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
