//! What the watches say.

use std::sync::Arc;

use lateen_api::Kind;
use serde_json::Value;

use crate::{Namespace, Node, Service, Workload, external::External, store::Event};

/// One event of one watch.
#[derive(Debug)]
pub(crate) enum Update {
    Service(Event<Arc<Service>>),
    Slice(Event<Slice>),
    Pod(Event<Arc<Workload>>),
    Node(Event<Arc<Node>>),
    Namespace(Event<Arc<Namespace>>),
    Mesh(Event<Arc<MeshTexts>>),
    Object(&'static Kind, Event<Arc<Value>>),
    /// A service of a catalogue outside of the platform.
    Catalog(Event<Arc<External>>),
    Absent(&'static Kind),
    /// A source is not heard, and why.
    Failed(&'static str, String),
    /// A source answers, and nothing has changed.
    Heard(&'static str),
    /// Several that readers see at once.
    Together(Vec<Update>),
}

pub(crate) const SERVICE: &str = "Service";
pub(crate) const SLICE: &str = "EndpointSlice";
pub(crate) const POD: &str = "Pod";
pub(crate) const NODE: &str = "Node";
pub(crate) const NAMESPACE: &str = "Namespace";
pub(crate) const MESH: &str = "ConfigMap";
pub(crate) const CATALOG: &str = "Consul";

impl Update {
    /// The source that it comes from; those that go together come from several.
    pub(super) fn source(&self) -> Option<&'static str> {
        Some(match self {
            // What is said of one of a catalogue's services says nothing of the list of them.
            Update::Together(_) | Update::Catalog(_) => return None,
            Update::Service(_) => SERVICE,
            Update::Slice(_) => SLICE,
            Update::Pod(_) => POD,
            Update::Node(_) => NODE,
            Update::Namespace(_) => NAMESPACE,
            Update::Mesh(_) => MESH,
            Update::Object(kind, _) | Update::Absent(kind) => kind.id(),
            Update::Failed(source, _) | Update::Heard(source) => source,
        })
    }

    /// Whether it only says that a list is asked for, which is no answer yet.
    pub(super) fn is_question(&self) -> bool {
        match self {
            Update::Service(event) => event.is_init(),
            Update::Slice(event) => event.is_init(),
            Update::Pod(event) => event.is_init(),
            Update::Node(event) => event.is_init(),
            Update::Namespace(event) => event.is_init(),
            Update::Mesh(event) => event.is_init(),
            Update::Object(_, event) => event.is_init(),
            Update::Catalog(_)
            | Update::Absent(_)
            | Update::Failed(..)
            | Update::Heard(_)
            | Update::Together(_) => false,
        }
    }
}

/// What ConfigMap `istio` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MeshTexts {
    /// Key `mesh`.
    pub(crate) mesh: Option<Arc<str>>,
    /// Key `meshNetworks`.
    pub(crate) networks: Option<Arc<str>>,
}

/// What an EndpointSlice says, reduced to what is used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    pub(crate) service: String,
    /// Name and number.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) addresses: Vec<SliceAddress>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceAddress {
    pub(crate) address: String,
    pub(crate) ready: bool,
    pub(crate) pod: Option<String>,
    pub(crate) node: String,
}

impl SliceAddress {
    /// What it stands for: a pod by name, else whatever has the address.
    pub(super) fn target(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.address)
    }
}
