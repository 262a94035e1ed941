//! Workloads outside of the platform that register themselves: a proxy that names a WorkloadGroup
//! becomes a WorkloadEntry while it is connected.
//!
//! Invariants: an entry is written for proven identities alone, in their own namespace, for a group
//! that is there and is for their service account. An entry that somebody else wrote is left alone. A
//! proxy that comes back in good time finds its entry as it was, also at another replica; who came
//! later counts, which the times in the entry say. What cannot be written is no registration, and
//! the proxy is not admitted, so that it tries again.

mod entry;
mod health;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use lateen_api::kinds;
use lateen_core::{Backoff, SpiffeId};
use lateen_registry::World;
use lateen_telemetry::metrics::{Counter, Registry};
use lateen_xds::types::core::Node;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Status;
use tracing::{info, warn};

use crate::proxy::Proxy;
use entry::Workload;
use health::Health;

/// Where WorkloadGroups are read and WorkloadEntries are written.
pub trait Entries: Send + Sync + 'static {
    /// The WorkloadGroup of a name.
    fn group<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>>;

    /// The WorkloadEntry of a name.
    fn entry<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, EntriesError>>;

    /// All WorkloadEntries.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Value>, EntriesError>>;

    /// Writes a new WorkloadEntry.
    fn create(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>>;

    /// Writes a WorkloadEntry in the place of the version that its `resourceVersion` names.
    fn replace(&self, entry: Value) -> BoxFuture<'_, Result<(), EntriesError>>;

    /// Writes the conditions of the version of a WorkloadEntry.
    fn set_conditions<'a>(
        &'a self,
        entry: &'a Value,
        conditions: Value,
    ) -> BoxFuture<'a, Result<(), EntriesError>>;

    /// Removes this version of a WorkloadEntry.
    fn remove<'a>(&'a self, entry: &'a Value) -> BoxFuture<'a, Result<(), EntriesError>>;
}

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// The object is another than was thought: there already, gone, or of another version.
    #[error("the object has changed")]
    Changed,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What registration needs.
#[derive(Clone)]
pub struct Registering {
    /// Where to.
    pub entries: Arc<dyn Entries>,
    /// What this replica is called.
    pub replica: String,
    /// How long a proxy may be away before its entry is removed.
    pub grace: Duration,
    /// Whether this replica removes what replicas left behind which are gone.
    pub leading: watch::Receiver<bool>,
}

impl Registering {
    /// Istio's, which is enough for a proxy to go from one replica to another.
    pub const GRACE: Duration = Duration::from_secs(10);
}

/// Why a workload is not registered.
#[derive(Debug)]
enum Refusal {
    /// It may not be what it says it is.
    Denied(String),
    /// It says what cannot be.
    Malformed(String),
    /// What it names is not there.
    Missing(String),
    /// It may be another time.
    Unavailable(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let say = |why: String| format!("the workload is not registered: {why}");
        match refusal {
            Refusal::Denied(why) => Status::permission_denied(say(why)),
            Refusal::Malformed(why) => Status::invalid_argument(say(why)),
            Refusal::Missing(why) => Status::failed_precondition(say(why)),
            Refusal::Unavailable(why) => Status::unavailable(say(why)),
        }
    }
}

impl From<EntriesError> for Refusal {
    fn from(error: EntriesError) -> Refusal {
        Refusal::Unavailable(error.to_string())
    }
}

/// How often what has changed in the meantime is looked at anew.
const TRIES: usize = 5;
/// Between attempts at an API server that does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often the time of grace passes between two looks at what replicas left behind.
const SWEEP: u32 = 10;

/// Namespace and name of an entry.
type Key = (String, String);

/// The streams of one workload.
#[derive(Debug, Default)]
struct Held {
    n_streams: usize,
    /// When the newest of them came.
    since: Timestamp,
    health: Health,
}

/// Registers workloads.
pub(crate) struct Registrar {
    with: Registering,
    held: Mutex<BTreeMap<Key, Held>>,
    counts: Counts,
    /// Streams may end where there is no runtime any more.
    runtime: Handle,
    this: Weak<Registrar>,
}

impl Registrar {
    /// Starts to look after entries that nobody holds, on the current runtime.
    pub(crate) fn start(with: Registering, metrics: &Registry) -> Arc<Registrar> {
        let registrar = Arc::new_cyclic(|this| Registrar {
            with,
            held: Mutex::default(),
            counts: Counts::new(metrics),
            runtime: Handle::current(),
            this: this.clone(),
        });
        tokio::spawn(sweep(Arc::downgrade(&registrar)));
        registrar
    }

    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the workload of a proxy that asks for it, until what this returns is dropped.
    ///
    /// # Errors
    /// When the workload may not be registered, or cannot be now.
    pub(crate) async fn register(
        &self,
        node: &Node,
        proxy: &Proxy,
        identity: Option<&SpiffeId>,
        world: &World,
    ) -> Result<Option<Registration>, Status> {
        let account = identity.map_or("", |identity| &*identity.service_account);
        let Some(workload) = Workload::of(node, proxy, account)? else {
            return Ok(None);
        };
        let result = match (identity, of_platform(world, proxy)) {
            (None, _) => Err(Refusal::Denied("it has not proved who it is".to_owned())),
            (_, Some(pod)) => Err(Refusal::Denied(format!(
                "{} is the address of {pod}",
                proxy.ip
            ))),
            (Some(_), None) => self.hold(&workload).await,
        };
        match result {
            Ok(registration) => Ok(Some(registration)),
            Err(refusal) => {
                self.counts.errors.inc();
                Err(refusal.into())
            }
        }
    }

    async fn hold(&self, workload: &Workload) -> Result<Registration, Refusal> {
        let key = (workload.namespace.clone(), workload.name().to_owned());
        let registrar = self.this.upgrade();
        let registrar = registrar.ok_or_else(|| Refusal::Unavailable("stopping".to_owned()))?;
        let since = Timestamp::now();
        // From here on the end of an earlier stream does not count as the workload's.
        self.count_in(&key, since);
        let registration = Registration { registrar, key };
        self.write(workload, since).await?;
        Ok(registration)
    }

    fn count_in(&self, key: &Key, since: Timestamp) {
        let mut held = self.lock();
        let own = held.entry(key.clone()).or_default();
        own.n_streams += 1;
        own.since = own.since.max(since);
    }

    /// Writes the entry, or that its proxy is here.
    async fn write(&self, workload: &Workload, since: Timestamp) -> Result<(), Refusal> {
        let Workload {
            namespace, group, ..
        } = workload;
        let (entries, replica) = (&self.with.entries, &self.with.replica);
        let of = entries.group(namespace, group).await?;
        let of = of.ok_or_else(|| {
            Refusal::Missing(format!("there is no WorkloadGroup {namespace}/{group}"))
        })?;
        // Also where its entry is there: the group may be another account's by now.
        let new = workload.entry(&of)?;
        let name = workload.name();
        for _ in 0..TRIES {
            let (counter, result) = match entries.entry(namespace, name).await? {
                Some(mut entry) => {
                    workload.check(&entry)?;
                    if !entry::connect(&mut entry, replica, since) {
                        return Ok(());
                    }
                    (&self.counts.updates, entries.replace(entry).await)
                }
                None => {
                    let mut entry = new.clone();
                    entry::connect(&mut entry, replica, since);
                    (&self.counts.successes, entries.create(entry).await)
                }
            };
            match result {
                Ok(()) => {
                    counter.inc();
                    info!(namespace, name, "workload registered");
                    return Ok(());
                }
                Err(EntriesError::Changed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EntriesError::Changed.into())
    }

    /// Notes that the workload's last stream here has ended, and removes its entry unless it comes
    /// back, here or elsewhere.
    async fn left(&self, key: Key, since: Timestamp) {
        let at = Timestamp::now();
        let mut pause = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            match self.note_left(&key, since, at).await {
                Ok(true) => break,
                Ok(false) => return,
                Err(EntriesError::Changed) => {}
                Err(error) => {
                    self.counts.errors.inc();
                    warn!(namespace = key.0, name = key.1, %error, "a workload went, trying again to note it");
                }
            }
            tokio::time::sleep(pause.next_delay()).await;
        }
        self.counts.unregistered.inc();
        tokio::time::sleep(self.with.grace).await;
        match self.with.entries.entry(&key.0, &key.1).await {
            Ok(Some(entry)) => self.remove_left(&entry).await,
            Ok(None) => {}
            // The leader finds it.
            Err(error) => warn!(namespace = key.0, name = key.1, %error, "not removed yet"),
        }
    }

    /// Whether the entry says now that its proxy went.
    async fn note_left(
        &self,
        key: &Key,
        since: Timestamp,
        at: Timestamp,
    ) -> Result<bool, EntriesError> {
        if self.lock().contains_key(key) {
            return Ok(false);
        }
        let (entries, replica) = (&self.with.entries, &self.with.replica);
        let Some(mut entry) = entries.entry(&key.0, &key.1).await? else {
            return Ok(false);
        };
        if !entry::disconnect(&mut entry, replica, since, at) {
            return Ok(false);
        }
        entries.replace(entry).await.map(|()| true)
    }

    /// Removes an entry whose workload has been away for too long.
    async fn remove_left(&self, entry: &Value) {
        if !entry::is_left(entry, Timestamp::now(), self.with.grace) {
            return;
        }
        let name = |field: &str| entry["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (name("namespace"), name("name"));
        match self.with.entries.remove(entry).await {
            Ok(()) => {
                self.counts.deletes.inc();
                info!(
                    namespace,
                    name, "workload removed that was away for too long"
                );
            }
            // It has come back.
            Err(EntriesError::Changed) => {}
            Err(error) => {
                self.counts.errors.inc();
                warn!(namespace, name, %error, "workload not removed that was away for too long");
            }
        }
    }
}

/// Looks now and then for entries whose replica is gone, while this one leads.
async fn sweep(registrar: Weak<Registrar>) {
    let Some(with) = registrar.upgrade().map(|registrar| registrar.with.clone()) else {
        return;
    };
    let Registering {
        entries,
        grace,
        leading,
        ..
    } = with;
    let mut ticks = tokio::time::interval(grace * SWEEP);
    loop {
        ticks.tick().await;
        let Some(registrar) = registrar.upgrade() else {
            return;
        };
        if !*leading.borrow() {
            continue;
        }
        match entries.all().await {
            Ok(all) => {
                for entry in &all {
                    registrar.remove_left(entry).await;
                }
            }
            Err(error) => warn!(%error, "workloads that are away are not looked for"),
        }
    }
}

/// Refuses proxies that ask for a registration where there is nothing to write it to.
pub(crate) fn impossible(proxy: &Proxy) -> Result<(), Status> {
    if !entry::asks(proxy) {
        return Ok(());
    }
    let why = "the control plane reads its configuration from files, which nobody writes to";
    Err(Refusal::Missing(why.to_owned()).into())
}

/// What of the platform has the address of a proxy: no workload may take its place.
fn of_platform(world: &World, proxy: &Proxy) -> Option<String> {
    let found = world.workloads_by_ip.get(&proxy.ip)?;
    let is_entry = found.owner.as_ref();
    let is_entry = is_entry.is_some_and(|owner| owner.kind == kinds::WORKLOAD_ENTRY.kind);
    (!is_entry).then(|| format!("pod {}/{}", found.namespace, found.name))
}

/// A workload is registered while this is there.
pub(crate) struct Registration {
    registrar: Arc<Registrar>,
    key: Key,
}

impl Registration {
    /// Takes in what the workload's agent says of its health: that it is well, or what is wrong.
    pub(crate) fn report(&self, fault: Option<&str>) {
        health::report(&self.registrar, &self.key, fault.map(str::to_owned));
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key.0, self.key.1)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut held = self.registrar.lock();
        let Some(own) = held.get_mut(&self.key) else {
            return;
        };
        own.n_streams -= 1;
        if own.n_streams > 0 {
            return;
        }
        let since = own.since;
        held.remove(&self.key);
        drop(held);
        let (registrar, key) = (self.registrar.clone(), self.key.clone());
        let runtime = self.registrar.runtime.clone();
        runtime.spawn(async move { registrar.left(key, since).await });
    }
}

/// Series by Istio's names.
struct Counts {
    successes: Arc<Counter>,
    updates: Arc<Counter>,
    unregistered: Arc<Counter>,
    deletes: Arc<Counter>,
    errors: Arc<Counter>,
}

impl Counts {
    fn new(metrics: &Registry) -> Counts {
        Counts {
            successes: metrics.single("auto_registration_success_total"),
            updates: metrics.single("auto_registration_updates_total"),
            unregistered: metrics.single("auto_registration_unregister_total"),
            deletes: metrics.single("auto_registration_deletes_total"),
            errors: metrics.single("auto_registration_errors_total"),
        }
    }
}

#[cfg(test)]
mod tests;
