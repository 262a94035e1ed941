//! The steps by which one finds out why a mesh does not run: addresses, pods, services, the gateway.
//!
//! Each looks at the cluster as it is, whatever was installed, and names what to look at next.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Event, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::super::cluster::pool;

mod addresses;

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How often a fault is looked at again, and how long after.
const LOOKS: usize = 8;
const PAUSE: Duration = Duration::from_millis(250);

/// What was found at one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) title: &'static str,
    /// What is as it should be.
    good: String,
    /// What is not, each with what to do next.
    faults: Vec<(String, String)>,
}

impl Step {
    fn new(title: &'static str) -> Self {
        Step {
            title,
            ..Step::default()
        }
    }

    fn fault(&mut self, what: impl Into<String>, next: impl Into<String>) {
        self.faults.push((what.into(), next.into()));
    }

    pub(super) fn failed(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The step as lines.
    pub(super) fn lines(&self, number: usize) -> String {
        if !self.failed() {
            return format!("✔ {number}. {}: {}\n", self.title, self.good);
        }
        let lines = self
            .faults
            .iter()
            .map(|(what, next)| format!("✘ {number}. {}: {what}\n     next: {next}\n", self.title));
        lines.collect()
    }
}

/// Goes through them in their order. What has only just started gets a moment until others know of it.
pub(super) async fn all(client: &Client, namespace: &str) -> anyhow::Result<Vec<Step>> {
    let mut steps = once(client, namespace).await?;
    for _ in 0..LOOKS {
        if !steps.iter().any(Step::failed) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        steps = once(client, namespace).await?;
    }
    Ok(steps)
}

async fn once(client: &Client, namespace: &str) -> anyhow::Result<Vec<Step>> {
    let all = ListParams::default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let events = Warnings::of(events.list(&all).await?.items);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let services = services.list(&all).await?.items;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let range = addresses::pool_of(client).await?;
    let held = match &range {
        Some(range) => addresses::held(client, range, namespace).await?,
        None => Vec::new(),
    };
    Ok(vec![
        addresses::enough(range.as_deref(), &held),
        running(&pods.list(&all).await?.items, &events, namespace),
        served(&services, &slices.list(&all).await?.items, namespace),
        reached(&services, range.as_deref(), &events, namespace),
    ])
}

/// Whether every pod runs, or has done what it had to.
fn running(pods: &[Pod], warnings: &Warnings, namespace: &str) -> Step {
    let mut step = Step::new("Pods");
    for pod in pods {
        let name = pod.name_any();
        if let Some(why) = lacks(pod) {
            let because = warnings.about("Pod", &name);
            step.fault(
                format!("pod {name} {why}{because}"),
                format!("kubectl describe pod {name} -n {namespace}"),
            );
        }
    }
    step.good = format!("all {} in {namespace} run", pods.len());
    step
}

/// What a pod lacks to do its work.
fn lacks(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if phase == "Succeeded" || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    // One that was evicted stays, and its controller has made another.
    let owners = pod.metadata.owner_references.iter().flatten();
    if phase == "Failed"
        && owners
            .into_iter()
            .any(|owner| owner.controller == Some(true))
    {
        return None;
    }
    let containers = status.init_container_statuses.into_iter().flatten();
    let mut containers = containers.chain(status.container_statuses.into_iter().flatten());
    let waiting = containers.find_map(|container| {
        let waiting = container.state?.waiting?;
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        Some(format!(
            "waits: {reason} in container {} {message}",
            container.name
        ))
    });
    if let Some(waiting) = waiting {
        return Some(waiting.trim_end().to_owned());
    }
    if phase != "Running" {
        return Some(format!("is {phase}"));
    }
    let ready = status
        .conditions
        .into_iter()
        .flatten()
        .find(|one| one.type_ == "Ready")?;
    (ready.status != "True").then(|| {
        format!(
            "runs and is not ready: {}",
            ready.message.unwrap_or_default()
        )
    })
}

/// Whether a pod stands behind every service.
fn served(services: &[Service], slices: &[EndpointSlice], namespace: &str) -> Step {
    let mut step = Step::new("Services");
    let served: BTreeSet<&str> = slices
        .iter()
        .filter(|slice| has_ready(slice))
        .filter_map(named)
        .collect();
    let mut checked = 0;
    for service in services {
        // Who has no selector is somebody else's to fill.
        let selects = service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.selector.is_some());
        if !selects {
            continue;
        }
        checked += 1;
        let name = service.name_any();
        if !served.contains(name.as_str()) {
            step.fault(
                format!("no ready pod stands behind service {name}"),
                format!("kubectl describe service {name} -n {namespace}"),
            );
        }
    }
    step.good = format!("a ready pod stands behind each of the {checked} in {namespace}");
    step
}

fn named(slice: &EndpointSlice) -> Option<&str> {
    slice.labels().get(SERVICE_NAME).map(String::as_str)
}

fn has_ready(slice: &EndpointSlice) -> bool {
    let is_ready = |conditions: &k8s_openapi::api::discovery::v1::EndpointConditions| {
        conditions.ready.unwrap_or(true)
    };
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .into_iter()
        .any(|endpoint| endpoint.conditions.as_ref().is_none_or(is_ready))
}

/// Whether every gateway has an address, and one of the pool.
fn reached(
    services: &[Service],
    range: Option<&str>,
    warnings: &Warnings,
    namespace: &str,
) -> Step {
    let mut step = Step::new("Gateway addresses");
    let mut found = Vec::new();
    for service in services {
        let is_balanced = |kind: Option<&str>| kind == Some("LoadBalancer");
        if !is_balanced(service.spec.as_ref().and_then(|spec| spec.type_.as_deref())) {
            continue;
        }
        let name = service.name_any();
        let next = format!("kubectl describe service {name} -n {namespace}");
        match address(service) {
            // Not every cluster has a load balancer; the gateway is reached by its node ports then.
            None if range.is_none() => found.push(format!("{name} has none")),
            None => {
                let because = warnings.about("Service", &name);
                step.fault(
                    format!("service {name} has no external address{because}"),
                    next,
                );
            }
            Some(address) if !is_of(&address, range) => {
                let range = range.unwrap_or_default();
                step.fault(
                    format!("service {name} has {address}, which is not of the pool {range}"),
                    next,
                );
            }
            Some(address) => found.push(format!("{name} has {address}")),
        }
    }
    step.good = match found.is_empty() {
        true => format!("no service of {namespace} asks for one"),
        false => found.join(", "),
    };
    step
}

fn address(service: &Service) -> Option<String> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    ingress
        .iter()
        .find_map(|one| one.ip.clone().or_else(|| one.hostname.clone()))
}

/// Whether an address is of the pool, where there is one.
fn is_of(address: &str, range: Option<&str>) -> bool {
    let Some((first, last)) = range.and_then(|range| pool(range).ok()) else {
        return true;
    };
    let address: Option<Ipv4Addr> = address.parse().ok();
    address.is_some_and(|address| (first..=last).contains(&u32::from(address)))
}

/// The newest warning about each object.
#[derive(Debug, Default)]
struct Warnings(BTreeMap<(String, String), String>);

impl Warnings {
    fn of(mut events: Vec<Event>) -> Self {
        events.retain(|event| event.type_.as_deref() == Some("Warning"));
        events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        let newest = events.into_iter().map(|event| {
            let about = event.involved_object;
            let key = (
                about.kind.unwrap_or_default(),
                about.name.unwrap_or_default(),
            );
            (key, event.message.unwrap_or_default())
        });
        Warnings(newest.collect())
    }

    /// The warning as the end of a sentence; nothing if there is none.
    fn about(&self, kind: &str, name: &str) -> String {
        let key = (kind.to_owned(), name.to_owned());
        self.0
            .get(&key)
            .map(|why| format!(": {why}"))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
