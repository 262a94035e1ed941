//! Which replica of the control plane writes: the one that holds a Lease.
//!
//! The rules are those of Kubernetes' own clients, so that replicas of Istio and of Lateen never
//! lead at the same time: whoever holds the Lease renews it; who finds it not renewed for its whole
//! duration takes it. Clocks are not compared: how long a Lease has not been renewed is measured from
//! when it was first seen so. A holder that cannot renew ends its own leadership well before others
//! may take over.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, info, warn};

/// Istio's name for the election of who writes statuses.
pub(super) const STATUS: &str = "istio-status-leader";

/// How long a Lease holds that is not renewed. Istio's figure, as the two below.
const HOLDS: Duration = Duration::from_secs(30);
/// How long a leader that cannot renew goes on.
const RENEW_WITHIN: Duration = Duration::from_secs(15);
/// How often a leader renews, and others look.
const EVERY: Duration = Duration::from_millis(7_500);
/// How soon an attempt that failed is followed by another one.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether this process leads, for as long as this lives. Ended with [`Election::resign`], another
/// replica need not wait.
pub(super) struct Election {
    leading: Arc<watch::Sender<bool>>,
    candidate: Candidate,
    task: JoinHandle<()>,
}

impl Election {
    /// Stands for the Lease of this name, under an identity that no other replica has.
    pub(super) fn start(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        let candidate = Candidate {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
        };
        let leading = Arc::new(watch::Sender::new(false));
        let task = tokio::spawn(candidate.clone().run(leading.clone()));
        Election {
            leading,
            candidate,
            task,
        }
    }

    /// Whether this process leads, as it changes.
    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Leads no more, and lets another replica do so at once.
    pub(super) async fn resign(self) {
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
                Ok(Ok(holds)) => {
                    leads_until = holds.then(|| began + RENEW_WITHIN);
                    began + EVERY
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

    /// Renews the Lease, or takes it if nobody has it: whether this candidate has it then.
    async fn renew(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let new = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.held(&LeaseSpec::default())),
            };
            return taken(self.leases.create(&params, &new).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.is_free(&spec, seen) {
            return Ok(false);
        }
        // It names the version that was read: of two that find it free, one gets it.
        lease.spec = Some(self.held(&spec));
        taken(self.leases.replace(&self.name, &params, &lease).await)
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
    fn held(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let is_mine = before.holder_identity.as_deref() == Some(&self.identity);
        let turns = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
            acquire_time: match is_mine {
                true => before.acquire_time.clone(),
                false => now.clone(),
            },
            renew_time: now,
            lease_transitions: Some(if is_mine { turns } else { turns + 1 }),
            ..before.clone()
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let params = PostParams::default();
        self.leases.replace(&self.name, &params, &lease).await?;
        Ok(())
    }
}

/// Somebody else was faster where the API server says so.
fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
