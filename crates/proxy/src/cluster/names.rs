//! Hosts that are known once they are asked for: names that clients give, looked up and kept for a
//! while, up to a bound.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lateen_decode::DynamicSpec;
use tokio::sync::watch;

use super::dns::AFTER_FAILURE;

/// How long one look-up may take, as Envoy has it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// No more names are taken.
    #[error("DNS cache overflow")]
    Full,
    /// It could not be looked up.
    #[error("DNS resolution failure")]
    Failed,
}

/// Names with their addresses.
#[derive(Default)]
pub(crate) struct NameCache(Mutex<HashMap<Name, Entry>>);

type Name = (Box<str>, u16);
type Answer = Option<Result<SocketAddr, ()>>;

struct Entry {
    /// None until it was looked up for the first time.
    answer: watch::Sender<Answer>,
    /// When it was asked for last, and when it was looked up last, in milliseconds.
    used: u64,
    asked: u64,
}

impl NameCache {
    /// The address of a host, which may be an address itself. A name that is known answers at once,
    /// also when it is looked up again; a new one is waited for.
    pub(crate) async fn resolve(
        &self,
        spec: &Arc<DynamicSpec>,
        host: &str,
        port: u16,
        now: u64,
    ) -> Result<SocketAddr, Unresolved> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let name = (host.to_ascii_lowercase().into_boxed_str(), port);
        let mut answer_rx = self.entry(spec, name, now)?;
        let answer = answer_rx.wait_for(Answer::is_some).await;
        let answer = answer.ok().and_then(|answer| *answer);
        answer.and_then(Result::ok).ok_or(Unresolved::Failed)
    }

    /// Where the answer for a name is, or will be. Looks it up where that is due.
    fn entry(
        &self,
        spec: &Arc<DynamicSpec>,
        name: Name,
        now: u64,
    ) -> Result<watch::Receiver<Answer>, Unresolved> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&name) {
            entry.used = now;
            let pause = match *entry.answer.borrow() {
                Some(Err(())) => AFTER_FAILURE,
                _ => spec.refresh,
            };
            if entry.asked.saturating_add(millis(pause)) <= now {
                entry.asked = now;
                look_up(spec.clone(), name, entry.answer.clone());
            }
            return Ok(entry.answer.subscribe());
        }
        if entries.len() >= spec.max_hosts {
            let kept = millis(spec.host_ttl);
            entries.retain(|_, entry| entry.used.saturating_add(kept) > now);
            if entries.len() >= spec.max_hosts {
                return Err(Unresolved::Full);
            }
        }
        let (answer, answer_rx) = watch::channel(None);
        look_up(spec.clone(), name.clone(), answer.clone());
        let entry = Entry {
            answer,
            used: now,
            asked: now,
        };
        entries.insert(name, entry);
        Ok(answer_rx)
    }
}

/// Looks a name up. One that has an address keeps it where that fails.
fn look_up(spec: Arc<DynamicSpec>, (host, port): Name, answer: watch::Sender<Answer>) {
    tokio::spawn(async move {
        let found = tokio::net::lookup_host((&*host, port));
        let found = match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(list)) => {
                let fits = |a: &SocketAddr| if a.is_ipv4() { spec.v4 } else { spec.v6 };
                let mut list: Vec<_> = list.filter(fits).collect();
                // IPv4 where there is a choice, as for other names.
                list.sort_by_key(SocketAddr::is_ipv6);
                list.first().copied().ok_or(())
            }
            Ok(Err(error)) => {
                tracing::debug!(%host, %error, "name not resolved");
                Err(())
            }
            Err(_) => Err(()),
        };
        answer.send_if_modified(|known| {
            let keeps = found.is_err() && matches!(known, Some(Ok(_)));
            if !keeps {
                *known = Some(found);
            }
            !keeps
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_hosts: usize) -> Arc<DynamicSpec> {
        Arc::new(DynamicSpec {
            refresh: Duration::from_secs(60),
            host_ttl: Duration::from_secs(300),
            max_hosts,
            v4: true,
            v6: false,
        })
    }

    #[tokio::test]
    async fn names_are_kept_up_to_a_bound() {
        let (cache, spec) = (NameCache::default(), spec(1));
        let at = |text: &str| Ok(text.parse().expect("an address"));
        let found = cache.resolve(&spec, "localhost", 80, 1).await;
        assert_eq!(found, at("127.0.0.1:80"));
        assert_eq!(cache.resolve(&spec, "LOCALHOST", 80, 2).await, found);
        let full = cache.resolve(&spec, "localhost", 81, 3).await;
        assert_eq!(full, Err(Unresolved::Full));
        // Addresses need no room.
        let found = cache.resolve(&spec, "192.0.2.1", 81, 3).await;
        assert_eq!(found, at("192.0.2.1:81"));
        let found = cache.resolve(&spec, "[::1]", 81, 3).await;
        assert_eq!(found, at("[::1]:81"));
        // What nobody has asked for in a while makes room.
        let later = 2 + 300_000;
        let found = cache.resolve(&spec, "localhost", 81, later).await;
        assert_eq!(found, at("127.0.0.1:81"));
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_fails() {
        let (cache, spec) = (NameCache::default(), spec(9));
        let found = cache.resolve(&spec, "no such name", 80, 1).await;
        assert_eq!(found, Err(Unresolved::Failed));
    }
}
