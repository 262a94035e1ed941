//! A platform that exists in files only: what the registry would publish if these documents were
//! applied to an empty cluster. For whoever wants to know what a configuration means without one.
//!
//! What controllers would add is added: addresses of services and pods, the pods of workloads (one
//! of each without `replicas`), and which pods stand behind which service. Every pod has a sidecar,
//! unless `sidecar.istio.io/inject` says no.

mod pods;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lateen_core::ObjectRef;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::files::{self, Place};
use crate::kubernetes::convert;
use crate::state::{State, Update};
use crate::store::Event;
use crate::{Check, RawConfig, World};

/// A platform in files.
#[derive(Debug, Default)]
pub struct Offline {
    /// Services, workloads and endpoints.
    pub world: World,
    /// The mesh's own objects.
    pub config: RawConfig,
    /// Where each of the mesh's own objects stands: `file:line`.
    pub places: BTreeMap<ObjectRef, String>,
    /// Documents of kinds that are not used here, as `file:line: kind`.
    pub unused: Vec<String>,
}

/// A document in the making.
struct Document {
    value: Value,
    place: Place,
    text: String,
}

impl Offline {
    /// Reads texts of YAML, each with the name of its file, and then `changes`, whose objects take the
    /// place of those of the same name. `check` judges the mesh's own objects, `domain` is that of the
    /// cluster's services.
    ///
    /// # Errors
    /// Every fault there is, as `file:line: field: reason`.
    pub fn read(
        texts: &[(String, String)],
        changes: &[(String, String)],
        check: Check,
        domain: &str,
    ) -> Result<Offline, Vec<String>> {
        let mut faults = Vec::new();
        let mut documents = Vec::new();
        for (file, text) in texts {
            documents.extend(parse(file, text, &mut faults));
        }
        let mut platform = Platform::new(domain, check);
        for document in documents {
            if let Err(fault) = platform.add(document) {
                faults.extend(fault);
            }
        }
        platform.replaces = true;
        for (file, text) in changes {
            for document in parse(file, text, &mut faults) {
                if let Err(fault) = platform.add(document) {
                    faults.extend(fault);
                }
            }
        }
        if faults.is_empty() {
            Ok(platform.finish())
        } else {
            Err(faults)
        }
    }
}

fn parse(file: &str, text: &str, faults: &mut Vec<String>) -> Vec<Document> {
    let mut documents = Vec::new();
    for (line, text) in files::split(text) {
        // What stands behind a marker on its line is nothing, as a rule.
        let (line, text) = match text.strip_prefix('\n') {
            Some(rest) => (line + 1, rest),
            None => (line, text),
        };
        let place = Place {
            file: PathBuf::from(file),
            line,
        };
        let value: Value = match serde_saphyr::from_str(text) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                faults.push(format!("{place}: {first}"));
                continue;
            }
        };
        let items = match value.get("items") {
            Some(Value::Array(items)) if value["kind"] == "List" => items.clone(),
            _ => vec![value],
        };
        documents.extend(items.into_iter().map(|value| Document {
            value,
            place: place.clone(),
            text: text.to_owned(),
        }));
    }
    documents
}

struct Platform {
    state: State,
    check: Check,
    /// What comes takes the place of what is there.
    replaces: bool,
    services: Vec<core::Service>,
    pods: Vec<core::Pod>,
    slices: Vec<EndpointSlice>,
    places: BTreeMap<ObjectRef, String>,
    unused: Vec<String>,
}

impl Platform {
    fn new(domain: &str, check: Check) -> Self {
        Platform {
            state: State::new(domain.to_owned()),
            check,
            replaces: false,
            services: Vec::new(),
            pods: Vec::new(),
            slices: Vec::new(),
            places: BTreeMap::new(),
            unused: Vec::new(),
        }
    }

    fn add(&mut self, mut document: Document) -> Result<(), Vec<String>> {
        let place = document.place.to_string();
        let kind = document.value["kind"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let meta = &mut document.value["metadata"];
        let cluster_wide = matches!(kind.as_str(), "Namespace" | "Node");
        if meta.is_object() && !cluster_wide && meta["namespace"].is_null() {
            meta["namespace"] = json!("default");
        }
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        if key.1.is_empty() {
            return Err(vec![format!("{place}: metadata.name: required")]);
        }
        let value = document.value.clone();
        match kind.as_str() {
            "Service" if value["apiVersion"] == "v1" => self.services.push(typed(value, &place)?),
            "Pod" => self.pods.push(typed(value, &place)?),
            "EndpointSlice" => self.slices.push(typed(value, &place)?),
            "Deployment" | "StatefulSet" | "ReplicaSet" | "DaemonSet" => {
                let pods = pods::of_workload(&kind, &key, &value);
                for pod in pods {
                    self.pods.push(typed(pod, &place)?);
                }
            }
            "Node" => {
                if let Some(node) = convert::node(&typed::<core::Node>(value, &place)?.metadata) {
                    self.state.apply(Update::Node(Event::Apply(key, node)));
                }
            }
            "Namespace" => {
                if let Some(namespace) =
                    convert::namespace(&typed::<core::Namespace>(value, &place)?.metadata)
                {
                    let event = Event::Apply(key, namespace);
                    self.state.apply(Update::Namespace(event));
                }
            }
            "ConfigMap" if key.1 == "istio" => {
                if let Some(mesh) = convert::mesh(typed(value, &place)?) {
                    self.state.apply(Update::Mesh(Event::Apply(key, mesh)));
                }
            }
            _ => return self.add_object(document, &kind, key),
        }
        Ok(())
    }

    /// One of the mesh's own kinds, or one that nothing here uses.
    fn add_object(
        &mut self,
        document: Document,
        kind: &str,
        key: (String, String),
    ) -> Result<(), Vec<String>> {
        let Document { value, place, text } = document;
        let Ok(known) = files::kind_of(&value) else {
            self.unused.push(format!("{place}: {kind}"));
            return Ok(());
        };
        let faults = (self.check)(&value);
        if !faults.is_empty() {
            let with_line = faults.iter().map(|fault| {
                let within = files::line_of(&text, &fault.field).unwrap_or(1);
                let line = place.line + within - 1;
                let file = place.file.display();
                format!("{file}:{line}: {}: {}", fault.field, fault.reason)
            });
            return Err(with_line.collect());
        }
        let name = ObjectRef::new(known.kind, &key.0, &key.1);
        let other = self.places.insert(name, place.to_string());
        if let Some(other) = other.filter(|_| !self.replaces) {
            let twice = format!("{place}: {kind} {}/{} is also there: {other}", key.0, key.1);
            return Err(vec![twice]);
        }
        let event = Event::Apply(key, Arc::new(value));
        self.state.apply(Update::Object(known, event));
        Ok(())
    }

    /// Adds what controllers would add, and folds.
    fn finish(mut self) -> Offline {
        pods::give_addresses(&mut self.services, &mut self.pods);
        for service in &self.services {
            let has_slice = self.slices.iter().any(|slice| pods::is_of(slice, service));
            if !has_slice {
                self.slices.extend(pods::slices(service, &self.pods));
            }
        }
        let named = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (text(&meta.namespace), text(&meta.name))
        };
        for pod in self.pods {
            let key = named(&pod.metadata);
            if let Some(workload) = convert::workload(pod) {
                self.state.apply(Update::Pod(Event::Apply(key, workload)));
            }
        }
        for service in self.services {
            let key = named(&service.metadata);
            if let Some(service) = convert::service(service) {
                self.state
                    .apply(Update::Service(Event::Apply(key, service)));
            }
        }
        for slice in self.slices {
            let key = named(&slice.metadata);
            if let Some(slice) = convert::slice(slice) {
                self.state.apply(Update::Slice(Event::Apply(key, slice)));
            }
        }
        self.state.fold();
        let (world, config) = self.state.into_parts();
        Offline {
            world,
            config,
            places: self.places,
            unused: self.unused,
        }
    }
}

fn typed<T: DeserializeOwned>(value: Value, place: &str) -> Result<T, Vec<String>> {
    serde_json::from_value(value).map_err(|error| vec![format!("{place}: {error}")])
}

#[cfg(test)]
mod tests;
