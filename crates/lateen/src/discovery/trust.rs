//! The trust domains of the mesh, as its configuration has them.
//!
//! A mesh moves to another trust domain with the old one as an alias. Proxies are told of both at once.
//! Only when they know are identities issued in the new one: whoever had one earlier would be a stranger
//! to the others.

use std::{sync::Arc, time::Duration};

use lateen_api::mesh::MeshConfig;
use lateen_citadel::{Trust, TrustDomains};
use lateen_galley::ConfigSet;
use tokio::sync::watch;
use tracing::{info, warn};

/// After this, every proxy that can be told has been.
const TOLD: Duration = Duration::from_secs(30);

/// Follows them.
pub(super) fn follow(mut config: watch::Receiver<Arc<ConfigSet>>) -> Trust {
    let first = of(&config.borrow_and_update().mesh);
    let (trust_tx, trust) = watch::channel(Arc::new(first.clone()));
    tokio::spawn(keep(config, first, trust_tx));
    trust
}

fn of(mesh: &MeshConfig) -> TrustDomains {
    let mut domains = mesh.trust_domains().into_iter();
    let own = domains.next().unwrap_or_else(|| mesh.trust_domain());
    TrustDomains::new(own, domains)
}

async fn keep(
    mut config: watch::Receiver<Arc<ConfigSet>>,
    mut wanted: TrustDomains,
    trust_tx: watch::Sender<Arc<TrustDomains>>,
) {
    loop {
        let held = trust_tx.borrow().clone();
        let now = wanted.issuing(held.own()).unwrap_or_else(|| {
            warn!(
                from = held.own(), to = wanted.own(),
                "the trust domain has changed, and the old one is no alias: workloads are strangers \
                 to each other until each has a new certificate, by a restart or after half a day; \
                 with the old one in trustDomainAliases they are not"
            );
            wanted.clone()
        });
        let is_done = now == wanted;
        put(&trust_tx, now);
        tokio::select! {
            () = tokio::time::sleep(TOLD), if !is_done => {
                info!(from = held.own(), to = wanted.own(), "identities are of another trust domain now");
                put(&trust_tx, wanted.clone());
            }
            next = others_than(&wanted, &mut config) => match next {
                Some(next) => wanted = next,
                None => return,
            },
        }
    }
}

fn put(trust_tx: &watch::Sender<Arc<TrustDomains>>, next: TrustDomains) {
    trust_tx.send_if_modified(|held| {
        let is_new = **held != next;
        *held = Arc::new(next);
        is_new
    });
}

/// The next ones that differ; `None` at the end of the process.
async fn others_than(
    known: &TrustDomains,
    config: &mut watch::Receiver<Arc<ConfigSet>>,
) -> Option<TrustDomains> {
    loop {
        config.changed().await.ok()?;
        let next = of(&config.borrow_and_update().mesh);
        if next != *known {
            return Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn mesh(own: &str, aliases: &[&str]) -> Arc<ConfigSet> {
        let mesh = MeshConfig {
            trust_domain: Some(own.to_owned()),
            trust_domain_aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..MeshConfig::default()
        };
        Arc::new(ConfigSet {
            mesh: Arc::new(mesh),
            ..ConfigSet::default()
        })
    }

    async fn next(trust: &mut Trust) -> String {
        trust.changed().await.expect("it is kept");
        let trust = trust.borrow_and_update().clone();
        format!("{}: {trust}", trust.own())
    }

    #[tokio::test(start_paused = true)]
    async fn proxies_are_told_before_identities_change() {
        let (config_tx, config) = watch::channel(mesh("old", &[]));
        let mut trust = follow(config);
        assert_eq!(trust.borrow_and_update().own(), "old");
        let since = Instant::now();
        config_tx.send_replace(mesh("new", &["old"]));
        assert_eq!(next(&mut trust).await, "old: old or new");
        // What else the configuration says does not put it off.
        tokio::time::sleep(TOLD / 2).await;
        config_tx.send_replace(mesh("new", &["old"]));
        assert_eq!(next(&mut trust).await, "new: new or old");
        assert_eq!(since.elapsed(), TOLD);
        config_tx.send_replace(mesh("new", &[]));
        assert_eq!(next(&mut trust).await, "new: new");
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_alias_they_change_at_once() {
        let (config_tx, config) = watch::channel(mesh("old", &[]));
        let mut trust = follow(config);
        trust.borrow_and_update();
        let since = Instant::now();
        config_tx.send_replace(mesh("new", &[]));
        assert_eq!(next(&mut trust).await, "new: new");
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_that_is_taken_back_leaves_identities_as_they_were() {
        let (config_tx, config) = watch::channel(mesh("old", &[]));
        let mut trust = follow(config);
        trust.borrow_and_update();
        config_tx.send_replace(mesh("new", &["old"]));
        assert_eq!(next(&mut trust).await, "old: old or new");
        config_tx.send_replace(mesh("old", &[]));
        assert_eq!(next(&mut trust).await, "old: old");
        tokio::time::sleep(TOLD * 2).await;
        assert!(!trust.has_changed().expect("it is kept"));
    }
}
