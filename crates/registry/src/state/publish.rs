//! From the writer to its readers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{State, Update};
use crate::{RawConfig, SourceStatus, World};

/// Where the writer publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    world: watch::Sender<Arc<World>>,
    config: watch::Sender<Arc<RawConfig>>,
    synced: watch::Sender<bool>,
    sources: watch::Sender<Arc<[SourceStatus]>>,
}

/// Where readers read.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) world: watch::Receiver<Arc<World>>,
    pub(crate) config: watch::Receiver<Arc<RawConfig>>,
    pub(crate) synced: watch::Receiver<bool>,
    pub(crate) sources: watch::Receiver<Arc<[SourceStatus]>>,
}

pub(crate) fn publisher() -> (Publisher, Outputs) {
    let (world_tx, world) = watch::channel(Arc::default());
    let (config_tx, config) = watch::channel(Arc::default());
    let (synced_tx, synced) = watch::channel(false);
    let (sources_tx, sources) = watch::channel(Arc::from([]));
    let publisher = Publisher {
        world: world_tx,
        config: config_tx,
        synced: synced_tx,
        sources: sources_tx,
    };
    (
        publisher,
        Outputs {
            world,
            config,
            synced,
            sources,
        },
    )
}

/// Most updates that one fold takes in; keeps a busy start from starving readers.
const BURST: usize = 4096;

/// Runs until every watch has ended. After `patience`, a source that has not delivered its first list
/// is no longer waited for.
pub(crate) async fn run(
    mut state: State,
    mut updates_rx: mpsc::Receiver<Update>,
    publisher: Publisher,
    patience: Duration,
) {
    let deadline = Instant::now() + patience;
    let mut patient = true;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            n = updates_rx.recv_many(&mut batch, BURST) => if n == 0 { return },
            () = tokio::time::sleep_until(deadline), if patient => {
                patient = false;
                state.lose_patience();
            }
        }
        batch.drain(..).for_each(|update| state.apply(update));
        publisher.publish(&mut state);
    }
}

impl Publisher {
    fn publish(&self, state: &mut State) {
        self.sources.send_if_modified(|held| {
            let differs = !held.iter().eq(state.sources.values());
            if differs {
                *held = state.sources.values().cloned().collect();
            }
            differs
        });
        if !state.is_synced() {
            return;
        }
        let first = !*self.synced.borrow();
        let config_changed = std::mem::take(&mut state.dirty.config);
        // Configuration first: a reader woken by the new world then sees the routes that go with it.
        if config_changed || first {
            self.config.send_replace(Arc::new(state.config.clone()));
        }
        if state.fold() || first {
            self.world.send_replace(Arc::new(state.world.clone()));
        }
        if first {
            tracing::info!(services = state.world.services.len(), "registry synced");
            self.synced.send_replace(true);
        }
    }
}
