//! Each profile, from one to the next, and nothing left in the end.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    core::GroupVersionKind,
    discovery,
};
use lateen_e2e::{Mesh, eventually};

use super::{alone, block_on};

/// A control plane that is elsewhere, by its address and by its name.
const ELSEWHERE: [&str; 2] = ["192.0.2.7", "istiod.example.com"];

#[test]
fn profiles_are_installed_changed_and_removed() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("profiles")?;
    block_on(async {
        let client = mesh.client().await?;
        settled(&client).await?;
        let before = everything(&client).await?;
        let mut held = BTreeSet::new();
        for (profile, elsewhere, parts) in [
            ("minimal", None, &["istiod"][..]),
            (
                "demo",
                None,
                &["istiod", "istio-egressgateway", "istio-ingressgateway"],
            ),
            ("default", None, &["istiod", "istio-ingressgateway"]),
            ("preview", None, &["istiod", "istio-ingressgateway"]),
            // The webhook and the way to the control plane: nobody is asked yet.
            ("remote", Some(ELSEWHERE[0]), &[]),
            ("external", Some(ELSEWHERE[1]), &[]),
            ("empty", None, &[]),
            ("default", None, &["istiod", "istio-ingressgateway"]),
        ] {
            let mut settings = vec![format!("profile={profile}")];
            if let Some(address) = elsewhere {
                let root = root(&client).await?;
                settings.push(format!("values.global.remotePilotAddress={address}"));
                settings.push(format!("values.istiodRemote.injectionCABundle={root}"));
            }
            let sets = settings.iter().map(String::as_str);
            let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
            let said = mesh.lateen_ok(&[&["install", "-y"], &sets[..]].concat())?;
            ensure!(
                said.contains("✔ Installation complete"),
                "{profile}: {said}"
            );
            let now = deployments(&client).await?;
            let wanted = parts.iter().map(|name| (*name).to_owned());
            ensure!(now == wanted.collect(), "{profile}: {now:?}");
            // What goes is said before it goes.
            for gone in held.difference(&now) {
                ensure!(
                    said.contains(&format!("- Deployment istio-system/{gone}")),
                    "{profile}: {said}"
                );
            }
            mesh.lateen_ok(&[&["verify-install"], &sets[..]].concat())?;
            held = now;
        }
        let said = mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
        ensure!(said.contains("✔ Uninstall complete"), "{said}");
        eventually("everything to be as it was", async || {
            let now = everything(&client).await?;
            let left: Vec<_> = now.difference(&before).collect();
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        })
        .await
    })?;
    mesh.stop().map(drop)
}

#[test]
fn what_somebody_else_made_is_left_alone() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("foreign")?;
    block_on(async {
        let foreign = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {team: x}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'theirs: true'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: istio-system}
data: {a: b}
";
        mesh.apply(foreign).await?;
        let output = mesh.lateen(&["install", "--set", "profile=minimal", "-y"])?;
        let said = lateen_e2e::mesh::text(&output);
        ensure!(
            !output.status.success()
                && said.contains("no installation made them: ConfigMap istio-system/istio")
                && said.contains("--force"),
            "{said}"
        );
        let maps: Api<ConfigMap> = Api::namespaced(mesh.client().await?, "istio-system");
        let data = maps.get("istio").await?.data.unwrap_or_default();
        ensure!(data["mesh"] == "theirs: true", "{data:?}");
        mesh.lateen_ok(&["install", "--set", "profile=minimal", "-y", "--force"])?;
        mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
        // The namespace and what is theirs in it stay.
        maps.get("other").await?;
        Ok(())
    })?;
    mesh.stop().map(drop)
}

/// Every namespace has what the platform gives it.
pub(super) async fn settled(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    eventually("the platform's own objects", async || {
        for namespace in namespaces.list(&ListParams::default()).await?.items {
            let name = namespace.metadata.name.unwrap_or_default();
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
            maps.get("kube-root-ca.crt").await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
            accounts.get("default").await?;
        }
        Ok(())
    })
    .await
}

/// The mesh's root certificate as webhooks have it.
async fn root(client: &Client) -> anyhow::Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = maps.get("istio-ca-root-cert").await?;
    let root = map.data.unwrap_or_default().remove("root-cert.pem");
    Ok(STANDARD.encode(root.context("a root")?))
}

async fn deployments(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let all: Api<Deployment> = Api::namespaced(client.clone(), "istio-system");
    let all = all.list(&ListParams::default()).await?;
    let there = all
        .items
        .into_iter()
        .filter(|it| it.metadata.deletion_timestamp.is_none());
    Ok(there.filter_map(|it| it.metadata.name).collect())
}

/// Every object of every kind that can be listed, but for those that pass by themselves.
pub(super) async fn everything(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let discovery = discovery::Discovery::new(client.clone()).run().await?;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let passes = matches!(resource.kind.as_str(), "Event" | "Lease");
            if passes || !capabilities.supports_operation(discovery::verbs::LIST) {
                continue;
            }
            let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            for object in api.list(&ListParams::default()).await?.items {
                let meta = object.metadata;
                let place = meta.namespace.unwrap_or_default();
                let name = meta.name.unwrap_or_default();
                all.insert(format!("{}/{} {place}/{name}", kind.group, kind.kind));
            }
        }
    }
    Ok(all)
}

/// A file for one more gateway, as those of several networks are installed.
const EAST_WEST: &str = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: eastwest}
spec:
  profile: empty
  components:
    ingressGateways:
    - name: istio-eastwestgateway
      enabled: true
      label: {istio: eastwestgateway, app: istio-eastwestgateway}
";

/// Nobody says them again, and those that are laid over them are shown first.
async fn settings_outlive_an_upgrade(mesh: &Mesh, client: &Client) -> anyhow::Result<()> {
    let log = |file: &str| format!("meshConfig.accessLogFile={file}");
    mesh.lateen_ok(&["install", "--set", &log("/dev/stderr"), "-y"])?;
    mesh.lateen_ok(&["upgrade", "-y"])?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "istio-system");
    let settings = async || -> anyhow::Result<String> {
        let data = maps.get("istio").await?.data.unwrap_or_default();
        Ok(data["mesh"].clone())
    };
    let kept = settings().await?;
    ensure!(kept.contains("accessLogFile: /dev/stderr"), "{kept}");
    let more = "meshConfig.accessLogEncoding=JSON";
    let said = mesh.lateen_ok(&["upgrade", "--set", more, "-y"])?;
    ensure!(
        said.contains("Settings that change:") && said.contains("+    accessLogEncoding: JSON"),
        "{said}"
    );
    let now = settings().await?;
    ensure!(
        now.contains("accessLogFile: /dev/stderr") && now.contains("accessLogEncoding: JSON"),
        "{now}"
    );
    Ok(())
}

#[test]
fn one_more_gateway_leaves_the_rest() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("eastwest")?;
    block_on(async {
        let client = mesh.client().await?;
        mesh.lateen_ok(&["install", "-y"])?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), EAST_WEST)?;
        let path = file.path().display().to_string();
        mesh.lateen_ok(&["install", "-f", &path, "-y"])?;
        let all = ["istio-eastwestgateway", "istio-ingressgateway", "istiod"];
        let now = deployments(&client).await?;
        ensure!(now == all.map(str::to_owned).into(), "{now:?}");
        // Nor does the mesh take the gateway away.
        mesh.lateen_ok(&["install", "-y"])?;
        ensure!(deployments(&client).await? == now);
        // Two installations are there, and one is meant.
        let several = mesh.lateen(&["upgrade", "-y"])?;
        let said = lateen_e2e::mesh::text(&several);
        ensure!(
            !several.status.success() && said.contains("istio-installed-state-eastwest"),
            "{said}"
        );
        // A file takes away what it brought.
        mesh.lateen_ok(&["uninstall", "-f", &path, "-y"])?;
        let all = ["istio-ingressgateway", "istiod"];
        let now = deployments(&client).await?;
        ensure!(now == all.map(str::to_owned).into(), "{now:?}");
        settings_outlive_an_upgrade(&mesh, &client).await?;
        // What an administrator put beside it is not the mesh's.
        mesh.apply(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: cacerts, namespace: istio-system}\n",
        )
        .await?;
        let said = mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
        ensure!(
            said.contains("Namespace istio-system stays: Secret cacerts"),
            "{said}"
        );
        ensure!(deployments(&client).await?.is_empty());
        Ok(())
    })?;
    mesh.stop().map(drop)
}
