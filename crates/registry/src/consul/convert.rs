//! Instances of a catalogue as a service and its endpoints.

use std::collections::BTreeMap;

use arcstr::ArcStr;
use lateen_core::{Hostname, Labels, Locality, Protocol, ServiceId};
use serde::Deserialize;

use crate::{
    Endpoint, EndpointKey, Provider, Resolution, Service, ServicePort, TargetPort,
    external::External,
};

/// The domain of Consul's own DNS.
const DOMAIN: &str = "service.consul";
/// Where instances or their nodes say what is spoken.
const PROTOCOL: &str = "protocol";
/// Where nodes say that they are beyond the mesh.
const EXTERNAL: &str = "external";
/// Where instances name their service account.
const SERVICE_ACCOUNT: &str = "service-account";

/// One entry of `/v1/health/service/NAME`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    node: Node,
    service: Registration,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registration {
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// Empty where the node's is meant.
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

impl Instance {
    fn meta(&self, key: &str) -> Option<&str> {
        let metas = [&self.service.meta, &self.node.meta];
        let mut metas = metas.into_iter().flatten();
        metas.find_map(|meta| meta.get(key)).map(String::as_str)
    }

    fn protocol(&self) -> Protocol {
        let named = self.meta(PROTOCOL).and_then(Protocol::parse);
        named.unwrap_or(Protocol::Tcp)
    }

    /// Tags that are pairs, written `key|value` or `key=value`.
    fn labels(&self) -> Labels {
        let tags = self.service.tags.iter().flatten();
        tags.filter_map(|tag| tag.split_once(['|', '='])).collect()
    }

    fn has(&self, status: &str) -> bool {
        self.checks.iter().any(|check| check.status == status)
    }

    fn weight(&self) -> u32 {
        let weights = self.service.weights.as_ref();
        let weight = weights.map(|weights| match self.has("warning") {
            true => weights.warning,
            false => weights.passing,
        });
        weight.unwrap_or(1).max(1)
    }

    fn endpoint(&self, namespace: &str) -> Endpoint {
        let own = &self.service.address;
        let address = if own.is_empty() {
            &self.node.address
        } else {
            own
        };
        let labels = self.labels();
        Endpoint {
            address: address.clone(),
            port: self.service.port,
            service_account: self.meta(SERVICE_ACCOUNT).unwrap_or_default().to_owned(),
            namespace: namespace.to_owned(),
            workload_name: String::new(),
            locality: Locality {
                region: self.node.datacenter.as_str().into(),
                ..Locality::default()
            },
            mtls: labels.value(lateen_api::labels::TLS_MODE) == Some("istio"),
            weight: self.weight(),
            ready: !self.has("critical") && !self.has("maintenance"),
            network: String::new(),
            node: Default::default(),
            labels,
        }
    }
}

/// The service of that name as its instances make it, with one port for each number that they listen
/// on. `None` without instances that listen on a port.
pub(super) fn external(name: &str, instances: &[Instance], namespace: &ArcStr) -> Option<External> {
    let listening = || {
        instances
            .iter()
            .filter(|instance| instance.service.port > 0)
    };
    let protocols: BTreeMap<u16, Protocol> = listening()
        .map(|instance| (instance.service.port, instance.protocol()))
        .collect();
    let ports: Vec<_> = protocols
        .iter()
        .map(|(port, protocol)| service_port(*port, *protocol, protocols.len()))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let hostname = Hostname::new(format!("{name}.{DOMAIN}"));
    let id = ServiceId::new(namespace, hostname.clone());
    let of_port = |port: &ServicePort| {
        let serving = listening().filter(|instance| instance.service.port == port.port);
        let mut endpoints: Vec<_> = serving.map(|it| it.endpoint(namespace)).collect();
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        (EndpointKey::new(id.clone(), &port.name), endpoints)
    };
    Some(External {
        endpoints: ports.iter().map(of_port).collect(),
        service: Service {
            hostname,
            name: name.to_owned(),
            namespace: namespace.clone(),
            provider: Provider::Consul,
            addresses: Vec::new(),
            address_ranges: Vec::new(),
            ports,
            resolution: Resolution::ClientSide,
            external: instances.iter().all(|it| it.meta(EXTERNAL).is_some()),
            labels: Labels::new(),
            selector: Labels::new(),
            created: None,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            external_name: None,
            load_balancer: Vec::new(),
            distribution: None,
            allocated: Vec::new(),
        },
    })
}

/// A service's only port is called by its protocol, others by protocol and number.
fn service_port(port: u16, protocol: Protocol, n_ports: usize) -> ServicePort {
    let spoken = protocol.to_string().to_ascii_lowercase();
    let name = match n_ports {
        1 => spoken,
        _ => format!("{spoken}-{port}"),
    };
    ServicePort {
        name: name.into(),
        port,
        target_port: TargetPort::Number(port),
        protocol,
    }
}
