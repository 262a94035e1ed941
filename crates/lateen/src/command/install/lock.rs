//! One installation at a time.
//!
//! Clocks of two machines may differ, so that a Lease is never taken for what its time says alone: who
//! finds it old looks on for as long as it holds, and takes it if nobody has renewed it meanwhile. Who
//! loses it ends what was done under it.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Namespace,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// The Lease that whoever installs holds.
const NAME: &str = "lateen-install";
/// How long it is held without being renewed.
const HELD: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How soon an attempt that failed is followed by another one, and how often others look.
const AGAIN: Duration = Duration::from_secs(1);

/// A Lease in the control plane's namespace, held while something is installed or taken away. Whoever
/// dies with it loses it after half a minute.
pub(crate) struct Lock {
    leases: Api<Lease>,
    holder: String,
    renewing: JoinHandle<()>,
    /// Whether somebody else may have it by now.
    lost: watch::Receiver<bool>,
}

/// Does something for as long as all locks are held. Whoever ends the command has them given back.
///
/// # Errors
/// What was done failed, or was ended in the middle since a lock was lost or somebody wished it.
pub(crate) async fn holding<T>(
    locks: &[Lock],
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut lost: FuturesUnordered<_> = locks.iter().map(Lock::lost).collect();
    let done = tokio::select! {
        biased;
        Some(()) = lost.next() => bail!(
            "the installation's lock is lost: somebody else has taken it, or the API server has not answered for too long; what is done so far stays. Wait until nobody else installs, then run the command again"
        ),
        () = interrupted() => bail!(
            "ended in the middle; what is done so far stays, and the same command goes on with it"
        ),
        done = work => done,
    };
    // Who listened for a signal once hears it always: from here on it ends the program as it did before.
    tokio::spawn(async {
        interrupted().await;
        std::process::exit(INTERRUPTED);
    });
    done
}

/// The status of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Ends when somebody wants the program to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals: Vec<_> = [SignalKind::interrupt(), SignalKind::terminate()]
        .into_iter()
        // Without a handler, the signal ends the program.
        .filter_map(|kind| signal(kind).ok())
        .collect();
    let mut any: FuturesUnordered<_> = signals.iter_mut().map(|signal| signal.recv()).collect();
    if any.next().await.is_none() {
        std::future::pending().await
    }
}

impl Lock {
    /// Takes those of several namespaces, or none of them.
    pub(crate) async fn take_all(
        client: &Client,
        namespaces: impl IntoIterator<Item = &String>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut locks = Vec::new();
        for namespace in namespaces {
            match Lock::take(client, namespace).await {
                Ok(lock) => locks.push(lock),
                Err(error) => {
                    for lock in locks {
                        lock.release().await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(locks)
    }

    /// Takes it, or says who has it. Where the holder seems to be gone, it is waited until that is sure.
    /// The namespace is made where there is none.
    pub(crate) async fn take(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        make_namespace(client, namespace).await?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
        let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
        let holder = format!("{user}@{host}, process {}", std::process::id());
        let held = leases
            .get_opt(NAME)
            .await
            .context("cannot read the installation's lock")?;
        let held = match held {
            Some(held) => abandoned(&leases, held).await?,
            None => None,
        };
        let lease = match held {
            None => {
                let lease = lease(&holder, None);
                leases.create(&PostParams::default(), &lease).await
            }
            Some(held) => {
                let lease = lease(&holder, held.metadata.resource_version);
                leases.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match lease {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let held = leases.get(NAME).await;
                bail!(
                    "{}",
                    held.map_or_else(|error| error.to_string(), |held| taken(&held))
                );
            }
            Err(error) => return Err(error).context("cannot take the installation's lock"),
        }
        let (lost, is_lost) = watch::channel(false);
        let renewing = renew(leases.clone(), holder.clone(), Instant::now(), lost);
        Ok(Lock {
            leases,
            holder,
            renewing: tokio::spawn(renewing),
            lost: is_lost,
        })
    }

    /// Ends when somebody else may have it.
    async fn lost(&self) {
        let mut lost = self.lost.clone();
        // It ends by itself when it is lost, and with this when it is released.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Gives it back. What goes wrong costs the next one half a minute.
    pub(crate) async fn release(self) {
        self.renewing.abort();
        let held = self.leases.get_opt(NAME).await;
        let Ok(Some(held)) = held else { return };
        if holder(&held) != Some(&self.holder) {
            return;
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: held.metadata.resource_version,
                uid: None,
            }),
            ..DeleteParams::default()
        };
        if let Err(error) = self.leases.delete(NAME, &params).await {
            tracing::debug!(%error, "the installation's lock stays until it is old");
        }
    }
}

async fn make_namespace(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(namespace).await?.is_some() {
        return Ok(());
    }
    let object = Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.to_owned()),
            labels: Some(lateen_install::owner_labels(namespace)),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match namespaces.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made
            .map(drop)
            .with_context(|| format!("cannot make namespace {namespace}")),
    }
}

fn lease(holder: &str, version: Option<String>) -> Lease {
    let now = MicroTime(Timestamp::now());
    Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(HELD.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn renewed(lease: &Lease) -> Option<&MicroTime> {
    lease.spec.as_ref()?.renew_time.as_ref()
}

/// Whether it was renewed a moment ago, by the clock of this machine. To refuse is always safe.
fn is_fresh(lease: &Lease) -> bool {
    renewed(lease).is_some_and(|MicroTime(at)| {
        let age = Timestamp::now().duration_since(*at);
        !age.is_negative() && age.unsigned_abs() <= HELD
    })
}

/// A Lease whose holder is gone: nobody renews it for as long as it holds. None is left where it is
/// given back meanwhile.
async fn abandoned(leases: &Api<Lease>, held: Lease) -> anyhow::Result<Option<Lease>> {
    let Some(holder) = holder(&held).filter(|holder| !holder.is_empty()) else {
        return Ok(Some(held));
    };
    if is_fresh(&held) {
        bail!("{}", taken(&held));
    }
    let holds = held
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_duration_seconds);
    let holds = holds.and_then(|seconds| u64::try_from(seconds).ok());
    let holds = holds.map_or(HELD, Duration::from_secs);
    eprintln!(
        "{holder} has left an installation unfinished, or is at it: looking on for {} s",
        holds.as_secs()
    );
    let until = Instant::now() + holds;
    loop {
        tokio::time::sleep(AGAIN).await;
        let asked = Instant::now();
        let now = leases.get_opt(NAME).await;
        let Some(now) = now.context("cannot read the installation's lock")? else {
            return Ok(None);
        };
        if renewed(&now) != renewed(&held) {
            bail!("{}", taken(&now));
        }
        if asked >= until {
            return Ok(Some(now));
        }
    }
}

fn taken(lease: &Lease) -> String {
    let holder = holder(lease).unwrap_or("somebody");
    format!(
        "another installation is under way in this cluster, by {holder}: wait until it has ended, then run the command again"
    )
}

/// Ends when somebody else has it, or may soon think this one dead.
async fn renew(leases: Api<Lease>, own: String, mut renewed: Instant, lost: watch::Sender<bool>) {
    let mut wait = RENEW;
    loop {
        tokio::time::sleep(wait).await;
        let began = Instant::now();
        let until = renewed + HELD - RENEW;
        wait = match tokio::time::timeout_at(until, renew_once(&leases, &own)).await {
            Ok(Ok(true)) => {
                renewed = began;
                RENEW
            }
            Ok(Ok(false)) | Err(_) => break,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the installation's lock is not renewed");
                AGAIN
            }
        };
    }
    lost.send_replace(true);
}

/// Whether it is still held.
async fn renew_once(leases: &Api<Lease>, own: &str) -> Result<bool, kube::Error> {
    let held = leases.get_opt(NAME).await?;
    let Some(held) = held.filter(|held| holder(held) == Some(own)) else {
        return Ok(false);
    };
    let lease = lease(own, held.metadata.resource_version);
    leases.replace(NAME, &PostParams::default(), &lease).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::platform;

    const NAMESPACE: &str = "istio-system";

    /// A Lease of somebody whose clock is wrong by so many seconds.
    fn of_ann(wrong_by: i64, version: Option<String>) -> Lease {
        let mut lease = lease("ann", version);
        if let Some(spec) = &mut lease.spec {
            let now = Timestamp::now() + jiff::SignedDuration::from_secs(wrong_by);
            spec.renew_time = Some(MicroTime(now));
            spec.lease_duration_seconds = Some(3);
        }
        lease
    }

    async fn with(lease: &Lease) -> (tempfile::TempDir, Client, Api<Lease>) {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        make_namespace(&client, NAMESPACE).await.expect("made");
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        let made = leases.create(&PostParams::default(), lease).await;
        made.expect("it is made");
        (directory, client, leases)
    }

    #[tokio::test]
    async fn what_somebody_holds_is_told() {
        let (_directory, client, _leases) = with(&of_ann(0, None)).await;
        let refused = Lock::take(&client, NAMESPACE).await.err();
        let refused = refused.expect("it is held").to_string();
        assert!(
            refused.contains("under way in this cluster, by ann"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn who_renews_has_it_though_the_clock_says_otherwise() {
        let (_directory, client, leases) = with(&of_ann(-3600, None)).await;
        let renewing = tokio::spawn(async move {
            loop {
                let held = leases.get(NAME).await.expect("it is there");
                assert_eq!(holder(&held), Some("ann"), "it is taken from who renews it");
                let lease = of_ann(-3600, held.metadata.resource_version);
                let replaced = leases.replace(NAME, &PostParams::default(), &lease).await;
                replaced.expect("it is renewed");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let refused = Lock::take(&client, NAMESPACE).await.err();
        assert!(!renewing.is_finished(), "it was renewed all the time");
        renewing.abort();
        assert!(refused.expect("it is held").to_string().contains("by ann"));
    }

    #[tokio::test]
    async fn who_is_gone_loses_it_though_the_clock_says_otherwise() {
        let (_directory, client, leases) = with(&of_ann(3600, None)).await;
        let lock = Lock::take(&client, NAMESPACE).await.expect("it is taken");
        lock.release().await;
        assert_eq!(leases.get_opt(NAME).await.expect("an answer"), None);
    }

    #[tokio::test]
    async fn who_loses_it_ends_the_work() {
        let directory = tempfile::tempdir().expect("a folder");
        let client = platform::server(directory.path()).await;
        let lock = Lock::take(&client, NAMESPACE).await.expect("it is taken");
        let done = holding(std::slice::from_ref(&lock), async { Ok(1) }).await;
        assert_eq!(done.expect("it is done"), 1);
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        let held = leases.get(NAME).await.expect("it is there");
        let lease = of_ann(0, held.metadata.resource_version);
        let replaced = leases.replace(NAME, &PostParams::default(), &lease).await;
        replaced.expect("it is taken away");
        let never = std::future::pending::<anyhow::Result<()>>();
        let lost = holding(std::slice::from_ref(&lock), never).await;
        assert!(
            lost.expect_err("it is lost")
                .to_string()
                .contains("lock is lost")
        );
        lock.release().await;
        let held = leases.get(NAME).await.expect("it is there");
        assert_eq!(holder(&held), Some("ann"));
    }
}
