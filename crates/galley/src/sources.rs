//! What an object that the mesh made for itself stands for: which part of which object of a user
//! each of its rules was made of. Nothing is decided by it; whoever explains a proxy's configuration
//! names what the user wrote instead of what nobody has ever seen.

use std::collections::BTreeMap;

use lateen_api::Meta;
use serde::{Deserialize, Serialize};

/// On an internal object: what its HTTP rules, or its servers, were made of, in their order.
const SOURCES: &str = "internal.istio.io/sources";

/// On an internal object: what its rules for connections and datagrams were made of.
const L4_SOURCES: &str = "internal.istio.io/l4-sources";

/// A part of an object of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The kind of the object, as [`lateen_api::Kind::id`] has it.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The rule: `spec.rules[0]`.
    pub rule: String,
    /// The part of the rule that says which requests it is for; empty where it is for all.
    pub condition: String,
    /// Where its destinations are, in the order that they have in the internal object.
    pub backends: Vec<String>,
}

impl Source {
    /// A part of an object.
    pub(crate) fn new(kind: &str, meta: &Meta, rule: impl Into<String>) -> Self {
        Source {
            kind: kind.to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            rule: rule.into(),
            ..Source::default()
        }
    }

    /// One of the rule's matches, of which there may be none.
    pub(crate) fn matching<T>(mut self, matches: &[T], n: usize) -> Self {
        if n < matches.len() {
            self.condition = format!("{}.matches[{n}]", self.rule);
        }
        self
    }
}

/// Notes what an internal object was made of.
pub(crate) fn note(annotations: &mut BTreeMap<String, String>, sources: &[Source]) {
    note_as(SOURCES, annotations, sources);
}

/// Notes what its rules for connections and datagrams were made of.
pub(crate) fn note_l4(annotations: &mut BTreeMap<String, String>, sources: &[Source]) {
    note_as(L4_SOURCES, annotations, sources);
}

fn note_as(name: &str, annotations: &mut BTreeMap<String, String>, sources: &[Source]) {
    // Texts and lists of texts, which JSON can hold.
    if let Ok(text) = serde_json::to_string(sources) {
        annotations.insert(name.to_owned(), text);
    }
}

/// What an object was made of; `None` where a user wrote it.
pub fn sources(meta: &Meta) -> Option<Vec<Source>> {
    noted(meta, SOURCES)
}

/// What the rules of an object for connections and datagrams were made of, in their order, of which it
/// has those of `tls` or those of `tcp`; `None` where a user wrote it.
pub fn l4_sources(meta: &Meta) -> Option<Vec<Source>> {
    noted(meta, L4_SOURCES)
}

fn noted(meta: &Meta, name: &str) -> Option<Vec<Source>> {
    let text = meta.annotations.get(name)?;
    serde_json::from_str(text).ok()
}
