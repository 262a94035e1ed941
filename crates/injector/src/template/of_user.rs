//! What the user gave under names that an injection has as well. It stays when the injection is taken out.

use lateen_api::annotations;
use serde_json::{Map, Value, json};

use super::{Added, DEFAULT_CONTAINER, KNOWN_BY};
use crate::values::{annotation, items, label, name};

/// Names, which are kept beside the user's containers in annotation `proxy.istio.io/overrides`: once a pod
/// is injected, nothing else tells the user's from what was put in.
#[derive(Default)]
pub(super) struct OfUser {
    labels: Vec<String>,
    annotations: Vec<String>,
    volumes: Vec<String>,
    secrets: Vec<String>,
}

impl OfUser {
    /// Of a pod that was injected, what that injection found; of any other, what is there.
    pub(super) fn of(pod: &Value) -> Self {
        if annotation(pod, annotations::STATUS).is_some() {
            return Self::kept(pod);
        }
        let there = |keys: &[&str], find: fn(&Value, &str) -> bool| {
            let there = keys.iter().filter(|key| find(pod, key));
            there.map(|key| (*key).to_owned()).collect()
        };
        let names = |field: &str| {
            let all = items(&pod["spec"], field).iter();
            all.map(|item| name(item).to_owned()).collect()
        };
        Self {
            labels: there(&KNOWN_BY, |pod, key| label(pod, key).is_some()),
            annotations: there(&DEFAULT_CONTAINER, |pod, key| {
                annotation(pod, key).is_some()
            }),
            volumes: names("volumes"),
            secrets: names("imagePullSecrets"),
        }
    }

    fn kept(pod: &Value) -> Self {
        let text = annotation(pod, annotations::PROXY_OVERRIDES).unwrap_or_default();
        let kept: Value = serde_json::from_str(text).unwrap_or_default();
        let names = |field: &str| {
            let all = items(&kept, field).iter();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            labels: names("labels"),
            annotations: names("annotations"),
            volumes: names("volumes"),
            secrets: names("imagePullSecrets"),
        }
    }

    /// Adds what is to be kept to what the annotation says.
    pub(super) fn describe(&self, added: &Added, into: &mut Map<String, Value>) {
        let both = |own: &[String], added: &[String]| -> Vec<String> {
            let both = own.iter().filter(|name| added.contains(name));
            both.cloned().collect()
        };
        for (field, names) in [
            ("labels", self.labels.clone()),
            ("annotations", self.annotations.clone()),
            ("volumes", both(&self.volumes, &added.volumes)),
            ("imagePullSecrets", both(&self.secrets, &added.secrets)),
        ] {
            if !names.is_empty() {
                into.insert(field.into(), json!(names));
            }
        }
    }

    /// Whether an item of one of the pod's lists, or of its labels and annotations, is the user's.
    pub(super) fn has(&self, field: &str, name: &str) -> bool {
        let names = match field {
            "labels" => &self.labels,
            "annotations" => &self.annotations,
            "volumes" => &self.volumes,
            "imagePullSecrets" => &self.secrets,
            _ => return false,
        };
        names.iter().any(|own| own == name)
    }
}
