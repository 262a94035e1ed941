//! Whether the pool of virtual addresses has enough of them that are free for what a mesh needs.

use std::{collections::BTreeSet, net::Ipv4Addr};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    networking::v1::Ingress,
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use lateen_local::{NODE_NAME, VIP_POOL};
use serde::de::DeserializeOwned;

use super::{
    super::super::cluster::{NEEDED, pool},
    Step, address,
};

/// The pool, which only the local platform has.
pub(super) async fn pool_of(client: &Client) -> anyhow::Result<Option<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = match nodes.get_opt(NODE_NAME).await {
        // Who may not read nodes is on no platform of one machine.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
        node => node?,
    };
    Ok(node.and_then(|node| node.annotations().get(VIP_POOL).cloned()))
}

/// Who holds addresses of the pool that the mesh then lacks, each with its address.
pub(super) async fn held(
    client: &Client,
    range: &str,
    namespace: &str,
) -> anyhow::Result<Vec<String>> {
    let services: Vec<Service> = everywhere(client).await?;
    let ingresses: Vec<Ingress> = everywhere(client).await?;
    Ok(others(&services, &ingresses, range, namespace))
}

/// All objects of a kind; none to whom may not look beyond their own namespaces.
async fn everywhere<K>(client: &Client) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        list => Ok(list?.items),
    }
}

/// The services outside the mesh's namespace with an address of the pool, but for the one that Kubernetes
/// Ingress has, for which an address is counted already.
fn others(
    services: &[Service],
    ingresses: &[Ingress],
    range: &str,
    namespace: &str,
) -> Vec<String> {
    let Ok((first, last)) = pool(range) else {
        return Vec::new();
    };
    let of_ingress: BTreeSet<&str> = ingresses.iter().filter_map(published).collect();
    let others = services.iter().filter_map(|service| {
        let address = address(service)?;
        let number = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let counts = service.namespace().as_deref() != Some(namespace)
            && (first..=last).contains(&number)
            && !of_ingress.contains(address.as_str());
        let place = service.namespace().unwrap_or_default();
        counts.then(|| format!("service {place}/{} has {address}", service.name_any()))
    });
    others.collect()
}

/// The address that a controller has given an Ingress.
fn published(ingress: &Ingress) -> Option<&str> {
    let balancer = ingress.status.as_ref()?.load_balancer.as_ref()?;
    balancer
        .ingress
        .as_ref()?
        .iter()
        .find_map(|one| one.ip.as_deref())
}

/// Whether the pool has an address for everything that takes one, besides what others hold.
pub(super) fn enough(range: Option<&str>, held: &[String]) -> Step {
    let mut step = Step::new("Virtual addresses");
    let Some(range) = range else {
        step.good = "the cluster has a load balancer of its own".to_owned();
        return step;
    };
    let size = pool(range).map_or(0, |(first, last)| u64::from(last) - u64::from(first) + 1);
    let needed = NEEDED.len() as u64;
    let free = size.saturating_sub(held.len() as u64);
    let but = match held {
        [] => String::new(),
        held => format!(
            ", of which others hold {} ({})",
            held.len(),
            held.join(", ")
        ),
    };
    if free < needed {
        let next = match size < needed {
            true => {
                "create the cluster with a larger pool: `lateen cluster create NAME --istio --vip-pool FIRST-LAST`"
            }
            false => {
                "delete services of type LoadBalancer that are not needed, or create the cluster with a larger pool: `lateen cluster create NAME --istio --vip-pool FIRST-LAST`"
            }
        };
        step.fault(
            format!(
                "the pool {range} has {size}{but}, and at least {needed} are needed: one each for {}",
                NEEDED.join(", ")
            ),
            next,
        );
    }
    step.good = format!("the pool {range} has {size}{but}, and {needed} are needed");
    step
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RANGE: &str = "10.10.99.140-10.10.99.143";

    fn parse<K: DeserializeOwned>(objects: Value) -> Vec<K> {
        serde_json::from_value(objects).expect("objects")
    }

    #[test]
    fn a_pool_has_an_address_for_each_who_needs_one() {
        let step = enough(Some("10.10.99.140-10.10.99.141"), &[]);
        let said = step.lines(1);
        assert!(step.failed());
        for part in [
            "✘ 1. Virtual addresses",
            "has 2, and at least 3",
            "the Kubernetes API",
            "next: create",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!enough(Some("10.10.99.140-10.10.99.142"), &[]).failed());
        assert!(!enough(None, &[]).failed());
    }

    #[test]
    fn what_others_hold_is_not_free() {
        let one = ["service default/a has 10.10.99.141".to_owned()];
        let step = enough(Some(RANGE), &one);
        assert_eq!(
            step.lines(1),
            "✔ 1. Virtual addresses: the pool 10.10.99.140-10.10.99.143 has 4, of which others hold 1 \
             (service default/a has 10.10.99.141), and 3 are needed\n"
        );
        let two = [
            one[0].clone(),
            "service default/b has 10.10.99.142".to_owned(),
        ];
        let said = enough(Some(RANGE), &two).lines(1);
        assert!(
            said.contains("✘ 1. Virtual addresses: the pool 10.10.99.140-10.10.99.143 has 4, of which others hold 2")
                && said.contains("service default/b has 10.10.99.142), and at least 3")
                && said.contains("next: delete services"),
            "{said}"
        );
    }

    #[test]
    fn others_are_neither_the_mesh_nor_the_ingress() {
        let service = |namespace: &str, ip: &str| {
            json!({"metadata": {"name": "s", "namespace": namespace},
                "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
        };
        let services = parse(json!([
            service("istio-system", "10.10.99.140"),
            service("shop", "10.10.99.141"),
            service("ingress-nginx", "10.10.99.142"),
            service("beyond", "10.10.98.1"),
            {"metadata": {"name": "none", "namespace": "shop"}},
        ]));
        let ingresses = parse(json!([
            {"metadata": {"name": "i"}},
            {"metadata": {"name": "j"}, "status": {"loadBalancer": {"ingress": [{"ip": "10.10.99.142"}]}}},
        ]));
        assert_eq!(
            others(&services, &ingresses, RANGE, "istio-system"),
            ["service shop/s has 10.10.99.141"]
        );
    }
}
