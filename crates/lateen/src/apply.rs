//! Server-side apply of manifests, in their order.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, Status, TypeMeta},
    discovery::{self, Scope},
    error::DiscoveryError,
};
use serde_json::Value;

/// Who the API server notes as the writer of what is applied.
pub(crate) const FIELD_MANAGER: &str = "lateen";
/// How long a webhook may be away before that is an error.
const WEBHOOK: Duration = Duration::from_secs(30);

/// Whether the API server could not reach a webhook, which says nothing about the object.
fn is_webhook_away(status: &Status) -> bool {
    status.code == 500 && status.message.contains("failed calling webhook")
}

/// Applies objects through one client, remembering how each kind is reached.
pub(crate) struct Applier {
    client: Client,
    kinds: HashMap<TypeMeta, (ApiResource, Scope)>,
}

impl Applier {
    pub(crate) fn new(client: Client) -> Self {
        Applier {
            client,
            kinds: HashMap::new(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Applies each object; the first that is refused ends it, named with the reason.
    pub(crate) async fn apply_all(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            self.apply(object).await?;
        }
        Ok(())
    }

    /// Applies those objects of which there is none of the name. What is there is left alone: somebody
    /// else may have installed it.
    pub(crate) async fn apply_missing(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            if self.get(object).await?.is_none() {
                self.apply(object).await?;
            }
        }
        Ok(())
    }

    /// The object of the same kind, namespace and name, as the cluster has it.
    pub(crate) async fn get(&mut self, value: &Value) -> anyhow::Result<Option<DynamicObject>> {
        let object = Named::of(value)?;
        let api = self.api(&object.kind, object.namespace).await?;
        let found = api.get_opt(object.name).await;
        found.with_context(|| format!("cannot read {object}"))
    }

    /// Deletes the object of the same kind, namespace and name, and what it owns; says whether there
    /// was one.
    pub(crate) async fn delete(&mut self, value: &Value) -> anyhow::Result<bool> {
        let object = Named::of(value)?;
        let api = self.api(&object.kind, object.namespace).await?;
        match api.delete(object.name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot delete {object}")),
        }
    }

    /// Objects of a kind that carry labels, of all namespaces. A kind that the API server does not
    /// know has none.
    pub(crate) async fn list(
        &mut self,
        kind: &TypeMeta,
        selector: &str,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let Some((resource, _)) = self.known(kind).await? else {
            return Ok(Vec::new());
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let params = ListParams::default().labels(selector);
        let list = api.list(&params).await;
        let list = list.with_context(|| format!("cannot list objects of kind {}", kind.kind))?;
        let typed = list.items.into_iter().map(|mut object| {
            object.types.get_or_insert_with(|| kind.clone());
            object
        });
        Ok(typed.collect())
    }

    /// Applies one object.
    pub(crate) async fn apply(&mut self, value: &Value) -> anyhow::Result<()> {
        let object = Named::of(value)?;
        let api = self.api(&object.kind, object.namespace).await?;
        // A webhook that is just starting again refuses for a moment; what it judges comes later.
        let start = Instant::now();
        loop {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            match api.patch(object.name, &params, &Patch::Apply(value)).await {
                Err(kube::Error::Api(status))
                    if is_webhook_away(&status) && start.elapsed() < WEBHOOK =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                applied => {
                    applied.with_context(|| format!("cannot apply {object}"))?;
                    return Ok(());
                }
            }
        }
    }

    async fn api(
        &mut self,
        kind: &TypeMeta,
        namespace: Option<&str>,
    ) -> anyhow::Result<Api<DynamicObject>> {
        let (resource, scope) = self.kind(kind).await?;
        Ok(match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = namespace.unwrap_or("default");
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        })
    }

    /// What the API server calls a kind, and whether its objects are in namespaces.
    pub(crate) async fn kind(&mut self, kind: &TypeMeta) -> anyhow::Result<(ApiResource, Scope)> {
        let known = self.known(kind).await?;
        known.with_context(|| format!("the API server does not know {}", kind.kind))
    }

    /// The same; none where the API server does not have the kind. That it does not answer is no answer.
    pub(crate) async fn known(
        &mut self,
        kind: &TypeMeta,
    ) -> anyhow::Result<Option<(ApiResource, Scope)>> {
        if let Some(known) = self.kinds.get(kind) {
            return Ok(Some(known.clone()));
        }
        let gvk = GroupVersionKind::try_from(kind)?;
        let found = match discovery::pinned_kind(&self.client, &gvk).await {
            Ok((resource, capabilities)) => (resource, capabilities.scope),
            Err(error) if is_unknown(&error) => return Ok(None),
            Err(error) => {
                let asked = format!("cannot ask the API server for {}", kind.kind);
                return Err(error).context(asked);
            }
        };
        self.kinds.insert(kind.clone(), found.clone());
        Ok(Some(found))
    }
}

/// Whether there is no such group, version or kind.
fn is_unknown(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(error) => matches!(error, DiscoveryError::MissingKind(_)),
        _ => false,
    }
}

/// What tells an object from all others.
pub(crate) struct Named<'a> {
    pub(crate) kind: TypeMeta,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
}

impl<'a> Named<'a> {
    /// Reads it from a manifest.
    pub(crate) fn of(value: &'a Value) -> anyhow::Result<Self> {
        let text = |at: &str| value.pointer(at).and_then(Value::as_str);
        Ok(Named {
            kind: TypeMeta {
                api_version: text("/apiVersion")
                    .context("a manifest has no apiVersion")?
                    .into(),
                kind: text("/kind").context("a manifest has no kind")?.into(),
            },
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").context("a manifest has no name")?,
        })
    }
}

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

/// The documents of a YAML file, as JSON.
pub(crate) fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    Ok(lateen_yaml::documents(yaml)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::platform;

    fn of(api_version: &str, kind: &str) -> TypeMeta {
        TypeMeta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_kind_that_is_not_there_has_no_objects() {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        let mut applier = Applier::new(client);
        for unknown in [of("v1", "Nothing"), of("nobody.example.com/v1", "Nothing")] {
            let found = applier.list(&unknown, "").await.expect("an answer");
            assert!(found.is_empty());
            let error = applier.kind(&unknown).await.expect_err("it is not known");
            assert!(error.to_string().contains("does not know Nothing"));
        }
    }

    #[tokio::test]
    async fn an_api_server_that_is_not_there_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let url = format!("http://{address}").parse().expect("a URL");
        let client = Client::try_from(kube::Config::new(url)).expect("a client");
        let mut applier = Applier::new(client);
        let asked = applier.list(&of("apps/v1", "Deployment"), "").await;
        let error = asked.expect_err("nobody answers").to_string();
        assert!(
            error.contains("cannot ask the API server for Deployment"),
            "{error}"
        );
    }
}
