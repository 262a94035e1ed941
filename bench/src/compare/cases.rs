//! The cases, generated from tables of what is odd in them.

mod bodies;
mod connection;
mod fields;
mod lines;
mod responses;

use super::recorder::Script;

/// The request line, without its version, of the request behind each case.
pub(super) const MARKER: &str = "GET /marker";

/// Bytes that a client sends, with what the backend answers.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// The method of the first request, as far as responses depend on it.
    pub(super) method: String,
    /// How many requests are in it at most.
    pub(super) requests: usize,
    /// By its own framing the marker is a part of its body, or of a tunnel.
    pub(super) eats: bool,
    /// No marker behind it: the connection to the backend is left alone until the probe.
    pub(super) alone: bool,
    pub(super) script: Option<Script>,
    /// The script begins an answer that it does not end.
    pub(super) begun: bool,
}

impl Case {
    fn new(group: &str, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        Case {
            name: format!("{group}/{}", readable(name)),
            method: String::from_utf8_lossy(method).into_owned(),
            bytes,
            requests: 1,
            eats: false,
            alone: false,
            script: None,
            begun: false,
        }
    }

    fn eats(mut self) -> Self {
        self.eats = true;
        self
    }
}

/// A name that fits into a table.
fn readable(name: &str) -> String {
    let name = name.as_bytes().escape_ascii().to_string();
    name.replace('|', "\\x7c")
        .replace('`', "\\x60")
        .replace('*', "\\x2a")
}

/// All of them. Names are unique.
pub(super) fn all() -> Vec<Case> {
    [
        lines::cases(),
        fields::cases(),
        bodies::cases(),
        connection::cases(),
        responses::cases(),
    ]
    .concat()
}

/// A request with these field lines (each with its line end) and body.
fn request(method: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{method} /case HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}").into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_several_hundred_and_each_has_a_name() {
        let cases = all();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        for case in &cases {
            let n_same = cases.iter().filter(|other| other.name == case.name).count();
            assert_eq!(n_same, 1, "{}", case.name);
        }
        assert!(names.len() > 400, "{}", names.len());
    }
}
