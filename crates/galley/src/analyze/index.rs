//! What analysers look things up in, made once for all of them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{
    Settings,
    object::{Obj, entries, list, selects, text, texts},
};

/// All objects, by what they are looked for.
pub(super) struct Index<'a> {
    pub(super) settings: &'a Settings,
    by_kind: HashMap<&'a str, Vec<Obj<'a>>>,
    namespaces: HashMap<&'a str, Obj<'a>>,
    named: HashMap<(&'a str, &'a str, &'a str), Obj<'a>>,
    workloads: Vec<Workload<'a>>,
    /// Workloads by one of their labels.
    labelled: HashMap<(&'a str, &'a Value), Vec<usize>>,
    in_namespace: HashMap<&'a str, Vec<usize>>,
    services_of: HashMap<usize, Vec<Obj<'a>>>,
    hosts: Hosts<'a>,
}

/// A pod, or the template of pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload<'a> {
    pub(super) object: Obj<'a>,
    /// `metadata` of the pods.
    pub(super) meta: &'a Value,
    /// `spec` of the pods.
    pub(super) spec: &'a Value,
}

/// Kinds that have a template of pods.
const TEMPLATES: [&str; 6] = [
    "Deployment",
    "StatefulSet",
    "ReplicaSet",
    "DaemonSet",
    "Job",
    "ReplicationController",
];

/// Services by their full names.
#[derive(Default)]
struct Hosts<'a> {
    exact: HashMap<String, Vec<Obj<'a>>>,
    wildcards: BTreeMap<String, Vec<Obj<'a>>>,
}

impl<'a> Workload<'a> {
    pub(super) fn is_pod(&self) -> bool {
        self.object.kind == "Pod"
    }

    pub(super) fn labels(&self) -> &'a Value {
        &self.meta["labels"]
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.meta["annotations"][name].as_str()
    }

    /// Those that run for as long as the pod does, sidecars among them.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        list(&spec["containers"])
            .iter()
            .chain(list(&spec["initContainers"]))
    }

    /// The proxy's container.
    pub(super) fn proxy(&self) -> Option<&'a Value> {
        self.containers()
            .find(|container| container["name"] == "istio-proxy")
    }

    /// What the pod says of injection: the label, which is stronger, or the annotation.
    pub(super) fn inject(&self) -> Option<&'a str> {
        let name = lateen_api::annotations::INJECT;
        let label = self.labels()[name].as_str();
        label.or_else(|| self.annotation(name))
    }

    /// Whether its traffic is that of the node's ztunnel.
    pub(super) fn is_ambient(&self) -> bool {
        self.annotation("ambient.istio.io/redirection") == Some("enabled")
    }

    /// Whether something else made it, which is looked at in its stead.
    pub(super) fn is_owned(&self) -> bool {
        !list(&self.object.written.value["metadata"]["ownerReferences"]).is_empty()
    }

    /// Where the pod's own fields are in its object.
    pub(super) fn path(&self) -> &'static str {
        if self.is_pod() {
            "spec"
        } else {
            "spec.template.spec"
        }
    }
}

impl<'a> Index<'a> {
    pub(super) fn new(objects: Vec<Obj<'a>>, settings: &'a Settings) -> Self {
        let mut index = Index {
            settings,
            by_kind: HashMap::new(),
            namespaces: HashMap::new(),
            named: HashMap::new(),
            workloads: Vec::new(),
            labelled: HashMap::new(),
            in_namespace: HashMap::new(),
            services_of: HashMap::new(),
            hosts: Hosts::default(),
        };
        for object in objects {
            let id = object.id();
            index.by_kind.entry(id).or_default().push(object);
            index
                .named
                .insert((id, object.namespace, object.name), object);
            match id {
                "Namespace" => drop(index.namespaces.insert(object.name, object)),
                "Pod" => index.workload(object, &object.written.value),
                _ if TEMPLATES.contains(&id) => index.workload(object, &object.spec()["template"]),
                _ => {}
            }
        }
        index.name_hosts();
        index.tie_services();
        index
    }

    fn workload(&mut self, object: Obj<'a>, pod: &'a Value) {
        let n = self.workloads.len();
        let (meta, spec) = (&pod["metadata"], &pod["spec"]);
        for (key, value) in entries(&meta["labels"]) {
            self.labelled.entry((key, value)).or_default().push(n);
        }
        self.in_namespace
            .entry(object.namespace)
            .or_default()
            .push(n);
        self.workloads.push(Workload { object, meta, spec });
    }

    fn name_hosts(&mut self) {
        for service in self.of("Service").to_vec() {
            let host = self.full_name(service.name, service.namespace);
            self.hosts.exact.entry(host).or_default().push(service);
        }
        for entry in self.of("ServiceEntry").to_vec() {
            for host in texts(&entry.spec()["hosts"]) {
                let host = host.to_ascii_lowercase();
                match host.strip_prefix('*') {
                    Some(suffix) => {
                        let suffix = suffix.to_owned();
                        self.hosts.wildcards.entry(suffix).or_default().push(entry);
                    }
                    None => self.hosts.exact.entry(host).or_default().push(entry),
                }
            }
        }
    }

    fn tie_services(&mut self) {
        for service in self.of("Service").to_vec() {
            let Some(selector) = selector(&service.spec()["selector"]) else {
                continue;
            };
            for n in self.selected(Some(service.namespace), selector) {
                self.services_of.entry(n).or_default().push(service);
            }
        }
    }

    /// All objects of a kind, in the order in which they came.
    pub(super) fn of(&self, kind: &str) -> &[Obj<'a>] {
        self.by_kind.get(kind).map_or(&[], Vec::as_slice)
    }

    /// All objects.
    pub(super) fn all(&self) -> impl Iterator<Item = &Obj<'a>> {
        self.by_kind.values().flatten()
    }

    pub(super) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Obj<'a>> {
        self.named.get(&(kind, namespace, name)).copied()
    }

    pub(super) fn namespace(&self, name: &str) -> Option<Obj<'a>> {
        self.namespaces.get(name).copied()
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &'a str> {
        self.namespaces.keys().copied()
    }

    /// Pods and templates of pods.
    pub(super) fn workloads(&self) -> impl Iterator<Item = (usize, Workload<'a>)> {
        self.workloads.iter().copied().enumerate()
    }

    /// The services of a workload, by its number.
    pub(super) fn services_of(&self, workload: usize) -> &[Obj<'a>] {
        self.services_of.get(&workload).map_or(&[], Vec::as_slice)
    }

    /// Workloads that have all labels of a selector, in one namespace or in all.
    pub(super) fn select(
        &self,
        namespace: Option<&str>,
        selector: &Map<String, Value>,
    ) -> Vec<(usize, Workload<'a>)> {
        let selected = self.selected(namespace, selector).into_iter();
        selected.map(|n| (n, self.workloads[n])).collect()
    }

    /// By the label that the fewest have.
    fn selected(&self, namespace: Option<&str>, selector: &Map<String, Value>) -> Vec<usize> {
        let none = Vec::new();
        let by_label = selector
            .iter()
            .map(|(key, value)| self.labelled.get(&(key.as_str(), value)).unwrap_or(&none));
        let all;
        let fewest = match (by_label.min_by_key(|list| list.len()), namespace) {
            (Some(list), _) => list,
            (None, Some(namespace)) => self.in_namespace.get(namespace).unwrap_or(&none),
            (None, None) => {
                all = (0..self.workloads.len()).collect();
                &all
            }
        };
        let fits = |n: &&usize| {
            let workload = &self.workloads[**n];
            namespace.is_none_or(|namespace| workload.object.namespace == namespace)
                && selects(selector, workload.labels())
        };
        fewest.iter().filter(fits).copied().collect()
    }

    /// The full name of a host that is named in a namespace.
    pub(super) fn full_name(&self, host: &str, namespace: &str) -> String {
        if host.contains(['.', '*']) {
            return host.to_ascii_lowercase();
        }
        let domain = &self.settings.domain;
        format!("{host}.{namespace}.svc.{domain}").to_ascii_lowercase()
    }

    /// The Services and ServiceEntries that have a host, which may have a wildcard, and that a
    /// namespace sees.
    pub(super) fn services(&self, host: &str, namespace: &str) -> Vec<Obj<'a>> {
        let seen = |object: &&Obj<'a>| is_visible(object, namespace);
        let exact = self.hosts.exact.get(host).into_iter().flatten();
        let mut found: Vec<_> = exact.filter(seen).copied().collect();
        // `*.example.com` has a.example.com and itself.
        let name = host.strip_prefix('*').unwrap_or(host);
        let dots = name.match_indices('.').map(|(at, _)| &name[at..]);
        for suffix in dots.chain([""]) {
            let held = self.hosts.wildcards.get(suffix).into_iter().flatten();
            found.extend(held.filter(seen).copied());
        }
        found
    }

    /// What the mesh's proxies are configured with by default.
    pub(super) fn proxy_metadata(&self, name: &str) -> &str {
        text(&self.settings.mesh["defaultConfig"]["proxyMetadata"][name])
    }

    /// Whether pods of a namespace are given a sidecar, as far as the namespace decides.
    pub(super) fn is_injected(&self, namespace: &str) -> bool {
        self.namespace(namespace)
            .is_some_and(|of| match of.label("istio-injection") {
                Some(label) => label == "enabled",
                None => of.label("istio.io/rev").is_some_and(|rev| !rev.is_empty()),
            })
    }

    /// Whether a namespace is of the ambient mesh; sidecars, where it asks for them, are stronger.
    pub(super) fn is_ambient(&self, namespace: &str) -> bool {
        let of = self.namespace(namespace);
        of.is_some_and(|of| of.label("istio.io/dataplane-mode") == Some("ambient"))
            && !self.is_injected(namespace)
    }

    /// Whether a workload has a sidecar or is given one.
    pub(super) fn in_mesh(&self, workload: &Workload<'a>) -> bool {
        match workload.inject() {
            Some(said) => said == "true",
            None => {
                let host = &workload.spec["hostNetwork"] == true;
                workload.proxy().is_some() || (self.is_injected(workload.object.namespace) && !host)
            }
        }
    }
}

/// A selector that selects something.
pub(super) fn selector(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|selector| !selector.is_empty())
}

/// Whether a namespace sees an object, by its `exportTo`.
pub(super) fn is_visible(object: &Obj<'_>, namespace: &str) -> bool {
    exported(object).sees(object.namespace, namespace)
}

/// Which namespaces see something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Export<'a> {
    All,
    To(Vec<&'a str>),
}

impl Export<'_> {
    fn sees(&self, own: &str, namespace: &str) -> bool {
        match self {
            Export::All => true,
            Export::To(list) => {
                let is = |to: &&str| **to == *namespace || (**to == *"." && own == namespace);
                list.iter().any(is)
            }
        }
    }

    /// Whether some namespace sees both.
    pub(super) fn meets(&self, own: &str, other: &Export<'_>, others: &str) -> bool {
        let full = |to: &&str, own: &str| {
            if **to == *"." {
                own.to_owned()
            } else {
                (**to).to_owned()
            }
        };
        match (self, other) {
            (Export::All, Export::All) => true,
            (Export::To(list), Export::All) | (Export::All, Export::To(list)) => !list.is_empty(),
            (Export::To(list), Export::To(_)) => {
                list.iter().any(|to| other.sees(others, &full(to, own)))
            }
        }
    }
}

/// By `exportTo`, or a Service's annotation of that name.
pub(super) fn exported<'a>(object: &Obj<'a>) -> Export<'a> {
    let list: Vec<&str> = match object.kind {
        "Service" => {
            let said = object.annotation(lateen_api::annotations::EXPORT_TO);
            said.unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|to| !to.is_empty())
                .collect()
        }
        _ => texts(&object.spec()["exportTo"]).collect(),
    };
    match list.as_slice() {
        [] => Export::All,
        _ if list.contains(&"*") => Export::All,
        ["~"] => Export::To(Vec::new()),
        _ => Export::To(list),
    }
}
