//! Which clusters a proxy has.

use std::collections::BTreeSet;

use lateen_core::Protocol;
use lateen_registry::{Endpoint, EndpointKey, Service};
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::cluster::cluster::DiscoveryType;

use super::View;
use crate::cluster::{self, InboundKey, OutboundKey, To};
use crate::envoy_filter::Kind as Added;
use crate::grpc;
use crate::key::Key;
use crate::model::Sidecar;
use crate::policy::{Policy, Rule, find_subset, subsets};
use crate::proxy::Dialect;
use crate::route::Others;
use crate::shared::Shared;

impl View<'_> {
    /// Keys of the clusters that lead to no service, and of those that patches bring.
    pub(crate) fn special_clusters(self) -> Vec<Key> {
        // gRPC has names for what it dials, and nothing else to go to.
        if self.from.dialect == Dialect::Grpc {
            return Vec::new();
        }
        let (mesh, patches) = (&self.snapshot.config.mesh, &self.from.patches);
        let mut own = vec![
            Key::BlackHole(Shared::of(mesh)),
            Key::Passthrough(Shared::of(mesh)),
        ];
        if self.others() == Others::ByName {
            own.push(Key::ByName(Shared::of(mesh)));
        }
        let mut keys = patches.patch(own);
        keys.extend(patches.added(Added::Cluster, false, |name| self.has_cluster(name)));
        keys
    }

    /// Whether a name is that of a cluster of the mesh.
    fn has_cluster(self, name: &str) -> bool {
        let special = [
            names::BLACK_HOLE_CLUSTER,
            names::PASSTHROUGH_CLUSTER,
            names::INBOUND_PASSTHROUGH_CLUSTER,
            names::DYNAMIC_DNS_CLUSTER,
        ];
        let leads = |name: ClusterName| {
            let service = self.service(&name.host)?;
            if name.is_for_datagrams() {
                let mut ports = self.datagram_ports(service).into_iter();
                return ports.any(|port| port.port == name.port).then_some(());
            }
            service.port(name.port)?;
            let rules = self.rules(service);
            let whole = name.subset.is_empty();
            (whole || find_subset(&rules, &name.subset).is_some()).then_some(())
        };
        special.contains(&name) || name.parse().ok().and_then(leads).is_some()
    }

    /// Keys of the clusters that lead to a service.
    pub(crate) fn clusters_to(self, service: &std::sync::Arc<Service>) -> Vec<Key> {
        let mut keys = Vec::new();
        let rules = self.rules(service);
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            let names = subsets(&rules).map(|subset| subset.name.as_str());
            for subset in [""].into_iter().chain(names) {
                let key = self.outbound_cluster(service, port.port, subset, &rules);
                if self.from.dialect == Dialect::Grpc {
                    keys.extend(grpc::cluster(service, key));
                } else {
                    keys.extend(key.is_servable().then_some(Key::Cluster(key)));
                }
            }
        }
        for port in self.datagram_ports(service) {
            let key = self.outbound_cluster(service, port.port, names::DATAGRAMS, &rules);
            keys.extend(key.is_servable().then_some(Key::Cluster(key)));
        }
        if self.is_passed_on(service) {
            for name in self.names_of(service) {
                let key = self.outbound_cluster(service, name.port, &name.subset, &rules);
                keys.push(Key::Cluster(OutboundKey {
                    passes_on: true,
                    ..key
                }));
            }
        }
        self.from.patches.patch(keys)
    }

    fn outbound_cluster(
        self,
        service: &std::sync::Arc<Service>,
        port: u16,
        subset: &str,
        rules: &[Rule],
    ) -> OutboundKey {
        let router = self.from.is_router();
        let inline = matches!(
            cluster::discovery_type(service, router),
            DiscoveryType::StrictDns | DiscoveryType::LogicalDns | DiscoveryType::Static
        );
        let is_udp = subset == names::DATAGRAMS;
        let known = match is_udp {
            true => service.datagram_port(port),
            false => service.port(port),
        };
        let port_name = known.map_or("", |p| &p.name);
        let key = EndpointKey::new(service.id(), port_name);
        let known = self.snapshot.world.endpoints.get(&key);
        let policy = Policy::of(rules, port, subset).or_of(&self.snapshot.config.mesh);
        OutboundKey {
            service: Shared::of(service),
            port,
            subset: subset.to_owned(),
            rules: rules.to_vec(),
            mesh: Shared::of(&self.snapshot.config.mesh),
            accounts: self.snapshot.accounts(&service.id()),
            all_take_tls: !inline
                && !is_udp
                && cluster::goes_where_asked(service, router, &policy)
                && known.is_some_and(|endpoints| self.all_take_tls(endpoints)),
            endpoints: known.filter(|_| inline).map(Shared::of),
            placement: self.placement(&policy, service).filter(|_| inline),
            passes_on: false,
            client_certificate: self.client_certificate(rules, subset).to_owned(),
            families: self.from.connectivity.families,
            router,
        }
    }

    /// Whether there are endpoints, and each takes the mesh's TLS.
    fn all_take_tls(self, endpoints: &[Endpoint]) -> bool {
        !endpoints.is_empty()
            && endpoints.iter().all(|e| e.mtls)
            && self.plain(endpoints).is_empty()
    }

    /// Keys of the clusters that lead to the application of the proxy's own workload.
    pub(crate) fn inbound_clusters(self) -> Vec<Key> {
        if self.from.dialect == Dialect::Grpc {
            return Vec::new();
        }
        let own = self.own_clusters();
        let is_own = |name: &str| own.iter().any(|key| key.name() == name);
        let added = self.from.patches.added(Added::Cluster, true, is_own);
        let own = own.into_iter().map(Key::InboundCluster).collect();
        let mut keys = self.from.patches.patch(own);
        keys.extend(added);
        keys
    }

    fn own_clusters(self) -> Vec<InboundKey> {
        let connect_timeout = self.snapshot.config.mesh.connect_timeout();
        let mut keys = vec![InboundKey {
            port: None,
            protocol: Protocol::Unsupported,
            connect_timeout,
            services: Vec::new(),
            to: To::Asked,
            sidecar: self.limiting_sidecar(),
            rules: Vec::new(),
            service_port: 0,
            families: self.from.connectivity.families,
        }];
        let own = self.own_services();
        let mut known = BTreeSet::new();
        let ports = self.inbound_ports().into_iter();
        // A Sidecar may have one port at several addresses.
        for inbound in ports.filter(|inbound| known.insert(inbound.port)) {
            let leads_here = |service: &&std::sync::Arc<Service>| {
                let mut ports = service.ports.iter();
                ports.any(|port| self.target_port(port) == Some(inbound.port))
            };
            let oldest = own.iter().copied().find(leads_here);
            let (rules, service_port) = oldest.map_or_else(Default::default, |service| {
                self.limiting_rules(service, inbound.port)
            });
            let services = own.iter().copied().filter(leads_here).map(|service| {
                [
                    service.hostname.to_string(),
                    service.name.clone(),
                    service.namespace.to_string(),
                ]
            });
            keys.push(InboundKey {
                port: Some(inbound.port),
                protocol: inbound.protocol,
                connect_timeout,
                services: services.collect(),
                to: self.default_endpoint(inbound.port),
                sidecar: self.limiting_sidecar(),
                rules,
                service_port,
                families: self.from.connectivity.families,
            });
        }
        keys
    }

    /// The rules for a service of the workload, where they have limits for the port that leads to this
    /// one of the workload; and that port.
    fn limiting_rules(self, service: &Service, port: u16) -> (Vec<Rule>, u16) {
        let mut ports = service.ports.iter();
        let leading = ports.find(|of| self.target_port(of) == Some(port));
        let number = leading.map_or(port, |of| of.port);
        let rules = self.rules(service);
        let limits = Policy::of(&rules, number, "").connection_pool.is_some();
        match limits {
            true => (rules, number),
            false => Default::default(),
        }
    }

    /// The Sidecar, where it has limits for what comes in.
    fn limiting_sidecar(self) -> Option<Sidecar> {
        let sidecar = self.own_sidecar()?;
        let mut ingress = sidecar.spec.ingress.iter();
        let limits = sidecar.spec.inbound_connection_pool.is_some()
            || ingress.any(|listener| listener.connection_pool.is_some());
        limits.then(|| Shared::of(sidecar))
    }

    /// Where the Sidecar says that the application listens for a port.
    fn default_endpoint(self, port: u16) -> To {
        let mut ingress = self.ingress().iter();
        let number = u32::from(port);
        let own = ingress.find(|l| l.port.as_ref().is_some_and(|p| p.number == number));
        own.map_or(To::Asked, |listener| To::parse(&listener.default_endpoint))
    }
}
