//! What services and their endpoints are at one moment, as the cluster's DNS and its address
//! translation both need it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Changes that come within this time are published once.
const BURST: Duration = Duration::from_millis(5);

/// A service with what serves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterService {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Cluster addresses; empty for headless services.
    pub(crate) addresses: Vec<IpAddr>,
    /// Addresses that the platform's load balancer gave.
    pub(crate) balanced: Vec<IpAddr>,
    /// Addresses that the user named, which may be somebody else's.
    pub(crate) external: Vec<IpAddr>,
    /// What `type: ExternalName` stands for.
    pub(crate) alias: Option<String>,
    /// Whether endpoints that are not ready are named too.
    pub(crate) publish_unready: bool,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) slices: Vec<(Vec<EndpointPort>, Vec<Endpoint>)>,
}

impl ClusterService {
    /// The endpoints of a port, by the port's name: those that are ready.
    pub(crate) fn backends(&self, port: &ServicePort) -> Vec<(IpAddr, u16)> {
        let mut backends = Vec::new();
        for (ports, endpoints) in &self.slices {
            let same = |p: &&EndpointPort| {
                p.name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("")
            };
            let Some(number) = ports
                .iter()
                .find(same)
                .and_then(|p| u16::try_from(p.port?).ok())
            else {
                continue;
            };
            let ready = endpoints.iter().filter(|endpoint| self.serves(endpoint));
            let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
            backends.extend(
                addresses
                    .filter_map(|text| text.parse().ok())
                    .map(|ip: IpAddr| (ip, number)),
            );
        }
        backends.sort();
        backends.dedup();
        backends
    }

    /// Whether an endpoint is ready, or the service does not mind.
    pub(crate) fn serves(&self, endpoint: &Endpoint) -> bool {
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready);
        self.publish_unready || ready.unwrap_or(true)
    }
}

/// Services by namespace and name.
pub(crate) type Services = BTreeMap<(String, String), ClusterService>;

/// Follows the API server for ever. What was known stays while it cannot be reached.
pub(crate) fn follow(client: &Client) -> watch::Receiver<Arc<Services>> {
    let (changed_tx, mut changed_rx) = watch::channel(());
    let services = reflect::<Service>(Api::all(client.clone()), changed_tx.clone());
    let slices = reflect::<EndpointSlice>(Api::all(client.clone()), changed_tx);
    let (world_tx, world_rx) = watch::channel(Arc::new(Services::new()));
    tokio::spawn(async move {
        while changed_rx.changed().await.is_ok() {
            tokio::time::sleep(BURST).await;
            changed_rx.mark_unchanged();
            let now = Arc::new(join(&services.state(), &slices.state()));
            world_tx.send_if_modified(|held| {
                let changed = *held != now;
                *held = now;
                changed
            });
        }
    });
    world_rx
}

fn reflect<K>(api: Api<K>, changed_tx: watch::Sender<()>) -> reflector::Store<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    tokio::spawn(async move {
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(reflector(writer, events));
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    changed_tx.send_replace(());
                }
                Err(error) => tracing::debug!(%error, "a watch broke; it starts again"),
            }
        }
    });
    store
}

fn join(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Services {
    let mut joined: Services = services.iter().map(|service| convert(service)).collect();
    for slice in slices {
        let namespace = slice.namespace().unwrap_or_default();
        let Some(name) = slice.labels().get(SERVICE_NAME) else {
            continue;
        };
        if let Some(service) = joined.get_mut(&(namespace, name.clone())) {
            let ports = slice.ports.clone().unwrap_or_default();
            service
                .slices
                .push((ports, slice.endpoints.clone().unwrap_or_default()));
        }
    }
    joined
}

fn convert(service: &Service) -> ((String, String), ClusterService) {
    let spec = service.spec.clone().unwrap_or_default();
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let parse = |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let balanced = ingress.iter().filter_map(|entry| entry.ip.clone());
    let balanced = balanced.collect();
    let mut addresses = spec.cluster_ips.unwrap_or_default();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip);
    }
    let converted = ClusterService {
        namespace: namespace.clone(),
        name: name.clone(),
        addresses: parse(addresses),
        balanced: parse(balanced),
        external: parse(spec.external_ips.unwrap_or_default()),
        alias: spec
            .external_name
            .filter(|_| spec.type_.as_deref() == Some("ExternalName")),
        publish_unready: spec.publish_not_ready_addresses.unwrap_or(false),
        ports: spec.ports.unwrap_or_default(),
        slices: Vec::new(),
    };
    ((namespace, name), converted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_endpoints_of_the_named_port_serve() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]},
        }))
        .unwrap();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "a-1", "namespace": "n", "labels": {SERVICE_NAME: "a"}},
            "addressType": "IPv4",
            "ports": [{"name": "other", "port": 1}, {"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.244.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": false}},
            ],
        }))
        .unwrap();
        let joined = join(&[Arc::new(service)], &[Arc::new(slice)]);
        let service = &joined[&("n".to_owned(), "a".to_owned())];
        let ip: IpAddr = "10.244.0.2".parse().unwrap();
        assert_eq!(service.backends(&service.ports[0]), [(ip, 8080)]);
    }
}
