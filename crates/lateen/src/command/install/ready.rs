//! Waits until what was applied does its work.

use std::time::{Duration, Instant};

use anyhow::bail;
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        apps::v1::{DaemonSet, Deployment},
        core::v1::Pod,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, api::ListParams, core::Selector};
use serde_json::Value;

use crate::{
    apply::{Applier, Named},
    progress::Progress,
};

/// Kind of what defines other kinds.
pub(crate) const DEFINITION: &str = "CustomResourceDefinition";
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until every object is ready, which only some kinds can say.
pub(crate) async fn wait(
    client: &Client,
    objects: &[Value],
    patience: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    let start = Instant::now();
    for object in objects {
        loop {
            let why = match missing(client, object).await {
                Ok(None) => break,
                Ok(Some(why)) => why,
                // An API server that is just starting again says nothing about the object.
                Err(error) if may_pass(&error) => format!("{error:#}"),
                Err(error) => return Err(error),
            };
            progress.detail(&why);
            if start.elapsed() > patience {
                bail!("waited {} s: {why}{}", patience.as_secs(), next(object)?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Waits while a definition of the name is on its way out: applied to it, another one would go with it.
pub(super) async fn vacant(
    applier: &mut Applier,
    object: &Value,
    patience: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    if object["kind"] != DEFINITION {
        return Ok(());
    }
    let start = Instant::now();
    while let Some(held) = applier.get(object).await? {
        if held.metadata.deletion_timestamp.is_none() {
            break;
        }
        let why = ending(&held.metadata.name.unwrap_or_default());
        progress.detail(&why);
        if start.elapsed() > patience {
            bail!("waited {} s: {why}{}", patience.as_secs(), next(object)?);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Says what holds a definition that was deleted.
pub(crate) fn ending(definition: &str) -> String {
    format!(
        "definition {definition} is still ending; if that does not change, an object of it has a finalizer: kubectl get {definition} -A -o yaml"
    )
}

/// Whether asking again may have another answer.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => status.code == 429 || status.code >= 500,
        Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => true,
        _ => false,
    }
}

/// What to do where an object does not become ready.
fn next(object: &Value) -> anyhow::Result<String> {
    let Named {
        namespace, name, ..
    } = Named::of(object)?;
    let kind = object["kind"].as_str().unwrap_or_default();
    let place = namespace.map_or_else(String::new, |namespace| format!(" -n {namespace}"));
    let look = match kind {
        "Deployment" => {
            let labels = object["spec"]["selector"]["matchLabels"].as_object();
            let labels = labels.into_iter().flatten();
            let labels =
                labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            let labels: Vec<String> = labels.collect();
            format!("`kubectl describe pod -l {}{place}`", labels.join(","))
        }
        _ => format!("`kubectl describe {} {name}{place}`", kind.to_lowercase()),
    };
    Ok(format!(
        "\n  next: {look} says more; then run the command again, which goes on where it ended (--readiness-timeout waits longer)"
    ))
}

/// What an object lacks to be ready; none if it is, or cannot say.
pub(crate) async fn missing(client: &Client, object: &Value) -> anyhow::Result<Option<String>> {
    let Named {
        namespace, name, ..
    } = Named::of(object)?;
    let namespace = namespace.unwrap_or("default");
    match object["kind"].as_str().unwrap_or_default() {
        DEFINITION => {
            let api: Api<CustomResourceDefinition> = Api::all(client.clone());
            let definition = api.get_opt(name).await?;
            if definition
                .as_ref()
                .is_some_and(|it| it.metadata.deletion_timestamp.is_some())
            {
                return Ok(Some(ending(name)));
            }
            let conditions = definition
                .and_then(|it| it.status)
                .and_then(|it| it.conditions);
            let mut conditions = conditions.into_iter().flatten();
            let is_served = conditions.any(|it| it.type_ == "Established" && it.status == "True");
            Ok((!is_served).then(|| format!("definition {name} is not served yet")))
        }
        "Deployment" => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            match api.get_opt(name).await? {
                None => Ok(Some(format!("Deployment {namespace}/{name} is not there"))),
                Some(deployment) if is_ready(&deployment) => Ok(None),
                Some(deployment) => why(client, &deployment, namespace, name).await.map(Some),
            }
        }
        "DaemonSet" => {
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
            let daemon = api.get_opt(name).await?;
            Ok(waits_for_nodes(daemon.as_ref())
                .map(|why| format!("DaemonSet {namespace}/{name} {why}")))
        }
        "MutatingWebhookConfiguration" => {
            let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
            let hooks = api.get_opt(name).await?.and_then(|it| it.webhooks);
            let mut hooks = hooks.into_iter().flatten();
            let is_trusted = hooks.all(|hook| is_trusted(&hook.client_config));
            Ok((!is_trusted).then(|| format!("webhook {name} has no root certificate yet")))
        }
        "ValidatingWebhookConfiguration" => {
            let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
            let hooks = api.get_opt(name).await?.and_then(|it| it.webhooks);
            let mut hooks = hooks.into_iter().flatten();
            // The control plane closes them when it serves.
            let is_closed = hooks.all(|hook| {
                is_trusted(&hook.client_config) && hook.failure_policy.as_deref() != Some("Ignore")
            });
            Ok((!is_closed).then(|| format!("webhook {name} does not refuse anything yet")))
        }
        _ => Ok(None),
    }
}

/// A webhook elsewhere has a certificate that everybody trusts.
fn is_trusted(client: &WebhookClientConfig) -> bool {
    client.url.is_some() || client.ca_bundle.is_some()
}

/// Whether every pod is one of the newest kind, and does its work; an old one that still does is none.
pub(crate) fn is_ready(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let Some(status) = &deployment.status else {
        return wanted == 0;
    };
    let seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    seen && updated >= wanted && all <= updated && available >= updated
}

/// What a DaemonSet lacks: a pod of the newest kind on each node that does its work.
fn waits_for_nodes(daemon: Option<&DaemonSet>) -> Option<String> {
    let Some(daemon) = daemon else {
        return Some("is not there".to_owned());
    };
    let Some(status) = &daemon.status else {
        return Some("has not been seen to yet".to_owned());
    };
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let ready = status.number_available.unwrap_or(0).min(updated);
    let seen = status.observed_generation >= daemon.metadata.generation;
    (!seen || ready < wanted).then(|| format!("is ready on {ready} of {wanted} nodes"))
}

/// What holds a Deployment up, in the words of its pods.
async fn why(
    client: &Client,
    deployment: &Deployment,
    namespace: &str,
    name: &str,
) -> anyhow::Result<String> {
    let ready = deployment
        .status
        .as_ref()
        .and_then(|it| it.available_replicas);
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let mut text = format!(
        "Deployment {namespace}/{name} has {} of {wanted} pods ready",
        ready.unwrap_or(0)
    );
    let Ok(selector) = Selector::try_from(deployment.spec.selector.clone()) else {
        return Ok(text);
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods
        .list(&ListParams::default().labels_from(&selector))
        .await?;
    let reasons = pods.items.iter().filter_map(waits_for);
    if let Some(reason) = reasons.into_iter().next() {
        text.push_str(": ");
        text.push_str(&reason);
    }
    Ok(text)
}

/// An image that cannot be pulled, a container that keeps ending, a pod that finds no node.
fn waits_for(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten();
    let mut containers = containers.chain(status.container_statuses.iter().flatten());
    let waiting = containers.find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let is_normal = matches!(reason, "ContainerCreating" | "PodInitializing");
        let message = waiting.message.as_deref().unwrap_or_default();
        let image = &container.image;
        (!is_normal).then(|| {
            format!(
                "{reason} in container {} ({image}): {message}",
                container.name
            )
        })
    });
    let unscheduled = status.conditions.iter().flatten().find_map(|condition| {
        let is_so = condition.type_ == "PodScheduled" && condition.status == "False";
        is_so.then(|| condition.message.clone().unwrap_or_default())
    });
    waiting
        .or(unscheduled)
        .map(|why| format!("pod {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DeploymentStatus;
    use serde_json::json;

    use super::*;

    #[test]
    fn who_waits_too_long_is_told_where_to_look() {
        let deployment = serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "istiod", "namespace": "mesh"},
            "spec": {"selector": {"matchLabels": {"app": "istiod", "istio.io/rev": "x"}}},
        });
        let told = next(&deployment).expect("a manifest");
        assert!(
            told.contains("`kubectl describe pod -l app=istiod,istio.io/rev=x -n mesh`")
                && told.contains("run the command again"),
            "{told}"
        );
        let webhook = serde_json::json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration", "metadata": {"name": "w"},
        });
        let told = next(&webhook).expect("a manifest");
        assert!(
            told.contains("`kubectl describe mutatingwebhookconfiguration w`"),
            "{told}"
        );
    }

    #[test]
    fn old_pods_do_not_make_a_new_version_ready() {
        let of = |all, updated, available| {
            let status = DeploymentStatus {
                replicas: Some(all),
                updated_replicas: Some(updated),
                available_replicas: Some(available),
                ..DeploymentStatus::default()
            };
            is_ready(&Deployment {
                status: Some(status),
                ..Deployment::default()
            })
        };
        assert!(of(1, 1, 1));
        assert!(!of(2, 1, 1), "the one that is available is the old one");
        assert!(!of(1, 0, 1));
        assert!(!of(1, 1, 0));
    }

    #[test]
    fn a_daemon_is_ready_on_every_node() {
        let of = |wanted, updated, available| {
            let status = json!({"desiredNumberScheduled": wanted, "updatedNumberScheduled": updated,
                "numberAvailable": available, "currentNumberScheduled": 0, "numberMisscheduled": 0,
                "numberReady": 0});
            let daemon = json!({"metadata": {}, "status": status});
            waits_for_nodes(Some(&serde_json::from_value(daemon).expect("a DaemonSet")))
        };
        assert_eq!(of(2, 2, 2), None);
        assert_eq!(of(0, 0, 0), None);
        assert_eq!(of(2, 1, 2).as_deref(), Some("is ready on 1 of 2 nodes"));
        assert_eq!(of(2, 2, 0).as_deref(), Some("is ready on 0 of 2 nodes"));
        assert!(waits_for_nodes(None).is_some());
    }
}
