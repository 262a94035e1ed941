//! Counting between two moments: requests, their times, and the proxy's time on a processor.

use std::time::Instant;

use anyhow::Result;

use super::Outcome;
use crate::usage::cpu_ns;

/// A measurement that begins when the proxies are warm.
#[derive(Debug)]
pub(super) struct Gauge {
    watch: Vec<u32>,
    total: u64,
    /// Of the window, microseconds.
    times: Vec<u32>,
    window: Option<(Instant, u64)>,
    closed: bool,
    end: Option<(f64, u64)>,
}

impl Gauge {
    pub(super) fn new(watch: Vec<u32>) -> Self {
        Gauge {
            watch,
            total: 0,
            times: Vec::new(),
            window: None,
            closed: false,
            end: None,
        }
    }

    /// The window begins.
    pub(super) fn open(&mut self) -> Result<()> {
        self.times.reserve(1 << 20);
        self.window = Some((Instant::now(), cpu_ns(&self.watch)?));
        Ok(())
    }

    /// The window ends: nothing more is to be sent.
    pub(super) fn close(&mut self) -> Result<()> {
        if let Some((since, before)) = self.window {
            let spent = cpu_ns(&self.watch)?.saturating_sub(before);
            self.end = Some((since.elapsed().as_secs_f64(), spent));
        }
        self.closed = true;
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// An answer to a request that was due at `since`.
    pub(super) fn count(&mut self, since: Instant) {
        self.total += 1;
        if self.window.is_some() && !self.closed {
            let micros = since.elapsed().as_micros();
            self.times.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn outcome(mut self) -> Outcome {
        let (seconds, cpu_ns) = self.end.unwrap_or_default();
        self.times.sort_unstable();
        Outcome {
            total: self.total,
            units: self.times.len() as f64,
            seconds,
            cpu_ns,
            p50: percentile(&self.times, 50),
            p99: percentile(&self.times, 99),
        }
    }
}

/// The smallest value that `percent` of all do not exceed; 0 of none.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&values, 50), 100.0);
        assert_eq!(percentile(&values, 99), 198.0);
        assert_eq!(percentile(&[7], 99), 7.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn only_the_window_is_measured() {
        let mut gauge = Gauge::new(vec![std::process::id()]);
        gauge.count(Instant::now());
        gauge.open().expect("this process runs");
        gauge.count(Instant::now());
        gauge.count(Instant::now());
        gauge.close().expect("this process runs");
        gauge.count(Instant::now());
        let outcome = gauge.outcome();
        assert_eq!((outcome.total, outcome.units), (4, 2.0));
    }
}
