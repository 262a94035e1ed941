//! Documents one by one, of any kind, with where they stand: for whoever judges what is written
//! rather than what becomes of it.

use serde_json::Value;

use super::{Documents, parse, places::Stand};

/// One document, or one item of a list.
#[derive(Debug)]
pub struct Written {
    /// What it says.
    pub value: Value,
    /// Where it stands; `None` for what a cluster has stored.
    stand: Option<Stand>,
}

impl Written {
    /// Those of a text that are readable, and why others are not, as `file:line: reason`.
    pub fn read(from: &Documents) -> (Vec<Written>, Vec<String>) {
        let mut faults = Vec::new();
        let documents = parse(from, &mut faults);
        let written = documents.into_iter().map(|document| Written {
            stand: (!document.stored).then(|| document.stand()),
            value: document.value,
        });
        (written.collect(), faults)
    }

    /// What a cluster has stored.
    pub fn stored(value: Value) -> Written {
        Written { value, stand: None }
    }

    /// Whether it stands in a file.
    pub fn is_in_file(&self) -> bool {
        self.stand.is_some()
    }

    /// `file:line` of a field, or of the innermost part of it that is written; `None` for what a
    /// cluster has stored.
    pub fn place(&self, field: &str) -> Option<String> {
        self.stand.as_ref().map(|stand| stand.of(field))
    }
}
