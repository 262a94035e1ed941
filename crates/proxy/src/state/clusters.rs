//! Clusters and their hosts, as the writer keeps them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_balance::Peers;
use lateen_decode::{ClusterSpec, Discovery, EndpointSpec, NamedEndpoint, RouteExtra, assignment};
use lateen_route::{Action, RouteTable, Target};
use lateen_xds::types::{cluster as pb, endpoint};

use super::{Event, State};
use crate::bind;
use crate::cluster::{Around, Cluster, HostSet, resolve_forever};

impl State {
    /// Adds or replaces a cluster.
    pub(super) fn set_cluster(&mut self, name: &ArcStr, spec: &pb::Cluster) -> Result<(), String> {
        let text = |error: lateen_decode::DecodeError| error.to_string();
        let spec = Arc::new(lateen_decode::cluster(spec).map_err(text)?);
        let transports = bind::transports(&spec.transports, &self.shared.secrets).map_err(text)?;
        let before = self.snapshot.clusters.get(name).cloned();
        let old_hosts = before.as_ref().map(|before| &*before.hosts);
        let peers = self.peers.clone();
        let around = self.around(peers.as_ref());
        let (hosts, warm) = match &spec.discovery {
            Discovery::Static(list) => (
                HostSet::from_endpoints(&spec, list.clone(), old_hosts, around),
                true,
            ),
            Discovery::OriginalDst { .. } | Discovery::Dynamic(_) => (HostSet::empty(&spec), true),
            Discovery::Eds(service) => match self.endpoints.get(service) {
                Some(list) => (
                    HostSet::from_endpoints(&spec, list.clone(), old_hosts, around),
                    true,
                ),
                None => (HostSet::empty(&spec), false),
            },
            // The old addresses serve until the names are resolved again.
            Discovery::Dns(_) if keeps_hosts(before.as_deref(), &spec) => {
                (HostSet::moved(&spec, old_hosts, around.peers), true)
            }
            // Until the names are resolved, no host is known.
            Discovery::Dns(_) => (HostSet::empty(&spec), false),
        };
        let id = self.next_id;
        self.next_id += 1;
        if let Some(resolver) = self.resolvers.remove(name) {
            resolver.abort();
        }
        if let Discovery::Dns(dns) = &spec.discovery {
            let (events_tx, cluster) = (self.events_tx.clone(), name.clone());
            let found = move |list| {
                let cluster = cluster.clone();
                events_tx
                    .send(Event::Resolved { cluster, id, list })
                    .is_ok()
            };
            let task = tokio::spawn(resolve_forever(dns.clone(), found));
            self.resolvers.insert(name.clone(), task.abort_handle());
        }
        let (stats, breaker) = match &before {
            Some(before) => (before.stats.clone(), before.breaker.clone()),
            None => Default::default(),
        };
        let names = match &spec.discovery {
            Discovery::Dynamic(_) => {
                let known = before.as_ref().and_then(|before| before.names.clone());
                Some(known.unwrap_or_default())
            }
            _ => None,
        };
        let service = spec.service();
        let hosts = Arc::new(hosts);
        let cluster = Cluster {
            id,
            spec,
            transports,
            hosts,
            warm,
            stats,
            breaker,
            names,
            service,
        };
        self.snapshot
            .clusters
            .insert(name.clone(), Arc::new(cluster));
        if self.local_cluster == *name {
            self.count_peers();
        }
        Ok(())
    }

    fn around<'a>(&self, peers: Option<&'a Peers>) -> Around<'a> {
        let now = self.shared.now();
        Around { now, peers }
    }

    /// Looks who the peers are. Where that has changed, hosts of other clusters are chosen otherwise.
    fn count_peers(&mut self) {
        let Some(local) = self.snapshot.clusters.get(&self.local_cluster) else {
            return;
        };
        let peers = Peers::new(self.shared.node.locality(), &local.hosts.specs);
        if self.peers.as_ref() == Some(&peers) {
            return;
        }
        for cluster in self.snapshot.clusters.values_mut() {
            if cluster.spec.zones.is_some() && cluster.hosts.is_spread() {
                let hosts = HostSet::moved(&cluster.spec, Some(&cluster.hosts), Some(&peers));
                let warm = cluster.warm;
                *cluster = Arc::new(Cluster {
                    warm,
                    ..cluster.with_hosts(hosts)
                });
            }
        }
        self.peers = Some(peers);
    }

    /// Takes the endpoints of a service. What comes late, for a cluster that is gone, is no use: the
    /// cluster asks again when it comes back.
    pub(super) fn set_endpoints(
        &mut self,
        service: &ArcStr,
        spec: &endpoint::ClusterLoadAssignment,
    ) -> Result<(), String> {
        let list = assignment(spec).map_err(|error| error.to_string())?;
        let is_known = |of: &NamedEndpoint| of.address().is_some() || of.path().is_some();
        if let Some(bad) = list.iter().find(|endpoint| !is_known(endpoint)) {
            return Err(format!(
                "endpoint {:?} is no IP address and no path",
                bad.host
            ));
        }
        self.renew_hosts(service, list);
        Ok(())
    }

    /// The server knows no endpoints of that name.
    pub(super) fn remove_endpoints(&mut self, service: &ArcStr) {
        self.renew_hosts(service, Vec::new());
    }

    fn renew_hosts(&mut self, service: &ArcStr, list: Vec<NamedEndpoint>) {
        let peers = self.peers.clone();
        let around = self.around(peers.as_ref());
        let (mut wanted, mut local) = (false, false);
        for (cluster_name, cluster) in &mut self.snapshot.clusters {
            if matches!(&cluster.spec.discovery, Discovery::Eds(name) if name == service) {
                wanted = true;
                local |= *cluster_name == self.local_cluster;
                let before = Some(&*cluster.hosts);
                let hosts = HostSet::from_endpoints(&cluster.spec, list.clone(), before, around);
                *cluster = Arc::new(cluster.with_hosts(hosts));
            }
        }
        if wanted {
            self.endpoints.insert(service.clone(), list);
        }
        if local {
            self.count_peers();
        }
    }

    /// Takes resolved hosts, unless the cluster has changed since.
    pub(super) fn resolved(
        &mut self,
        name: &ArcStr,
        id: u64,
        list: Vec<(SocketAddr, EndpointSpec)>,
    ) {
        let peers = self.peers.clone();
        let around = self.around(peers.as_ref());
        let Some(cluster) = self.snapshot.clusters.get_mut(name) else {
            return;
        };
        if cluster.id != id {
            return;
        }
        let list = list
            .into_iter()
            .map(|(at, spec)| (at.into(), spec))
            .collect();
        let hosts = HostSet::new(&cluster.spec, list, Some(&cluster.hosts), around);
        *cluster = Arc::new(cluster.with_hosts(hosts));
        if self.local_cluster == *name {
            self.count_peers();
        }
        self.publish();
        self.judge_readiness();
    }

    /// The names of services whose endpoints are needed.
    pub(super) fn wanted_endpoints(&self) -> HashSet<String> {
        let clusters = self.snapshot.clusters.values();
        clusters
            .filter_map(|cluster| match &cluster.spec.discovery {
                Discovery::Eds(service) => Some(service.to_string()),
                _ => None,
            })
            .collect()
    }
}

/// True where the hosts of the configuration before mean the same under the new one.
fn keeps_hosts(before: Option<&Cluster>, spec: &ClusterSpec) -> bool {
    before.is_some_and(|before| {
        let names = |discovery: &Discovery| match discovery {
            Discovery::Dns(dns) => dns
                .endpoints
                .iter()
                .map(|endpoint| (endpoint.host.clone(), endpoint.port))
                .collect(),
            _ => Vec::new(),
        };
        before.warm
            && before.spec.transports.len() == spec.transports.len()
            && !names(&before.spec.discovery).is_empty()
            && names(&before.spec.discovery) == names(&spec.discovery)
    })
}

/// Collects the clusters that routes name.
pub(super) fn named_by_routes(table: &RouteTable<RouteExtra>, names: &mut HashSet<String>) {
    for route in table.hosts().iter().flat_map(|host| &host.routes) {
        if let Action::Forward(forward) = &route.action {
            named_by_target(&forward.target, names);
            names.extend(
                forward
                    .mirrors
                    .iter()
                    .map(|mirror| mirror.cluster.to_string()),
            );
        }
    }
}

/// Collects the clusters that a target names.
pub(super) fn named_by_target(target: &Target, names: &mut HashSet<String>) {
    match target {
        Target::Cluster(name) => {
            names.insert(name.to_string());
        }
        Target::Header(_) => {}
        Target::Weighted(list) => {
            names.extend(
                list.clusters()
                    .iter()
                    .map(|cluster| cluster.cluster.to_string()),
            );
        }
    }
}
