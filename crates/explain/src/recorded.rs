//! Requests that a proxy recorded in its access log, put to a configuration again.

mod line;
mod replay;

pub use line::Recorded;
pub use replay::{Group, Replayer, changes, decisions};

use std::collections::BTreeMap;

/// What no access log of the usual formats holds.
const NOT_HELD: &str = "an access log holds no headers but the user agent and what was forwarded \
                        for whom: conditions on others are judged as if these were missing";

/// The requests of a log, each with how often it was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// The requests, in an order of their own.
    pub requests: BTreeMap<Recorded, u64>,
    /// Lines that are none.
    pub n_unread: u64,
}

impl Recording {
    /// Reads a log in Istio's default text format or its JSON encoding, as Envoy and this project's
    /// proxy write them. Other lines, which a pod's log may have among these, are counted.
    pub fn read(log: &str) -> Recording {
        let mut recording = Recording::default();
        for line in log.lines().filter(|line| !line.trim().is_empty()) {
            match Recorded::parse(line) {
                Some(request) => *recording.requests.entry(request).or_default() += 1,
                None => recording.n_unread += 1,
            }
        }
        recording
    }

    /// How many requests there are.
    pub fn n_requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// What is to be said beside answers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![NOT_HELD.to_owned()];
        if self.n_unread > 0 {
            let n = self.n_unread;
            notes.push(format!(
                "{n} lines are no requests in a format that is known"
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests;
