//! Pods and workload entries by address.

use std::sync::Arc;

use lateen_core::Locality;

use super::State;
use crate::{Workload, store::Key};

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

    pub(super) fn fold_pods(&mut self, changes: Vec<(Key, Option<Arc<Workload>>)>) -> bool {
        let mut changed = false;
        // Addresses first leave, then arrive: one pod may take over the address of another.
        for (key, old) in &changes {
            let Some(old) = old else { continue };
            for ip in &old.ips {
                let held = self.world.workloads_by_ip.get(ip);
                if held.is_some_and(|w| w.namespace == key.0 && w.name == key.1) {
                    self.world.workloads_by_ip.remove(ip);
                    changed = true;
                }
            }
        }
        for (key, _) in &changes {
            let Some(pod) = self.pods.get(&key.0, &key.1) else {
                continue;
            };
            let locality = self.locality(&pod.locality, &pod.node);
            let workload = if locality == pod.locality {
                pod.clone()
            } else {
                Arc::new(Workload {
                    locality,
                    ..Workload::clone(pod)
                })
            };
            for ip in &workload.ips {
                self.world.workloads_by_ip.insert(*ip, workload.clone());
                changed = true;
            }
        }
        changed
    }
}
