//! What a cluster says of injection.

use std::{collections::BTreeMap, slice, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
};
use lateen_api::{Object, kinds::PROXY_CONFIG, labels, networking::ProxyConfig};
use lateen_registry::resource;

use super::KubeInject;
use crate::{cli::Global, client, command::kinds, discovery::injection};

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the control plane is told whether sidecars are native.
const NATIVE: &str = "ENABLE_NATIVE_SIDECARS";

/// Which pods get native sidecars.
#[derive(Debug, PartialEq)]
pub(super) struct Natives {
    /// Those that come to any node.
    pub(super) all: bool,
    /// Those that name their node.
    pub(super) nodes: BTreeMap<String, bool>,
}

/// A cluster that answers.
pub(super) struct Cluster {
    client: Client,
    namespace: String,
    must_answer: bool,
}

impl Cluster {
    /// `None` where no cluster answers and none has to: that is told, since the defaults count then.
    pub(super) async fn of(global: &Global, must_answer: bool) -> anyhow::Result<Option<Self>> {
        let reached = async {
            let client = client::connect(global).await?;
            let answer = tokio::time::timeout(PATIENCE, client.apiserver_version());
            answer.await.context("the cluster does not answer")??;
            anyhow::Ok(client)
        };
        match reached.await {
            Ok(client) => Ok(Some(Self {
                client,
                namespace: global.istio_namespace.clone(),
                must_answer,
            })),
            Err(error) if must_answer => Err(error),
            Err(error) => {
                eprintln!("lateen: going by the program's own defaults: {error:#}");
                Ok(None)
            }
        }
    }

    /// The injector's ConfigMap.
    pub(super) async fn injector(
        &self,
        flags: &KubeInject,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let name = flags.name_of(&flags.inject_config_map, "istio-sidecar-injector");
        self.config_map(&name, flags.revision.is_some()).await
    }

    /// The mesh's ConfigMap.
    pub(super) async fn mesh(
        &self,
        flags: &KubeInject,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let name = flags.name_of(&flags.mesh_config_map, "istio");
        self.config_map(&name, flags.revision.is_some()).await
    }

    async fn config_map(
        &self,
        name: &str,
        is_named: bool,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let namespace = &self.namespace;
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        let found = found.with_context(|| format!("cannot read ConfigMap {name}.{namespace}"))?;
        match found {
            Some(found) => Ok(found.data.unwrap_or_default()),
            None if self.must_answer || is_named => {
                bail!(
                    "there is no ConfigMap {name} in namespace {namespace}: is the mesh installed?"
                )
            }
            None => {
                let missing = format!("there is no ConfigMap {name} in namespace {namespace}");
                eprintln!("lateen: going by the program's own defaults: {missing}");
                Ok(BTreeMap::new())
            }
        }
    }

    /// Which pods get native sidecars: the control plane's environment says it, or the nodes do. Without a
    /// right to see nodes, none has them.
    pub(super) async fn natives(&self, flags: &KubeInject) -> Natives {
        let wish = self.wish(flags).await.unwrap_or_default();
        let is_wanted = match wish.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        if let Some(all) = is_wanted {
            let nodes = BTreeMap::new();
            return Natives { all, nodes };
        }
        let nodes = Api::<Node>::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await;
        let nodes = nodes.map(|nodes| nodes.items).unwrap_or_default();
        let of_node = |node: &Node| {
            let has = injection::have_native_sidecars(slice::from_ref(node));
            (node.name_any(), has)
        };
        Natives {
            all: injection::have_native_sidecars(&nodes),
            nodes: nodes.iter().map(of_node).collect(),
        }
    }

    /// What the control plane's environment says of native sidecars.
    async fn wish(&self, flags: &KubeInject) -> Option<String> {
        let (name, namespace) = (flags.name_of(&None, "istiod"), &self.namespace);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(&name).await.unwrap_or_else(|error| {
            eprintln!(
                "lateen: cannot read deployment {name}.{namespace}, so nodes alone say whether sidecars are native: {error}"
            );
            None
        });
        let pod = found?.spec.template.spec?;
        let variables = pod.containers.into_iter().flat_map(|it| it.env);
        let mut variables = variables.flatten();
        variables.find(|it| it.name == NATIVE)?.value
    }

    /// The ProxyConfigs that the control plane goes by, the oldest first. Who may not see those of all
    /// namespaces gets those of the control plane's and of `namespace`.
    pub(super) async fn proxy_configs(
        &self,
        namespace: &str,
        flags: &KubeInject,
    ) -> Vec<Arc<Object<ProxyConfig>>> {
        let resource = resource(&PROXY_CONFIG);
        let all = Api::all_with(self.client.clone(), &resource);
        if let Ok(found) = client::list(&all, &resource).await {
            return in_force(&found, flags.revision_or_default());
        }
        let mut found = Vec::new();
        let both = [&*self.namespace, namespace];
        let n_namespaces = if both[0] == both[1] { 1 } else { 2 };
        for namespace in &both[..n_namespaces] {
            let api = kinds::api(&self.client, &PROXY_CONFIG, namespace);
            match client::list(&api, &resource).await {
                Ok(own) => found.extend(own),
                Err(error) => eprintln!(
                    "lateen: going on without the ProxyConfigs of namespace {namespace}: {error}"
                ),
            }
        }
        in_force(&found, flags.revision_or_default())
    }

    /// The path of a webhook, which says cluster and network: `/inject/cluster/c1/net/n1`.
    pub(super) async fn webhook_path(&self, name: &str) -> anyhow::Result<String> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = api.get(name).await;
        let found = found.with_context(|| format!("cannot read webhook configuration {name}"))?;
        let path = found.webhooks.into_iter().flatten().find_map(|webhook| {
            let to = webhook.client_config;
            let of_service = to.service.and_then(|service| service.path);
            let of_url = || Some(to.url?.parse::<hyper::Uri>().ok()?.path().to_owned());
            of_service.or_else(of_url)
        });
        path.with_context(|| format!("webhook configuration {name} has no path"))
    }
}

/// What is valid and of the revision, the oldest first.
fn in_force(found: &[DynamicObject], revision: &str) -> Vec<Arc<Object<ProxyConfig>>> {
    let is_read = |object: &&DynamicObject| {
        let of = object.labels().get(labels::REVISION);
        of.is_none_or(|of| of == revision)
    };
    let read = |object: &DynamicObject| {
        let value = serde_json::to_value(object).ok()?;
        let is_valid = lateen_galley::validate(&value).is_empty();
        Object::from_value(&value).ok().filter(|_| is_valid)
    };
    let mut all: Vec<Object<ProxyConfig>> = found.iter().filter(is_read).filter_map(read).collect();
    all.sort_by(|a, b| {
        let rank = |object: &Object<ProxyConfig>| (object.meta.creation_timestamp, object.key());
        rank(a).cmp(&rank(b))
    });
    all.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests;
