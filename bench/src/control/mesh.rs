//! A mesh of any size, made of nothing but its numbers, so that the control plane and the clients, which
//! are different processes, agree about it; and changes that clients can recognise.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use lateen_api::Object;
use lateen_core::{Hostname, Labels, Locality, Protocol, ServiceId};
use lateen_galley::ConfigSet;
use lateen_registry::{
    Endpoint, EndpointKey, Namespace, Provider, Resolution, Service, ServicePort, TargetPort,
    Workload, WorkloadOwner, World,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const DOMAIN: &str = "cluster.local";
/// Services in one namespace.
const NAMESPACE: usize = 20;
/// Every service of so many speaks plain TCP and so has a listener of its own.
const TCP: usize = 10;
/// Every service of so many has a VirtualService, and a DestinationRule with two subsets.
const RULES: usize = 10;
/// Pods behind a service that few proxies are for.
const PODS: usize = 2;
const FIRST_PORT: usize = 8000;
/// Where endpoints go that were changed: the last two bytes are the number of the change.
pub(super) const MARKED_NETWORK: &str = "10.250.";
/// A header with the number of the change behind it.
pub(super) const MARKED_VALUE: &str = "lateen-bench-change-";

/// How large a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(super) struct Size {
    /// Services, each with two pods or more
    #[arg(long, default_value_t = 1000)]
    pub(super) services: usize,
    /// Connected sidecars; all see all services
    #[arg(long, default_value_t = 5000)]
    pub(super) proxies: usize,
    /// Ports that HTTP services are spread over: each is a route table
    #[arg(long, default_value_t = 1)]
    pub(super) ports: usize,
}

/// A pod, of which the first are those with a connected proxy.
#[derive(Debug)]
pub(super) struct Pod {
    service: usize,
    number: usize,
}

impl Size {
    fn pods(self) -> usize {
        self.proxies.max(self.services * PODS)
    }

    pub(super) fn pod(self, number: usize) -> Pod {
        Pod {
            service: number % self.services,
            number,
        }
    }
}

impl Pod {
    fn address(&self) -> Ipv4Addr {
        address([10, 1, 0, 0], self.number)
    }

    fn app(&self) -> String {
        app(self.service)
    }

    fn version(&self, size: Size) -> &'static str {
        ["v1", "v2"][self.number / size.services % 2]
    }

    fn name(&self, size: Size) -> String {
        let (app, version) = (self.app(), self.version(size));
        format!("{app}-{version}-7c9d8b6f5-{:05}", self.number)
    }

    fn labels(&self, size: Size) -> Labels {
        let app = self.app();
        [
            ("app", app.as_str()),
            ("version", self.version(size)),
            ("pod-template-hash", "7c9d8b6f5"),
        ]
        .into_iter()
        .collect()
    }

    /// What its proxy says of itself.
    pub(super) fn node(&self, size: Size, ours: bool) -> Value {
        let (name, namespace) = (self.name(size), namespace(self.service));
        let (address, app) = (self.address(), self.app());
        let mut metadata = json!({
            "NAME": name,
            "NAMESPACE": namespace,
            "SERVICE_ACCOUNT": app,
            "INSTANCE_IPS": address.to_string(),
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": DOMAIN,
            "WORKLOAD_NAME": format!("{app}-{}", self.version(size)),
            "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{app}"),
            "LABELS": {
                "app": app,
                "version": self.version(size),
                "pod-template-hash": "7c9d8b6f5",
            },
            "ANNOTATIONS": {"prometheus.io/scrape": "true", "prometheus.io/port": "15020"},
            "PROXY_CONFIG": {"discoveryAddress": "istiod.istio-system.svc:15012", "concurrency": 2},
            "ISTIO_VERSION": "1.27.0",
            "ENVOY_STATUS_PORT": 15021,
            "ENVOY_PROMETHEUS_PORT": 15090,
        });
        if ours {
            metadata["LATEEN_VIRTUAL_HOSTS"] = "true".into();
            metadata["LATEEN_VERSION"] = env!("CARGO_PKG_VERSION").into();
        }
        json!({
            "id": format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.{DOMAIN}"),
            "cluster": format!("{app}.{namespace}"),
            "metadata": metadata,
        })
    }

    fn workload(&self, size: Size) -> Workload {
        let (app, version) = (self.app(), self.version(size));
        Workload {
            name: self.name(size),
            namespace: namespace(self.service),
            ips: vec![self.address().into()],
            labels: self.labels(size),
            annotations: BTreeMap::new(),
            service_account: app.clone(),
            node: "node".into(),
            locality: Locality::default(),
            ports: BTreeMap::new(),
            owner: Some(WorkloadOwner {
                kind: "Deployment".into(),
                name: format!("{app}-{version}"),
            }),
            mtls: true,
            ready: true,
        }
    }

    fn endpoint(&self, size: Size) -> Endpoint {
        let (app, version) = (self.app(), self.version(size));
        Endpoint {
            address: self.address().to_string(),
            port: 8080,
            labels: self.labels(size),
            namespace: namespace(self.service),
            workload_name: format!("{app}-{version}"),
            service_account: app,
            locality: Locality::default(),
            mtls: true,
            weight: 1,
            ready: true,
            network: String::new(),
            node: Default::default(),
        }
    }
}

fn app(service: usize) -> String {
    format!("service-{service:05}")
}

fn namespace(service: usize) -> String {
    format!("team-{:03}", service / NAMESPACE)
}

fn hostname(service: usize) -> Hostname {
    Hostname::service(&app(service), &namespace(service), DOMAIN)
}

fn is_tcp(service: usize) -> bool {
    service % TCP == TCP - 1
}

fn address(from: [u8; 4], number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from_be_bytes(from).saturating_add(number))
}

/// The services and the configuration, which change.
#[derive(Debug)]
pub(super) struct Mesh {
    size: Size,
    pub(super) world: Arc<World>,
    pub(super) config: Arc<ConfigSet>,
    changes: u32,
}

impl Mesh {
    pub(super) fn new(size: Size) -> Result<Self> {
        let mut config = ConfigSet::default();
        for service in (0..size.services).step_by(RULES) {
            let rules = &mut config.destination_rules;
            rules.push(object(&destination_rule(service))?);
            let services = &mut config.virtual_services;
            services.push(object(&virtual_service(service, 0))?);
        }
        Ok(Mesh {
            size,
            world: Arc::new(world(size)),
            config: Arc::new(config),
            changes: 0,
        })
    }

    /// One pod of a service gets another address. The number of the change.
    pub(super) fn move_endpoint(&mut self) -> Result<u32> {
        self.changes += 1;
        // Not always the same service, and one without rules.
        let service = self.changes as usize * RULES % self.size.services + 1;
        let service = service.min(self.size.services - 1);
        let [.., high, low] = self.changes.to_be_bytes();
        let mut world = World::clone(&self.world);
        let key = EndpointKey::new(id(service), port(self.size, service).name);
        let endpoints = world.endpoints.get_mut(&key);
        let endpoints = endpoints.context("every service has endpoints")?;
        let mut list = endpoints.to_vec();
        list[0].address = format!("{MARKED_NETWORK}{high}.{low}");
        *endpoints = list.into();
        self.world = Arc::new(world);
        Ok(self.changes)
    }

    /// One VirtualService sets another header. The number of the change.
    pub(super) fn change_route(&mut self) -> Result<u32> {
        self.changes += 1;
        let mut config = ConfigSet::clone(&self.config);
        let nth = self.changes as usize % config.virtual_services.len();
        config.virtual_services[nth] = object(&virtual_service(nth * RULES, self.changes))?;
        self.config = Arc::new(config);
        Ok(self.changes)
    }
}

fn port(size: Size, service: usize) -> ServicePort {
    let (name, number, protocol) = if is_tcp(service) {
        ("tcp", 3306, Protocol::Tcp)
    } else {
        let number = FIRST_PORT + service % size.ports;
        ("http", number, Protocol::Http)
    };
    ServicePort {
        name: name.into(),
        port: u16::try_from(number).unwrap_or(u16::MAX),
        target_port: TargetPort::Number(8080),
        protocol,
    }
}

fn id(service: usize) -> ServiceId {
    ServiceId {
        hostname: hostname(service),
        namespace: namespace(service).into(),
    }
}

fn world(size: Size) -> World {
    let mut world = World::default();
    let mut endpoints: Vec<Vec<Endpoint>> = vec![Vec::new(); size.services];
    for number in 0..size.pods() {
        let pod = size.pod(number);
        endpoints[pod.service].push(pod.endpoint(size));
        let workload = Arc::new(pod.workload(size));
        world.workloads_by_ip.insert(pod.address().into(), workload);
    }
    for (number, endpoints) in endpoints.into_iter().enumerate() {
        let port = port(size, number);
        let key = EndpointKey::new(id(number), &port.name);
        world.endpoints.insert(key, endpoints.into());
        let labels: Labels = [("app", app(number))].into_iter().collect();
        let service = Service {
            hostname: hostname(number),
            provider: Provider::Kubernetes,
            name: app(number),
            namespace: namespace(number).into(),
            addresses: vec![address([10, 96, 0, 10], number).into()],
            address_ranges: Vec::new(),
            ports: vec![port],
            resolution: Resolution::ClientSide,
            external: false,
            labels: labels.clone(),
            selector: labels,
            created: None,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            external_name: None,
            load_balancer: Vec::new(),
            distribution: None,
            allocated: Vec::new(),
        };
        world.services.insert(id(number), Arc::new(service));
        let name = namespace(number);
        if !world.namespaces.contains_key(&name) {
            let namespace = Namespace {
                name: name.clone(),
                labels: Labels::new(),
            };
            world.namespaces.insert(name, Arc::new(namespace));
        }
    }
    world
}

fn object<T: serde::de::DeserializeOwned>(value: &Value) -> Result<Arc<Object<T>>> {
    Ok(Arc::new(Object::from_value(value)?))
}

fn destination_rule(service: usize) -> Value {
    json!({
        "metadata": {"name": app(service), "namespace": namespace(service)},
        "spec": {
            "host": hostname(service).as_str(),
            "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}},
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"}},
                {"name": "v2", "labels": {"version": "v2"}},
            ],
        },
    })
}

fn virtual_service(service: usize, change: u32) -> Value {
    let host = hostname(service);
    let to = |subset: &str| json!({"host": host.as_str(), "subset": subset});
    json!({
        "metadata": {"name": app(service), "namespace": namespace(service)},
        "spec": {
            "hosts": [host.as_str()],
            "http": [
                {
                    "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                    "route": [{"destination": to("v2")}],
                },
                {
                    "headers": {"response": {"set": {"x-change": format!("{MARKED_VALUE}{change:05}")}}},
                    "route": [
                        {"destination": to("v1"), "weight": 90},
                        {"destination": to("v2"), "weight": 10},
                    ],
                },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_has_its_size_and_its_changes_are_numbered() {
        let size = Size {
            services: 40,
            proxies: 100,
            ports: 2,
        };
        let mut mesh = Mesh::new(size).expect("valid");
        assert_eq!(mesh.world.services.len(), 40);
        assert_eq!(mesh.world.endpoints.len(), 40);
        assert_eq!(mesh.world.workloads_by_ip.len(), 100);
        assert_eq!(mesh.config.virtual_services.len(), 4);
        let before = mesh.world.clone();
        assert_eq!(mesh.move_endpoint().expect("there are"), 1);
        let changed = before.endpoints.values().zip(mesh.world.endpoints.values());
        assert_eq!(changed.filter(|(a, b)| a != b).count(), 1);
        let before = mesh.config.clone();
        assert_eq!(mesh.change_route().expect("there are"), 2);
        let changed = before.virtual_services.iter();
        let changed = changed.zip(&mesh.config.virtual_services);
        assert_eq!(changed.filter(|(a, b)| a != b).count(), 1);
    }
}
