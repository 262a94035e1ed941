//! Objects as they are written. Analysis reads documents and not typed objects: it is asked about what
//! cannot be read, about old fields that reading does away with, and about kinds that nobody else here
//! knows.

use lateen_registry::Written;
use serde_json::{Map, Value};

/// One object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Obj<'a> {
    pub(super) written: &'a Written,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// Groups of Kubernetes whose kinds are meant by their bare names.
const OF_KUBERNETES: [&str; 7] = [
    "",
    "apps",
    "batch",
    "networking.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "gateway.networking.k8s.io",
];

impl<'a> Obj<'a> {
    /// `None` for what has no kind or no name.
    pub(super) fn new(written: &'a Written) -> Option<Self> {
        let (value, meta) = (&written.value, &written.value["metadata"]);
        let (kind, name) = (text(&value["kind"]), text(&meta["name"]));
        (!kind.is_empty() && !name.is_empty()).then_some(Obj {
            written,
            kind,
            namespace: text(&meta["namespace"]),
            name,
        })
    }

    /// By what it is looked for: the kind, or nothing for a kind of somebody else.
    pub(super) fn id(&self) -> &'a str {
        let group = self.group();
        match (group, self.kind) {
            (lateen_api::gateway_api::GROUP, "Gateway") => "KubernetesGateway",
            (group, kind) if OF_KUBERNETES.contains(&group) || group.ends_with(".istio.io") => kind,
            _ => "",
        }
    }

    pub(super) fn group(&self) -> &'a str {
        let version = text(&self.written.value["apiVersion"]);
        version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn spec(&self) -> &'a Value {
        &self.written.value["spec"]
    }

    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        self.written.value["metadata"]["labels"][name].as_str()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.written.value["metadata"]["annotations"][name].as_str()
    }

    /// `namespace/name`, or the name of what is in no namespace.
    pub(super) fn key(&self) -> String {
        match self.namespace {
            "" => self.name.to_owned(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    pub(super) fn is(&self, other: &Obj<'_>) -> bool {
        std::ptr::eq(self.written, other.written)
    }
}

/// A text, or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list, or none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().filter_map(Value::as_str)
}

/// The entries of a map, or none.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let map = value.as_object();
    map.into_iter()
        .flatten()
        .map(|(key, of)| (key.as_str(), of))
}

/// Whether labels have all that a selector asks for. An empty selector selects all.
pub(super) fn selects(selector: &Map<String, Value>, labels: &Value) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// `app=reviews,version=v1`.
pub(super) fn in_words(selector: &Map<String, Value>) -> String {
    let each = selector
        .iter()
        .map(|(key, of)| format!("{key}={}", text(of)));
    each.collect::<Vec<_>>().join(",")
}

/// Namespaces of Kubernetes and of the mesh itself.
pub(super) fn is_of_system(namespace: &str, root: &str) -> bool {
    namespace == root
        || [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "local-path-storage",
        ]
        .contains(&namespace)
}
