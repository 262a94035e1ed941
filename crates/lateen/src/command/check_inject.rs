//! `lateen x check-inject`: whether pods of some labels are injected, by which webhook, and why.

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{Api, Client, ResourceExt};

use super::{
    hooks::{Hook, Map, hooks},
    register::pair,
};
use crate::{cli::Global, client, output, table::Table};

/// Say whether a pod is injected, by which webhook, and why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental check-inject pod/reviews-v1-77bb\n  lateen experimental check-inject deploy/reviews-v1.shop\n  lateen experimental check-inject -n shop -l app=reviews,sidecar.istio.io/inject=true"
)]
pub(crate) struct CheckInject {
    /// `[pod/]name[.namespace]`, or `deploy/name[.namespace]` for the pods that it would make.
    #[arg(required_unless_present = "labels", conflicts_with = "labels")]
    target: Option<String>,
    /// Labels of a pod that need not be there, in the namespace.
    #[arg(short, long, value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
}

impl CheckInject {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let (namespace, pod) = match &self.target {
            Some(target) => of_target(&client, target, global).await?,
            None => {
                let labels = self.labels.iter().cloned().collect();
                (global.namespace.clone(), labels)
            }
        };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let of_namespace = namespaces.get(&namespace).await;
        let of_namespace =
            of_namespace.with_context(|| format!("cannot read namespace {namespace}"))?;
        let hooks = hooks(&client).await?;
        if hooks.is_empty() {
            bail!("no webhook injects in this cluster; install the mesh with `lateen install`");
        }
        output::print(table(&hooks, of_namespace.labels(), &pod));
        Ok(())
    }
}

/// The namespace of a target, and the labels of its pods.
async fn of_target(
    client: &Client,
    target: &str,
    global: &Global,
) -> anyhow::Result<(String, Map)> {
    let (kind, name) = target.split_once('/').unwrap_or(("pod", target));
    let (name, namespace) = client::split_namespace(name, global);
    let labels = match kind {
        "pod" | "pods" | "po" => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let pod = pods.get(name).await;
            let pod = pod.with_context(|| format!("cannot read pod {name}.{namespace}"))?;
            pod.metadata.labels
        }
        "deploy" | "deployment" | "deployments" | "deployments.apps" => {
            let all: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            let found = all.get(name).await;
            let found =
                found.with_context(|| format!("cannot read deployment {name}.{namespace}"))?;
            let meta = found.spec.template.metadata;
            meta.and_then(|meta| meta.labels)
        }
        _ => bail!("{kind}/{name} is not supported: name a pod, or deploy/NAME"),
    };
    Ok((namespace.to_owned(), labels.unwrap_or_default()))
}

fn table(hooks: &[Hook], namespace: &Map, pod: &Map) -> Table {
    let mut table = Table::new(["WEBHOOK", "REVISION", "INJECTED", "REASON"]).padded(1);
    for hook in hooks {
        let found = hook.injects(namespace, pod);
        let mark = if found.is_some() { "✔" } else { "✘" };
        let reason = found.unwrap_or_else(|| hook.why_not(namespace, pod));
        table.row([
            hook.name.clone(),
            hook.revision.clone(),
            mark.to_owned(),
            reason,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::hooks::tests::of_profile;

    #[test]
    fn each_webhook_says_yes_or_no() {
        let labels = |pairs: &[(&str, &str)]| -> Map {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let told = table(
            &[of_profile()],
            &labels(&[("istio-injection", "enabled")]),
            &labels(&[]),
        );
        assert_eq!(
            told.to_string(),
            "WEBHOOK                REVISION INJECTED REASON\n\
             istio-sidecar-injector default  ✔        namespace label istio-injection=enabled\n"
        );
    }
}
