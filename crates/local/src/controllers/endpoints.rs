//! EndpointSlices and Endpoints, from Services and the pods that they select.
//!
//! One task holds all services and pods; an event recomputes the services that it touches at once, and only
//! what differs from what was last written is written.

mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, ResourceExt};
use serde_json::Value;
use tracing::warn;

use super::cache::{Cache, Key, events};
use super::ignore_missing;
use crate::Error;

/// Pause before a service whose write failed is tried again.
const RETRY: Duration = Duration::from_millis(300);

pub(super) async fn run(client: kube::Client) {
    let mut services = events(Api::<Service>::all(client.clone()));
    let mut pods = events(Api::<Pod>::all(client.clone()));
    let mut writer = Writer {
        client,
        written: BTreeMap::new(),
    };
    let (mut service_cache, mut pod_cache) = (Cache::<Service>::default(), Cache::<Pod>::default());
    let mut due: BTreeSet<Key> = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            Some(event) = services.next() => {
                due.extend(service_cache.take(event).into_iter().map(|(key, _)| key));
            }
            Some(event) = pods.next() => {
                for (key, old) in pod_cache.take(event) {
                    let both = [old.as_ref(), pod_cache.objects.get(&key)];
                    due.extend(both.into_iter().flatten().flat_map(|pod| selecting(&service_cache, pod)));
                }
            }
            // Everything that has arrived goes into one computation.
            () = std::future::ready(()), if !due.is_empty() && service_cache.complete && pod_cache.complete => {
                let mut failed = BTreeSet::new();
                for key in std::mem::take(&mut due) {
                    if let Err(error) = writer.write(&key, service_cache.objects.get(&key), &pod_cache).await {
                        warn!(service = ?key, %error, "cannot write endpoints");
                        failed.insert(key);
                    }
                }
                if !failed.is_empty() {
                    tokio::time::sleep(RETRY).await;
                    due = failed;
                }
            }
            else => return,
        }
    }
}

/// The services that select the pod.
fn selecting(services: &Cache<Service>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.namespace().unwrap_or_default();
    let selecting = services
        .of(&namespace)
        .filter(|service| slices::selects(service, pod));
    selecting.map(super::cache::key).collect()
}

struct Writer {
    client: kube::Client,
    written: BTreeMap<Key, (BTreeMap<String, EndpointSlice>, Endpoints)>,
}

impl Writer {
    async fn write(
        &mut self,
        key: &Key,
        service: Option<&Service>,
        pods: &Cache<Pod>,
    ) -> Result<(), Error> {
        let slice_api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.0);
        let endpoints_api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.0);
        let Some(service) = service.filter(|service| slices::has_selector(service)) else {
            if self.written.remove(key).is_some() && service.is_none() {
                // The garbage collector takes the slices; nobody owns an Endpoints object.
                ignore_missing(endpoints_api.delete(&key.1, &DeleteParams::default()).await)?;
            }
            return Ok(());
        };
        let selected: Vec<&Pod> = pods
            .of(&key.0)
            .filter(|pod| slices::selects(service, pod))
            .collect();
        let wanted = slices::slices(service, &selected);
        let endpoints = slices::endpoints(service, &selected);
        let before = match self.written.get(key) {
            Some(written) => written.clone(),
            None => (
                self.existing(&slice_api, &key.1).await?,
                Endpoints::default(),
            ),
        };
        for (name, slice) in &wanted {
            if before.0.get(name) != Some(slice) {
                put(&slice_api, name, slice).await?;
            }
        }
        for name in before.0.keys().filter(|name| !wanted.contains_key(*name)) {
            ignore_missing(slice_api.delete(name, &DeleteParams::default()).await)?;
        }
        if before.1 != endpoints {
            put(&endpoints_api, &key.1, &endpoints).await?;
        }
        self.written.insert(key.clone(), (wanted, endpoints));
        Ok(())
    }

    /// Slices that an earlier run of the platform left.
    async fn existing(
        &self,
        api: &Api<EndpointSlice>,
        service: &str,
    ) -> Result<BTreeMap<String, EndpointSlice>, Error> {
        let selector = format!(
            "{}={service},{}={}",
            slices::SERVICE_LABEL,
            slices::MANAGER_LABEL,
            slices::MANAGER
        );
        let found = api.list(&ListParams::default().labels(&selector)).await?;
        Ok(found
            .items
            .into_iter()
            .map(|slice| (slice.name_any(), slice))
            .collect())
    }
}

/// Creates the object, or overwrites all that this controller sets in it.
async fn put<K>(api: &Api<K>, name: &str, object: &K) -> Result<(), Error>
where
    K: kube::Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut value =
        serde_json::to_value(object).map_err(|error| Error::Container(error.to_string()))?;
    for list in ["endpoints", "ports", "subsets"] {
        if value.get(list).is_none() {
            value[list] = Value::Null;
        }
    }
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(value))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            match api.create(&PostParams::default(), object).await {
                // The namespace is going, and the service with it.
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                other => Ok(other.map(|_| ())?),
            }
        }
        Err(error) => Err(error.into()),
    }
}
