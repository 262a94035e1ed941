//! Bookinfo as the registry sees it, and configuration as YAML.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lateen_api::Object;
use lateen_core::{Hostname, Labels, Protocol, ServiceId};
use lateen_galley::ConfigSet;
use lateen_registry::{
    Endpoint, EndpointKey, Provider, Resolution, Service, ServicePort, TargetPort, Workload,
    WorkloadOwner, World,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) const DOMAIN: &str = "cluster.local";

/// A mesh under construction.
#[derive(Default)]
pub(crate) struct Mesh {
    pub(crate) world: World,
    pods: u8,
}

impl Mesh {
    /// Bookinfo, a database, a port of unknown protocol, a headless service, a service outside, and
    /// the ingress gateway.
    pub(crate) fn bookinfo() -> Self {
        let mut mesh = Mesh::default();
        for (i, name) in ["productpage", "details", "reviews", "ratings"]
            .iter()
            .enumerate()
        {
            let address = format!("10.96.0.{}", 20 + i);
            mesh.service(
                name,
                &[address.as_str()],
                &[("http", 9080, 9080, Protocol::Http)],
            );
        }
        for (app, version) in [
            ("productpage", "v1"),
            ("details", "v1"),
            ("reviews", "v1"),
            ("reviews", "v2"),
            ("reviews", "v3"),
            ("ratings", "v1"),
        ] {
            mesh.pod(app, version);
        }
        mesh.service(
            "mysqldb",
            &["10.96.0.40"],
            &[("tcp", 3306, 3306, Protocol::Tcp)],
        );
        mesh.pod("mysqldb", "v1");
        mesh.service(
            "grpc",
            &["10.96.0.41"],
            &[("grpc", 7000, 7000, Protocol::Grpc)],
        );
        mesh.pod("grpc", "v1");
        let unknown = Protocol::Unsupported;
        mesh.service("sniffed", &["10.96.0.42"], &[("foo", 8000, 8000, unknown)]);
        mesh.pod("sniffed", "v1");
        mesh.service(
            "headless",
            &[],
            &[
                ("http", 8888, 8888, Protocol::Http),
                ("tcp", 8889, 8889, Protocol::Tcp),
            ],
        );
        mesh.change("headless", |service| {
            service.resolution = Resolution::Passthrough
        });
        mesh.pod("headless", "v1");
        mesh.service(
            "mixed",
            &["10.96.0.43"],
            &[
                ("http", 80, 8080, Protocol::Http),
                ("tls", 443, 8443, Protocol::Tls),
            ],
        );
        mesh.pod("mixed", "v1");
        mesh.service(
            "istio-ingressgateway.istio-system",
            &["10.96.0.50"],
            &[
                ("http2", 80, 8080, Protocol::Http2),
                ("https", 443, 8443, Protocol::Https),
                ("tcp", 31400, 31400, Protocol::Tcp),
            ],
        );
        mesh.pod("istio-ingressgateway.istio-system", "v1");
        mesh.outside("www.example.com", Resolution::Dns);
        mesh.outside("api.example.org", Resolution::None);
        mesh.outside("any.example.net", Resolution::DynamicDns);
        mesh.service("local", &[], &[("http", 8090, 8090, Protocol::Http)]);
        mesh.at_path("local", "unix:///run/local.sock");
        mesh.service("range", &[], &[("tcp", 5000, 5000, Protocol::Tcp)]);
        mesh.change("range", |service| {
            service.address_ranges = vec!["10.1.0.0/16".parse().expect("a range")];
        });
        mesh
    }

    pub(crate) fn service(
        &mut self,
        name: &str,
        addresses: &[&str],
        ports: &[(&str, u16, u16, Protocol)],
    ) {
        let (name, namespace) = name.split_once('.').unwrap_or((name, "default"));
        let port = |(name, port, target, protocol): &(&str, u16, u16, Protocol)| ServicePort {
            name: (*name).into(),
            port: *port,
            target_port: TargetPort::Number(*target),
            protocol: *protocol,
        };
        let service = Service {
            hostname: Hostname::service(name, namespace, DOMAIN),
            name: name.into(),
            namespace: namespace.into(),
            provider: Provider::Kubernetes,
            addresses: addresses
                .iter()
                .map(|a| a.parse().expect("an address"))
                .collect(),
            address_ranges: Vec::new(),
            ports: ports.iter().map(port).collect(),
            resolution: Resolution::ClientSide,
            external: false,
            labels: Labels::new(),
            selector: [("app", name)].into_iter().collect(),
            created: None,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            external_name: None,
            load_balancer: Vec::new(),
            distribution: None,
            allocated: Vec::new(),
        };
        self.world.services.insert(service.id(), Arc::new(service));
    }

    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        let host = id(name, "default");
        let service = self.world.services.get_mut(&host).expect("a service");
        change(Arc::make_mut(service));
    }

    /// The same again, as a registry that was lost says it: everything equal and nothing the same.
    pub(crate) fn relist(&mut self) {
        let World {
            services,
            endpoints,
            workloads_by_ip,
            ..
        } = &mut self.world;
        *services = services
            .iter()
            .map(|(id, service)| (id.clone(), Arc::new(Service::clone(service))))
            .collect();
        *endpoints = endpoints
            .iter()
            .map(|(key, list)| (key.clone(), list.to_vec().into()))
            .collect();
        *workloads_by_ip = workloads_by_ip
            .iter()
            .map(|(ip, workload)| (*ip, Arc::new(Workload::clone(workload))))
            .collect();
    }

    /// All that is outside goes with its registry, or comes back.
    pub(crate) fn registry_outside(&mut self, is_there: bool) {
        let World {
            services,
            endpoints,
            ..
        } = &mut self.world;
        services.retain(|_, service| !service.external);
        endpoints.retain(|key, _| services.contains_key(&key.service));
        if !is_there {
            return;
        }
        let World {
            services: all,
            endpoints: served,
            ..
        } = Mesh::bookinfo().world;
        let outside = all.iter().filter(|(_, service)| service.external);
        for (id, service) in outside {
            services.insert(id.clone(), service.clone());
        }
        for (key, list) in &served {
            if services.get(&key.service).is_some_and(|s| s.external) {
                endpoints.insert(key.clone(), list.clone());
            }
        }
    }

    /// A service at a socket in the file system.
    fn at_path(&mut self, name: &str, path: &str) {
        let key = EndpointKey::new(id(name, "default"), "http");
        let there = endpoint(path, 0, name, "", "default");
        let there = Endpoint {
            mtls: false,
            ..there
        };
        self.world.endpoints.insert(key, [there].into());
    }

    fn outside(&mut self, host: &str, resolution: Resolution) {
        self.service(
            host,
            &[],
            &[
                ("https", 443, 443, Protocol::Https),
                ("http", 80, 80, Protocol::Http),
            ],
        );
        let (name, namespace) = host.split_once('.').expect("a domain");
        let made = id(name, namespace);
        let service = self.world.services.remove(&made).expect("just made");
        let mut service = Arc::unwrap_or_clone(service);
        service.hostname = Hostname::new(host);
        service.namespace = "default".into();
        service.selector = Labels::new();
        service.external = true;
        service.resolution = resolution;
        let id = service.id();
        if resolution == Resolution::Dns {
            for port in &service.ports {
                let endpoint = endpoint("192.0.2.1", port.port, "", "", "default");
                let endpoint = Endpoint {
                    mtls: false,
                    service_account: String::new(),
                    ..endpoint
                };
                let key = EndpointKey::new(id.clone(), &port.name);
                self.world.endpoints.insert(key, [endpoint].into());
            }
        }
        self.world.services.insert(id, Arc::new(service));
    }

    /// A pod behind the service of its name. Its address.
    pub(crate) fn pod(&mut self, app: &str, version: &str) -> IpAddr {
        let (app, namespace) = app.split_once('.').unwrap_or((app, "default"));
        self.pods += 1;
        let address = format!("10.244.0.{}", self.pods);
        let ip: IpAddr = address.parse().expect("an address");
        let host = id(app, namespace);
        let service = self.world.services.get(&host).expect("a service").clone();
        for port in &service.ports {
            let TargetPort::Number(target) = port.target_port else {
                continue;
            };
            let key = EndpointKey::new(host.clone(), &port.name);
            let known = self.world.endpoints.get(&key).into_iter();
            let more = endpoint(&address, target, app, version, namespace);
            let list = known.flat_map(|list| list.iter().cloned());
            let list = list.chain([more]).collect();
            self.world.endpoints.insert(key, list);
        }
        let workload = Workload {
            name: format!("{app}-{version}-{}", self.pods),
            namespace: namespace.into(),
            ips: vec![ip],
            labels: labels(app, version),
            annotations: BTreeMap::new(),
            service_account: app.into(),
            node: "node".into(),
            locality: lateen_core::Locality::default(),
            ports: BTreeMap::new(),
            owner: Some(WorkloadOwner {
                kind: "Deployment".into(),
                name: format!("{app}-{version}"),
            }),
            mtls: true,
            ready: true,
        };
        self.world.workloads_by_ip.insert(ip, Arc::new(workload));
        ip
    }
}

fn id(name: &str, namespace: &str) -> ServiceId {
    ServiceId::new(namespace, Hostname::service(name, namespace, DOMAIN))
}

fn labels(app: &str, version: &str) -> Labels {
    let mut labels: Labels = [("app", app), ("version", version)].into_iter().collect();
    if app == "istio-ingressgateway" {
        labels.insert("istio".into(), "ingressgateway".into());
    }
    labels
}

fn endpoint(address: &str, port: u16, app: &str, version: &str, namespace: &str) -> Endpoint {
    Endpoint {
        address: address.into(),
        port,
        labels: labels(app, version),
        service_account: app.into(),
        namespace: namespace.into(),
        workload_name: format!("{app}-{version}"),
        locality: lateen_core::Locality::default(),
        mtls: true,
        weight: 1,
        ready: true,
        network: String::new(),
        node: Default::default(),
    }
}

/// The configuration that YAML documents describe.
pub(crate) fn config(yaml: &str) -> ConfigSet {
    let mut config = ConfigSet::default();
    let documents = serde_saphyr::from_multiple::<Value>(yaml).expect("YAML");
    for document in documents.iter().filter(|d| !d.is_null()) {
        match document["kind"].as_str().unwrap_or_default() {
            "VirtualService" => push(&mut config.virtual_services, document),
            "DestinationRule" => push(&mut config.destination_rules, document),
            "Gateway" => push(&mut config.gateways, document),
            "PeerAuthentication" => push(&mut config.peer_authentications, document),
            "Sidecar" => push(&mut config.sidecars, document),
            "EnvoyFilter" => push(&mut config.envoy_filters, document),
            // Services made of these are part of the world, not of this test.
            _ => {}
        }
    }
    config
}

fn push<T: DeserializeOwned>(to: &mut Vec<Arc<Object<T>>>, document: &Value) {
    let mut object =
        Object::<T>::from_value(document).unwrap_or_else(|error| panic!("{error} in {document}"));
    if object.meta.namespace.is_empty() {
        object.meta.namespace = "default".into();
    }
    to.push(Arc::new(object));
}

/// Everything that generators know, in one configuration.
pub(crate) const EVERYTHING: &str = include_str!("everything.yaml");

/// A Sidecar with each of its fields, for the workload `mixed`.
pub(crate) const SIDECAR: &str = include_str!("sidecar.yaml");
