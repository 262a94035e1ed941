//! Folds what the registry read to the set of valid configuration.

use std::{collections::BTreeMap, sync::Arc};

use lateen_api::{Object, mesh::MeshConfig};
use lateen_registry::{ObjectKey, RawConfig, Registry};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use crate::{ConfigSet, Fault, fault::describe, unsupported, validate};

/// A running galley. Dropping it stops it; what was published stays.
#[derive(Debug)]
pub struct Galley {
    config: watch::Receiver<Arc<ConfigSet>>,
    faults: watch::Receiver<Arc<Faulty>>,
    folded: watch::Receiver<Arc<RawConfig>>,
    task: JoinHandle<()>,
}

/// Objects that are left out or held at their last good form, and why.
pub(crate) type Faulty = BTreeMap<ObjectKey, Vec<Fault>>;

impl Galley {
    /// Folds what is there now before it returns, then every change. Must be called in a tokio
    /// runtime. Where the registry has not synced yet, [`Galley::synced`] tells when both have.
    pub fn start(mut raw: watch::Receiver<Arc<RawConfig>>) -> Self {
        let mut fold = Fold::default();
        let first = raw.borrow_and_update().clone();
        let (set, faulty) = fold.next(&first);
        let (config_tx, config) = watch::channel(Arc::new(set));
        let (faults_tx, faults) = watch::channel(Arc::new(faulty));
        let (folded_tx, folded) = watch::channel(first);
        let task = tokio::spawn(async move {
            while raw.changed().await.is_ok() {
                let next = raw.borrow_and_update().clone();
                let (set, faulty) = fold.next(&next);
                faults_tx.send_replace(Arc::new(faulty));
                config_tx.send_if_modified(|held| {
                    let changed = **held != set;
                    if changed {
                        *held = Arc::new(set);
                    }
                    changed
                });
                folded_tx.send_replace(next);
            }
        });
        Self {
            config,
            faults,
            folded,
            task,
        }
    }

    /// The valid configuration; changes only when it differs.
    pub fn config(&self) -> watch::Receiver<Arc<ConfigSet>> {
        self.config.clone()
    }

    /// Waits until the registry has its first complete state and that state is folded in. Before
    /// this, the configuration is empty, and acting on it would take every route away.
    pub async fn synced(&self, registry: &Registry) {
        registry.synced().await;
        let raw = registry.config();
        let mut folded = self.folded.clone();
        // An error means that the task is gone, which is the end of the process.
        let _ = folded
            .wait_for(|held| Arc::ptr_eq(held, &raw.borrow()))
            .await;
    }

    /// What is wrong, by object.
    pub fn faults(&self) -> watch::Receiver<Arc<BTreeMap<ObjectKey, Vec<Fault>>>> {
        self.faults.clone()
    }
}

impl Drop for Galley {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a mesh configuration cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("mesh configuration: {0}")]
pub struct MeshError(String);

/// Reads key `mesh` of ConfigMap `istio`; an empty text is the default mesh.
pub fn parse_mesh(text: &str) -> Result<MeshConfig, MeshError> {
    if text.trim().is_empty() {
        return Ok(MeshConfig::default());
    }
    serde_saphyr::from_str(text).map_err(|error| MeshError(error.to_string()))
}

#[derive(Default)]
struct Fold {
    seen: BTreeMap<ObjectKey, Seen>,
    mesh_text: Option<Arc<str>>,
    mesh: Arc<MeshConfig>,
}

struct Seen {
    raw: Arc<Value>,
    good: Option<Typed>,
    faults: Vec<Fault>,
}

macro_rules! typed {
    ($($variant:ident => $list:ident),* $(,)?) => {
        #[derive(Clone)]
        enum Typed {
            $($variant(Arc<Object<lateen_api::networking::$variant>>),)*
            PeerAuthentication(Arc<Object<lateen_api::security::PeerAuthentication>>),
        }

        fn typed(kind: &str, raw: &Value) -> Option<Typed> {
            match kind {
                $(stringify!($variant) => read(raw).map(Typed::$variant),)*
                "PeerAuthentication" => read(raw).map(Typed::PeerAuthentication),
                _ => None,
            }
        }

        fn assemble(objects: impl Iterator<Item = Typed>, mesh: Arc<MeshConfig>) -> ConfigSet {
            let mut set = ConfigSet { mesh, ..ConfigSet::default() };
            for object in objects {
                match object {
                    $(Typed::$variant(object) => set.$list.push(object),)*
                    Typed::PeerAuthentication(object) => set.peer_authentications.push(object),
                }
            }
            $(sort(&mut set.$list);)*
            sort(&mut set.peer_authentications);
            set
        }
    };
}

typed! {
    VirtualService => virtual_services,
    DestinationRule => destination_rules,
    Gateway => gateways,
    ServiceEntry => service_entries,
    WorkloadEntry => workload_entries,
    Sidecar => sidecars,
}

fn read<T: DeserializeOwned>(raw: &Value) -> Option<Arc<Object<T>>> {
    Object::from_value(raw).ok().map(Arc::new)
}

fn sort<T>(list: &mut [Arc<Object<T>>]) {
    list.sort_by(|a, b| {
        let key = |o: &Object<T>| o.meta.creation_timestamp;
        (key(a), &a.meta.namespace, &a.meta.name).cmp(&(key(b), &b.meta.namespace, &b.meta.name))
    });
}

impl Fold {
    fn next(&mut self, raw: &RawConfig) -> (ConfigSet, Faulty) {
        self.seen.retain(|key, _| raw.objects.contains_key(key));
        for (key, value) in &raw.objects {
            let known = self.seen.get(key);
            if !known.is_some_and(|seen| Arc::ptr_eq(&seen.raw, value)) {
                let last_good = known.and_then(|seen| seen.good.clone());
                self.seen.insert(key.clone(), judge(key, value, last_good));
            }
        }
        self.next_mesh(raw);
        let good = self.seen.values().filter_map(|seen| seen.good.clone());
        let set = assemble(good, self.mesh.clone());
        let faulty = self.seen.iter().filter(|(_, seen)| !seen.faults.is_empty());
        (
            set,
            faulty
                .map(|(key, seen)| (key.clone(), seen.faults.clone()))
                .collect(),
        )
    }

    fn next_mesh(&mut self, raw: &RawConfig) {
        if self.mesh_text == raw.mesh {
            return;
        }
        self.mesh_text = raw.mesh.clone();
        match parse_mesh(self.mesh_text.as_deref().unwrap_or_default()) {
            Ok(mesh) => {
                for field in unsupported::of_mesh(self.mesh_text.as_deref().unwrap_or_default()) {
                    tracing::warn!(field, "ConfigMap istio: not supported, has no effect");
                }
                self.mesh = Arc::new(mesh);
            }
            Err(error) => tracing::error!(%error, "ConfigMap istio is invalid, last form kept"),
        }
    }
}

/// An unknown field is a fault to refuse a new document for, but no reason to drop a stored one: it
/// may come from a newer version.
fn judge(key: &ObjectKey, raw: &Arc<Value>, last_good: Option<Typed>) -> Seen {
    let faults = validate(raw);
    let grave = faults
        .iter()
        .any(|fault| fault.reason != crate::shape::UNKNOWN_FIELD);
    let good = if grave {
        last_good
    } else {
        typed(key.kind, raw)
    };
    if grave {
        tracing::warn!(
            kind = key.kind,
            namespace = key.namespace,
            name = key.name,
            kept = good.is_some(),
            faults = describe(&faults),
            "invalid object left out"
        );
    }
    Seen {
        raw: raw.clone(),
        good,
        faults,
    }
}

#[cfg(test)]
mod tests;
