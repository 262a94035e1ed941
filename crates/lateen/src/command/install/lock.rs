//! One installation at a time.

use std::time::Duration;

use anyhow::{Context, bail};
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
use tokio::task::JoinHandle;

/// The Lease that whoever installs holds.
const NAME: &str = "lateen-install";
/// How long it is held without being renewed.
const HELD: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);

/// A Lease in the control plane's namespace, held while something is installed or taken away. Whoever
/// dies with it loses it after half a minute.
pub(crate) struct Lock {
    leases: Api<Lease>,
    holder: String,
    renewing: JoinHandle<()>,
}

impl Lock {
    /// Takes it, or says who has it. The namespace is made where there is none.
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
        let lease = match held {
            None => {
                let lease = lease(&holder, None);
                leases.create(&PostParams::default(), &lease).await
            }
            Some(held) if is_free(&held) => {
                let lease = lease(&holder, held.metadata.resource_version);
                leases.replace(NAME, &PostParams::default(), &lease).await
            }
            Some(held) => bail!("{}", taken(&held)),
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
        let renewing = tokio::spawn(renew(leases.clone(), holder.clone()));
        Ok(Lock {
            leases,
            holder,
            renewing,
        })
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

fn is_free(lease: &Lease) -> bool {
    let renewed = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.renew_time.as_ref());
    renewed.is_none_or(|MicroTime(at)| {
        let age = Timestamp::now().duration_since(*at);
        age.as_secs() > HELD.as_secs() as i64
    })
}

fn taken(lease: &Lease) -> String {
    let holder = holder(lease).unwrap_or("somebody");
    format!(
        "another installation is under way in this cluster, by {holder}: wait until it has ended, then run the command again"
    )
}

/// Ends when somebody else has it, who must have thought this one dead.
async fn renew(leases: Api<Lease>, own: String) {
    loop {
        tokio::time::sleep(RENEW).await;
        let Ok(held) = leases.get(NAME).await else {
            continue;
        };
        if holder(&held) != Some(&own) {
            return;
        }
        let lease = lease(&own, held.metadata.resource_version);
        if let Err(error) = leases.replace(NAME, &PostParams::default(), &lease).await {
            tracing::debug!(%error, "the installation's lock is not renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_old_is_free() {
        let mut lease = lease("me", None);
        assert!(!is_free(&lease));
        assert!(taken(&lease).contains("by me"));
        if let Some(spec) = &mut lease.spec {
            let old = Timestamp::now() - HELD - Duration::from_secs(2);
            spec.renew_time = Some(MicroTime(old));
        }
        assert!(is_free(&lease));
    }
}
