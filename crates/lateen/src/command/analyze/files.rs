//! Files, directories and standard input, as documents.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use lateen_registry::Documents;
use serde_json::{Value, json};

/// What files of objects end with, where a directory is named.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Kinds whose objects are in no namespace.
const CLUSTER_WIDE: [&str; 16] = [
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "GatewayClass",
    "IngressClass",
    "PersistentVolume",
    "StorageClass",
    "PriorityClass",
    "APIService",
    "RuntimeClass",
];

/// The texts of files; of directories, those of the files in them that are called like objects.
pub(crate) fn documents(paths: &[PathBuf], recursive: bool) -> anyhow::Result<Vec<Documents>> {
    let mut all = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.context("cannot read standard input")?;
            all.push(Documents::file(name, text));
        } else if path.is_dir() {
            of_directory(path, recursive, &mut all)?;
        } else {
            all.push(of_file(path)?);
        }
    }
    Ok(all)
}

fn of_file(path: &Path) -> anyhow::Result<Documents> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    Ok(Documents::file(name, text))
}

fn of_directory(dir: &Path, recursive: bool, all: &mut Vec<Documents>) -> anyhow::Result<()> {
    let name = dir.display();
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {name}"))?;
    let entries: Result<Vec<_>, _> = entries.map(|entry| entry.map(|of| of.path())).collect();
    let mut entries = entries.with_context(|| format!("cannot read {name}"))?;
    entries.sort();
    for path in entries {
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            if recursive {
                of_directory(&path, recursive, all)?;
            }
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            all.push(of_file(&path)?);
        }
    }
    Ok(())
}

/// Puts an object that names no namespace into one, as applying it would.
pub(super) fn place(object: &mut Value, namespace: &str) {
    let kind = object["kind"].as_str().unwrap_or_default();
    if CLUSTER_WIDE.contains(&kind) {
        return;
    }
    let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(meta) = meta.filter(|meta| meta.get("namespace").is_none_or(Value::is_null)) {
        meta.insert("namespace".to_owned(), json!(namespace));
    }
}
