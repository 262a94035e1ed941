//! When a container that ended is started again.

use std::time::Duration;

/// Delay after the second failure; it doubles from there.
const FIRST: Duration = Duration::from_secs(10);
/// The delay grows no further.
const MAX: Duration = Duration::from_secs(300);
/// A run this long wipes the slate clean.
const RESET: Duration = Duration::from_secs(600);

/// Delays between the runs of one container.
#[derive(Debug, Default)]
pub(super) struct RestartBackoff {
    failures: u32,
}

impl RestartBackoff {
    /// The delay after a run that took `ran`. The first restart is immediate.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RESET {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures += 1;
        match failures {
            0 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 1).min(10)).min(MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_immediate_then_doubling_then_reset() {
        let mut backoff = RestartBackoff::default();
        let seconds: Vec<u64> = (0..8)
            .map(|_| backoff.after(Duration::from_secs(1)).as_secs())
            .collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after(RESET), Duration::ZERO);
    }
}
