//! Clusters (CDS): where traffic can go, and how connections there are made.

mod inbound;
mod settings;
pub(crate) mod transport;

use std::sync::Arc;

use lateen_api::Duration;
use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{ConnectionPoolSettings, HttpSettings, SimpleLb};
use lateen_core::Protocol;
use lateen_registry::{Endpoint, Resolution, Service};
use lateen_xds::names::{self, ClusterName};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use lateen_xds::types::core::Metadata;
use lateen_xds::types::endpoint::ClusterLoadAssignment;

pub(crate) use inbound::{InboundKey, To};

use crate::dynamic;
use crate::endpoint;
use crate::endpoint::place::{self, Placement, Setting};
use crate::families::Families;
use crate::policy::{Policy, Rule};
use crate::shared::Shared;
use crate::wire;

/// How often names are resolved again, where their own lifetime does not say.
const DNS_REFRESH_SECONDS: i64 = 60;
/// How long an unused connection to a server that the mesh does not know is kept.
const PASSTHROUGH_IDLE_SECONDS: i64 = 300;

/// All that an outbound cluster is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OutboundKey {
    pub(crate) service: Shared<Service>,
    pub(crate) port: u16,
    /// Empty for the whole service.
    pub(crate) subset: String,
    pub(crate) rules: Vec<Rule>,
    pub(crate) mesh: Shared<MeshConfig>,
    /// SPIFFE names of those who serve it.
    pub(crate) accounts: Arc<[String]>,
    /// For clusters that carry their endpoints themselves (those resolved by name).
    pub(crate) endpoints: Option<Shared<[Endpoint]>>,
    /// For the same: how the client's place decides, where it does.
    pub(crate) placement: Option<Placement>,
    /// Bytes of the mesh's TLS go on as they are: the name is what clients ask for.
    pub(crate) passes_on: bool,
    /// A router has no original destination to go to.
    pub(crate) router: bool,
    /// The credential that a gateway shows where a policy for backends asks for TLS; empty for none.
    pub(crate) client_certificate: String,
    /// The families of the client's addresses.
    pub(crate) families: Families,
    /// Where the client chooses the endpoint: all that there are take the mesh's TLS.
    pub(crate) all_take_tls: bool,
}

impl OutboundKey {
    pub(crate) fn name(&self) -> ClusterName {
        ClusterName::outbound(self.port, &self.subset, self.service.hostname.as_str())
    }

    fn protocol(&self) -> Protocol {
        if self.is_for_datagrams() {
            return Protocol::Udp;
        }
        let port = self.service.port(self.port);
        port.map_or(Protocol::Tcp, |port| port.protocol)
    }

    /// What is spoken to. A client's HTTP/2 ends at a gateway, and says nothing of what the server takes:
    /// as Istio's, it speaks HTTP/1.1 to ports that do not say what they are.
    fn spoken(&self) -> settings::Spoken {
        settings::Spoken {
            protocol: self.protocol(),
            follows_clients: !self.router,
        }
    }

    fn is_for_datagrams(&self) -> bool {
        self.subset == names::DATAGRAMS
    }

    pub(crate) fn generate(&self) -> Cluster {
        let policy = Policy::of(&self.rules, self.port, &self.subset).or_of(&self.mesh);
        let mut cluster = Cluster {
            name: self.resource_name(),
            connect_timeout: Some(wire::duration(self.mesh.connect_timeout())),
            metadata: Some(self.metadata()),
            ..Cluster::default()
        };
        self.discovery(&mut cluster);
        settings::apply(&mut cluster, &policy, self.spoken(), &self.mesh);
        match place::setting(&policy, self.service.distribution, &self.mesh) {
            Some(Setting::Zones(setting)) => settings::know_zones(&mut cluster, setting),
            Some(Setting::Locality(setting)) if !setting.distribute.is_empty() => {
                settings::weigh_localities(&mut cluster);
            }
            _ => {}
        }
        // Nothing secures datagrams, and none begins anything.
        if self.is_for_datagrams() {
            return cluster;
        }
        if !self.passes_on {
            transport::apply(&mut cluster, self, &policy);
        }
        if let Some(settings) = policy.proxy_protocol {
            transport::name_clients(&mut cluster, settings.version);
        }
        cluster
    }

    fn resource_name(&self) -> String {
        let name = self.name();
        if self.passes_on {
            name.sni()
        } else {
            name.to_string()
        }
    }

    #[expect(
        deprecated,
        reason = "Envoy's newer form is a cluster type that older proxies do not know"
    )]
    fn discovery(&self, cluster: &mut Cluster) {
        if self.service.resolution == Resolution::DynamicDns {
            return dynamic::make(cluster, &self.mesh);
        }
        let discovery = discovery_type(&self.service, self.router);
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(discovery.into()));
        match discovery {
            DiscoveryType::Eds => {
                cluster.eds_cluster_config = Some(EdsClusterConfig {
                    eds_config: Some(wire::ads()),
                    // The cluster's own name, which is the default.
                    service_name: cluster.name.clone(),
                });
            }
            DiscoveryType::OriginalDst => {
                cluster.lb_policy = LbPolicy::ClusterProvided.into();
            }
            DiscoveryType::StrictDns | DiscoveryType::LogicalDns | DiscoveryType::Static => {
                cluster.dns_lookup_family = self.families.lookup().into();
                let refresh = self.mesh.dns_refresh_rate.map(wire::duration);
                cluster.dns_refresh_rate = refresh.or(wire::seconds(DNS_REFRESH_SECONDS));
                cluster.respect_dns_ttl = true;
                cluster.load_assignment = Some(self.load_assignment());
            }
        }
    }

    /// Whether the cluster can be: one that is resolved by name and has none is refused by Envoy,
    /// or never leads anywhere.
    pub(crate) fn is_servable(&self) -> bool {
        match discovery_type(&self.service, self.router) {
            // Whoever asks for one names it.
            _ if self.service.resolution == Resolution::DynamicDns => true,
            DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
                !self.load_assignment().endpoints.is_empty()
            }
            _ => true,
        }
    }

    fn load_assignment(&self) -> ClusterLoadAssignment {
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        let labels = crate::policy::find_subset(&self.rules, &self.subset).map(|s| &s.labels);
        let name = self.resource_name();
        let placement = self.placement.as_ref();
        let way = (self.families, None);
        let mut assignment =
            endpoint::load_assignment(name, endpoints, labels, placement, way, |_| true);
        if discovery_type(&self.service, self.router) == DiscoveryType::LogicalDns {
            // One name, says Envoy, and refuses more.
            assignment.endpoints.truncate(1);
            for place in &mut assignment.endpoints {
                place.lb_endpoints.truncate(1);
            }
        }
        assignment
    }

    /// What telemetry calls this destination.
    fn metadata(&self) -> Metadata {
        let service = wire::record([
            ("host", wire::text(self.service.hostname.as_str())),
            ("name", wire::text(&self.service.name)),
            ("namespace", wire::text(self.service.namespace.as_str())),
        ]);
        let mut istio = vec![("services", wire::list(vec![wire::structure(service)]))];
        if let Some(rule) = self.rules.first() {
            let config = format!(
                "/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}",
                rule.meta.namespace, rule.meta.name
            );
            istio.push(("config", wire::text(config)));
        }
        if !self.subset.is_empty() && !self.is_for_datagrams() {
            istio.push(("subset", wire::text(&self.subset)));
        }
        wire::metadata([("istio", wire::record(istio))])
    }
}

/// How a cluster of a service finds its endpoints.
pub(crate) fn discovery_type(service: &Service, router: bool) -> DiscoveryType {
    match service.resolution {
        Resolution::ClientSide => DiscoveryType::Eds,
        Resolution::Passthrough | Resolution::None if router => DiscoveryType::Eds,
        Resolution::Passthrough | Resolution::None => DiscoveryType::OriginalDst,
        Resolution::Dns => DiscoveryType::StrictDns,
        Resolution::DnsRoundRobin | Resolution::DynamicDns => DiscoveryType::LogicalDns,
    }
}

/// Whether connections go to the address that the client chose.
pub(crate) fn goes_where_asked(service: &Service, router: bool, policy: &Policy<'_>) -> bool {
    let wish = policy.load_balancer.and_then(|lb| lb.simple);
    discovery_type(service, router) == DiscoveryType::OriginalDst
        || wish == Some(SimpleLb::Passthrough)
}

/// The cluster that drops everything.
pub(crate) fn black_hole(mesh: &MeshConfig) -> Cluster {
    special(names::BLACK_HOLE_CLUSTER, DiscoveryType::Static, mesh)
}

/// The cluster that goes where the client was going.
pub(crate) fn passthrough(mesh: &MeshConfig) -> Cluster {
    let name = names::PASSTHROUGH_CLUSTER;
    let mut cluster = special(name, DiscoveryType::OriginalDst, mesh);
    cluster.lb_policy = LbPolicy::ClusterProvided.into();
    let pool = passthrough_pool();
    let policy = Policy {
        connection_pool: Some(&pool),
        ..Policy::default()
    };
    settings::apply(&mut cluster, &policy, Protocol::Unsupported.into(), mesh);
    cluster
}

/// The cluster that goes where the client says by name.
pub(crate) fn by_name(mesh: &MeshConfig) -> Cluster {
    let mut cluster = Cluster {
        name: names::DYNAMIC_DNS_CLUSTER.into(),
        connect_timeout: Some(wire::duration(mesh.connect_timeout())),
        ..Cluster::default()
    };
    dynamic::make(&mut cluster, mesh);
    let pool = passthrough_pool();
    let policy = Policy {
        connection_pool: Some(&pool),
        ..Policy::default()
    };
    settings::apply(&mut cluster, &policy, Protocol::Http.into(), mesh);
    cluster
}

/// Nobody says how long connections to unknown servers are of use.
fn passthrough_pool() -> ConnectionPoolSettings {
    ConnectionPoolSettings {
        http: Some(HttpSettings {
            idle_timeout: Some(Duration::from_secs(PASSTHROUGH_IDLE_SECONDS)),
            ..HttpSettings::default()
        }),
        ..ConnectionPoolSettings::default()
    }
}

fn special(name: &str, discovery: DiscoveryType, mesh: &MeshConfig) -> Cluster {
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: Some(wire::duration(mesh.connect_timeout())),
        ..Cluster::default()
    }
}
