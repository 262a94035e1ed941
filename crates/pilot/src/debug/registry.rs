//! Pages about services, endpoints and what proxies see of them. Where Istio gives its own structures
//! to the encoder of Go, keys are the names of their fields.

use std::collections::BTreeMap;

use lateen_core::Labels;
use lateen_registry::{Endpoint, EndpointKey, Provider, Resolution, Service, ServicePort};
use serde_json::{Map, Value, json};

use super::{Answer, Ask, Page};
use crate::engine::Vantage;
use crate::model::Gateway;
use crate::view::View;

/// An empty list, of what does not exist here.
pub(super) fn none(_: &Ask<'_>) -> Answer {
    super::empty()
}

/// By which gateways networks are reached.
pub(super) fn networkz(ask: &Ask<'_>) -> Answer {
    let networks = ask.snapshot.networks().gateways();
    let all = networks.flat_map(|(network, gateways)| {
        gateways
            .iter()
            .map(move |gateway| network_gateway(ask, network, gateway))
    });
    Ok(Page::Json(all.collect()))
}

pub(super) fn network_gateway(ask: &Ask<'_>, network: &str, of: &Gateway) -> Value {
    json!({
        "Network": network,
        "Cluster": cluster(ask),
        "Addr": of.address,
        "Port": of.port,
        "HBONEPort": 0,
        "ServiceAccount": {"Namespace": "", "Name": ""},
    })
}

pub(super) fn registryz(ask: &Ask<'_>) -> Answer {
    let services = ask.snapshot.world.services.values();
    Ok(Page::Json(services.map(|of| service(ask, of)).collect()))
}

fn provider(service: &Service) -> &'static str {
    match service.provider {
        Provider::Kubernetes => "Kubernetes",
        Provider::ServiceEntry => "External",
        Provider::Consul => "Consul",
    }
}

fn port(port: &ServicePort) -> Value {
    json!({"name": port.name.as_str(), "port": port.port, "protocol": port.protocol.to_string()})
}

/// Istio numbers them.
fn resolution(of: Resolution) -> u8 {
    match of {
        Resolution::ClientSide => 0,
        Resolution::Dns => 1,
        Resolution::None | Resolution::Passthrough => 2,
        Resolution::DnsRoundRobin => 3,
        Resolution::DynamicDns => 5,
    }
}

/// Keys of the addresses that a service was given, which are left out where there are none.
const ALLOCATED: [&str; 2] = ["autoAllocatedIPv4Address", "autoAllocatedIPv6Address"];

fn service(ask: &Ask<'_>, of: &Service) -> Value {
    let export_to: Map<_, _> = of
        .export_to
        .iter()
        .map(|to| (to.clone(), json!(true)))
        .collect();
    let addresses: Vec<_> = of.addresses.iter().map(ToString::to_string).collect();
    let mut page = json!({
        "Attributes": {
            "ServiceRegistry": provider(of),
            "Name": of.name,
            "Namespace": of.namespace.as_str(),
            "Labels": of.labels,
            "ExportTo": export_to,
            "LabelSelectors": of.selector,
            "ClusterExternalAddresses": {"Addresses": {cluster(ask): of.load_balancer}},
        },
        "ports": of.ports.iter().map(port).collect::<Vec<_>>(),
        "creationTime": of.created.map(|at| at.to_string()),
        "hostname": of.hostname.as_str(),
        "clusterVIPs": {"Addresses": {cluster(ask): addresses}},
        "defaultAddress": addresses.first().map_or("0.0.0.0", String::as_str),
        "Resolution": resolution(of.resolution),
        "MeshExternal": of.external,
    });
    for (key, address) in ALLOCATED.into_iter().zip(&of.allocated) {
        page[key] = json!(format!("{address}"));
    }
    page
}

fn cluster<'a>(ask: &'a Ask<'_>) -> &'a str {
    &ask.discovery.core.settings.cluster_id
}

fn endpoint(ask: &Ask<'_>, key: &EndpointKey, of: &Endpoint) -> Value {
    json!({
        "Addresses": [of.address],
        "EndpointPort": of.port,
        "ServicePortName": key.port_name.as_str(),
        "Labels": of.labels,
        "ServiceAccount": of.service_account,
        "Namespace": of.namespace,
        "WorkloadName": of.workload_name,
        "Network": of.network,
        "Locality": {"Label": of.locality.to_string(), "ClusterID": cluster(ask)},
        "LbWeight": of.weight,
        "TLSMode": if of.mtls { "istio" } else { "disabled" },
        // Istio's numbers: healthy, unhealthy.
        "HealthStatus": if of.ready { 1 } else { 2 },
    })
}

/// Each port of each service with its endpoints.
fn ports<'a>(
    ask: &'a Ask<'_>,
) -> impl Iterator<Item = (&'a Service, &'a ServicePort, EndpointKey, &'a [Endpoint])> {
    let world = &*ask.snapshot.world;
    world.services.iter().flat_map(move |(id, service)| {
        service.ports.iter().map(move |port| {
            let key = EndpointKey::new(id.clone(), &port.name);
            let endpoints = world.endpoints.get(&key).map_or(&[][..], |all| &all[..]);
            (&**service, port, key, endpoints)
        })
    })
}

pub(super) fn endpointz(ask: &Ask<'_>) -> Answer {
    if ask.is_set("brief") {
        let mut text = String::new();
        for (service, port, _, endpoints) in ports(ask) {
            for of in endpoints {
                text += &format!(
                    "{}:{} {}:{} {} {}\n",
                    service.hostname,
                    port.name,
                    of.address,
                    of.port,
                    in_go(&of.labels),
                    of.service_account
                );
            }
        }
        return Ok(Page::Text(text));
    }
    let all = ports(ask).map(|(of, its_port, key, endpoints)| {
        let instance = |one: &Endpoint| {
            json!({
                "service": service(ask, of),
                "servicePort": port(its_port),
                "endpoint": endpoint(ask, &key, one),
            })
        };
        json!({
            "svc": format!("{}:{}", of.hostname, its_port.name),
            "ep": endpoints.iter().map(instance).collect::<Vec<_>>(),
        })
    });
    Ok(Page::Json(all.collect()))
}

/// `map[a:b c:d]`, as Go prints one.
fn in_go(labels: &Labels) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    format!("map[{}]", pairs.join(" "))
}

/// Endpoints, and the accounts that they run as.
type Shard<'a> = (Vec<Value>, BTreeMap<&'a str, Value>);

pub(super) fn endpoint_shardz(ask: &Ask<'_>) -> Answer {
    let mut all: BTreeMap<&str, BTreeMap<&str, Shard<'_>>> = BTreeMap::new();
    let mut providers = BTreeMap::new();
    for (service, _, key, endpoints) in ports(ask) {
        let of_host = all.entry(&service.hostname).or_default();
        let (found, accounts) = of_host.entry(&service.namespace).or_default();
        found.extend(endpoints.iter().map(|one| endpoint(ask, &key, one)));
        let named = endpoints
            .iter()
            .filter(|one| !one.service_account.is_empty());
        accounts.extend(named.map(|one| (one.service_account.as_str(), json!({}))));
        providers.insert(&*service.hostname, provider(service));
    }
    let page = all.into_iter().map(|(host, of_host)| {
        let shard = format!("{}/{}", providers[host], cluster(ask));
        let of_host = of_host
            .into_iter()
            .map(|(namespace, (endpoints, accounts))| {
                let shards = json!({"Shards": {&*shard: endpoints}, "ServiceAccounts": accounts});
                (namespace.to_owned(), shards)
            });
        (host.to_owned(), Value::Object(of_host.collect()))
    });
    Ok(Page::Json(Value::Object(page.collect())))
}

pub(super) fn instancesz(ask: &Ask<'_>) -> Answer {
    let connections = ask.discovery.proxies();
    let all = connections.iter().map(|connection| {
        let proxy = &connection.client.proxy;
        let address = proxy.ip.to_string();
        let own = ports(ask).flat_map(|(of, its_port, key, endpoints)| {
            let at_address = endpoints.iter().filter(|one| one.address == address);
            let instance = |one: &Endpoint| {
                json!({
                    "service": service(ask, of),
                    "servicePort": port(its_port),
                    "endpoint": endpoint(ask, &key, one),
                })
            };
            at_address.map(instance).collect::<Vec<_>>()
        });
        (proxy.id.clone(), own.collect())
    });
    Ok(Page::Json(Value::Object(all.collect())))
}

pub(super) fn sidecarz(ask: &Ask<'_>) -> Answer {
    let connection = ask.proxy()?;
    let proxy = &connection.client.proxy;
    let snapshot = &ask.snapshot;
    let config = &snapshot.config;
    let vantage = Vantage::of_node(proxy).outbound(snapshot);
    let services = View::new(snapshot, &vantage).services();
    let services: Vec<_> = services.into_iter().map(|of| service(ask, of)).collect();
    let own = vantage.sidecar.as_deref();
    let policy = own.and_then(|own| own.spec.outbound_traffic_policy.as_ref());
    let policy = policy.map_or(json!(config.mesh.outbound_traffic_policy), |own| json!(own));
    let rules = config.destination_rules.iter().filter(|rule| {
        let default = &config.mesh.default_destination_rule_export_to;
        let (export_to, of) = (&rule.spec.export_to, &rule.meta.namespace);
        crate::snapshot::is_visible(export_to, default, of, &proxy.namespace)
    });
    let mut by_host: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for rule in rules {
        let host =
            crate::snapshot::full_host(&rule.spec.host, &rule.meta.namespace, &snapshot.domain);
        by_host.entry(host.to_string()).or_default().push(json!({
            "metadata": rule.meta, "spec": rule.spec,
        }));
    }
    Ok(Page::Json(json!({
        "version": snapshot.generation.to_string(),
        "namespace": proxy.namespace,
        "outboundTrafficPolicy": policy,
        "services": services,
        "sidecar": own.map(|own| json!({"metadata": own.meta, "spec": own.spec})),
        "destinationRules": by_host,
    })))
}

pub(super) fn clusterz(ask: &Ask<'_>) -> Answer {
    // It is read before anything is served.
    Ok(Page::Json(
        json!([{"id": cluster(ask), "secretName": "", "syncStatus": "synced"}]),
    ))
}

pub(super) fn cachez(ask: &Ask<'_>) -> Answer {
    let cache = &ask.discovery.core.engine.cache;
    if ask.is_set("clear") {
        cache.clear();
        return Ok(Page::Text("Cache cleared\n".to_owned()));
    }
    let resources = cache.resources();
    if ask.is_set("sizes") {
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        for resource in &resources {
            let n_bytes = resource.value().len();
            *sizes.entry(resource.body().type_url).or_default() += n_bytes;
            *sizes.entry("total".to_owned()).or_default() += n_bytes;
        }
        let sizes = sizes
            .into_iter()
            .map(|(of, n_bytes)| (of, json!(in_bytes(n_bytes))));
        return Ok(Page::Json(Value::Object(sizes.collect())));
    }
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in &resources {
        let of_type = names.entry(resource.body().type_url).or_default();
        of_type.push(format!("{}/{}", resource.name.as_str(), resource.version()));
    }
    for of_type in names.values_mut() {
        of_type.sort_unstable();
    }
    Ok(Page::Json(json!(names)))
}

/// `12B`, `3.4kB`, in steps of a thousand.
fn in_bytes(n: usize) -> String {
    let mut value = n as f64;
    if n < 1000 {
        return format!("{n}B");
    }
    let mut units = ["kB", "MB", "GB"].into_iter();
    let mut unit = "B";
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1}{unit}")
}
