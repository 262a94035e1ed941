//! A platform that exists in files only: what the registry would publish if these documents were
//! applied to an empty cluster. For whoever wants to know what a configuration means without one.
//!
//! What controllers would add is added: addresses of services and pods, the pods of workloads (one
//! of each without `replicas`), and which pods stand behind which service. Every pod has a sidecar,
//! unless `sidecar.istio.io/inject` says no.

mod places;
mod pods;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lateen_api::{Kind, lines::Lines};
use lateen_core::ObjectRef;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::files::{self, Place};
use crate::kubernetes::{MESH_CONFIG, convert};
use crate::state::{State, Update};
use crate::store::Event;
use crate::{Check, RawConfig, World};

pub use places::Places;
pub use written::Written;

use places::Stand;

/// Documents of YAML or JSON, and where they come from.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The name of the file.
    pub name: String,
    /// What is in it.
    pub text: String,
    /// They are stored in a cluster, which has taken them: what is wrong with one of them does not
    /// keep the others from being in force, and they stand in no file.
    pub stored: bool,
}

impl Documents {
    /// Those of a file.
    pub fn file(name: impl Into<String>, text: impl Into<String>) -> Self {
        Documents {
            name: name.into(),
            text: text.into(),
            stored: false,
        }
    }

    /// What a cluster has stored.
    pub fn stored(text: impl Into<String>) -> Self {
        Documents {
            name: "the cluster".to_owned(),
            text: text.into(),
            stored: true,
        }
    }
}

/// A platform in files.
#[derive(Debug, Default)]
pub struct Offline {
    /// Services, workloads and endpoints.
    pub world: World,
    /// The mesh's own objects.
    pub config: RawConfig,
    /// Where objects stand.
    pub places: Places,
    /// Documents of kinds that are not used here, as `file:line: kind`.
    pub unused: Vec<String>,
}

/// A document in the making.
struct Document {
    value: Value,
    place: Place,
    text: Arc<Lines>,
    /// The field of the text that it is, where that is a list.
    within: String,
    stored: bool,
}

impl Offline {
    /// Reads texts, and then `changes`, whose objects take the place of those of the same name. `check` judges the mesh's own objects, `domain` is that of the
    /// cluster's services.
    ///
    /// # Errors
    /// Every fault there is, as `file:line: field: reason`.
    pub fn read(
        texts: &[Documents],
        changes: &[Documents],
        check: Check,
        domain: &str,
    ) -> Result<Offline, Vec<String>> {
        let mut faults = Vec::new();
        let mut documents = Vec::new();
        for text in texts {
            documents.extend(parse(text, &mut faults));
        }
        let mut platform = Platform::new(domain, check);
        for document in documents {
            if let Err(fault) = platform.add(document) {
                faults.extend(fault);
            }
        }
        platform.replaces = true;
        for text in changes {
            for document in parse(text, &mut faults) {
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

fn parse(from: &Documents, faults: &mut Vec<String>) -> Vec<Document> {
    let mut documents = Vec::new();
    for (line, text) in files::split(&from.text) {
        // What stands behind a marker on its line is nothing, as a rule.
        let (line, text) = match text.strip_prefix('\n') {
            Some(rest) => (line + 1, rest),
            None => (line, text),
        };
        let place = Place {
            file: PathBuf::from(&from.name),
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
            Some(Value::Array(items)) if value["kind"] == "List" => {
                let items = items.iter().enumerate();
                let item = |(n, item): (usize, &Value)| (format!("items[{n}]"), item.clone());
                items.map(item).collect()
            }
            _ => vec![(String::new(), value)],
        };
        let text = Arc::new(Lines::new(text));
        documents.extend(items.into_iter().map(|(within, value)| Document {
            value,
            place: place.clone(),
            text: text.clone(),
            within,
            stored: from.stored,
        }));
    }
    documents
}

impl Document {
    fn stand(&self) -> Stand {
        Stand {
            place: self.place.clone(),
            text: self.text.clone(),
            within: self.within.clone(),
        }
    }
}

struct Platform {
    state: State,
    check: Check,
    /// What comes takes the place of what is there.
    replaces: bool,
    services: Vec<core::Service>,
    pods: Vec<core::Pod>,
    slices: Vec<EndpointSlice>,
    places: Places,
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
            places: Places::default(),
            unused: Vec::new(),
        }
    }

    fn add(&mut self, mut document: Document) -> Result<(), Vec<String>> {
        let place = document.place.to_string();
        let kind = document.value["kind"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let known = files::kind_of(&document.value).ok();
        let cluster_wide = matches!(kind.as_str(), "Namespace" | "Node")
            || known.is_some_and(|kind| !kind.is_namespaced());
        let meta = &mut document.value["metadata"];
        if meta.is_object() && !cluster_wide && meta["namespace"].is_null() {
            meta["namespace"] = json!("default");
        }
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        if key.1.is_empty() {
            return Err(vec![format!("{place}: metadata.name: required")]);
        }
        let value = document.value.clone();
        let of_kubernetes = ["Service", "ConfigMap"];
        if let Some(kind) = of_kubernetes.into_iter().find(|of| *of == kind)
            && !document.stored
        {
            let name = ObjectRef::new(kind, &key.0, &key.1);
            self.places.insert(name, document.stand());
        }
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
            "ConfigMap" if key.1 == MESH_CONFIG => {
                if let Some(mesh) = convert::mesh(typed(value, &place)?) {
                    self.state.apply(Update::Mesh(Event::Apply(key, mesh)));
                }
            }
            _ => return self.add_object(document, known, key),
        }
        Ok(())
    }

    /// One of the mesh's own kinds, or one that nothing here uses.
    fn add_object(
        &mut self,
        document: Document,
        known: Option<&'static Kind>,
        key: (String, String),
    ) -> Result<(), Vec<String>> {
        let stand = document.stand();
        let Document {
            value,
            place,
            text,
            stored,
            within,
        } = document;
        let Some(known) = known else {
            let kind = value["kind"].as_str().unwrap_or_default();
            self.unused.push(format!("{place}: {kind}"));
            return Ok(());
        };
        // What is stored is judged by who folds it, as it is in the cluster.
        let faults = match stored {
            true => Vec::new(),
            false => (self.check)(&value),
        };
        if !faults.is_empty() {
            let with_line = faults.iter().map(|fault| {
                let field = match within.as_str() {
                    "" => fault.field.clone(),
                    within => format!("{within}.{}", fault.field),
                };
                let within = text.line_of(&field).unwrap_or(1);
                let line = place.line + within - 1;
                let file = place.file.display();
                format!("{file}:{line}: {}: {}", fault.field, fault.reason)
            });
            return Err(with_line.collect());
        }
        let name = ObjectRef::new(known.id(), &key.0, &key.1);
        let other = match stored {
            true => None,
            false => self.places.insert(name.clone(), stand),
        };
        if let Some(other) = other.filter(|_| !self.replaces) {
            let twice = format!("{place}: {name} is also there: {other}");
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
