//! `lateen x add-to-mesh` and `remove-from-mesh`: sidecars for Deployments that are there, and workloads
//! outside of the cluster, as `istioctl` had them until 1.15.

use std::net::IpAddr;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams},
    core::{GroupVersionKind, Selector, SelectorExt},
};
use lateen_api::{annotations, kinds::WORKLOAD_ENTRY, labels};
use lateen_injector::{Params, inject_document, uninject_document};
use lateen_registry::resource;
use serde_json::Value;

use super::{
    kinds::api,
    kube_inject::KubeInject,
    register::{REGISTERED, Register, Registered},
};
use crate::{cli::Global, client, output};

/// Add workloads to the mesh that run already.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental add-to-mesh deployment productpage-v1\n  lateen experimental add-to-mesh service productpage -n shop\n  lateen experimental add-to-mesh external-service legacy 10.1.2.3,10.1.2.4 http:8080"
)]
pub(crate) struct AddToMesh {
    #[command(subcommand)]
    what: Add,
    /// The revision whose sidecar is added.
    #[arg(short, long, global = true)]
    revision: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Add {
    /// The pods of a Deployment, which are replaced
    #[command(
        alias = "deploy",
        after_help = "Example:\n  lateen experimental add-to-mesh deployment productpage-v1"
    )]
    Deployment {
        /// Its name.
        name: String,
    },
    /// The pods of each Deployment behind a service, which are replaced
    #[command(
        alias = "svc",
        after_help = "Example:\n  lateen experimental add-to-mesh service productpage"
    )]
    Service {
        /// Its name.
        name: String,
    },
    /// Workloads outside of the cluster, as a service
    #[command(
        after_help = "Example:\n  lateen experimental add-to-mesh external-service legacy 10.1.2.3,10.1.2.4 http:8080 -l version=v1"
    )]
    ExternalService {
        /// The service's name.
        name: String,
        /// Addresses of the workloads, with commas between them.
        #[arg(value_parser = addresses)]
        addresses: Addresses,
        #[command(flatten)]
        what: Registered,
    },
}

/// Take workloads out of the mesh that run on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental remove-from-mesh deployment productpage-v1\n  lateen experimental remove-from-mesh service productpage -n shop\n  lateen experimental remove-from-mesh external-service legacy"
)]
pub(crate) struct RemoveFromMesh {
    #[command(subcommand)]
    what: Remove,
}

#[derive(Debug, Subcommand)]
enum Remove {
    /// The pods of a Deployment, which are replaced
    #[command(
        alias = "deploy",
        after_help = "Example:\n  lateen experimental remove-from-mesh deployment productpage-v1"
    )]
    Deployment {
        /// Its name.
        name: String,
    },
    /// The pods of each Deployment behind a service, which are replaced
    #[command(
        alias = "svc",
        after_help = "Example:\n  lateen experimental remove-from-mesh service productpage"
    )]
    Service {
        /// Its name.
        name: String,
    },
    /// Workloads that were added with their service
    #[command(
        after_help = "Example:\n  lateen experimental remove-from-mesh external-service legacy"
    )]
    ExternalService {
        /// The service's name.
        name: String,
    },
}

/// Several, in one word.
#[derive(Clone, Debug)]
struct Addresses(Vec<IpAddr>);

fn addresses(text: &str) -> Result<Addresses, String> {
    let each = text.split(',').map(|one| {
        let address = one.trim().parse();
        address.map_err(|_| format!("{one:?} is no address"))
    });
    Ok(Addresses(each.collect::<Result<_, _>>()?))
}

impl AddToMesh {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let found = match &self.what {
            Add::Deployment { name } => vec![deployment(&client, name, global).await?],
            Add::Service { name } => behind(&client, name, global).await?,
            Add::ExternalService {
                name,
                addresses,
                what,
            } => {
                for address in &addresses.0 {
                    Register::of(name, *address, what).run(global).await?;
                }
                return Ok(());
            }
        };
        let params = KubeInject::of_cluster(self.revision.as_deref(), global).await?;
        for object in found {
            let add = |value: &mut Value| add(value, &global.namespace, &params);
            change(&client, object, global, add).await?;
        }
        Ok(())
    }
}

impl RemoveFromMesh {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let found = match &self.what {
            Remove::Deployment { name } => vec![deployment(&client, name, global).await?],
            Remove::Service { name } => behind(&client, name, global).await?,
            Remove::ExternalService { name } => {
                return remove_external(&client, name, global).await;
            }
        };
        for object in found {
            change(&client, object, global, |value| Ok(remove(value))).await?;
        }
        Ok(())
    }
}

/// What became of a Deployment, in words.
enum Done {
    Changed(&'static str),
    Nothing(&'static str),
}

fn deployments(client: &Client, global: &Global) -> (Api<DynamicObject>, ApiResource) {
    let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "deployments");
    let api = Api::namespaced_with(client.clone(), &global.namespace, &resource);
    (api, resource)
}

async fn deployment(client: &Client, name: &str, global: &Global) -> anyhow::Result<DynamicObject> {
    let found = deployments(client, global).0.get(name).await;
    found.with_context(|| format!("cannot read deployment {name}.{}", global.namespace))
}

/// The Deployments whose pods a service selects.
async fn behind(
    client: &Client,
    name: &str,
    global: &Global,
) -> anyhow::Result<Vec<DynamicObject>> {
    let namespace = &global.namespace;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services.get(name).await;
    let service = service.with_context(|| format!("cannot read service {name}.{namespace}"))?;
    let selector: Selector = super::register::selector(&service)?.into_iter().collect();
    let (api, resource) = deployments(client, global);
    let all = client::list(&api, &resource).await;
    let all = all.context("cannot list deployments")?;
    let selected = |object: &DynamicObject| {
        let labels = object.data["spec"]["template"]["metadata"]["labels"].clone();
        let labels = serde_json::from_value(labels).unwrap_or_default();
        selector.matches(&labels)
    };
    let own: Vec<DynamicObject> = all.into_iter().filter(selected).collect();
    if own.is_empty() {
        bail!("no deployment of namespace {namespace} is behind service {name}");
    }
    Ok(own)
}

async fn change(
    client: &Client,
    object: DynamicObject,
    global: &Global,
    change: impl FnOnce(&mut Value) -> anyhow::Result<Done>,
) -> anyhow::Result<()> {
    let called = format!("deployment {}.{}", object.name_any(), global.namespace);
    let name = object.name_any();
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = "apps/v1".into();
    value["kind"] = "Deployment".into();
    match change(&mut value).with_context(|| called.clone())? {
        Done::Nothing(why) => output::line(format_args!("{called} {why}; nothing was changed")),
        Done::Changed(how) => {
            let object: DynamicObject = serde_json::from_value(value)?;
            let api = deployments(client, global).0;
            let replaced = api.replace(&name, &PostParams::default(), &object).await;
            replaced.with_context(|| format!("cannot change {called}"))?;
            output::line(format_args!("{called} {how}; its pods are replaced"));
        }
    }
    Ok(())
}

/// The sidecar into a Deployment's template.
fn add(deployment: &mut Value, namespace: &str, params: &Params) -> anyhow::Result<Done> {
    let template = &mut deployment["spec"]["template"]["metadata"];
    if template["annotations"][annotations::STATUS].is_string() {
        return Ok(Done::Nothing("has a sidecar already"));
    }
    // What `remove-from-mesh` wrote is taken back.
    if let Some(labels) = template["labels"].as_object_mut() {
        labels.shift_remove(labels::SIDECAR_INJECT);
    }
    match inject_document(deployment, namespace, params).map_err(anyhow::Error::msg)? {
        true => Ok(Done::Changed("has a sidecar now")),
        false => Ok(Done::Nothing(
            "is not to be injected, by its annotations or the injector's settings",
        )),
    }
}

/// The sidecar out of it, and kept out where its namespace asks for one.
fn remove(deployment: &mut Value) -> Done {
    let had = uninject_document(deployment);
    let labels = &mut deployment["spec"]["template"]["metadata"]["labels"];
    if !had && labels[labels::SIDECAR_INJECT] == "false" {
        return Done::Nothing("has no sidecar");
    }
    labels[labels::SIDECAR_INJECT] = "false".into();
    Done::Changed("has no sidecar now")
}

async fn remove_external(client: &Client, name: &str, global: &Global) -> anyhow::Result<()> {
    let namespace = &global.namespace;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services.get(name).await;
    let service = service.with_context(|| format!("cannot read service {name}.{namespace}"))?;
    if service.labels().get(REGISTERED.0).map(String::as_str) != Some(REGISTERED.1) {
        bail!(
            "service {name}.{namespace} was not made by add-to-mesh or register; `lateen deregister {name} ADDRESS` takes a workload from it"
        );
    }
    let selector: Selector = super::register::selector(&service)?.into_iter().collect();
    let entries = api(client, &WORKLOAD_ENTRY, namespace);
    let all = client::list(&entries, &resource(&WORKLOAD_ENTRY)).await;
    for entry in all.context("cannot list workloadentries")? {
        let labels = entry.data["spec"]["labels"].clone();
        let labels = serde_json::from_value(labels).unwrap_or_default();
        let is_ours = entry.labels().get(REGISTERED.0).map(String::as_str) == Some(REGISTERED.1);
        if is_ours && selector.matches(&labels) {
            let called = entry.name_any();
            let gone = entries.delete(&called, &DeleteParams::default()).await;
            gone.with_context(|| format!("cannot delete WorkloadEntry {called}.{namespace}"))?;
            output::line(format_args!(
                "Deleted WorkloadEntry {called} in namespace {namespace}"
            ));
        }
    }
    let gone = services.delete(name, &DeleteParams::default()).await;
    gone.with_context(|| format!("cannot delete service {name}.{namespace}"))?;
    output::line(format_args!(
        "Deleted service {name} in namespace {namespace}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "n"},
            "spec": {"template": {
                "metadata": {"labels": {"app": "d", "service.istio.io/canonical-name": "shop"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }},
        })
    }

    fn has_sidecar(deployment: &Value) -> bool {
        deployment["spec"]["template"]
            .to_string()
            .contains("\"istio-proxy\"")
    }

    #[test]
    fn a_sidecar_comes_and_goes() {
        let params = Params::default();
        let mut value = deployment();
        assert!(matches!(
            add(&mut value, "n", &params),
            Ok(Done::Changed(_))
        ));
        assert!(has_sidecar(&value), "{value}");
        assert!(matches!(
            add(&mut value, "n", &params),
            Ok(Done::Nothing(_))
        ));
        assert!(matches!(remove(&mut value), Done::Changed(_)));
        assert!(!has_sidecar(&value), "{value}");
        // The webhook is told, too.
        let labels = &value["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels[labels::SIDECAR_INJECT], "false");
        // What the Deployment may select its pods by.
        assert_eq!(labels[labels::CANONICAL_NAME], "shop");
        assert!(matches!(remove(&mut value), Done::Nothing(_)));
        assert!(matches!(
            add(&mut value, "n", &params),
            Ok(Done::Changed(_))
        ));
        assert!(has_sidecar(&value), "{value}");
    }

    #[test]
    fn one_that_forbids_it_is_left_alone() {
        let mut value = deployment();
        value["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        let before = value.clone();
        let done = add(&mut value, "n", &Params::default());
        assert!(matches!(done, Ok(Done::Nothing(_))));
        assert_eq!(value, before);
    }
}
