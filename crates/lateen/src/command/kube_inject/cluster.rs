//! What a cluster says of injection.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{ConfigMap, Node},
};
use kube::{Api, Client, api::ListParams};

use super::KubeInject;
use crate::{cli::Global, client, discovery::injection};

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let name = flags.config_map(&flags.inject_config_map, "istio-sidecar-injector");
        self.config_map(&name, flags.revision.is_some()).await
    }

    /// The mesh's ConfigMap.
    pub(super) async fn mesh(
        &self,
        flags: &KubeInject,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let name = flags.config_map(&flags.mesh_config_map, "istio");
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

    /// Whether every node has them. Without a right to see nodes, none has.
    pub(super) async fn has_native_sidecars(&self) -> bool {
        let nodes = Api::<Node>::all(self.client.clone());
        match nodes.list(&ListParams::default()).await {
            Ok(nodes) => injection::have_native_sidecars(&nodes.items),
            Err(_) => false,
        }
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
