//! The endpoints behind a cluster name.

use std::sync::Arc;

use lateen_api::labels;
use lateen_api::networking::ClientTlsMode;
use lateen_core::{Direction, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Service};
use lateen_xds::names::{ClusterName, LOCAL_CLUSTER};

use super::View;
use crate::cluster::transport::is_automatic;
use crate::endpoint::place::{self, Client, Placement, Setting};
use crate::endpoint::{self, EndpointsKey};
use crate::listener::Mode;
use crate::model::Reach;
use crate::mtls;
use crate::policy::{Policy, find_subset};
use crate::proxy::Dialect;
use crate::shared::Shared;

impl<'a> View<'a> {
    /// The key of a cluster's load assignment; `None` where there is no such cluster. An empty one
    /// would be sent before the routes that still lead to the cluster are changed.
    pub(crate) fn endpoints(self, cluster: &str) -> Option<EndpointsKey> {
        if cluster == LOCAL_CLUSTER {
            return self.peers();
        }
        let name = ClusterName::of_cluster(cluster)?;
        let mesh_only = cluster.parse::<ClusterName>().is_err();
        if name.direction != Direction::Outbound {
            return None;
        }
        let service = self.service(&name.host)?;
        let is_udp = name.is_for_datagrams();
        let port = match is_udp {
            true => service.datagram_port(name.port)?,
            false => service.port(name.port)?,
        };
        let rules = self.rules(service);
        let subset = find_subset(&rules, &name.subset);
        if !name.subset.is_empty() && subset.is_none() && !is_udp {
            return None;
        }
        let key = EndpointKey::new(service.id(), &port.name);
        let endpoints = self.snapshot.world.endpoints.get(&key);
        let policy = Policy::of(&rules, name.port, &name.subset);
        let policy = policy.or_of(&self.snapshot.config.mesh);
        Some(EndpointsKey {
            cluster: cluster.to_owned(),
            endpoints: endpoints.map(Shared::of),
            subset: subset.map(|subset| subset.labels.clone()),
            plain: match endpoints {
                None => Vec::new(),
                // Nothing secures datagrams, so that they do not go through other networks' gateways.
                Some(all) if is_udp => all.iter().map(|e| e.address.clone()).collect(),
                Some(all) => self.plain(all),
            },
            placement: self.placement(&policy, service),
            reach: self.reach(&policy, service),
            families: self.from.connectivity.families,
            paths_of: endpoints.and_then(|all| self.paths_of(all)),
            mesh_only,
        })
    }

    /// The namespace whose sockets in the file system the proxy may connect to, where there are any:
    /// its own, if it is beside an application. What gRPC reads knows none, and a gateway serves
    /// strangers.
    fn paths_of(self, endpoints: &[Endpoint]) -> Option<String> {
        let takes_some = self.from.dialect != Dialect::Grpc && !self.from.is_router();
        let own = &self.from.namespace;
        let is_own = |of: &Endpoint| endpoint::is_path(of) && of.namespace == *own;
        (takes_some && endpoints.iter().any(is_own)).then(|| own.clone())
    }

    /// How the proxy gets to endpoints of a service; `None` where addresses are all there is.
    fn reach(self, policy: &Policy<'_>, service: &Service) -> Option<Reach> {
        let networks = self.snapshot.networks();
        let connectivity = &self.from.connectivity;
        networks.are_several().then(|| Reach {
            networks: networks.clone(),
            own: connectivity.network.clone(),
            view: connectivity.view.clone(),
            secured: match policy.tls {
                Some(tls) => tls.mode == ClientTlsMode::IstioMutual,
                None => is_automatic(
                    &self.snapshot.config.mesh,
                    service,
                    &self.snapshot.accounts(&service.id()),
                ),
            },
        })
    }

    /// Endpoints that take mutual TLS in general but were told not to.
    pub(super) fn plain(self, endpoints: &[Endpoint]) -> Vec<String> {
        if !mtls::is_off_somewhere(self.snapshot) {
            return Vec::new();
        }
        let off = |e: &&Endpoint| {
            mtls::mode(self.snapshot, &e.namespace, &e.labels, Some(e.port)) == Mode::Disable
        };
        endpoints
            .iter()
            .filter(off)
            .map(|e| e.address.clone())
            .collect()
    }

    /// How the proxy's place decides who serves it.
    pub(super) fn placement(self, policy: &Policy<'_>, service: &Service) -> Option<Placement> {
        let setting = place::setting(policy, service.distribution, &self.snapshot.config.mesh)?;
        let labels = &self.from.labels;
        let client = Client {
            labels,
            locality: &self.from.locality,
            network: labels.value(labels::NETWORK).unwrap_or_default(),
            node: &self.from.node,
        };
        match setting {
            Setting::Zones(setting) => Placement::by_zones(setting, &client),
            Setting::Locality(setting) => {
                let goes_on = policy.outlier_detection.is_some() || place::is_of_service(setting);
                Placement::of(setting, &client, goes_on)
            }
        }
    }

    /// The service of the peers whose zones the proxy wants to know: of those that its workload serves,
    /// the oldest one.
    pub(crate) fn service_of_peers(self) -> Option<&'a Arc<Service>> {
        let peers = self.from.peers.as_ref()?;
        self.services_of(&peers.labels).into_iter().next()
    }

    /// The proxy's peers: the endpoints of its own service that are of its workload and of its region.
    /// There is an answer also where there are none; Envoy would wait for it.
    fn peers(self) -> Option<EndpointsKey> {
        let peers = self.from.peers.as_ref()?;
        let service = self.service_of_peers();
        let port = service.and_then(|of| of.ports.iter().find(|p| p.protocol != Protocol::Udp));
        let all = service.zip(port).and_then(|(service, port)| {
            let key = EndpointKey::new(service.id(), &port.name);
            self.snapshot.world.endpoints.get(&key)
        });
        let all = all.map_or(&[][..], |all| all).iter();
        let own: Vec<_> = all.filter(|e| peers.has(e)).cloned().collect();
        Some(EndpointsKey {
            cluster: LOCAL_CLUSTER.to_owned(),
            mesh_only: false,
            endpoints: Some(Shared(own.into())),
            subset: None,
            plain: Vec::new(),
            placement: None,
            reach: None,
            families: self.from.connectivity.families,
            paths_of: None,
        })
    }
}
