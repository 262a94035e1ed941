//! The endpoints behind a cluster name.

use lateen_api::labels;
use lateen_api::networking::ClientTlsMode;
use lateen_core::Direction;
use lateen_registry::{Endpoint, EndpointKey, Service};
use lateen_xds::names::ClusterName;

use super::View;
use crate::cluster::transport::is_automatic;
use crate::endpoint::EndpointsKey;
use crate::endpoint::place::{self, Client, Placement};
use crate::listener::Mode;
use crate::model::Reach;
use crate::mtls;
use crate::policy::{Policy, find_subset};
use crate::shared::Shared;

impl View<'_> {
    /// The key of a cluster's load assignment; `None` where there is no such cluster. An empty one
    /// would be sent before the routes that still lead to the cluster are changed.
    pub(crate) fn endpoints(self, cluster: &str) -> Option<EndpointsKey> {
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
            mesh_only,
        })
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
        let of_mesh = self.snapshot.config.mesh.locality_lb_setting.as_ref();
        let setting = place::setting(policy, service.distribution, of_mesh)?;
        let labels = &self.from.labels;
        let client = Client {
            labels,
            locality: &self.from.locality,
            network: labels.value(labels::NETWORK).unwrap_or_default(),
            node: &self.from.node,
        };
        let goes_on = policy.outlier_detection.is_some() || place::is_of_service(setting);
        Placement::of(setting, &client, goes_on)
    }
}
