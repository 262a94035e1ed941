//! Pods and workload entries by address.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use lateen_core::Locality;

use super::State;
use crate::{Workload, service_entry};

impl State {
    /// Where a workload is: its own label, else its node's.
    pub(super) fn locality(&self, own: &Locality, node: &str) -> Locality {
        if *own != Locality::default() {
            return own.clone();
        }
        self.nodes
            .get("", node)
            .map(|node| node.locality.clone())
            .unwrap_or_default()
    }

    pub(super) fn fold_workloads(&mut self, ips: &BTreeSet<IpAddr>) -> bool {
        let mut changed = false;
        for ip in ips {
            self.visit();
            let workload = self.pod_at(*ip).or_else(|| self.entry_at(*ip));
            changed |= super::put(&mut self.world.workloads_by_ip, *ip, workload);
        }
        changed
    }

    fn pod_at(&self, ip: IpAddr) -> Option<Arc<Workload>> {
        let key = self.refs.pods_by_ip.of(&ip).next_back()?;
        let pod = self.pods.get(&key.0, &key.1)?;
        let locality = self.locality(&pod.locality, &pod.node);
        if locality == pod.locality {
            return Some(pod.clone());
        }
        Some(Arc::new(Workload {
            locality,
            ..Workload::clone(pod)
        }))
    }

    /// A pod of the same address is stronger than an entry.
    fn entry_at(&self, ip: IpAddr) -> Option<Arc<Workload>> {
        let key = self.refs.entries_by_ip.of(&ip).next()?;
        let entry = &self.workload_entries[key];
        let (_, workload) = service_entry::workload(&entry.object, entry.healthy)?;
        Some(Arc::new(workload))
    }
}
