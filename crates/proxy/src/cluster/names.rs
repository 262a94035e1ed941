//! Hosts that are known once they are asked for: names that clients give, looked up and kept for a
//! while, up to a bound.

use std::collections::{HashMap, hash_map};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lateen_decode::DynamicSpec;
use tokio::sync::watch;

use super::dns::{AFTER_FAILURE, first, lookup};

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
    /// None until it was looked up for the first time, and where only an old answer is known.
    answer: watch::Sender<Answer>,
    /// The last address, which is kept where there is no newer one.
    known: Option<SocketAddr>,
    /// When it was asked for last, and when it was looked up last, in milliseconds.
    used: u64,
    asked: u64,
}

impl NameCache {
    /// The address of a host, which may be an address itself. A name that is known answers at once,
    /// also when it is looked up again; a new one is waited for, and so is one whose address has
    /// not been looked up for long.
    pub(crate) async fn resolve(
        &self,
        spec: &Arc<DynamicSpec>,
        host: &str,
        port: u16,
        now: u64,
    ) -> Result<SocketAddr, Unresolved> {
        self.resolve_with(lookup, spec, host, port, now).await
    }

    async fn resolve_with<F>(
        &self,
        lookup: impl Fn(Box<str>, u16) -> F,
        spec: &Arc<DynamicSpec>,
        host: &str,
        port: u16,
        now: u64,
    ) -> Result<SocketAddr, Unresolved>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        if let Ok(ip) = super::connect::bare(host).parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let name = (host.to_ascii_lowercase().into_boxed_str(), port);
        let mut answer_rx = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (entry, is_due) = entry(&mut entries, spec, &name, now)?;
            if is_due {
                let found = lookup(name.0, port);
                tokio::spawn(look_up(
                    spec.clone(),
                    found,
                    entry.known,
                    entry.answer.clone(),
                ));
            }
            entry.answer.subscribe()
        };
        let answer = answer_rx.wait_for(Answer::is_some).await;
        let answer = answer.ok().and_then(|answer| *answer);
        answer.and_then(Result::ok).ok_or(Unresolved::Failed)
    }
}

/// The entry of a name, and whether to look it up now.
fn entry<'a>(
    entries: &'a mut HashMap<Name, Entry>,
    spec: &DynamicSpec,
    name: &Name,
    now: u64,
) -> Result<(&'a mut Entry, bool), Unresolved> {
    let kept = millis(spec.host_ttl);
    let is_kept = |entry: &Entry| entry.used.saturating_add(kept) > now;
    if entries.get(name).is_some_and(|entry| !is_kept(entry)) {
        entries.remove(name);
    }
    if entries.len() >= spec.max_hosts && !entries.contains_key(name) {
        entries.retain(|_, entry| is_kept(entry));
        if entries.len() >= spec.max_hosts {
            return Err(Unresolved::Full);
        }
    }
    match entries.entry(name.clone()) {
        hash_map::Entry::Occupied(entry) => {
            let entry = entry.into_mut();
            entry.used = now;
            let is_due = entry.is_due(spec, now);
            Ok((entry, is_due))
        }
        hash_map::Entry::Vacant(room) => {
            let entry = Entry {
                answer: watch::Sender::new(None),
                known: None,
                used: now,
                asked: now,
            };
            Ok((room.insert(entry), true))
        }
    }
}

impl Entry {
    /// Whether to look the name up again. An answer that nobody has asked for since it was due is
    /// put aside: it holds again where there is no newer one.
    fn is_due(&mut self, spec: &DynamicSpec, now: u64) -> bool {
        let answer = *self.answer.borrow();
        let pause = millis(match answer {
            Some(Err(())) => AFTER_FAILURE,
            _ => spec.refresh,
        });
        let age = now.saturating_sub(self.asked);
        if age < pause {
            return false;
        }
        self.asked = now;
        if let Some(Ok(address)) = answer {
            self.known = Some(address);
        }
        if age >= pause.saturating_mul(2) {
            self.answer.send_replace(None);
        }
        true
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for the addresses of a name. One that has an address keeps it where that fails.
async fn look_up(
    spec: Arc<DynamicSpec>,
    found: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    known: Option<SocketAddr>,
    answer: watch::Sender<Answer>,
) {
    let found = match tokio::time::timeout(PATIENCE, found).await {
        Ok(Ok(list)) => first(spec.v4, spec.v6, list),
        Ok(Err(error)) => {
            tracing::debug!(%error, "name not resolved");
            None
        }
        Err(_) => None,
    };
    answer.send_replace(Some(found.or(known).ok_or(())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_hosts: usize) -> Arc<DynamicSpec> {
        Arc::new(DynamicSpec {
            allow_insecure: false,
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
    async fn an_old_address_is_not_used_before_it_is_looked_up_again() {
        let (cache, spec) = (NameCache::default(), spec(9));
        let answers = Mutex::new(vec![
            "fails", "10.0.0.4", "fails", "10.0.0.3", "10.0.0.2", "10.0.0.1",
        ]);
        let lookup = |_: Box<str>, port| {
            let answer = answers.lock().expect("no panic").pop().expect("one more");
            std::future::ready(match answer {
                "fails" => Err(io::ErrorKind::NotFound.into()),
                ip => Ok(vec![SocketAddr::new(ip.parse().expect("an address"), port)]),
            })
        };
        let second = 1000;
        let mut now = 0;
        for (pause, expect, left) in [
            (0, Ok("10.0.0.1:80"), 5),
            (59, Ok("10.0.0.1:80"), 5),
            // What is due answers at once, and is brought up to date beside.
            (1, Ok("10.0.0.1:80"), 4),
            (0, Ok("10.0.0.2:80"), 4),
            // After a quiet time the new one is waited for; without one, the old one stays.
            (120, Ok("10.0.0.3:80"), 3),
            (120, Ok("10.0.0.3:80"), 2),
            // A name that nobody has asked for is forgotten, with its address.
            (300, Ok("10.0.0.4:80"), 1),
            (300, Err(Unresolved::Failed), 0),
        ] {
            now += pause * second;
            let found = cache.resolve_with(lookup, &spec, "a", 80, now).await;
            let expect = expect.map(|text: &str| text.parse().expect("an address"));
            assert_eq!(found, expect, "at {now}");
            // The task that brings it up to date has its turn.
            tokio::task::yield_now().await;
            assert_eq!(answers.lock().expect("no panic").len(), left, "at {now}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_fails() {
        let (cache, spec) = (NameCache::default(), spec(9));
        let found = cache.resolve(&spec, "no such name", 80, 1).await;
        assert_eq!(found, Err(Unresolved::Failed));
    }
}
