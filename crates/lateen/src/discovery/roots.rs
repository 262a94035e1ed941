//! The root certificate in ConfigMap `istio-ca-root-cert` of every namespace, where pods mount it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use lateen_citadel::{RootTarget, StoreError};
use lateen_registry::World;
use tokio::sync::watch;

/// The ConfigMap's name, as the injected pods mount it.
const NAME: &str = "istio-ca-root-cert";
/// Its one key.
const KEY: &str = "root-cert.pem";
/// Who the API server notes as the writer.
const FIELD_MANAGER: &str = "istiod";

/// Writes the root to an API server. Two control planes may have different roots, so only one that
/// leads changes what is there. Where nothing is there pods wait for it, and whoever sees that first
/// makes it.
pub(super) struct ConfigMaps {
    pub(super) client: Client,
    pub(super) leading: watch::Receiver<bool>,
}

#[async_trait::async_trait]
impl RootTarget for ConfigMaps {
    async fn publish(&self, namespace: &str, root_pem: &str) -> Result<(), StoreError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let wanted = config_map(root_pem);
        let leads = *self.leading.borrow();
        let published = if leads {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(&wanted);
            let mut leading = self.leading.clone();
            tokio::select! {
                biased;
                // All is published anew when that changes.
                _ = leading.wait_for(|leads| !*leads) => return Ok(()),
                applied = api.patch(NAME, &params, &patch) => applied.map(drop),
            }
        } else {
            create_absent(&api, &wanted).await
        };
        match published {
            Err(kube::Error::Api(status)) if is_gone(status.code, &status.message) => Ok(()),
            published => published.map_err(|error| StoreError(error.to_string())),
        }
    }
}

async fn create_absent(api: &Api<ConfigMap>, wanted: &ConfigMap) -> Result<(), kube::Error> {
    if api.get_opt(NAME).await?.is_some() {
        return Ok(());
    }
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, wanted).await {
        // Somebody else has just made it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created.map(drop),
    }
}

/// The namespace is gone or on its way out. Being forbidden for another reason is a fault of the
/// installation, which somebody must hear of.
fn is_gone(code: u16, message: &str) -> bool {
    code == 404 || code == 403 && message.contains("being terminated")
}

fn config_map(root_pem: &str) -> ConfigMap {
    let labels = BTreeMap::from([("istio.io/config".to_owned(), "true".to_owned())]);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.to_owned(), root_pem.to_owned())])),
        ..ConfigMap::default()
    }
}

/// The names of the world's namespaces, as they come and go.
pub(super) fn namespaces(
    mut world: watch::Receiver<Arc<World>>,
) -> watch::Receiver<Arc<BTreeSet<String>>> {
    let names = |world: &World| Arc::new(world.namespaces.keys().cloned().collect::<BTreeSet<_>>());
    let (names_tx, names_rx) = watch::channel(names(&world.borrow_and_update()));
    tokio::spawn(async move {
        while world.changed().await.is_ok() {
            let now = names(&world.borrow_and_update());
            names_tx.send_if_modified(|held| {
                let changed = *held != now;
                *held = now;
                changed
            });
        }
    });
    names_rx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_ends_needs_no_root() {
        let ends = "configmaps \"istio-ca-root-cert\" is forbidden: unable to create new content in \
                    namespace a because it is being terminated";
        let denied = "configmaps is forbidden: User \"x\" cannot patch resource \"configmaps\"";
        for (code, message, expect) in [
            (404, "namespaces \"a\" not found", true),
            (403, ends, true),
            (403, denied, false),
            (500, "", false),
        ] {
            assert_eq!(is_gone(code, message), expect, "{code} {message}");
        }
    }
}
