//! How long to wait before trying again.

use std::time::Duration;

/// Doubling delays between a base and a maximum, each shortened by up to half
/// at random so that many clients do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `base` and doubles up to `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Backoff {
            base,
            max,
            next: base,
        }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.next;
        self.next = (self.next * 2).min(self.max);
        full.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Starts again from the base, after an attempt that worked.
    pub fn reset(&mut self) {
        self.next = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for full in [100, 200, 400, 400] {
            let delay = backoff.next_delay();
            assert!(
                delay <= Duration::from_millis(full) && delay >= Duration::from_millis(full / 2)
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
