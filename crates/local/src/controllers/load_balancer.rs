//! Gives LoadBalancer services an address out of the pool.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, ResourceExt};
use serde_json::json;
use tracing::warn;

use super::cache::{Cache, Key, events};
use super::{Context, ignore_missing};
use crate::Error;
use crate::net::Pool;

const COMPONENT: &str = "service-controller";

pub(super) async fn run(context: Context, pool: Pool) {
    let mut services = events(Api::<Service>::all(context.client.clone()));
    let mut cache = Cache::<Service>::default();
    let mut balancer = Balancer {
        context,
        pool,
        given: BTreeMap::new(),
    };
    while let Some(event) = services.next().await {
        let was_complete = cache.complete;
        let mut changed: Vec<Key> = cache.take(event).into_iter().map(|(key, _)| key).collect();
        if !cache.complete {
            // Addresses that were given before come first, so that none is given twice.
            continue;
        }
        if !was_complete {
            changed = cache.objects.keys().cloned().collect();
            changed.sort_by_key(|key| current(&cache.objects[key]).is_none());
        }
        let freed = balancer.settle(&cache, changed).await;
        if freed {
            let waiting = cache
                .objects
                .iter()
                .filter(|(_, service)| wants(service) && current(service).is_none());
            let waiting = waiting.map(|(key, _)| key.clone()).collect();
            balancer.settle(&cache, waiting).await;
        }
    }
}

fn wants(service: &Service) -> bool {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind == Some("LoadBalancer") && service.metadata.deletion_timestamp.is_none()
}

/// The address that the service has by its status.
fn current(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    ingress.iter().find_map(|one| one.ip.as_ref()?.parse().ok())
}

struct Balancer {
    context: Context,
    pool: Pool,
    given: BTreeMap<Key, Ipv4Addr>,
}

impl Balancer {
    /// Settles the services named; whether an address became free.
    async fn settle(&mut self, cache: &Cache<Service>, keys: Vec<Key>) -> bool {
        let mut freed = false;
        for key in keys {
            let service = cache.objects.get(&key).filter(|service| wants(service));
            let result = match service {
                Some(service) => self.give(&key, service).await,
                None => {
                    freed |= self.take_back(&key);
                    let stale = cache
                        .objects
                        .get(&key)
                        .filter(|service| current(service).is_some());
                    match stale {
                        Some(service) => self.write(service, None).await,
                        None => Ok(()),
                    }
                }
            };
            if let Err(error) = result {
                warn!(service = ?key, %error, "cannot settle the service's address");
            }
        }
        freed
    }

    fn take_back(&mut self, key: &Key) -> bool {
        let address = self.given.remove(key);
        if let Some(address) = address {
            self.pool.give_back(address);
        }
        address.is_some()
    }

    async fn give(&mut self, key: &Key, service: &Service) -> Result<(), Error> {
        let have = current(service);
        if let Some(given) = self.given.get(key).copied() {
            return if have == Some(given) {
                Ok(())
            } else {
                self.write(service, Some(given)).await
            };
        }
        let asked = service
            .spec
            .as_ref()
            .and_then(|spec| spec.load_balancer_ip.as_ref()?.parse().ok());
        let exact = have
            .or(asked)
            .filter(|address| self.pool.take_exactly(*address));
        let Some(address) = exact.or_else(|| {
            if asked.is_none() {
                self.pool.take()
            } else {
                None
            }
        }) else {
            let message = match asked {
                Some(asked) => format!("address {asked} is taken, or not in the pool"),
                None => "no address is free in the pool of virtual addresses; delete a LoadBalancer service, or start \
                         the platform with a larger pool (lateen up --vip-pool FIRST-LAST)"
                    .to_owned(),
            };
            let about = service.object_ref(&());
            self.context
                .events
                .warning(COMPONENT, &about, "SyncLoadBalancerFailed", message);
            return Ok(());
        };
        self.given.insert(key.clone(), address);
        if have == Some(address) {
            return Ok(());
        }
        self.write(service, Some(address)).await?;
        let about = service.object_ref(&());
        self.context.events.normal(
            COMPONENT,
            &about,
            "EnsuredLoadBalancer",
            format!("Ensured load balancer at {address}"),
        );
        Ok(())
    }

    async fn write(&self, service: &Service, address: Option<Ipv4Addr>) -> Result<(), Error> {
        let api: Api<Service> = Api::namespaced(
            self.context.client.clone(),
            &service.namespace().unwrap_or_default(),
        );
        let ingress = address.map(|address| json!([{"ip": address, "ipMode": "VIP"}]));
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        ignore_missing(
            api.patch_status(&service.name_any(), &PatchParams::default(), &patch)
                .await,
        )?;
        Ok(())
    }
}
