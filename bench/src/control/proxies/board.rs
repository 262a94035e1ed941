//! What all simulated proxies together have reached.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::now;

/// All proxies have everything that they asked for. Times are of the machine's monotonic clock, in
/// nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::control) struct Steady {
    /// When they were told to connect.
    pub(in crate::control) told: u64,
    /// When the last of them had a connection.
    pub(in crate::control) connected: u64,
    /// When the last response was acknowledged.
    pub(in crate::control) at: u64,
    /// Resources that came since they were told.
    pub(in crate::control) resources: u64,
    /// Bytes that came since.
    pub(in crate::control) bytes: u64,
    /// Proxies that hold exactly what they held before.
    pub(in crate::control) unchanged: usize,
    /// Connections and calls that failed.
    pub(in crate::control) broken: u64,
    /// Why, each reason with how often it was that.
    pub(in crate::control) reasons: BTreeMap<String, u64>,
}

/// A change that all proxies have acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::control) struct Acked {
    pub(in crate::control) change: u32,
    /// When the first of them had.
    pub(in crate::control) first: u64,
    /// When half of them had.
    pub(in crate::control) median: u64,
    /// When all of them had.
    pub(in crate::control) last: u64,
}

/// How far they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::control) struct Status {
    pub(in crate::control) connected: usize,
    pub(in crate::control) steady: usize,
    pub(in crate::control) broken: u64,
    /// Why the last connection or call failed.
    pub(in crate::control) reason: String,
    /// Proxies that acknowledged the newest change that any has.
    pub(in crate::control) acked: usize,
    pub(in crate::control) bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Proxy {
    connected: bool,
    steady: bool,
    /// What it held when it connected, and holds now.
    held: u64,
    holds: u64,
}

/// Counts, and when they were reached.
#[derive(Debug)]
pub(super) struct Board {
    proxies: Vec<Proxy>,
    told: u64,
    connected: u64,
    last_answer: u64,
    resources: u64,
    bytes: u64,
    broken: u64,
    /// Why the last one was.
    reason: String,
    reasons: BTreeMap<String, u64>,
    /// It was said that all are steady.
    said: bool,
    /// When each change was acknowledged, by each proxy.
    acked: BTreeMap<u32, Vec<u64>>,
}

impl Board {
    pub(super) fn new(proxies: usize) -> Self {
        Board {
            proxies: vec![Proxy::default(); proxies],
            told: 0,
            connected: 0,
            last_answer: 0,
            resources: 0,
            bytes: 0,
            broken: 0,
            reason: String::new(),
            reasons: BTreeMap::new(),
            said: true,
            acked: BTreeMap::new(),
        }
    }

    /// All connect from now on.
    pub(super) fn start(&mut self, at: u64) {
        for proxy in &mut self.proxies {
            proxy.connected = false;
            proxy.steady = false;
        }
        self.told = at;
        self.last_answer = at;
        self.resources = 0;
        self.bytes = 0;
        self.broken = 0;
        self.reasons.clear();
        self.said = false;
    }

    pub(super) fn connected(&mut self, number: usize, held: u64) {
        self.proxies[number] = Proxy {
            connected: true,
            steady: false,
            held,
            holds: held,
        };
        self.connected = now();
    }

    pub(super) fn broken(&mut self, number: usize, reason: String) {
        self.proxies[number].connected = false;
        self.proxies[number].steady = false;
        self.broken += 1;
        *self.reasons.entry(reason.clone()).or_default() += 1;
        self.reason = reason;
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A proxy has answered for so many resources.
    pub(super) fn answered(&mut self, resources: u64) {
        self.resources += resources;
        self.last_answer = now();
    }

    /// What a proxy has after all that it was sent, and whether that is all that it asked for.
    pub(super) fn holds(&mut self, number: usize, digest: u64, steady: bool) {
        self.proxies[number].steady = steady;
        self.proxies[number].holds = digest;
    }

    pub(super) fn acked(&mut self, change: u32, at: u64) {
        let n = self.proxies.len();
        let times = self.acked.entry(change);
        times.or_insert_with(|| Vec::with_capacity(n)).push(at);
    }

    /// Once: all are steady and nothing has come for a while.
    pub(super) fn steady_since(&mut self, quiet: Duration) -> Option<Steady> {
        let all = self.proxies.iter().all(|proxy| proxy.steady);
        let quiet = u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX);
        if self.said || !all || now() < self.last_answer.saturating_add(quiet) {
            return None;
        }
        self.said = true;
        let same = |proxy: &&Proxy| proxy.held == proxy.holds;
        Some(Steady {
            told: self.told,
            connected: self.connected,
            at: self.last_answer,
            resources: self.resources,
            bytes: self.bytes,
            unchanged: self.proxies.iter().filter(same).count(),
            broken: self.broken,
            reasons: self.reasons.clone(),
        })
    }

    /// Changes that have been acknowledged by everybody; each is returned once.
    pub(super) fn acked_by_all(&mut self) -> Vec<Acked> {
        let n = self.proxies.len();
        let all = std::mem::take(&mut self.acked).into_iter();
        let (done, rest): (BTreeMap<_, _>, _) = all.partition(|(_, times)| times.len() >= n);
        self.acked = rest;
        let acked = |(change, mut times): (u32, Vec<u64>)| {
            times.sort_unstable();
            Some(Acked {
                change,
                first: *times.first()?,
                median: times[times.len() / 2],
                last: *times.last()?,
            })
        };
        done.into_iter().filter_map(acked).collect()
    }

    pub(super) fn status(&self) -> Status {
        let count = |of: fn(&Proxy) -> bool| self.proxies.iter().filter(|proxy| of(proxy)).count();
        Status {
            connected: count(|proxy| proxy.connected),
            steady: count(|proxy| proxy.steady),
            broken: self.broken,
            reason: self.reason.clone(),
            acked: self
                .acked
                .last_key_value()
                .map_or(0, |(_, times)| times.len()),
            bytes: self.bytes,
        }
    }
}
