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
mod leaving;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use lateen_api::{Meta, kinds};
use lateen_core::SpiffeId;
use lateen_galley::ConfigSet;
use lateen_registry::World;
use lateen_telemetry::metrics::{Counter, Registry};
use lateen_xds::types::core::Node;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Status;
use tracing::info;

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

    /// Metadata of all WorkloadEntries, also of namespaces that the mesh has no interest in.
    fn metas(&self) -> BoxFuture<'_, Result<Vec<Meta>, EntriesError>>;

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
    /// It will not be done later either.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// Anything else, which may pass.
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
    /// What it names is not there, or will not do as it is.
    Missing(String),
    /// Whoever stores entries will not have this one, now or later.
    Refused(String),
    /// It may be another time.
    Unavailable(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let say = |why: String| format!("the workload is not registered: {why}");
        match refusal {
            Refusal::Denied(why) => Status::permission_denied(say(why)),
            Refusal::Malformed(why) => Status::invalid_argument(say(why)),
            // Proxies try again whatever the code. It tells whoever reads their logs that time alone
            // mends nothing, as `UNAVAILABLE` would promise.
            Refusal::Missing(why) | Refusal::Refused(why) => Status::failed_precondition(say(why)),
            Refusal::Unavailable(why) => Status::unavailable(say(why)),
        }
    }
}

impl From<EntriesError> for Refusal {
    fn from(error: EntriesError) -> Refusal {
        let why = error.to_string();
        match error {
            EntriesError::Refused(_) => Refusal::Refused(why),
            EntriesError::Changed | EntriesError::Failed(_) => Refusal::Unavailable(why),
        }
    }
}

/// How often what has changed in the meantime is looked at anew.
const TRIES: usize = 5;
/// Between attempts at an API server that does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Namespace and name of an entry.
type Key = (String, String);

/// The streams of one workload; it stays until their end has been noted.
#[derive(Debug, Default)]
struct Held {
    n_streams: usize,
    /// When the newest of them came, in the words of the entry.
    since: Timestamp,
    /// The entry may say that the workload is here.
    is_written: bool,
    /// When the last of them ended.
    gone: Timestamp,
    /// Somebody is at noting that.
    is_leaving: bool,
    health: Health,
}

/// Registers workloads.
pub(crate) struct Registrar {
    with: Registering,
    /// The longest that an entry counts as connected whose replica has not renewed it: half as long
    /// again as a stream lives. Whoever was to say that the proxy went is gone too then.
    connected_max: Duration,
    /// The age up to which an entry of this replica need not be written anew for a further stream: it
    /// counts as connected for longer than that stream lives.
    fresh: Duration,
    /// As the platform's watch has it.
    config: watch::Receiver<Arc<ConfigSet>>,
    held: Mutex<BTreeMap<Key, Held>>,
    counts: Counts,
    /// Streams may end where there is no runtime any more.
    runtime: Handle,
    this: Weak<Registrar>,
}

impl Registrar {
    /// Starts to look after entries that nobody holds, on the current runtime. No stream lives longer
    /// than `stream_lifetime`.
    pub(crate) fn start(
        with: Registering,
        stream_lifetime: Duration,
        config: watch::Receiver<Arc<ConfigSet>>,
        metrics: &Registry,
    ) -> Arc<Registrar> {
        let registrar = Arc::new_cyclic(|this| Registrar {
            with,
            connected_max: stream_lifetime.saturating_add(stream_lifetime / 2),
            fresh: stream_lifetime / 4,
            config,
            held: Mutex::default(),
            counts: Counts::new(metrics),
            runtime: Handle::current(),
            this: this.clone(),
        });
        tokio::spawn(leaving::sweep(Arc::downgrade(&registrar)));
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
        let admitted = self.admit(node, proxy, identity, world).await;
        admitted.map_err(|refusal| {
            self.counts.errors.inc();
            refusal.into()
        })
    }

    async fn admit(
        &self,
        node: &Node,
        proxy: &Proxy,
        identity: Option<&SpiffeId>,
        world: &World,
    ) -> Result<Option<Registration>, Refusal> {
        let account = identity.map_or("", |identity| &*identity.service_account);
        let Some(workload) = Workload::of(node, proxy, account)? else {
            return Ok(None);
        };
        if identity.is_none() {
            return Err(Refusal::Denied("it has not proved who it is".to_owned()));
        }
        if let Some(pod) = of_platform(world, proxy) {
            let why = format!("{} is the address of {pod}", proxy.ip);
            return Err(Refusal::Denied(why));
        }
        self.hold(&workload).await.map(Some)
    }

    async fn hold(&self, workload: &Workload) -> Result<Registration, Refusal> {
        let key = (workload.namespace.clone(), workload.name().to_owned());
        let registrar = self.this.upgrade();
        let registrar = registrar.ok_or_else(|| Refusal::Unavailable("stopping".to_owned()))?;
        // From here on the end of an earlier stream does not count as the workload's.
        let is_leaving = {
            let mut held = self.lock();
            let own = held.entry(key.clone()).or_default();
            own.n_streams += 1;
            own.is_leaving
        };
        // Whoever is at noting that it went must find another entry than it has read.
        let fresh = if is_leaving {
            Duration::ZERO
        } else {
            self.fresh
        };
        let registration = Registration { registrar, key };
        if self.write(workload, &registration.key, fresh).await? {
            health::write_again(&registration.registrar, &registration.key);
        }
        Ok(registration)
    }

    /// Writes the entry, or that its proxy is here unless it has said so for less than `fresh`; whether
    /// what it says of health is to be looked at anew.
    async fn write(
        &self,
        workload: &Workload,
        key: &Key,
        fresh: Duration,
    ) -> Result<bool, Refusal> {
        let since = Timestamp::now();
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
            let Some(found) = entries.entry(namespace, name).await? else {
                let mut entry = new.clone();
                entry::connect(&mut entry, replica, since);
                self.will_write(key, since);
                match entries.create(entry).await {
                    Ok(()) => self.counts.successes.inc(),
                    Err(EntriesError::Changed) => continue,
                    Err(error) => return Err(error.into()),
                }
                info!(namespace, name, "workload registered");
                return Ok(true);
            };
            workload.check(&found)?;
            let at = entry::arrival(&found, replica, since, Timestamp::now(), fresh);
            let at = at.ok_or_else(|| {
                Refusal::Unavailable("it has come to another replica since".to_owned())
            })?;
            let mut entry = found.clone();
            entry::renew(&mut entry, &new);
            entry::connect(&mut entry, replica, at);
            let is_told = entry::is_told(&entry);
            self.will_write(key, at);
            if entry != found {
                match entries.replace(entry).await {
                    Ok(()) => self.counts.updates.inc(),
                    Err(EntriesError::Changed) => continue,
                    Err(error) => return Err(error.into()),
                }
                info!(namespace, name, "workload registered");
            }
            return Ok(is_told);
        }
        Err(EntriesError::Changed.into())
    }

    /// The entry is about to say that the workload came at a time: an attempt of which nobody knows
    /// the outcome may have been a success.
    fn will_write(&self, key: &Key, at: Timestamp) {
        if let Some(own) = self.lock().get_mut(key) {
            own.is_written = true;
            own.since = own.since.max(at);
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
    let found = world.workload(proxy.ip)?;
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
        health::report(&self.registrar, &self.key, fault);
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
        own.health.forget();
        own.gone = Timestamp::now();
        if !own.is_written {
            held.remove(&self.key);
            return;
        }
        // Whoever is at it takes the newest.
        if std::mem::replace(&mut own.is_leaving, true) {
            return;
        }
        drop(held);
        let (registrar, key) = (self.registrar.clone(), self.key.clone());
        let runtime = self.registrar.runtime.clone();
        runtime.spawn(async move { registrar.leave(&key).await });
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
