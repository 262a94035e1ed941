//! Writes what agents say of the health of their workloads. The newest counts: what was said before
//! and is not written yet is passed over.

use std::sync::Arc;

use jiff::Timestamp;
use lateen_core::Backoff;
use tracing::{info, warn};

use super::{EntriesError, Key, PAUSES, Registrar, entry};

/// What is to be written of one workload.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// What its agent said last, where that is not written: that all is well, or what is wrong.
    said: Option<Option<String>>,
    /// Somebody is at it.
    is_busy: bool,
}

/// Takes in what an agent says.
pub(super) fn report(registrar: &Arc<Registrar>, key: &Key, fault: Option<String>) {
    let mut held = registrar.lock();
    let Some(own) = held.get_mut(key) else {
        return;
    };
    own.health.said = Some(fault);
    if std::mem::replace(&mut own.health.is_busy, true) {
        return;
    }
    drop(held);
    let (of, key) = (registrar.clone(), key.clone());
    registrar
        .runtime
        .spawn(async move { of.keep_health(&key).await });
}

impl Registrar {
    /// Writes until there is nothing more to say, or the workload has gone.
    async fn keep_health(&self, key: &Key) {
        let mut pause = Backoff::new(PAUSES.0, PAUSES.1);
        while let Some(fault) = self.next_said(key) {
            match self.write_health(key, fault.as_deref()).await {
                Ok(()) => {
                    pause.reset();
                    continue;
                }
                Err(EntriesError::Changed) => {}
                Err(error) => {
                    warn!(namespace = key.0, name = key.1, %error, "health not written, trying again");
                }
            }
            if let Some(own) = self.lock().get_mut(key) {
                own.health.said.get_or_insert(fault);
            }
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    fn next_said(&self, key: &Key) -> Option<Option<String>> {
        let mut held = self.lock();
        let health = &mut held.get_mut(key)?.health;
        let said = health.said.take();
        health.is_busy = said.is_some();
        said
    }

    async fn write_health(&self, key: &Key, fault: Option<&str>) -> Result<(), EntriesError> {
        let (namespace, name) = (&key.0, &key.1);
        let found = self.with.entries.entry(namespace, name).await?;
        // Whoever has it now is told by the agent as well.
        let Some(entry) = found.filter(|entry| entry::is_of(entry, &self.with.replica)) else {
            return Ok(());
        };
        let Some(conditions) = entry::healthy(&entry, fault, Timestamp::now()) else {
            return Ok(());
        };
        self.with.entries.set_conditions(&entry, conditions).await?;
        info!(namespace, name, fault, "health of a workload");
        Ok(())
    }
}
