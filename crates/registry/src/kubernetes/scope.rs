//! Which namespaces are watched.
//!
//! Without `discoverySelectors` in the mesh's configuration each kind has one watch for the whole
//! cluster. With them, only what the selected namespaces hold is asked for: watches come and go with
//! the namespaces' labels, and what is of no interest never leaves the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lateen_api::mesh::{MeshConfig, NamespaceSelector};
use tokio::{sync::mpsc, task::JoinSet};

use super::Kubernetes;
use crate::{
    Namespace,
    state::{MeshTexts, Update},
    store::Store,
};

/// Starts and stops watches as the mesh's configuration and the namespaces say.
pub(super) struct Scope {
    platform: Kubernetes,
    updates_tx: mpsc::Sender<Update>,
    mesh: Store<Arc<MeshTexts>>,
    namespaces: Store<Arc<Namespace>>,
    /// Of the last configuration that could be read.
    selectors: Vec<NamespaceSelector>,
    /// Watches by namespace; `None` is the whole cluster. Dropping one stops them.
    watches: BTreeMap<Option<String>, JoinSet<()>>,
}

impl Scope {
    pub(super) fn new(platform: Kubernetes, updates_tx: mpsc::Sender<Update>) -> Self {
        Self {
            platform,
            updates_tx,
            mesh: Store::default(),
            namespaces: Store::default(),
            selectors: Vec::new(),
            watches: BTreeMap::new(),
        }
    }

    /// Passes on what is said of namespaces and the mesh's configuration, and looks at it, until
    /// nobody listens.
    pub(super) async fn follow(mut self, mut updates: mpsc::Receiver<Update>) {
        while let Some(update) = updates.recv().await {
            match &update {
                Update::Mesh(event) => {
                    self.mesh.apply(event.clone());
                    self.read_selectors();
                }
                Update::Namespace(event) => {
                    self.namespaces.apply(event.clone());
                }
                _ => {}
            }
            if self.updates_tx.send(update).await.is_err() || !self.adjust().await {
                return;
            }
        }
    }

    fn read_selectors(&mut self) {
        let namespace = &self.platform.namespace;
        let texts = self.mesh.get(namespace, &self.platform.mesh_config);
        let Some(text) = texts.and_then(|texts| texts.mesh.as_deref()) else {
            self.selectors = Vec::new();
            return;
        };
        // What is wrong with it is told by who uses it, and the last good one holds.
        if let Ok(config) = serde_saphyr::from_str::<Option<MeshConfig>>(text) {
            self.selectors = config.unwrap_or_default().discovery_selectors;
        }
    }

    /// Makes the watches those that are wanted; whether somebody listens.
    async fn adjust(&mut self) -> bool {
        let is_selective = !self.selectors.is_empty();
        // Neither is it known what to watch before both are read, nor is a selection one by half.
        if !self.mesh.is_synced() || (is_selective && !self.namespaces.is_synced()) {
            return true;
        }
        let wanted = self.wanted();
        if wanted.iter().eq(self.watches.keys()) {
            return true;
        }
        let scope = is_selective.then(|| wanted.iter().flatten().cloned().collect());
        self.watches
            .retain(|namespace, _| wanted.contains(namespace));
        for update in self.platform.scoped(scope.as_ref()) {
            if self.updates_tx.send(update).await.is_err() {
                return false;
            }
        }
        if let Some(scope) = &scope {
            tracing::info!(
                namespaces = scope.len(),
                "only selected namespaces are watched"
            );
        }
        for namespace in wanted {
            let (platform, updates_tx) = (&self.platform, &self.updates_tx);
            self.watches
                .entry(namespace)
                .or_insert_with_key(|namespace| platform.watch(namespace.as_deref(), updates_tx));
        }
        true
    }

    /// The whole cluster, or the namespaces that one of the selectors picks. The control plane's own,
    /// which holds what counts for all, is always among them.
    fn wanted(&self) -> BTreeSet<Option<String>> {
        if self.selectors.is_empty() {
            return [None].into();
        }
        let picked = self.namespaces.iter().filter(|(_, namespace)| {
            let mut selectors = self.selectors.iter();
            selectors.any(|selector| selector.picks(|key| namespace.labels.value(key)))
        });
        let picked = picked.map(|((_, name), _)| name.clone());
        let own = self.platform.namespace.clone();
        picked.chain([own]).map(Some).collect()
    }
}

#[cfg(test)]
mod tests {
    use lateen_core::Labels;

    use super::*;

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels: Labels = [("env", "prod"), ("team", "a")].into_iter().collect();
        let selector = |yaml: &str| {
            let config = format!("discoverySelectors: [{yaml}]");
            let config: MeshConfig = serde_saphyr::from_str(&config).expect("valid");
            config.discovery_selectors.into_iter().next().expect("one")
        };
        for (yaml, expected) in [
            ("{}", true),
            ("{matchLabels: {env: prod}}", true),
            ("{matchLabels: {env: prod, team: b}}", false),
            (
                "{matchExpressions: [{key: env, operator: In, values: [dev, prod]}]}",
                true,
            ),
            (
                "{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}",
                false,
            ),
            (
                "{matchExpressions: [{key: none, operator: NotIn, values: [prod]}]}",
                true,
            ),
            ("{matchExpressions: [{key: team, operator: Exists}]}", true),
            (
                "{matchExpressions: [{key: team, operator: DoesNotExist}]}",
                false,
            ),
            (
                "{matchLabels: {env: prod}, matchExpressions: [{key: none, operator: Exists}]}",
                false,
            ),
        ] {
            assert_eq!(
                selector(yaml).picks(|key| labels.value(key)),
                expected,
                "{yaml}"
            );
        }
    }
}
