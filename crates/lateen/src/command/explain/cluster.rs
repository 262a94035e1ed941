//! The objects of a running cluster as documents, so that a change can be tried on them elsewhere.

use anyhow::Context;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use lateen_registry::{Documents, MESH_CONFIG, WATCHED_KINDS, resource};
use serde_json::json;

use crate::{cli::Global, client};

/// Kinds of Kubernetes that decide where requests go, by group, version, kind and plural.
const OF_PLATFORM: [(&str, &str, &str, &str); 5] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Service", "services"),
    ("", "v1", "Pod", "pods"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
];

/// Everything that a proxy's configuration is made of, each kind as a text of its own.
///
/// # Errors
/// Where something may not be read.
pub(super) async fn objects(global: &Global) -> anyhow::Result<Vec<Documents>> {
    let client = client::connect(global).await?;
    let of_platform = OF_PLATFORM.map(|(group, version, kind, plural)| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    });
    let of_mesh = WATCHED_KINDS.iter().map(resource);
    let mut texts = Vec::new();
    for resource in of_platform.into_iter().chain(of_mesh) {
        let all = Api::all_with(client.clone(), &resource);
        texts.push(Documents::stored(list(&all, &resource).await?));
    }
    texts.push(Documents::stored(mesh_config(&client, global).await?));
    Ok(texts)
}

/// All objects of a kind.
async fn list(api: &Api<DynamicObject>, resource: &ApiResource) -> anyhow::Result<String> {
    let items = client::list(api, resource).await;
    let items = items.with_context(|| format!("cannot list {}", resource.plural))?;
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
}

async fn mesh_config(client: &Client, global: &Global) -> anyhow::Result<String> {
    let gvk = GroupVersionKind::gvk("", "v1", "ConfigMap");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "configmaps");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &global.istio_namespace, &resource);
    let mut map = api
        .get(MESH_CONFIG)
        .await
        .context("cannot read ConfigMap istio, the mesh's configuration")?;
    map.types = Some(kube::api::TypeMeta {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
    });
    Ok(serde_json::to_string(&map)?)
}
