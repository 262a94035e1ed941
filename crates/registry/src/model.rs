//! What the rest of the control plane sees of the platforms.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use arcstr::ArcStr;
use ipnet::IpNet;
use jiff::Timestamp;
use lateen_core::{Hostname, Labels, Locality, Protocol, ServiceId};

use crate::SharedMap;

/// Everything that is known about services and workloads at one moment. Unchanged parts are shared
/// between one world and the next, so that comparing pointers finds what changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Services. Those of one host name stand side by side.
    pub services: SharedMap<ServiceId, Arc<Service>>,
    /// Endpoints by service and port. A service port without endpoints has no entry.
    pub endpoints: SharedMap<EndpointKey, Arc<[Endpoint]>>,
    /// Pods and workload entries by each of their addresses.
    pub workloads_by_ip: SharedMap<IpAddr, Arc<Workload>>,
    /// Namespaces by name.
    pub namespaces: SharedMap<String, Arc<Namespace>>,
    /// Nodes by name.
    pub nodes: SharedMap<String, Arc<Node>>,
}

/// Names the endpoints of one port of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The service.
    pub service: ServiceId,
    /// The service port's name, as in [`ServicePort::name`].
    pub port_name: ArcStr,
}

impl EndpointKey {
    /// The key of a port of a service.
    pub fn new(service: ServiceId, port_name: impl AsRef<str>) -> Self {
        Self {
            service,
            port_name: ArcStr::from(port_name.as_ref()),
        }
    }
}

/// A named thing that can be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Full host name.
    pub hostname: Hostname,
    /// Name on the platform.
    pub name: String,
    /// Namespace on the platform.
    pub namespace: ArcStr,
    /// Which kind of source told of it.
    pub provider: Provider,
    /// Virtual addresses; empty where there are none (headless).
    pub addresses: Vec<IpAddr>,
    /// Virtual address ranges, which only a ServiceEntry can have.
    pub address_ranges: Vec<IpNet>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// How clients get from the name to an endpoint.
    pub resolution: Resolution,
    /// Not a part of the mesh: no sidecar is expected.
    pub external: bool,
    /// Labels.
    pub labels: Labels,
    /// Labels of the pods that serve it; empty for what is not selected by label.
    pub selector: Labels,
    /// When it was made; the older wins where two compete.
    pub created: Option<Timestamp>,
    /// Namespaces that see it; empty is the mesh default. `*` is all and `.` its own.
    pub export_to: Vec<String>,
    /// Identities that may serve it beside those of its endpoints.
    pub subject_alt_names: Vec<String>,
    /// For an ExternalName service, the name it stands for.
    pub external_name: Option<String>,
    /// Addresses of its load balancer, for gateways' status.
    pub load_balancer: Vec<String>,
    /// Which endpoints clients prefer; `None` leaves it to rules and the mesh.
    pub distribution: Option<TrafficDistribution>,
    /// Addresses that a ServiceEntry without any was given, the IPv4 one first. Clients know of them
    /// only where their names are resolved by the mesh.
    pub allocated: Vec<IpAddr>,
}

/// Which endpoints of a service its clients prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficDistribution {
    /// The nearest by network, region, zone and sub-zone (`PreferClose`, `PreferSameZone`).
    SameZone,
    /// The same, and of those first the ones on the client's node (`PreferSameNode`).
    SameNode,
}

impl TrafficDistribution {
    /// Reads the value of the field, or of the annotation; `None` for others.
    pub fn parse(value: &str) -> Option<TrafficDistribution> {
        match value {
            "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::SameZone),
            "PreferSameNode" => Some(TrafficDistribution::SameNode),
            _ => None,
        }
    }
}

/// Which kind of source told of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// A Service of Kubernetes.
    Kubernetes,
    /// A ServiceEntry.
    ServiceEntry,
    /// Consul's catalogue.
    Consul,
}

impl Service {
    /// What names it.
    pub fn id(&self) -> ServiceId {
        ServiceId {
            hostname: self.hostname.clone(),
            namespace: self.namespace.clone(),
        }
    }

    /// The port with this number, for connections. One for datagrams may have the same number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        let mut ports = self.ports.iter();
        ports.find(|port| port.port == number && port.protocol != Protocol::Udp)
    }

    /// The port with this number, for datagrams.
    pub fn datagram_port(&self, number: u16) -> Option<&ServicePort> {
        let mut ports = self.ports.iter();
        ports.find(|port| port.port == number && port.protocol == Protocol::Udp)
    }

    /// The port with this name.
    pub fn port_named(&self, name: &str) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.name == name)
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; an unnamed port (a service with one port) has the empty name.
    pub name: ArcStr,
    /// Port that clients address.
    pub port: u16,
    /// Port of the workload.
    pub target_port: TargetPort,
    /// What is spoken.
    pub protocol: Protocol,
}

/// Port of the workload behind a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port, which each pod may give another number.
    Name(String),
}

/// How clients get from the name to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// The proxy picks one of the endpoints known.
    ClientSide,
    /// The proxy goes to the address that the client asked for (headless services).
    Passthrough,
    /// The proxy resolves the endpoints' names and uses all answers.
    Dns,
    /// The proxy resolves the endpoints' names and uses the first answer.
    DnsRoundRobin,
    /// The proxy resolves the name that the client asked for.
    DynamicDns,
    /// The proxy goes to the address that the client asked for; no endpoints are known.
    None,
}

/// One address that serves a port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Address, or DNS name where the service's resolution is by DNS. Empty where only its network is
    /// known, by whose gateways it is reached.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Labels of the workload.
    pub labels: Labels,
    /// Service account of the workload; empty when unknown.
    pub service_account: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of what owns the workload (the Deployment, say); empty when unknown.
    pub workload_name: String,
    /// Where it is.
    pub locality: Locality,
    /// It takes the mesh's mutual TLS (`security.istio.io/tlsMode: istio`).
    pub mtls: bool,
    /// Share of traffic relative to its peers; 1 unless given.
    pub weight: u32,
    /// It may be sent traffic.
    pub ready: bool,
    /// Its network; empty is the only one.
    pub network: String,
    /// The node that it is on; empty when unknown.
    pub node: ArcStr,
}

/// Something with an address that runs code: a pod, or a workload entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Name of the pod or entry.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations that the mesh reads.
    pub annotations: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: String,
    /// The node it runs on; empty when it runs on none.
    pub node: String,
    /// Where it is.
    pub locality: Locality,
    /// Container ports by name (unnamed ports are left out).
    pub ports: BTreeMap<String, u16>,
    /// What owns it.
    pub owner: Option<WorkloadOwner>,
    /// It takes the mesh's mutual TLS.
    pub mtls: bool,
    /// It passes its readiness checks.
    pub ready: bool,
}

impl Workload {
    /// Name of the owner, or its own.
    pub fn workload_name(&self) -> &str {
        self.owner.as_ref().map_or(&self.name, |owner| &owner.name)
    }
}

/// What made a workload: a Deployment (never its ReplicaSet), a Job, a StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadOwner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub locality: Locality,
}

impl World {
    /// Endpoints of a port of a service; empty where there are none.
    pub fn endpoints(&self, service: &ServiceId, port_name: &str) -> &[Endpoint] {
        let key = EndpointKey::new(service.clone(), port_name);
        self.endpoints.get(&key).map_or(&[], |endpoints| endpoints)
    }

    /// All services of one host name, whichever namespace they are in.
    pub fn named<'a>(&'a self, hostname: &str) -> impl Iterator<Item = &'a Arc<Service>> + use<'a> {
        let first = ServiceId::new("", hostname);
        let hostname = first.hostname.clone();
        let services = self.services.range(first..);
        services
            .take_while(move |(id, _)| id.hostname == hostname)
            .map(|(_, service)| service)
    }

    /// The workload with this address.
    pub fn workload(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads_by_ip.get(&ip)
    }

    /// Services that a workload serves, with the ports that it serves them on.
    pub fn services_of<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = &'a Arc<Service>> + 'a {
        self.services.values().filter(move |service| {
            service.namespace == workload.namespace
                && !service.selector.is_empty()
                && service.selector.selects(&workload.labels)
        })
    }
}
