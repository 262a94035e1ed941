//! Helm charts, made of what an installation is made of.
//!
//! A chart is worked out as an installation whose settings are marks: where a mark comes to lie in an
//! object, the template says the setting. What a switch adds or takes away is found by working the
//! installation out both ways. Charts and `install` can therefore not drift apart; tests compare them
//! object by object.
//!
//! Names of charts, files and settings are those of the public charts: `base`, `istiod`, `gateway`.

mod base;
mod expression;
mod gateway;
mod istiod;
mod node;
mod slot;
mod values;
mod write;

use serde_json::{Value, json};

use crate::{InstallError, Installation, Layers, manifests, path};
use node::{Condition, Entry, Node, fold};
use slot::{Kind, Slots};

/// A chart: a folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// Its name, which its folder has as well.
    pub name: &'static str,
    /// Paths below the folder, and texts.
    pub files: Vec<(String, String)>,
}

/// The charts, in the order in which they are installed.
///
/// # Errors
/// An installation with marks in place of its settings that cannot be worked out.
pub fn charts() -> Result<Vec<Chart>, InstallError> {
    Ok(vec![base::chart()?, istiod::chart()?, gateway::chart()?])
}

/// Something that is so or otherwise, and what an installation says either way.
struct Switch {
    condition: &'static str,
    /// Below `spec`, as `--set` writes it.
    path: &'static str,
    yes: Value,
    no: Value,
}

/// The objects of an installation with each setting of the switches, in one tree. `finish` sees the
/// objects of each before they are folded.
fn folded(
    spec: &Value,
    switches: &[Switch],
    finish: &dyn Fn(&mut Entry),
) -> Result<Vec<Entry>, InstallError> {
    fn tree(
        spec: &Value,
        switches: &[Switch],
        finish: &dyn Fn(&mut Entry),
    ) -> Result<Node, InstallError> {
        let Some((switch, rest)) = switches.split_first() else {
            return Ok(Node::Map(objects(spec, finish)?));
        };
        let side = |value: &Value| {
            let mut spec = spec.clone();
            let steps = path::parse(switch.path).expect("written above");
            path::set(&mut spec, &steps, value.clone()).expect("made of objects");
            tree(&spec, rest, finish)
        };
        Ok(fold(
            switch.condition,
            side(&switch.yes)?,
            side(&switch.no)?,
        ))
    }
    match tree(spec, switches, finish)? {
        Node::Map(entries) => Ok(entries),
        _ => unreachable!("objects are a map"),
    }
}

/// The objects of one installation by kind, and by place among those of their kind. Namespaces are
/// left to whoever installs the chart.
fn objects(spec: &Value, finish: &dyn Fn(&mut Entry)) -> Result<Vec<Entry>, InstallError> {
    let document = json!({
        "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec,
    });
    let installation = Installation::of(&Layers {
        files: vec![("chart".to_owned(), document.to_string())],
        ..Layers::default()
    })?;
    let mut entries: Vec<Entry> = Vec::new();
    for object in manifests(&installation)? {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        if kind == "namespace" {
            continue;
        }
        let of_kind = |entry: &&Entry| entry.key.split('-').next() == Some(&*kind);
        let key = match entries.iter().filter(of_kind).count() {
            0 => kind,
            n => format!("{kind}-{}", n + 1),
        };
        let mut entry = Entry {
            conditions: Vec::new(),
            key,
            node: object.into(),
        };
        finish(&mut entry);
        entries.push(entry);
    }
    Ok(entries)
}

/// Marks that all charts have.
struct Common {
    slots: Slots,
    /// Where a release is installed.
    namespace: String,
    release: String,
    service: String,
}

impl Common {
    fn new() -> Self {
        let mut slots = Slots::default();
        let namespace = slots.text("$.Release.Namespace");
        let release = slots.text("$.Release.Name");
        let service = slots.text("$.Release.Service");
        Self {
            slots,
            namespace,
            release,
            service,
        }
    }

    /// Objects are known by the release that they belong to, and are not those of `lateen install`.
    fn sign(&self, object: &mut Entry) {
        let labels = ["metadata", "labels"];
        let text = |text: &String| Node::Leaf(json!(text));
        for (label, value) in [
            ("app.kubernetes.io/managed-by", &self.service),
            ("release", &self.release),
        ] {
            let place = [labels[0], labels[1], label];
            object.node.put(&place, text(value));
        }
    }
}

/// The image of a part, which may be a whole reference already.
fn image(named: &str, hub: &str, tag: &str) -> String {
    let joined = format!("(printf \"%s/%s:%s\" {hub} {named} (toString {tag}))");
    format!("(ternary {named} {joined} (contains \"/\" {named}))")
}

fn only(condition: &str) -> Vec<Condition> {
    vec![condition.to_owned()]
}

/// A text that an expression makes; `@` in it is the node.
fn block(around: &str, of: Node) -> Node {
    Node::Expression {
        around: around.to_owned(),
        of: Box::new(of),
        is_block: true,
    }
}

/// What a chart is made of.
struct Contents<'a> {
    name: &'static str,
    description: &'a str,
    /// Its settings, as they are by themselves.
    values: Value,
    /// A schema of settings that are known beside those.
    known: Value,
    /// Parts whose settings of the public charts may be there without effect.
    ignored: &'a [&'static str],
    /// What Helm tells whoever installed it.
    notes: &'a str,
    objects: Vec<Entry>,
}

/// A chart's files: its own description, settings, notes and a template for each object.
fn assemble(contents: &Contents<'_>, slots: &Slots) -> Chart {
    let Contents {
        name,
        description,
        values,
        known,
        ignored,
        notes,
        objects,
    } = contents;
    let version = env!("CARGO_PKG_VERSION");
    let about = json!({
        "apiVersion": "v2",
        "name": name,
        "description": description,
        "type": "application",
        "version": version,
        "appVersion": version,
        "keywords": ["istio", "lateen", "service mesh"],
        "sources": [env!("CARGO_PKG_REPOSITORY")],
    });
    let mut files = vec![
        ("Chart.yaml".to_owned(), values::yaml(&about)),
        ("values.yaml".to_owned(), values::file(name, values)),
        (
            "values.schema.json".to_owned(),
            values::schema(values, known, ignored),
        ),
        (
            "templates/NOTES.txt".to_owned(),
            format!("{notes}{}", values::notes_on_ignored(ignored)),
        ),
    ];
    for object in objects {
        let path = format!("templates/{}.yaml", object.key);
        files.push((path, write::document(object, slots)));
    }
    Chart { name, files }
}

#[cfg(test)]
mod tests;
