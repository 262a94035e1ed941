//! Server-side apply of manifests, in their order.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, Status, TypeMeta},
    discovery::{self, Scope},
};
use serde_json::Value;

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
            let found = {
                let object: DynamicObject = serde_json::from_value(object.clone())?;
                let kind = object.types.clone().context("a manifest has no kind")?;
                let (resource, _) = self.kind(&kind).await?;
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                let name = object.metadata.name.context("a manifest has no name")?;
                api.get_opt(&name).await?
            };
            if found.is_none() {
                self.apply(object).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, value: &Value) -> anyhow::Result<()> {
        let object: DynamicObject = serde_json::from_value(value.clone())?;
        let kind = object.types.clone().context("a manifest has no kind")?;
        let name = object
            .metadata
            .name
            .clone()
            .context("a manifest has no name")?;
        let (resource, scope) = self.kind(&kind).await?;
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        };
        // A webhook that is just starting again refuses for a moment; what it judges comes later.
        let start = Instant::now();
        loop {
            let params = PatchParams::apply("lateen").force();
            match api.patch(&name, &params, &Patch::Apply(value)).await {
                Err(kube::Error::Api(status))
                    if is_webhook_away(&status) && start.elapsed() < WEBHOOK =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                applied => {
                    applied.with_context(|| format!("cannot apply {} {name}", kind.kind))?;
                    return Ok(());
                }
            }
        }
    }

    async fn kind(&mut self, kind: &TypeMeta) -> anyhow::Result<(ApiResource, Scope)> {
        if let Some(known) = self.kinds.get(kind) {
            return Ok(known.clone());
        }
        let gvk = GroupVersionKind::try_from(kind)?;
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &gvk)
            .await
            .with_context(|| format!("the API server does not know {}", kind.kind))?;
        let found = (resource, capabilities.scope);
        self.kinds.insert(kind.clone(), found.clone());
        Ok(found)
    }
}

/// The documents of a YAML file, as JSON.
pub(crate) fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    use serde::Deserialize as _;
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Ok(Value::deserialize(document)?))
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect()
}
