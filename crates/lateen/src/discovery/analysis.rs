//! What is wrong with the mesh's objects together, found in the control plane and told in their
//! statuses, where `PILOT_ENABLE_ANALYSIS` asks for it.
//!
//! The replica that writes statuses looks at everything once all of it is known, and again after
//! changes: a moment after the first one, so that a burst is one look, and with a rest that is long
//! beside what the look before took. What the mesh itself writes into statuses of its objects is no
//! change, so that nothing follows from what is told.

mod objects;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Client;
use lateen_api::kinds;
use lateen_core::ObjectRef;
use lateen_galley::analyze::{Message, Settings, analyze};
use lateen_registry::{RawConfig, Registry};
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

/// Whether this control plane is to look.
fn is_wanted() -> bool {
    let wish = std::env::var("PILOT_ENABLE_ANALYSIS").unwrap_or_default();
    matches!(wish.as_str(), "true" | "TRUE" | "True" | "t" | "T" | "1")
}

/// Starts to look, if that is wanted, while this replica leads.
pub(super) fn start(
    client: &Client,
    options: &Options,
    registry: &Registry,
    leading: &watch::Receiver<bool>,
) -> Option<watch::Receiver<Arc<Told>>> {
    is_wanted().then(|| {
        info!("statuses are told what analysis finds");
        let settings = Settings {
            root_namespace: options.namespace.clone(),
            domain: options.domain.clone(),
            ..Settings::default()
        };
        follow(client, settings, registry, leading)
    })
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
        let told = tokio::task::spawn_blocking(move || told(&held, &settings)).await;
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

fn told(held: &[Arc<Held>], settings: &Settings) -> Told {
    let mut told = Told::new();
    for held in held {
        if let Some(object) = held.object.clone().filter(|_| held.was_told) {
            told.entry(object).or_default().generation = held.generation;
        }
    }
    let generations: BTreeMap<&ObjectRef, i64> = held
        .iter()
        .filter_map(|held| Some((held.object.as_ref()?, held.generation)))
        .collect();
    for message in analyze(held.iter().map(|held| &held.written), settings) {
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

/// The object of one of the mesh's kinds that a message is about.
fn object_of(message: &Message) -> Option<ObjectRef> {
    let is = |kind: &&kinds::Kind| kind.group == message.group && kind.kind == message.kind;
    let kind = kinds::ALL.iter().find(is)?;
    Some(ObjectRef::new(kind.id(), &message.namespace, &message.name))
}

#[cfg(test)]
mod tests;
