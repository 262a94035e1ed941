//! Hands the number of pods over to whoever scales them from now on.
//!
//! What is applied no longer is taken away, and a Deployment without a number has one pod: between the
//! installation and the autoscaler's first look the mesh would be down to that.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::apply::{FIELD_MANAGER, Named};

/// Who the API server notes for a number that nobody scales yet.
const KEEPER: &str = "lateen-replicas";

/// Keeps the number of pods of a Deployment that has been given one so far, and is not any longer.
pub(super) async fn hand_over(client: &Client, object: &Value) -> anyhow::Result<()> {
    if object["kind"] != "Deployment" || !object["spec"]["replicas"].is_null() {
        return Ok(());
    }
    let named = Named::of(object)?;
    let (name, namespace) = (named.name, named.namespace.unwrap_or("default"));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let held = deployments.get_opt(name).await;
    let held = held.with_context(|| format!("cannot read {named}"))?;
    let Some(held) = held.filter(|held| gives_number(&held.metadata)) else {
        return Ok(());
    };
    let kept = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": held.spec.replicas},
    });
    let params = PatchParams::apply(KEEPER).force();
    let patched = deployments.patch(name, &params, &Patch::Apply(kept)).await;
    patched
        .map(drop)
        .with_context(|| format!("cannot keep the number of pods of {named}"))
}

/// Whether it is an installation that says how many pods there are.
fn gives_number(meta: &ObjectMeta) -> bool {
    let managed = meta.managed_fields.iter().flatten();
    let mut own = managed.filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    own.any(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply::Applier, discovery::platform};

    #[tokio::test]
    async fn an_autoscaler_begins_with_the_pods_that_there_are() {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        let mut applier = Applier::new(client.clone());
        let labels = json!({"app": "gateway"});
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "default", "name": "gateway"},
            "spec": {
                "replicas": 4,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
                },
            },
        });
        applier.apply(&deployment).await.expect("applied");
        let spec = deployment["spec"].as_object_mut().expect("an object");
        spec.remove("replicas");
        hand_over(&client, &deployment).await.expect("handed over");
        applier.apply(&deployment).await.expect("applied");
        let held = applier.get(&deployment).await.expect("an answer");
        let held = held.expect("it is there");
        assert_eq!(held.data["spec"]["replicas"], 4);
        assert!(!gives_number(&held.metadata), "others may change it");
    }
}
