//! Which replica of the control plane writes: the one that holds a Lease.
//!
//! The rules are those of Kubernetes' own clients, so that replicas of Istio and of Lateen never
//! lead at the same time: whoever holds the Lease renews it; who finds it not renewed for its whole
//! duration takes it. Clocks are not compared: how long a Lease has not been renewed is measured from
//! when it was first seen so. A holder that cannot renew ends its own leadership well before others
//! may take over.
//!
//! Where replicas of several revisions stand for one Lease, one of the default revision is to hold
//! it. It does not take it from a holder of another revision, since both would lead until that one
//! looks again: it asks, by an annotation of the Lease, and the holder hands the Lease over when it
//! leads no more. A holder that knows nothing of asking keeps it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::revisions::{Known, Revisions};

mod conditional;
mod elections;

pub(crate) use elections::is_lease;
pub(super) use elections::{Elections, Task};

/// On a Lease: the revision of its holder. The name is Istio's.
const HOLDER_KEY: &str = "leader.istio.io/holder-key";
/// On a Lease: revision and identity of who asks its holder for it, as `revision/identity`.
const ASKED_BY: &str = "lateen.io/lease-asked-by";

/// How long a Lease holds that is not renewed. Istio's figure, as the two below.
const HOLDS: Duration = Duration::from_secs(30);
/// How long a leader that cannot renew goes on.
const RENEW_WITHIN: Duration = Duration::from_secs(15);
/// How often a leader renews, and others look.
const EVERY: Duration = Duration::from_millis(7_500);
/// How soon an attempt that failed is followed by another one.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the Lease is read anew at once because somebody else has written to it.
const LOOKS: u32 = 4;

/// Whether this process leads, for as long as this lives. Ended with [`Election::resign`], another
/// replica need not wait.
struct Election {
    leading: Arc<watch::Sender<bool>>,
    candidate: Candidate,
    task: JoinHandle<()>,
}

impl Election {
    /// Stands for a Lease.
    fn start(candidate: Candidate) -> Self {
        let leading = Arc::new(watch::Sender::new(false));
        let task = tokio::spawn(candidate.clone().run(leading.clone()));
        Election {
            leading,
            candidate,
            task,
        }
    }

    /// Whether this process leads, as it changes.
    fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Leads no more, and lets another replica do so at once.
    async fn resign(self) {
        let Election {
            leading,
            candidate,
            task,
        } = self;
        task.abort();
        // Only its being cancelled is told.
        let _ = task.await;
        let was_leading = leading.send_replace(false);
        if was_leading && let Err(error) = candidate.release().await {
            debug!(%error, "the Lease was not given back; it runs out");
        }
    }
}

/// The name of this replica: its pod's, else one by chance.
pub(super) fn identity() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("{}_{}", host.to_string_lossy(), std::process::id())
    })
}

#[derive(Clone)]
struct Candidate {
    leases: Api<Lease>,
    name: String,
    /// What no other replica is called.
    identity: String,
    /// Where replicas of several revisions stand for it: what decides which of them is to lead.
    revisions: Option<Known>,
}

/// What came of a look at the Lease.
enum Turn {
    Leads,
    /// Another one does.
    Follows,
    /// Another one does, and has been asked to let this one do so.
    Asks,
    /// This one does, and is asked for the Lease.
    Asked(Asker),
}

/// Who is to have a Lease.
struct Asker {
    revision: String,
    identity: String,
}

/// A holder as it was first seen.
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    at: Instant,
}

impl Candidate {
    async fn run(self, leading: Arc<watch::Sender<bool>>) {
        let mut seen = None;
        let mut leads_until: Option<Instant> = None;
        loop {
            let began = Instant::now();
            // An answer that comes after the end of leadership would be no answer.
            let limit = leads_until.unwrap_or(began + EVERY).min(began + EVERY);
            let next = match timeout_at(limit, self.renew(&mut seen)).await {
                Ok(Ok(Turn::Leads)) => {
                    leads_until = Some(began + RENEW_WITHIN);
                    began + EVERY
                }
                Ok(Ok(Turn::Asked(asker))) => {
                    leads_until = None;
                    // First the end of this leadership, then the beginning of the next.
                    self.tell(&leading, &mut leads_until);
                    self.hand_over(&asker).await;
                    began + EVERY
                }
                Ok(Ok(Turn::Follows)) => {
                    leads_until = None;
                    began + EVERY
                }
                Ok(Ok(Turn::Asks)) => {
                    leads_until = None;
                    began + AGAIN
                }
                failed => {
                    let why = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer".to_owned(),
                    };
                    warn!(lease = self.name, why, "the Lease was not renewed");
                    Instant::now() + AGAIN
                }
            };
            self.tell(&leading, &mut leads_until);
            sleep_until(leads_until.map_or(next, |until| until.min(next))).await;
            // The moment itself ends it, whatever the next attempt would say.
            self.tell(&leading, &mut leads_until);
        }
    }

    /// Leadership at this moment.
    fn tell(&self, leading: &watch::Sender<bool>, until: &mut Option<Instant>) {
        *until = until.filter(|until| Instant::now() < *until);
        let holds = until.is_some();
        leading.send_if_modified(|held| {
            let changed = *held != holds;
            if changed {
                info!(lease = self.name, leads = holds, "leadership");
            }
            *held = holds;
            changed
        });
    }

    /// Renews the Lease, takes it if nobody has it, or asks for it where that is right.
    async fn renew(&self, seen: &mut Option<Seen>) -> Result<Turn, kube::Error> {
        let mut looks = LOOKS;
        loop {
            looks -= 1;
            match self.look(seen).await {
                Err(error) if is_disputed(&error) && looks > 0 => {}
                turn => return turn,
            }
        }
    }

    /// What to do by what the Lease says now. It fails where somebody else writes to it at the same
    /// time: each write names the version that was read, so that of two that find it free one gets it,
    /// and the other one sees so when it looks again.
    async fn look(&self, seen: &mut Option<Seen>) -> Result<Turn, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let mut new = Lease::default();
            new.metadata.name = Some(self.name.clone());
            self.hold(&mut new);
            self.leases.create(&params, &new).await?;
            return Ok(Turn::Leads);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.is_free(&spec, seen) {
            return self.ask(lease).await;
        }
        let is_mine = self.holds(&lease);
        match self.asker(&lease) {
            Some(asker) if is_mine => return Ok(Turn::Asked(asker)),
            _ => {}
        }
        self.hold(&mut lease);
        self.leases.replace(&self.name, &params, &lease).await?;
        Ok(Turn::Leads)
    }

    fn holds(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity)
    }

    /// Whether the Lease is this candidate's own, nobody's, or of one that has not renewed it.
    fn is_free(&self, spec: &LeaseSpec, seen: &mut Option<Seen>) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let now = Instant::now();
        let is_known = |seen: &Seen| seen.holder == holder && seen.renewed == spec.renew_time;
        match seen {
            Some(seen) if is_known(seen) => {
                let holds = spec.lease_duration_seconds.unwrap_or_default();
                let holds = u64::try_from(holds).map_or(HOLDS, Duration::from_secs);
                now >= seen.at + holds
            }
            _ => {
                *seen = Some(Seen {
                    holder: holder.to_owned(),
                    renewed: spec.renew_time.clone(),
                    at: now,
                });
                false
            }
        }
    }

    /// The Lease in this candidate's hands.
    fn hold(&self, lease: &mut Lease) {
        let revision = self.with_revisions(|revisions| revisions.own().to_owned());
        let holder = Asker {
            revision: revision.unwrap_or_default(),
            identity: self.identity.clone(),
        };
        give(lease, &holder);
    }

    /// Asks a holder of another revision, where this candidate's is the default one.
    async fn ask(&self, mut lease: Lease) -> Result<Turn, kube::Error> {
        let preferred = |revisions: &Revisions| {
            let own = revisions.own().to_owned();
            revisions.is_default().then_some(own)
        };
        let revision = self.with_revisions(preferred).flatten();
        let Some(revision) = revision.filter(|own| note(&lease, HOLDER_KEY) != Some(own)) else {
            return Ok(Turn::Follows);
        };
        // One of the revision is enough.
        if asker(&lease).is_none_or(|asker| asker.revision != revision) {
            let by = format!("{revision}/{}", self.identity);
            let notes = lease.metadata.annotations.get_or_insert_default();
            notes.insert(ASKED_BY.to_owned(), by);
            let params = PostParams::default();
            self.leases.replace(&self.name, &params, &lease).await?;
            info!(lease = self.name, "asked for the Lease");
        }
        Ok(Turn::Asks)
    }

    /// Who asks this candidate for its Lease, and is to have it.
    fn asker(&self, lease: &Lease) -> Option<Asker> {
        let is_default = self.with_revisions(Revisions::is_default);
        asker(lease).filter(|asker| is_default == Some(false) && asker.identity != self.identity)
    }

    fn with_revisions<T>(&self, look: impl FnOnce(&Revisions) -> T) -> Option<T> {
        self.revisions.as_ref()?.borrow().as_ref().map(look)
    }

    /// If that fails, the Lease is still this candidate's, and it is asked again.
    async fn hand_over(&self, asker: &Asker) {
        let handed = self.let_go(|lease| give(lease, asker));
        match timeout(EVERY, handed).await {
            Ok(Ok(())) => info!(lease = self.name, to = asker.identity, "handed over"),
            Ok(Err(error)) => warn!(lease = self.name, %error, "the Lease was not handed over"),
            Err(_) => warn!(lease = self.name, "handing the Lease over has no answer"),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let free = |lease: &mut Lease| {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        };
        self.let_go(free).await
    }

    /// Writes the Lease as somebody else's, while it is this candidate's; who asks for it may write to
    /// it at the same time.
    async fn let_go(&self, change: impl Fn(&mut Lease)) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let mut looks = LOOKS;
        loop {
            looks -= 1;
            let found = self.leases.get_opt(&self.name).await?;
            let Some(mut lease) = found.filter(|lease| self.holds(lease)) else {
                return Ok(());
            };
            change(&mut lease);
            match self.leases.replace(&self.name, &params, &lease).await {
                Err(error) if is_disputed(&error) && looks > 0 => {}
                replaced => return replaced.map(drop),
            }
        }
    }
}

/// Whether somebody else has written to the Lease since it was read.
fn is_disputed(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn note<'a>(lease: &'a Lease, name: &str) -> Option<&'a String> {
    lease.metadata.annotations.as_ref()?.get(name)
}

fn asker(lease: &Lease) -> Option<Asker> {
    let (revision, identity) = note(lease, ASKED_BY)?.split_once('/')?;
    Some(Asker {
        revision: revision.to_owned(),
        identity: identity.to_owned(),
    })
}

/// The Lease in the hands of somebody, renewed at this moment. Nobody asks for it any more.
fn give(lease: &mut Lease, to: &Asker) {
    let notes = lease.metadata.annotations.get_or_insert_default();
    notes.remove(ASKED_BY);
    match to.revision.as_str() {
        "" => notes.remove(HOLDER_KEY),
        revision => notes.insert(HOLDER_KEY.to_owned(), revision.to_owned()),
    };
    let before = lease.spec.take().unwrap_or_default();
    let now = Some(MicroTime(Timestamp::now()));
    let is_same = before.holder_identity.as_deref() == Some(&to.identity);
    let turns = before.lease_transitions.unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(to.identity.clone()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        acquire_time: match is_same {
            true => before.acquire_time.clone(),
            false => now.clone(),
        },
        renew_time: now,
        lease_transitions: Some(if is_same { turns } else { turns + 1 }),
        ..before
    });
}

#[cfg(test)]
mod tests;
