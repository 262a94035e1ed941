//! Which revision is meant where none is named, and that one control plane alone does what is done
//! once for all; each with no more rights than it has rules for.

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, LogParams, PostParams},
    core::GroupVersionKind,
    discovery,
};
use lateen_e2e::{Mesh, eventually};
use serde_json::{Value, json};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::JoinHandle,
};

use super::{alone, block_on};

/// A pod that names no revision, and a rule whose host is not there.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: details, namespace: shop, labels: {app: details}}
spec:
  containers: [{name: details, image: docker.io/istio/examples-bookinfo-details-v1:1.20.3}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: nowhere, namespace: shop}
spec: {host: nowhere}
";

#[test]
fn the_first_revision_is_the_default_one_until_another_takes_its_place() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("defaults")?;
    block_on(async {
        let client = mesh.client().await?;
        let analysed = "values.global.istiod.enableAnalysis=true";
        let stable = ["--set", "revision=stable", "--set", analysed];
        mesh.lateen_ok(&[&["install", "-y"][..], &stable].concat())?;
        ensure!(tags(&mesh)? == ["default stable"], "{:?}", tags(&mesh)?);
        mesh.apply(OBJECTS).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
        let pod = pods.get("details").await?;
        let annotations = pod.metadata.annotations.unwrap_or_default();
        ensure!(
            annotations
                .get("istio.io/rev")
                .is_some_and(|by| by == "stable"),
            "{annotations:?}"
        );
        led_by(&client, "stable").await?;
        eventually("the rule to be told what analysis finds", async || {
            let told = codes(&client).await?;
            ensure!(told == ["IST0174"], "{told:?}");
            Ok(())
        })
        .await?;
        rights(&client, "istiod-stable").await?;
        nothing_was_forbidden(&client).await?;

        // The one that is meant by its name takes over, at once and not when the other one ends.
        let made = Arrivals::start(&client);
        let said = mesh.lateen_ok(&["install", "-y"])?;
        let (n_pods, faults) = made.end().await;
        ensure!(
            said.contains("- MutatingWebhookConfiguration istio-revision-tag-default"),
            "{said}"
        );
        ensure!(
            n_pods > 0 && faults.is_empty(),
            "{n_pods} pods, {faults:#?}"
        );
        ensure!(tags(&mesh)?.is_empty(), "{:?}", tags(&mesh)?);
        led_by(&client, "default").await?;
        eventually("the one without analysis to tell nothing", async || {
            let told = codes(&client).await?;
            ensure!(told.is_empty(), "{told:?}");
            Ok(())
        })
        .await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
        maps.get("istio-ca-root-cert").await?;
        nothing_was_forbidden(&client).await?;

        // Without it, the other one does the work.
        mesh.lateen_ok(&["uninstall", "--revision", "default", "-y"])?;
        led_by(&client, "stable").await?;
        mesh.lateen_ok(&["tag", "set", "default", "--revision", "stable"])?;
        mesh.lateen_ok(&["uninstall", "--revision", "stable", "-y"])?;
        ensure!(tags(&mesh)?.is_empty(), "{:?}", tags(&mesh)?);
        Ok(())
    })?;
    mesh.stop().map(drop)
}

/// Pods that are made while something changes, one after the other: each has to be injected, once.
struct Arrivals {
    end: oneshot::Sender<()>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Arrivals {
    fn start(client: &Client) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut n_pods, mut faults) = (0, Vec::new());
            while matches!(ended.try_recv(), Err(TryRecvError::Empty)) {
                n_pods += 1;
                if let Err(error) = Self::one(&pods, n_pods).await {
                    faults.push(format!("{error:#}"));
                }
            }
            (n_pods, faults)
        });
        Self { end, task }
    }

    /// How many pods were made, and what was wrong with which.
    async fn end(self) -> (usize, Vec<String>) {
        // Where nobody listens any more, the task has ended, which is told below.
        let _ = self.end.send(());
        self.task.await.expect("it does not panic")
    }

    /// Nothing runs: what would be there is what counts.
    async fn one(pods: &Api<Pod>, n: usize) -> anyhow::Result<()> {
        let pod = json!({
            "metadata": {"name": format!("arrival-{n}"), "labels": {"app": "arrival"}},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        });
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let made = pods.create(&params, &serde_json::from_value(pod)?).await?;
        let notes = made.metadata.annotations.unwrap_or_default();
        let by = notes.get("istio.io/rev").map(String::as_str);
        ensure!(
            matches!(by, Some("stable" | "default")),
            "injected by {by:?}"
        );
        let spec = made.spec.context("a pod has a spec")?;
        let init = spec.init_containers.into_iter().flatten();
        let names: Vec<_> = init.chain(spec.containers).map(|it| it.name).collect();
        ensure!(names == ["istio-init", "app", "istio-proxy"], "{names:?}");
        Ok(())
    }
}

/// Tags, each with its revision.
fn tags(mesh: &Mesh) -> anyhow::Result<Vec<String>> {
    let table = mesh.lateen_ok(&["tag", "list"])?;
    let rows = table
        .lines()
        .filter(|line| !line.starts_with("There are no"));
    let row = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().take(2).collect();
        columns.join(" ")
    };
    Ok(rows
        .skip_while(|line| line.starts_with("TAG"))
        .map(row)
        .collect())
}

/// Every task that is done once for all revisions is done by this one.
async fn led_by(client: &Client, revision: &str) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "istio-system");
    eventually(&format!("{revision} to lead"), async || {
        for name in [
            "istio-status-leader",
            "istio-gateway-status-leader",
            "istio-leader",
            "istio-namespace-controller-election",
        ] {
            let lease = leases.get(name).await?;
            let notes = lease.metadata.annotations.unwrap_or_default();
            let by = notes.get("leader.istio.io/holder-key");
            ensure!(
                by.is_some_and(|by| by == revision),
                "{name} is led by {by:?}"
            );
        }
        Ok(())
    })
    .await?;
    let own = format!("istio-gateway-deployment-{revision}");
    leases.get(&own).await.context(own).map(drop)
}

/// Codes of what the rule is told.
async fn codes(client: &Client) -> anyhow::Result<Vec<String>> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    let (resource, _) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &resource);
    let status = api.get("nowhere").await?.data["status"].clone();
    ensure!(status["conditions"].is_array(), "not told yet: {status}");
    let messages = status["validationMessages"].as_array().cloned();
    let code = |message: Value| {
        message["type"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Ok(messages.unwrap_or_default().into_iter().map(code).collect())
}

/// The control plane may do what it has rules for, and nothing beside.
async fn rights(client: &Client, account: &str) -> anyhow::Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    for (verb, group, resource, namespace, expect) in [
        ("watch", "", "pods", "shop", true),
        (
            "patch",
            "networking.istio.io",
            "virtualservices/status",
            "shop",
            true,
        ),
        (
            "update",
            "coordination.k8s.io",
            "leases",
            "istio-system",
            true,
        ),
        ("create", "", "secrets", "istio-system", true),
        (
            "patch",
            "networking.istio.io",
            "virtualservices",
            "shop",
            false,
        ),
        ("create", "", "pods", "shop", false),
        ("create", "", "secrets", "shop", false),
        ("get", "", "secrets", "shop", false),
        ("update", "coordination.k8s.io", "leases", "shop", false),
        ("delete", "apps", "deployments", "istio-system", false),
        (
            "create",
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            "",
            false,
        ),
        ("impersonate", "", "users", "", false),
    ] {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"spec": {
            "user": format!("system:serviceaccount:istio-system:{account}"),
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource,
                "subresource": subresource, "namespace": namespace,
            },
        }});
        let review: SubjectAccessReview = serde_json::from_value(review)?;
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let may = answer.status.is_some_and(|status| status.allowed);
        ensure!(
            may == expect,
            "{verb} {resource}/{subresource} of {group:?} in {namespace:?}"
        );
    }
    Ok(())
}

/// No control plane asked the API server for what it has no right to.
async fn nothing_was_forbidden(client: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "istio-system");
    let control_planes = pods
        .list(&ListParams::default().labels("app=istiod"))
        .await?;
    ensure!(!control_planes.items.is_empty());
    for pod in control_planes {
        let name = pod.metadata.name.context("a name")?;
        let log = pods.logs(&name, &LogParams::default()).await?;
        let refused = log.lines().find(|line| line.contains("forbidden"));
        ensure!(refused.is_none(), "{name}: {refused:?}");
        ensure!(
            log.contains("configuration is in sync"),
            "{name} says nothing: {log}"
        );
    }
    Ok(())
}
