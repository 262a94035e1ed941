//! All that views may know of a proxy.

use std::collections::BTreeMap;

use lateen_core::{Labels, Locality};
use lateen_registry::Workload;

use crate::proxy::{Dialect, Kind, Proxy};
use crate::snapshot::Snapshot;

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
        }
    }

    /// The same with what the registry knows of the workload, which counts for more.
    pub(crate) fn with(&self, workload: Option<&Workload>) -> Vantage {
        match workload {
            None => self.clone(),
            Some(workload) => Vantage {
                kind: self.kind,
                dialect: self.dialect,
                namespace: self.namespace.clone(),
                labels: workload.labels.clone(),
                ports: workload.ports.clone(),
                locality: workload.locality.clone(),
            },
        }
    }

    /// Whether it is a gateway's.
    pub(crate) fn is_router(&self) -> bool {
        self.kind == Kind::Router
    }

    /// What anything outbound can depend on.
    pub(crate) fn outbound(&self, snapshot: &Snapshot) -> Vantage {
        if self.is_router() {
            return self.clone();
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
        }
    }
}
