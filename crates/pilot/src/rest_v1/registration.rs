//! Services by key, and the addresses behind them.

use lateen_core::{Labels, Locality};
use lateen_registry::{Endpoint, EndpointKey, World};
use serde::Serialize;

use super::key;

/// A service with its key.
#[derive(Serialize)]
pub(super) struct Registration {
    #[serde(rename = "service-key")]
    key: String,
    hosts: Vec<Host>,
}

/// The addresses of a key.
#[derive(Default, Serialize)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
}

#[derive(Serialize)]
struct Host {
    ip_address: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
}

#[derive(Serialize)]
struct Tags {
    az: String,
    #[serde(skip_serializing_if = "is_one")]
    load_balancing_weight: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(weight: &u32) -> bool {
    *weight <= 1
}

/// `region/zone`, of what is known of it.
pub(super) fn zone(locality: &Locality) -> String {
    match (&*locality.region, &*locality.zone) {
        (region, "") => region.to_owned(),
        (region, zone) => format!("{region}/{zone}"),
    }
}

impl Host {
    fn of(endpoint: &Endpoint) -> Host {
        let az = zone(&endpoint.locality);
        let tags = (!az.is_empty()).then_some(Tags {
            az,
            load_balancing_weight: endpoint.weight,
        });
        Host {
            ip_address: endpoint.address.clone(),
            port: endpoint.port,
            tags,
        }
    }
}

fn hosts<'a>(
    world: &'a World,
    key: &EndpointKey,
    is_wanted: impl Fn(&Labels) -> bool + 'a,
) -> impl Iterator<Item = Host> + 'a {
    let endpoints = world.endpoints.get(key).map_or(&[][..], |all| &all[..]);
    // What is only known by its network has no place in the answer.
    let reachable = endpoints.iter().filter(|one| !one.address.is_empty());
    let ready = reachable.filter(move |one| one.ready && is_wanted(&one.labels));
    ready.map(Host::of)
}

/// Every port of every service of the mesh, by key.
pub(super) fn all(world: &World) -> Vec<Registration> {
    let inside = world
        .services
        .iter()
        .filter(|(_, service)| !service.external);
    let mut all: Vec<_> = inside
        .flat_map(|(id, service)| {
            service.ports.iter().map(move |port| Registration {
                key: key::of(service, port, &Labels::default()),
                hosts: hosts(world, &EndpointKey::new(id.clone(), &port.name), |_| true).collect(),
            })
        })
        .collect();
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

/// The addresses of one key; none for a key that is not known.
pub(super) fn of(world: &World, text: &str) -> Hosts {
    let key = key::parse(text);
    let is_wanted = |labels: &Labels| {
        let has = |pair: &(&str, &str)| labels.value(pair.0) == Some(pair.1);
        key.labels.is_empty() || key.labels.iter().any(|set| set.iter().all(has))
    };
    let mut found = Hosts::default();
    let services = world
        .services
        .iter()
        .filter(|(id, _)| *id.hostname == *key.host);
    for (id, service) in services {
        let ports = service
            .ports
            .iter()
            .filter(|port| key.ports.is_empty() || key.ports.contains(&port.name.as_str()));
        for port in ports {
            let of_port = EndpointKey::new(id.clone(), &port.name);
            found.hosts.extend(hosts(world, &of_port, &is_wanted));
        }
    }
    found
}
