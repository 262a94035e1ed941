//! Looks at many objects at once, and says what is wrong with them together: references to what is not
//! there, objects that contradict each other, and what has no effect where it stands.
//!
//! Pure: everything is in the objects that are given. The table in `analyzers` has every analyser
//! with the codes that it may report.

mod analyzers;
mod annotations;
mod authn;
mod authz;
mod conditions;
mod crds;
mod credential;
mod deployment;
mod deprecation;
mod destination_rule;
mod envoy_filter;
mod external;
mod gateway;
mod index;
mod injection;
mod injector;
mod jwt;
mod matches;
mod maturity;
mod mesh_networks;
mod message;
mod multicluster;
mod object;
mod schema;
mod service;
mod service_entry;
mod sidecar;
mod telemetry;
mod upgrade;
mod virtual_service;
mod webhook;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use lateen_registry::Written;
use serde_json::Value;

pub use analyzers::{ANALYZERS, Analyzer, PRECHECKS};
pub use credential::without_secrets;
pub use message::{Code, Level, Message, UnknownCode};
pub use upgrade::untold as untold_changes;

use index::Index;
use object::{Obj, text};

/// On an object: codes that are not to be reported of it, with commas between, or `*`.
const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// What objects are looked at with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The mesh's configuration, as it is written.
    pub mesh: Value,
    /// Its networks, as they are written.
    pub networks: Value,
    /// The control plane's namespace.
    pub root_namespace: String,
    /// The domain of service names.
    pub domain: String,
    /// The revision whose objects count beside those that name none; empty for all.
    pub revision: String,
    /// Names of analysers that are to run; empty for all of [`ANALYZERS`].
    pub only: Vec<String>,
    /// The release of Istio whose control plane gives way to this one: the 20 of 1.20.
    pub from_minor: Option<u32>,
    /// What the cluster is called, of which the objects are, where there are others.
    pub cluster: String,
    /// Objects of the other clusters of the mesh, by their names.
    pub others: Vec<(String, Arc<[Written]>)>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mesh: Value::Null,
            networks: Value::Null,
            root_namespace: "istio-system".to_owned(),
            domain: "cluster.local".to_owned(),
            revision: String::new(),
            only: Vec::new(),
            from_minor: None,
            cluster: String::new(),
            others: Vec::new(),
        }
    }
}

/// What analysers have found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings<'a>(Vec<(Message, Option<&'a Written>)>);

impl<'a> Findings<'a> {
    /// Of a field of an object, or of the whole of it.
    fn add(&mut self, object: &Obj<'a>, code: Code, field: &str, text: impl Into<String>) {
        let message = Message {
            code,
            text: text.into(),
            group: object.group().to_owned(),
            kind: object.kind.to_owned(),
            namespace: object.namespace.to_owned(),
            name: object.name.to_owned(),
            field: field.to_owned(),
            reference: None,
        };
        self.0.push((message, Some(object.written)));
    }

    /// Of what is no object of its own.
    fn add_named(&mut self, (kind, namespace, name): (&str, &str, &str), code: Code, text: String) {
        let message = Message {
            code,
            text,
            group: String::new(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            field: String::new(),
            reference: None,
        };
        self.0.push((message, None));
    }
}

/// Everything that is to be said of objects, the worst first, then by code and object. Of objects that are given twice the
/// later counts.
pub fn analyze<'a>(
    objects: impl IntoIterator<Item = &'a Written>,
    settings: &Settings,
) -> Vec<Message> {
    let index = Index::new(counted(objects, settings), settings);
    let mut findings = Findings::default();
    match settings.only.as_slice() {
        [] => ANALYZERS
            .iter()
            .for_each(|of| run(of, &index, &mut findings)),
        only => {
            let all = ANALYZERS.iter().chain(PRECHECKS);
            let wanted = all.filter(|of| only.iter().any(|name| name == of.name));
            wanted.for_each(|of| run(of, &index, &mut findings));
        }
    }
    let mut messages: Vec<Message> = findings
        .0
        .into_iter()
        .filter(|(message, of)| !of.is_some_and(|of| is_suppressed(of, message.code)))
        .map(|(mut message, of)| {
            message.reference = of.and_then(|of| of.place(&message.field));
            message
        })
        .collect();
    let order = |m: &Message| {
        let origin = (m.namespace.clone(), m.kind.clone(), m.name.clone());
        (
            std::cmp::Reverse(m.code.level()),
            m.code,
            origin,
            m.field.clone(),
            m.text.clone(),
        )
    };
    messages.sort_by_cached_key(order);
    messages
}

/// Runs one. An analyser that fails is a fault of this program, and is told as such: what the others
/// find is true all the same.
fn run<'a>(analyzer: &Analyzer, index: &Index<'a>, findings: &mut Findings<'a>) {
    let run = AssertUnwindSafe(|| (analyzer.run)(index, findings));
    let Err(reason) = std::panic::catch_unwind(run) else {
        return;
    };
    let text = reason.downcast_ref::<&str>().copied();
    let text = text.or_else(|| reason.downcast_ref::<String>().map(String::as_str));
    let what = format!(
        "the analyser failed ({}): this is a fault of the program, and what it looks for may be there",
        text.unwrap_or("for no reason that it told")
    );
    findings.add_named(("Analyzer", "", analyzer.name), Code::InternalError, what);
}

/// Those that take part.
fn counted<'a>(
    objects: impl IntoIterator<Item = &'a Written>,
    settings: &Settings,
) -> Vec<Obj<'a>> {
    let mut last: BTreeMap<(&str, &str, &str, &str), usize> = BTreeMap::new();
    let mut counted: Vec<Option<Obj<'a>>> = Vec::new();
    for object in objects.into_iter().filter_map(Obj::new) {
        if !is_of_revision(&object, &settings.revision) {
            continue;
        }
        let key = (object.group(), object.kind, object.namespace, object.name);
        if let Some(earlier) = last.insert(key, counted.len()) {
            counted[earlier] = None;
        }
        counted.push(Some(object));
    }
    counted.into_iter().flatten().collect()
}

/// The mesh's own objects may be for one revision of the control plane.
fn is_of_revision(object: &Obj<'_>, revision: &str) -> bool {
    let of_mesh = lateen_api::kinds::find(text(&object.written.value["apiVersion"]), object.kind);
    let own = object.label(lateen_api::labels::REVISION);
    revision.is_empty() || of_mesh.is_none() || own.is_none_or(|own| own == revision)
}

fn is_suppressed(object: &Written, code: Code) -> bool {
    let said = text(&object.value["metadata"]["annotations"][SUPPRESS]);
    let code = code.to_string();
    said.split(',')
        .map(str::trim)
        .any(|one| one == "*" || one == code)
}

#[cfg(test)]
mod tests;
