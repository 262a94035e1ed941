//! `lateen remote-clusters`: the clusters that each replica of the control plane reads.

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use lateen_core::ports::CONTROL_PLANE_DEBUG;
use serde::Deserialize;

use crate::{cli::Global, client, output, table::Table};

/// List the clusters that the control plane reads services from.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen remote-clusters\n  lateen remote-clusters --revision canary"
)]
pub(crate) struct RemoteClusters {
    /// Only replicas of this revision.
    #[arg(short, long)]
    revision: Option<String>,
}

/// One cluster, as `/debug/clusterz` tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    id: String,
    #[serde(default)]
    secret_name: String,
    #[serde(default)]
    sync_status: String,
}

impl RemoteClusters {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &global.istio_namespace);
        let labelled = pods
            .list(&ListParams::default().labels("app=istiod"))
            .await?;
        let revision_of = |name: &str| {
            let pod = labelled.iter().find(|pod| pod.name_any() == name);
            let revision = pod.and_then(|pod| pod.labels().get("istio.io/rev"));
            revision.cloned().unwrap_or_else(|| "default".to_owned())
        };
        let mut rows = Vec::new();
        for pod in client::control_plane_pods(&client, global).await? {
            let revision = revision_of(&pod);
            if self
                .revision
                .as_ref()
                .is_some_and(|wanted| *wanted != revision)
            {
                continue;
            }
            let (namespace, port) = (&global.istio_namespace, CONTROL_PLANE_DEBUG);
            let text = client::pod_get(&client, namespace, &pod, port, "/debug/clusterz").await?;
            let found = clusters(&text)?.into_iter();
            rows.extend(found.map(|cluster| (cluster, pod.clone(), revision.clone())));
        }
        output::print(table(rows));
        Ok(())
    }
}

/// Clusters, each with the replica that reads it and that one's revision.
fn table(rows: Vec<(Cluster, String, String)>) -> Table {
    let mut table = Table::new(["NAME", "SECRET", "STATUS", "ISTIOD", "REVISION"]);
    for (cluster, pod, revision) in rows {
        table.row([
            cluster.id,
            cluster.secret_name,
            cluster.sync_status,
            pod,
            revision,
        ]);
    }
    table.sort();
    table
}

fn clusters(text: &str) -> anyhow::Result<Vec<Cluster>> {
    serde_json::from_str(text).context("/debug/clusterz answered in another form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cluster_has_no_secret() {
        let text = r#"[{"id": "Kubernetes", "secretName": "", "syncStatus": "synced"},
            {"id": "east", "secretName": "istio-system/istio-remote-secret-east"}]"#;
        let found = clusters(text).expect("clusters");
        let told: Vec<_> = found
            .iter()
            .map(|of| (&*of.id, &*of.secret_name, &*of.sync_status))
            .collect();
        let secret = "istio-system/istio-remote-secret-east";
        assert_eq!(told, [("Kubernetes", "", "synced"), ("east", secret, "")]);
        assert!(clusters("{}").is_err());
        let rows = found
            .into_iter()
            .map(|cluster| (cluster, "istiod-1".to_owned(), "default".to_owned()));
        assert_eq!(
            table(rows.collect()).to_string(),
            "NAME           SECRET                                    STATUS     ISTIOD       REVISION\n\
             Kubernetes                                               synced     istiod-1     default\n\
             east           istio-system/istio-remote-secret-east                istiod-1     default\n"
        );
    }
}
