//! Writes what agents say of the health of their workloads. The newest counts: what was said before
//! and is not written yet is passed over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lateen_core::Backoff;
use tracing::{info, warn};

use super::{EntriesError, Key, PAUSES, Registrar, entry};

/// The longest message that is written, in bytes: every one goes to each that follows the entries.
const MESSAGE_MAX: usize = 1024;
/// The shortest time between two writes of one workload, however often its agent says something else.
const PACE: Duration = Duration::from_secs(1);

/// What an agent says of its workload.
#[derive(Clone, Debug, Default)]
pub(super) enum Said {
    /// Nothing yet.
    #[default]
    Nothing,
    /// All is well.
    Well,
    /// What is wrong.
    Unwell(String),
}

/// What is to be written of one workload.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last. It is kept once it is written: the entry may be made anew.
    said: Said,
    /// That is to be written.
    is_due: bool,
    /// Somebody is at it.
    is_busy: bool,
}

impl Health {
    /// Nobody is there any more who says so.
    pub(super) fn forget(&mut self) {
        (self.said, self.is_due) = (Said::Nothing, false);
    }
}

/// Takes in what an agent says.
pub(super) fn report(registrar: &Arc<Registrar>, key: &Key, fault: Option<&str>) {
    let said = match fault {
        None => Said::Well,
        Some(fault) => Said::Unwell(shortened(fault).to_owned()),
    };
    if let Some(own) = registrar.lock().get_mut(key) {
        own.health.said = said;
    }
    write_again(registrar, key);
}

/// Writes what the agent said last, to an entry that may not say so.
pub(super) fn write_again(registrar: &Arc<Registrar>, key: &Key) {
    let mut held = registrar.lock();
    let Some(own) = held.get_mut(key) else {
        return;
    };
    own.health.is_due = true;
    if std::mem::replace(&mut own.health.is_busy, true) {
        return;
    }
    drop(held);
    let (of, key) = (registrar.clone(), key.clone());
    registrar
        .runtime
        .spawn(async move { of.keep_health(&key).await });
}

fn shortened(text: &str) -> &str {
    let most = text.len().min(MESSAGE_MAX);
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

impl Registrar {
    /// Writes until there is nothing more to say, or the workload has gone.
    async fn keep_health(&self, key: &Key) {
        let mut pause = Backoff::new(PAUSES.0, PAUSES.1);
        while let Some(said) = self.next_said(key) {
            match self.write_health(key, &said).await {
                Ok(()) => {
                    pause.reset();
                    tokio::time::sleep(PACE).await;
                    continue;
                }
                Err(EntriesError::Refused(why)) => {
                    warn!(namespace = key.0, name = key.1, why, "health not written");
                    tokio::time::sleep(PACE).await;
                    continue;
                }
                Err(EntriesError::Changed) => {}
                Err(error) => {
                    warn!(namespace = key.0, name = key.1, %error, "health not written, trying again");
                }
            }
            if let Some(own) = self.lock().get_mut(key) {
                own.health.is_due = true;
            }
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    fn next_said(&self, key: &Key) -> Option<Said> {
        let mut held = self.lock();
        let own = held.get_mut(key)?;
        let is_due = std::mem::take(&mut own.health.is_due) && own.n_streams > 0;
        own.health.is_busy = is_due;
        is_due.then(|| own.health.said.clone())
    }

    async fn write_health(&self, key: &Key, said: &Said) -> Result<(), EntriesError> {
        let (namespace, name) = (&key.0, &key.1);
        let found = self.with.entries.entry(namespace, name).await?;
        // Whoever has it now is told by the agent as well.
        let Some(entry) = found.filter(|entry| entry::is_of(entry, &self.with.replica)) else {
            return Ok(());
        };
        let Some(conditions) = entry::healthy(&entry, said, Timestamp::now()) else {
            return Ok(());
        };
        self.with.entries.set_conditions(&entry, conditions).await?;
        info!(namespace, name, ?said, "health of a workload");
        Ok(())
    }
}
