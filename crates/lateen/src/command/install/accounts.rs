//! Pods whose ServiceAccount was deleted and made again. The tokens that they hold are taken by nobody any
//! more, and a pod keeps its own as long as it lives: so there have to be new ones.

use anyhow::Context;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;

use crate::apply::Named;

/// Restarts what was just applied if some of its pods are older than the account that they run as.
pub(super) async fn renew(client: &Client, object: &Value) -> anyhow::Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "Deployment" | "DaemonSet") {
        return Ok(());
    }
    let named = Named::of(object)?;
    let namespace = named.namespace.unwrap_or("default");
    let account = &object["spec"]["template"]["spec"]["serviceAccountName"];
    let Some(account) = account.as_str() else {
        return Ok(());
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let found = accounts.get_opt(account).await;
    let found = found.with_context(|| format!("cannot read ServiceAccount {account}"))?;
    let Some(made) = found.and_then(|account| account.metadata.creation_timestamp) else {
        return Ok(());
    };
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let selector = labels.collect::<Vec<_>>().join(",");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(&selector)).await;
    let pods = pods.with_context(|| format!("cannot list the pods of {named}"))?;
    if !pods.iter().any(|pod| is_older(pod, account, &made)) {
        return Ok(());
    }
    let restarted = match kind {
        "Deployment" => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            api.restart(named.name).await.map(drop)
        }
        _ => {
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
            api.restart(named.name).await.map(drop)
        }
    };
    restarted.with_context(|| format!("cannot restart {named}"))
}

/// Whether a pod that stays runs as an account that was made after it.
fn is_older(pod: &Pod, account: &str, made: &Time) -> bool {
    let runs_as = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    let created = pod.creation_timestamp();
    pod.metadata.deletion_timestamp.is_none()
        && runs_as == Some(account)
        && created.is_some_and(|created| created.0 < made.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_stay_and_were_there_before_their_account_are_older() {
        let made: Time = serde_json::from_value(json!("2026-01-01T00:00:10Z")).expect("a time");
        let is_older = |created: &str, account: &str, deleted: Value| {
            let pod = json!({
                "metadata": {"creationTimestamp": created, "deletionTimestamp": deleted},
                "spec": {"containers": [], "serviceAccountName": account},
            });
            is_older(
                &serde_json::from_value(pod).expect("a pod"),
                "istiod",
                &made,
            )
        };
        assert!(is_older("2026-01-01T00:00:09Z", "istiod", Value::Null));
        // Times are in seconds: of the same one, the account was first.
        assert!(!is_older("2026-01-01T00:00:10Z", "istiod", Value::Null));
        assert!(!is_older("2026-01-01T00:00:09Z", "other", Value::Null));
        assert!(!is_older(
            "2026-01-01T00:00:09Z",
            "istiod",
            json!("2026-01-01T00:00:11Z")
        ));
    }
}
