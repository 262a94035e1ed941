//! The objects of a cluster that analysis looks at.

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use lateen_api::{Kind, kinds as mesh};
use lateen_registry::{WATCHED_KINDS, Written, resource};

use crate::{cli::Global, client};

/// Kinds of Kubernetes, by group, version, kind and plural.
const OF_PLATFORM: [(&str, &str, &str, &str); 12] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Service", "services"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Secret", "secrets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    ),
    ("", "v1", "ConfigMap", "configmaps"),
];

/// Lists that are under way at once.
const AT_ONCE: usize = 8;

/// What a cluster has.
pub(in crate::command) struct Read {
    pub(in crate::command) objects: Vec<Written>,
    /// What could not be read, and so is not looked at.
    pub(in crate::command) notes: Vec<String>,
    /// The kinds of these.
    pub(in crate::command) unread: Vec<String>,
}

/// Every kind that an analyser asks for. What the user may not read is noted and left out.
///
/// # Errors
/// Where the cluster does not answer.
pub(in crate::command) async fn objects(global: &Global) -> anyhow::Result<Read> {
    let client = client::connect(global).await?;
    let lists = kinds().map(|resource| {
        let client = client.clone();
        let kind = resource.kind.clone();
        async move { Ok::<_, kube::Error>((kind, list(client, resource, global).await?)) }
    });
    let lists: Vec<_> = stream::iter(lists).buffered(AT_ONCE).try_collect().await?;
    let mut read = Read {
        objects: Vec::new(),
        notes: Vec::new(),
        unread: Vec::new(),
    };
    for (kind, list) in lists {
        match list {
            Ok(objects) => read.objects.extend(objects),
            Err(note) => {
                read.notes.push(note);
                read.unread.push(kind);
            }
        }
    }
    Ok(read)
}

/// The Services of a cluster, all of which must be readable: others would look as if they were not there.
///
/// # Errors
/// Where the cluster does not answer, or does not let them be read.
pub(in crate::command) async fn services(global: &Global) -> anyhow::Result<Vec<Written>> {
    let client = client::connect(global).await?;
    let kind = GroupVersionKind::gvk("", "v1", "Service");
    let resource = ApiResource::from_gvk_with_plural(&kind, "services");
    let read = list(client, resource, global).await?;
    read.map_err(|note| anyhow::anyhow!("{note}"))
}

/// Every kind that an analyser asks for.
pub(crate) fn kinds() -> impl Iterator<Item = ApiResource> {
    let of_platform = OF_PLATFORM
        .into_iter()
        .map(|(group, version, kind, plural)| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
        });
    let own = mesh::ALL.iter();
    let watched = WATCHED_KINDS.iter().filter(|kind| {
        let is = |other: &Kind| (other.group, other.kind) == (kind.group, kind.kind);
        !mesh::ALL.iter().any(is)
    });
    let of_mesh = own.chain(watched).map(resource);
    of_platform.chain(of_mesh)
}

/// Where the objects of a kind are that are looked at. Of ConfigMaps only the mesh's own are, and a
/// cluster may have very many others.
pub(crate) fn api(client: Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    match resource.kind.as_str() {
        "ConfigMap" => Api::namespaced_with(client, namespace, resource),
        _ => Api::all_with(client, resource),
    }
}

/// All objects of a kind, or why they may not be read.
async fn list(
    client: Client,
    resource: ApiResource,
    global: &Global,
) -> kube::Result<Result<Vec<Written>, String>> {
    let api = api(client, &resource, &global.istio_namespace);
    match client::list(&api, &resource).await {
        Ok(objects) => {
            let values = objects
                .iter()
                .filter_map(|object| serde_json::to_value(object).ok());
            Ok(Ok(values.map(Written::stored).collect()))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Ok(Err(format!(
            "{} are left out: {}",
            resource.plural, status.message
        ))),
        Err(error) => Err(error),
    }
}
