//! Serves xDS without a platform, so that clients from elsewhere can be pointed at the control
//! plane: `plane PORT SERVICES.json CONFIG.yaml`. The configuration is read again whenever a line
//! comes on standard input.
//!
//! Services are `[{"name", "namespace", "app", "port", "protocol", "endpoints": [{"address",
//! "port", "labels"}]}]`; `app` is the label of the pods behind it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lateen_api::Object;
use lateen_core::{Hostname, Labels, Locality, Protocol};
use lateen_galley::ConfigSet;
use lateen_pilot::{Anonymous, Discovery, Options};
use lateen_registry::{
    Endpoint, EndpointKey, Provider, Resolution, Service, ServicePort, TargetPort, World,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

const DOMAIN: &str = "cluster.local";

type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct GivenService {
    name: String,
    namespace: String,
    app: String,
    port: u16,
    protocol: String,
    endpoints: Vec<GivenEndpoint>,
}

#[derive(Deserialize)]
struct GivenEndpoint {
    address: String,
    port: u16,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [port, services, config] = args.as_slice() else {
        return Err("usage: plane PORT SERVICES.json CONFIG.yaml".into());
    };
    let services: Vec<GivenService> = serde_json::from_str(&std::fs::read_to_string(services)?)?;
    let (_world_tx, world) = watch::channel(Arc::new(world(services)?));
    let (config_tx, config_rx) = watch::channel(Arc::new(read_config(config)?));
    let discovery = Discovery::new(world, config_rx, Options::default());
    let address: SocketAddr = format!("127.0.0.1:{port}").parse()?;
    let service = discovery.ads_service(Anonymous);
    let server = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(server.serve(address));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        config_tx.send_replace(Arc::new(read_config(config)?));
    }
    serving.abort();
    Ok(())
}

fn world(services: Vec<GivenService>) -> Result<World, Failure> {
    let mut world = World::default();
    for given in services {
        let protocol = Protocol::parse(&given.protocol).ok_or("an unknown protocol")?;
        let labels: Labels = [("app", given.app.as_str())].into_iter().collect();
        let service = Service {
            hostname: Hostname::service(&given.name, &given.namespace, DOMAIN),
            name: given.name.as_str().into(),
            namespace: given.namespace.as_str().into(),
            provider: Provider::Kubernetes,
            addresses: Vec::new(),
            address_ranges: Vec::new(),
            ports: vec![ServicePort {
                name: "grpc".into(),
                port: given.port,
                target_port: TargetPort::Number(given.port),
                protocol,
            }],
            resolution: Resolution::ClientSide,
            external: false,
            labels: labels.clone(),
            selector: labels,
            created: None,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            external_name: None,
            load_balancer: Vec::new(),
            distribution: Default::default(),
            allocated: Default::default(),
        };
        let endpoints = given.endpoints.into_iter().map(|endpoint| Endpoint {
            address: endpoint.address,
            port: endpoint.port,
            labels: endpoint.labels.into_iter().collect(),
            service_account: String::new(),
            namespace: given.namespace.as_str().into(),
            workload_name: given.name.as_str().into(),
            locality: Locality::default(),
            mtls: false,
            weight: 1,
            ready: true,
            network: String::new(),
            node: Default::default(),
        });
        let key = EndpointKey::new(service.id(), "grpc");
        world.endpoints.insert(key, endpoints.collect());
        world.services.insert(service.id(), Arc::new(service));
    }
    Ok(world)
}

fn read_config(file: &str) -> Result<ConfigSet, Failure> {
    let text = std::fs::read_to_string(file)?;
    let mut config = ConfigSet::default();
    for document in serde_saphyr::from_multiple::<Value>(&text)? {
        match document["kind"].as_str() {
            Some("VirtualService") => config.virtual_services.push(object(&document)?),
            Some("DestinationRule") => config.destination_rules.push(object(&document)?),
            Some("PeerAuthentication") => config.peer_authentications.push(object(&document)?),
            None if document.is_null() => {}
            other => return Err(format!("kind {other:?} is not read here").into()),
        }
    }
    Ok(config)
}

fn object<T: DeserializeOwned>(document: &Value) -> Result<Arc<Object<T>>, Failure> {
    Ok(Arc::new(Object::from_value(document)?))
}
