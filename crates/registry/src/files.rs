//! Configuration from a directory of files instead of an API server.
//!
//! The directory counts as a whole: it is read, every fault in it is told with its file, line and
//! field, and only when there is none does it take the place of what was read before, in one step.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use lateen_api::{Kind, lines::line_of};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    WATCHED_KINDS,
    source::Source,
    state::Update,
    store::{Event, Key},
};

/// How often the directory is looked at. Only names, sizes and times are read where nothing changed.
const PERIOD: Duration = Duration::from_millis(500);

/// Finds what is wrong with one document.
pub type Check = fn(&Value) -> Vec<FieldFault>;

/// Something that is wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldFault {
    /// The field that it is about: `spec.http[0].route`.
    pub field: String,
    /// What is wrong and what to do about it.
    pub reason: String,
}

impl FieldFault {
    /// Says what is wrong with a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A directory of YAML and JSON files, with all below it. Names that begin with a dot are passed over.
#[derive(Clone, Debug)]
pub struct Files {
    /// The directory.
    pub dir: PathBuf,
    /// Judges each document.
    pub check: Check,
}

/// One document and where it is.
#[derive(Debug)]
struct Document {
    kind: &'static Kind,
    key: Key,
    value: Value,
    place: Place,
}

/// A line of a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What tells one state of a directory from another without reading its files.
type Stamp = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// What was read.
struct Found {
    /// The state that it was read in; unknown where the directory itself cannot be read.
    stamp: Option<Stamp>,
    /// All documents, or all faults.
    outcome: Result<Vec<Document>, Vec<String>>,
}

impl Source for Files {
    fn start(self, tasks: &mut JoinSet<()>, updates_tx: mpsc::Sender<Update>) {
        tasks.spawn(self.follow(updates_tx));
    }
}

impl Files {
    async fn follow(self, updates_tx: mpsc::Sender<Update>) {
        let mut read: Option<Stamp> = None;
        let mut held = false;
        let mut told = Vec::new();
        loop {
            let (files, known) = (self.clone(), read.clone());
            let found = tokio::task::spawn_blocking(move || files.read_changed(known)).await;
            // An error means that the runtime ends.
            let Ok(found) = found else { return };
            if let Some(found) = found {
                read = found.stamp;
                let update = match found.outcome {
                    Ok(documents) => {
                        held = true;
                        told.clear();
                        self.replace(&documents)
                    }
                    Err(faults) if faults == told => Update::Together(Vec::new()),
                    Err(faults) => {
                        told = faults;
                        self.refuse(&told, held)
                    }
                };
                if updates_tx.send(update).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// What is there, unless it is what is known, or changes under the eyes of the reader.
    fn read_changed(&self, known: Option<Stamp>) -> Option<Found> {
        let stamp = match stamp(&self.dir) {
            Ok(stamp) => Some(stamp).filter(|stamp| Some(stamp) != known.as_ref())?,
            Err(error) => {
                return Some(Found {
                    stamp: None,
                    outcome: Err(vec![format!("{}: {error}", self.dir.display())]),
                });
            }
        };
        let outcome = self.read(&stamp);
        let after = self::stamp(&self.dir);
        (after.ok().as_ref() == Some(&stamp)).then_some(Found {
            stamp: Some(stamp),
            outcome,
        })
    }

    /// All documents, or all faults.
    fn read(&self, stamp: &Stamp) -> Result<Vec<Document>, Vec<String>> {
        let mut faults = Vec::new();
        let mut documents = BTreeMap::new();
        for path in stamp.keys() {
            let file = path.strip_prefix(&self.dir).unwrap_or(path);
            match std::fs::read_to_string(path) {
                Err(error) => faults.push(format!("{}: {error}", file.display())),
                Ok(text) => {
                    for document in self.documents(file, &text, &mut faults) {
                        let name = (document.kind.id(), document.key.clone());
                        let place = document.place.clone();
                        if let Some(other) = documents.insert(name, document) {
                            let (kind, (namespace, name)) = (other.kind.kind, &other.key);
                            let twice = format!("{kind} {namespace}/{name} is also there");
                            faults.push(format!("{}: {twice}: {place}", other.place));
                        }
                    }
                }
            }
        }
        if faults.is_empty() {
            Ok(documents.into_values().collect())
        } else {
            Err(faults)
        }
    }

    /// The good documents of a file; adds what is wrong with the others.
    fn documents(&self, file: &Path, text: &str, faults: &mut Vec<String>) -> Vec<Document> {
        let mut good = Vec::new();
        for (line, text) in split(text) {
            let place = Place {
                file: file.to_owned(),
                line,
            };
            let value: Value = match serde_saphyr::from_str(text) {
                Ok(value) => value,
                Err(error) => {
                    let within = error.location().map_or(1, |l| l.line());
                    let line = line + usize::try_from(within).unwrap_or(1).saturating_sub(1);
                    // The first line says what is wrong; the rest draws the place.
                    let error = error.to_string();
                    let error = error.lines().next().unwrap_or_default();
                    faults.push(format!("{}: {error}", Place { line, ..place }));
                    continue;
                }
            };
            if value.is_null() {
                continue;
            }
            match self.document(value, &place) {
                Ok(document) => good.push(document),
                Err(wrong) => faults.extend(wrong.iter().map(|fault| {
                    let within = line_of(text, &fault.field).unwrap_or(1);
                    let line = place.line + within - 1;
                    let file = place.file.display();
                    format!("{file}:{line}: {}: {}", fault.field, fault.reason)
                })),
            }
        }
        good
    }

    fn document(&self, mut value: Value, place: &Place) -> Result<Document, Vec<FieldFault>> {
        let kind = kind_of(&value).map_err(|fault| vec![fault])?;
        let meta = value.get_mut("metadata").and_then(Value::as_object_mut);
        let Some(meta) = meta else {
            return Err(vec![FieldFault::new("metadata", "required")]);
        };
        if meta.get("namespace").is_none_or(|n| n == "") {
            meta.insert("namespace".into(), json!("default"));
        }
        let text = |field: &str| meta.get(field).and_then(Value::as_str).map(str::to_owned);
        let key = match (text("namespace"), text("name")) {
            (Some(namespace), Some(name)) if !name.is_empty() => (namespace, name),
            (None, _) => return Err(vec![FieldFault::new("metadata.namespace", "not a text")]),
            _ => return Err(vec![FieldFault::new("metadata.name", "required")]),
        };
        let faults = (self.check)(&value);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Document {
            kind,
            key,
            value,
            place: place.clone(),
        })
    }

    /// All kinds at once, also those of which there is nothing.
    fn replace(&self, documents: &[Document]) -> Update {
        tracing::info!(
            dir = %self.dir.display(),
            documents = documents.len(),
            "configuration read"
        );
        let mut updates = Vec::new();
        for kind in WATCHED_KINDS {
            updates.push(Update::Object(kind, Event::Init));
            let own = documents.iter().filter(|d| d.kind.id() == kind.id());
            updates.extend(own.map(|document| {
                let value = Arc::new(document.value.clone());
                Update::Object(kind, Event::InitApply(document.key.clone(), value))
            }));
            updates.push(Update::Object(kind, Event::InitDone));
        }
        Update::Together(updates)
    }

    fn refuse(&self, faults: &[String], kept: bool) -> Update {
        for fault in faults {
            tracing::error!(dir = %self.dir.display(), fault, "configuration refused");
        }
        tracing::error!(
            faults = faults.len(),
            kept,
            "nothing of the directory is in force before all of it is valid"
        );
        let reason = faults.first().cloned().unwrap_or_default();
        let failed = |kind: &Kind| Update::Failed(kind.id(), reason.clone());
        Update::Together(WATCHED_KINDS.iter().map(failed).collect())
    }
}

pub(crate) fn kind_of(value: &Value) -> Result<&'static Kind, FieldFault> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let mut kinds = WATCHED_KINDS.iter();
    let known = kinds.find(|kind| kind.kind == name && kind.group == group);
    let unknown = || format!("{version} {name} is not supported in files");
    known.ok_or_else(|| FieldFault::new("kind", unknown()))
}

/// Documents of a text, each with the number of its first line.
pub(crate) fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            documents.push((first, &text[start..at]));
            // What stands behind the marker on its line belongs to the document.
            (start, first) = (at + 3, n + 1);
        }
        at += line.len();
    }
    documents.push((first, &text[start..]));
    documents
}

fn stamp(dir: &Path) -> io::Result<Stamp> {
    let mut stamp = Stamp::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            // Follows links: a mounted ConfigMap consists of them.
            let meta = std::fs::metadata(&path)?;
            let extension = path.extension().and_then(|e| e.to_str());
            if meta.is_dir() {
                dirs.push(path);
            } else if matches!(extension, Some("yaml" | "yml" | "json")) {
                stamp.insert(path, (meta.len(), meta.modified().ok()));
            }
        }
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value) -> Vec<FieldFault> {
        match value["spec"]["hosts"].as_array() {
            Some(hosts) if hosts.is_empty() => vec![FieldFault::new("spec.hosts", "empty")],
            _ => Vec::new(),
        }
    }

    fn read(text: &str) -> (Vec<(String, usize)>, Vec<String>) {
        let files = Files {
            dir: "/x".into(),
            check,
        };
        let mut faults = Vec::new();
        let good = files.documents(Path::new("a.yaml"), text, &mut faults);
        let good = good.into_iter().map(|d| (d.key.1, d.place.line)).collect();
        (good, faults)
    }

    const HEAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n";

    #[test]
    fn each_document_has_its_line() {
        let text = format!(
            "# first\n{HEAD}metadata: {{name: a}}\n---\n{HEAD}metadata: {{name: b}}\n---\n---\n"
        );
        let (good, faults) = read(&text);
        assert_eq!(good, [("a".into(), 1), ("b".into(), 5)]);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = format!(
            "{HEAD}metadata: {{name: a}}\nspec: {{hosts: []}}\n---\n{HEAD}metadata:\n  name: [\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: c}}\n---\n{HEAD}metadata: {{}}\n"
        );
        let (good, faults) = read(&text);
        assert!(good.is_empty());
        assert_eq!(faults.len(), 4, "{faults:#?}");
        assert_eq!(faults[0], "a.yaml:4: spec.hosts: empty");
        assert!(faults[1].starts_with("a.yaml:9: "), "{}", faults[1]);
        assert_eq!(
            faults[2],
            "a.yaml:12: kind: v1 Secret is not supported in files"
        );
        assert_eq!(faults[3], "a.yaml:17: metadata.name: required");
    }
}
