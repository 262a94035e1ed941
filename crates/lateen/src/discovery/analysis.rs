//! What is wrong with the mesh's objects together, found in the control plane and told in their
//! statuses, where `PILOT_ENABLE_ANALYSIS` asks for it.
//!
//! The replica that writes statuses looks at everything once all of it is known, and again after
//! changes: a moment after the first one, so that a burst is one look, and with a rest that is long
//! beside what the look before took. What the mesh itself writes into statuses of its objects is no
//! change, so that nothing follows from what is told. Only what the mesh sees is looked at, where its
//! configuration selects namespaces.
//!
//! Where it is not asked for, what it has said before is taken back.

mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use lateen_api::{kinds, mesh::MeshConfig};
use lateen_core::ObjectRef;
use lateen_galley::analyze::{Message, Settings, analyze};
use lateen_registry::{RawConfig, Registry, WATCHED_KINDS, resource};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, info, warn};

use super::Options;
use objects::{Held, Objects};

/// How long the first change waits for more.
const QUIET: Duration = Duration::from_secs(1);
/// The rest after a look, in times of what it took: at most a twentieth of a processor.
const REST: u32 = 20;

/// What is to be told of objects of the mesh's kinds: those that have messages, and those that were
/// told some before.
pub(super) type Told = BTreeMap<ObjectRef, Analysed>;

/// What analysis says of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Analysed {
    /// The generation that it was looked at in.
    pub(super) generation: i64,
    pub(super) messages: Vec<Message>,
}

/// Starts to look, if that is wanted, while this replica leads.
pub(super) fn start(
    client: &Client,
    options: &Options,
    registry: &Registry,
    leading: &watch::Receiver<bool>,
) -> watch::Receiver<Arc<Told>> {
    // The installer gives the right to read all by the same rule.
    let wish = std::env::var("PILOT_ENABLE_ANALYSIS").unwrap_or_default();
    if lateen_install::flag(&wish) != Some(true) {
        return take_back(client, leading);
    }
    info!("statuses are told what analysis finds");
    let settings = Settings {
        root_namespace: options.namespace.clone(),
        domain: options.domain.clone(),
        ..Settings::default()
    };
    follow(client, settings, registry, leading)
}

/// Says nothing of all that was told something, when this replica begins to lead. That is so of kinds of
/// which nothing but analysis speaks: the others are told anew anyhow.
pub(super) fn take_back(
    client: &Client,
    leading: &watch::Receiver<bool>,
) -> watch::Receiver<Arc<Told>> {
    let (told_tx, told_rx) = watch::channel(Arc::default());
    let (client, mut leading) = (client.clone(), leading.clone());
    tokio::spawn(async move {
        while leading.wait_for(|leads| *leads).await.is_ok() {
            let mut told = Told::new();
            for kind in &kinds::ALL {
                if !WATCHED_KINDS
                    .iter()
                    .any(|watched| watched.id() == kind.id())
                {
                    told.extend(was_told(&client, kind).await);
                }
            }
            if !told.is_empty() {
                info!(
                    n_objects = told.len(),
                    "what analysis said before is taken back"
                );
                told_tx.send_replace(Arc::new(told));
            }
            if leading.wait_for(|leads| !*leads).await.is_err() {
                return;
            }
        }
    });
    told_rx
}

/// The objects of a kind whose status has messages, with none.
async fn was_told(client: &Client, kind: &kinds::Kind) -> Told {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let found = match all.list(&ListParams::default()).await {
        Ok(found) => found,
        // A kind that is not installed was told nothing.
        Err(kube::Error::Api(status)) if status.code == 404 => return Told::new(),
        Err(error) => {
            warn!(kind = kind.kind, %error, "what analysis has said of it before may stay");
            return Told::new();
        }
    };
    let told = found.items.into_iter().filter(objects::has_messages);
    told.map(|object| {
        let meta = &object.metadata;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let of = ObjectRef::new(kind.id(), name(&meta.namespace), name(&meta.name));
        let nothing = Analysed {
            generation: meta.generation.unwrap_or_default(),
            messages: Vec::new(),
        };
        (of, nothing)
    })
    .collect()
}

/// Looks while this replica leads; the mesh's configuration is the registry's.
pub(super) fn follow(
    client: &Client,
    settings: Settings,
    registry: &Registry,
    leading: &watch::Receiver<bool>,
) -> watch::Receiver<Arc<Told>> {
    let (told_tx, told_rx) = watch::channel(Arc::default());
    let analysis = Analysis {
        client: client.clone(),
        settings,
        raw: registry.config(),
        leading: leading.clone(),
        told_tx,
    };
    tokio::spawn(analysis.run());
    told_rx
}

struct Analysis {
    client: Client,
    settings: Settings,
    /// For what it says of the mesh.
    raw: watch::Receiver<Arc<RawConfig>>,
    leading: watch::Receiver<bool>,
    told_tx: watch::Sender<Arc<Told>>,
}

impl Analysis {
    /// Until the control plane ends.
    async fn run(self) {
        let mut leading = self.leading.clone();
        while leading.wait_for(|leads| *leads).await.is_ok() {
            let mut leading = leading.clone();
            let lost = async move { leading.wait_for(|leads| !*leads).await.is_err() };
            tokio::select! {
                is_end = lost => if is_end { return },
                () = self.lead() => return,
            }
        }
    }

    /// Looks after each change. Dropped, it follows nothing any more.
    async fn lead(&self) {
        let objects = Objects::follow(&self.client, &self.settings.root_namespace);
        let mut changes = objects.changes();
        let mut raw = self.raw.clone();
        let mut mesh = self.mesh();
        objects.known().await;
        loop {
            changes.mark_unchanged();
            let took = self.look(&objects, &mesh).await;
            tokio::time::sleep(took * REST).await;
            loop {
                tokio::select! {
                    changed = changes.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = raw.changed() => {
                        let now = self.mesh();
                        if changed.is_err() || now != mesh {
                            mesh = now;
                            break;
                        }
                    }
                }
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    /// The texts of the mesh's configuration and of its networks.
    fn mesh(&self) -> [Option<Arc<str>>; 2] {
        let raw = self.raw.borrow();
        [raw.mesh.clone(), raw.networks.clone()]
    }

    /// Looks once, and says how long that took.
    async fn look(&self, objects: &Objects, mesh: &[Option<Arc<str>>; 2]) -> Duration {
        let began = Instant::now();
        let [mesh, networks] = mesh.each_ref().map(|text| parsed(text.as_deref()));
        let settings = Settings {
            mesh,
            networks,
            ..self.settings.clone()
        };
        let held = objects.all();
        let n_objects = held.len();
        let before = self.told_tx.borrow().clone();
        let told = tokio::task::spawn_blocking(move || told(&held, &settings, &before)).await;
        let took = began.elapsed();
        match told {
            Ok(told) => {
                debug!(n_objects, n_told = told.len(), ?took, "analysed");
                self.told_tx.send_if_modified(|before| {
                    let is_new = **before != told;
                    *before = Arc::new(told);
                    is_new
                });
            }
            Err(error) => error!(%error, "analysis ended before it was done"),
        }
        took
    }
}

/// What cannot be read is told where the mesh's configuration is; here it counts as not there.
fn parsed(text: Option<&str>) -> Value {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Value::Null;
    };
    let parsed = serde_yaml_ng::from_str(text);
    parsed.unwrap_or_else(|error| {
        warn!(%error, "analysis goes on without a part of the mesh's configuration");
        Value::Null
    })
}

/// `before` is what was told after the look before: the status that has it may not have been seen yet.
fn told(held: &[Arc<Held>], settings: &Settings, before: &Told) -> Told {
    let mut told = Told::new();
    for held in held {
        let was_told = |object: &ObjectRef| held.was_told || before.contains_key(object);
        if let Some(object) = held.object.clone().filter(was_told) {
            told.entry(object).or_default().generation = held.generation;
        }
    }
    let generations: BTreeMap<&ObjectRef, i64> = held
        .iter()
        .filter_map(|held| Some((held.object.as_ref()?, held.generation)))
        .collect();
    let seen = seen(held, settings);
    for message in analyze(seen.iter().map(|held| &held.written), settings) {
        let Some(object) = object_of(&message) else {
            continue;
        };
        let generation = generations.get(&object).copied().unwrap_or_default();
        let entry = told.entry(object).or_default();
        entry.generation = generation;
        entry.messages.push(message);
    }
    told
}

/// What the mesh sees: all, or what is in the namespaces that it selects and in its own.
fn seen<'a>(held: &'a [Arc<Held>], settings: &Settings) -> Vec<&'a Held> {
    let all = held.iter().map(|held| &**held);
    // What cannot be read selects nothing; that it cannot is told elsewhere.
    let mesh = MeshConfig::deserialize(&settings.mesh).unwrap_or_default();
    let selectors = mesh.discovery_selectors;
    if selectors.is_empty() {
        return all.collect();
    }
    let name = |held: &'a Held| held.written.value["metadata"]["name"].as_str();
    let is_picked = |held: &&Held| {
        let value = &held.written.value;
        let label = |key: &str| value["metadata"]["labels"][key].as_str();
        value["kind"] == "Namespace" && selectors.iter().any(|selector| selector.picks(label))
    };
    let picked = all.clone().filter(is_picked).filter_map(name);
    let picked: BTreeSet<&str> = picked.chain([settings.root_namespace.as_str()]).collect();
    all.filter(|held| {
        let namespace = held.written.value["metadata"]["namespace"].as_str();
        namespace.is_none_or(|namespace| picked.contains(namespace))
    })
    .collect()
}

/// The object of one of the mesh's kinds that a message is about.
fn object_of(message: &Message) -> Option<ObjectRef> {
    let is = |kind: &&kinds::Kind| kind.group == message.group && kind.kind == message.kind;
    let kind = kinds::ALL.iter().find(is)?;
    Some(ObjectRef::new(kind.id(), &message.namespace, &message.name))
}

#[cfg(test)]
mod tests;
