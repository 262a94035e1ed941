//! Clusters towards the application beside the proxy.

use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{ConnectionPoolSettings, H2UpgradePolicy, IstioIngressListener};
use lateen_core::Protocol;
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, OriginalDstLbConfig,
};
use lateen_xds::types::core::{Address, BindConfig, ExtraSourceAddress, address};
use lateen_xds::types::endpoint::lb_endpoint::HostIdentifier;
use lateen_xds::types::endpoint::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};

use super::settings;
use crate::families::Families;
use crate::model::Sidecar;
use crate::policy::{Policy, Rule};
use crate::wire;

/// The source of connections to the application: the capture rules know by it that they come from
/// the proxy and must not be captured again.
const FROM_PROXY: &str = "127.0.0.6";
/// The same for IPv6.
const FROM_PROXY_V6: &str = "::6";

/// All that an inbound cluster is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundKey {
    /// The application's port; `None` for all that no service names.
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) connect_timeout: lateen_api::Duration,
    /// Host, name and namespace of the services that lead here, for telemetry.
    pub(crate) services: Vec<[String; 3]>,
    /// Where a Sidecar says that the application listens.
    pub(crate) to: To,
    /// The Sidecar that has limits for it.
    pub(crate) sidecar: Option<Sidecar>,
    /// The rules for the oldest service that leads here, where they have limits.
    pub(crate) rules: Vec<Rule>,
    /// The port of that service.
    pub(crate) service_port: u16,
    /// The families of the workload's addresses.
    pub(crate) families: Families,
}

/// Where an application listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum To {
    /// At the address and port that clients asked for.
    #[default]
    Asked,
    /// At the address that they asked for, at this port.
    Port(u16),
    /// At this address, which is one of the loopback interface.
    Local(std::net::SocketAddr),
    /// At this socket in the file system.
    Path(String),
    /// At one to which nothing may lead.
    Nowhere,
}

impl To {
    /// What a Sidecar's `defaultEndpoint` says.
    pub(crate) fn parse(endpoint: &str) -> To {
        if endpoint.is_empty() {
            return To::Asked;
        }
        match endpoint.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => To::Port(address.port()),
            Ok(address) => To::Local(address),
            Err(_) if names::is_usable_path(endpoint) => To::Path(endpoint.to_owned()),
            Err(_) => To::Nowhere,
        }
    }
}

impl InboundKey {
    pub(crate) fn name(&self) -> String {
        match self.port {
            Some(port) => ClusterName::inbound(port).to_string(),
            None => names::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        }
    }

    pub(crate) fn generate(&self) -> Cluster {
        let mut cluster = Cluster {
            name: self.name(),
            connect_timeout: Some(wire::duration(self.connect_timeout)),
            ..Cluster::default()
        };
        self.discovery(&mut cluster);
        let limits = self.limits();
        let policy = Policy {
            connection_pool: limits.as_ref(),
            ..Policy::default()
        };
        // What the mesh says of connections is about those between workloads.
        settings::apply(
            &mut cluster,
            &policy,
            self.protocol.into(),
            &MeshConfig::default(),
        );
        if !self.services.is_empty() {
            let service = |[host, name, namespace]: &[String; 3]| {
                wire::structure(wire::record([
                    ("host", wire::text(host)),
                    ("name", wire::text(name)),
                    ("namespace", wire::text(namespace)),
                ]))
            };
            let services = wire::list(self.services.iter().map(service).collect());
            let istio = wire::record([("services", services)]);
            cluster.metadata = Some(wire::metadata([("istio", istio)]));
        }
        cluster
    }
}

impl InboundKey {
    fn discovery(&self, cluster: &mut Cluster) {
        let as_asked = matches!(self.to, To::Asked | To::Port(_));
        let discovery = match as_asked {
            true => DiscoveryType::OriginalDst,
            false => DiscoveryType::Static,
        };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(discovery.into()));
        if as_asked {
            cluster.lb_policy = LbPolicy::ClusterProvided.into();
            // Without it the capture rules would send the connection to the proxy again.
            cluster.upstream_bind_config = Some(from_proxy(self.families));
        }
        match &self.to {
            To::Asked | To::Nowhere => {}
            To::Port(port) => {
                let config = OriginalDstLbConfig {
                    upstream_port_override: wire::number(u32::from(*port)),
                    ..OriginalDstLbConfig::default()
                };
                cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(config));
            }
            To::Local(address) => {
                let address = wire::socket_address(address.ip(), address.port());
                cluster.load_assignment = Some(one_endpoint(self.name(), address));
            }
            To::Path(path) => {
                let address = wire::address(path, 0);
                cluster.load_assignment = Some(one_endpoint(self.name(), address));
            }
        }
    }

    /// The Sidecar's limits, else those that its clients have by the service's rules. What is spoken
    /// to the application is not theirs to say.
    fn limits(&self) -> Option<ConnectionPoolSettings> {
        if let Some(own) = self.sidecar_limits() {
            return Some(own.clone());
        }
        let of_rules = Policy::of(&self.rules, self.service_port, "").connection_pool;
        let mut limits = of_rules?.clone();
        if let Some(http) = &mut limits.http {
            http.h2_upgrade_policy = H2UpgradePolicy::DoNotUpgrade;
            http.use_client_protocol = None;
        }
        Some(limits)
    }

    /// The limits of the port, else of all of the workload's.
    fn sidecar_limits(&self) -> Option<&ConnectionPoolSettings> {
        let spec = &self.sidecar.as_ref()?.spec;
        let number = self.port.map(u32::from);
        let listens = |l: &&IstioIngressListener| l.port.as_ref().map(|p| p.number) == number;
        let own = spec.ingress.iter().find(listens);
        own.and_then(|listener| listener.connection_pool.as_ref())
            .or(spec.inbound_connection_pool.as_ref())
    }
}

fn one_endpoint(cluster_name: String, address: Address) -> ClusterLoadAssignment {
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name,
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

fn from_proxy(families: Families) -> BindConfig {
    let source = |address: &str| match wire::socket_address(address, 0).address {
        Some(address::Address::SocketAddress(source)) => Some(source),
        _ => None,
    };
    let v6 = || ExtraSourceAddress {
        address: source(FROM_PROXY_V6),
        ..ExtraSourceAddress::default()
    };
    BindConfig {
        source_address: match families {
            Families::V4 | Families::Both => source(FROM_PROXY),
            Families::V6 => source(FROM_PROXY_V6),
        },
        extra_source_addresses: (families == Families::Both).then(v6).into_iter().collect(),
        ..BindConfig::default()
    }
}
