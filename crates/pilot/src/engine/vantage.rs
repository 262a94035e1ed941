//! All that views may know of a proxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_api::{Object, labels, networking as api};
use lateen_core::{Labels, Locality};
use lateen_registry::{Endpoint, Workload};
use lateen_xds::names::SELF_DISCOVERY;

use super::connectivity::Connectivity;
use crate::envoy_filter::{Book, Selected, Who};
use crate::listener::Topology;
use crate::model::Sidecar;
use crate::proxy::{Dialect, Kind, OUR_PROXY, Proxy};
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// What only patches ask of a proxy.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    version: String,
    metadata: Arc<BTreeMap<String, String>>,
}

impl Facts {
    pub(crate) fn of(proxy: &Proxy) -> Facts {
        Facts {
            version: proxy.version.clone(),
            metadata: proxy.metadata.clone(),
        }
    }
}

/// A place in the mesh that it can be seen from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Vantage {
    pub(crate) kind: Kind,
    pub(crate) dialect: Dialect,
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    /// Numbers of the workload's ports, by name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// Where it is; empty where that is not known or makes no difference.
    pub(crate) locality: Locality,
    /// The node that it is on; empty where that is not known or makes no difference.
    pub(crate) node: ArcStr,
    /// How it is connected.
    pub(crate) connectivity: Connectivity,
    /// What is before it, where it is a gateway that says so.
    pub(crate) topology: Option<Topology>,
    /// The Sidecar that says what is seen from here. It is chosen by labels that nothing else may
    /// ask for, so a reduced vantage has it from the full one.
    pub(crate) sidecar: Option<Sidecar>,
    /// Users' changes to what it is served.
    pub(crate) patches: Selected,
    /// Whose zones it wants to know.
    pub(crate) peers: Option<Peers>,
}

/// The metadata field with the name of what owns the workload.
const WORKLOAD_NAME: &str = "WORKLOAD_NAME";
/// Labels of pods that are of one revision of what owns them. Only those of one send alike.
const HASHES: [&str; 2] = [labels::POD_TEMPLATE_HASH, labels::ROLLOUT_HASH];

/// Who sends as much as a proxy does: the workloads that are alike, in its region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    workload: String,
    pub(crate) labels: Labels,
    region: ArcStr,
}

impl Peers {
    fn of(proxy: &Proxy) -> Option<Peers> {
        let text = |key: &str| proxy.metadata.get(key).map_or("", String::as_str);
        (text(SELF_DISCOVERY) == "true").then(|| Peers {
            workload: text(WORKLOAD_NAME).to_owned(),
            labels: proxy.labels.clone(),
            region: ArcStr::new(),
        })
    }

    fn with(&self, workload: &Workload) -> Peers {
        Peers {
            workload: self.workload.clone(),
            labels: workload.labels.clone(),
            region: workload.locality.region.clone(),
        }
    }

    /// Whether an endpoint is one of them.
    pub(crate) fn has(&self, endpoint: &Endpoint) -> bool {
        self.workload == endpoint.workload_name
            && self.region == endpoint.locality.region
            && HASHES
                .iter()
                .all(|label| self.labels.value(label) == endpoint.labels.value(label))
    }
}

impl Vantage {
    /// What a proxy's node says.
    pub(crate) fn of_node(proxy: &Proxy) -> Vantage {
        Vantage {
            kind: proxy.kind,
            dialect: proxy.dialect,
            namespace: proxy.namespace.clone(),
            labels: proxy.labels.clone(),
            ports: BTreeMap::new(),
            locality: Locality::default(),
            node: ArcStr::new(),
            connectivity: Connectivity::of(proxy),
            topology: proxy.topology.as_ref().map(Topology::from),
            sidecar: None,
            patches: Selected::default(),
            peers: Peers::of(proxy),
        }
    }

    /// The same with what the registry knows of the workload, which counts for more. `node` says
    /// whether the node that it is on makes a difference anywhere: where it does not, workloads that
    /// are alike share what they are served.
    pub(crate) fn with(&self, workload: Option<&Workload>, node: bool) -> Vantage {
        match workload {
            None => self.clone(),
            Some(workload) => Vantage {
                kind: self.kind,
                dialect: self.dialect,
                namespace: self.namespace.clone(),
                labels: workload.labels.clone(),
                ports: workload.ports.clone(),
                locality: workload.locality.clone(),
                node: match node {
                    true => workload.node.as_str().into(),
                    false => ArcStr::new(),
                },
                connectivity: self.connectivity.clone(),
                topology: self.topology,
                sidecar: None,
                patches: Selected::default(),
                peers: self.peers.as_ref().map(|peers| peers.with(workload)),
            },
        }
    }

    /// The same with the patches that hold for it.
    pub(crate) fn patched(self, book: &mut Book, proxy: &Facts) -> Vantage {
        // gRPC has none of the filters that patches are about.
        if self.dialect == Dialect::Grpc {
            return self;
        }
        let patches = book.select(Who {
            router: self.is_router(),
            ours: self.dialect == Dialect::Lateen
                || proxy.metadata.get(OUR_PROXY).is_some_and(|is| is == "true"),
            namespace: &self.namespace,
            labels: &self.labels,
            version: &proxy.version,
            metadata: &proxy.metadata,
        });
        // Patches of tables see whole tables.
        let dialect = match self.dialect {
            Dialect::Lateen if patches.change_tables() => Dialect::Envoy,
            dialect => dialect,
        };
        Vantage {
            patches,
            dialect,
            ..self
        }
    }

    /// Whether it is a gateway's.
    pub(crate) fn is_router(&self) -> bool {
        self.kind == Kind::Router
    }

    /// What anything outbound can depend on.
    pub(crate) fn outbound(&self, snapshot: &Snapshot) -> Vantage {
        let connectivity = self.connectivity.reduced(&self.labels, snapshot);
        if self.is_router() {
            return Vantage {
                connectivity,
                ..self.clone()
            };
        }
        let asked = snapshot.asked_labels();
        let labels = self.labels.iter();
        let labels = labels.filter(|(key, _)| asked.contains(key.as_str()));
        Vantage {
            kind: self.kind,
            dialect: self.dialect,
            namespace: self.namespace.clone(),
            labels: labels
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            ports: BTreeMap::new(),
            locality: if snapshot.locality_counts() {
                self.locality.clone()
            } else {
                Locality::default()
            },
            node: self.node.clone(),
            connectivity,
            topology: None,
            sidecar: self.sidecar(snapshot).map(Shared::of),
            patches: self.patches.outward(),
            peers: self.peers.clone(),
        }
    }

    /// The Sidecar that holds for it; a gateway has none.
    fn sidecar<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<Object<api::Sidecar>>> {
        let sidecars = (!self.is_router()).then(|| snapshot.sidecars())?;
        sidecars.of(&self.namespace, &self.labels)
    }
}
