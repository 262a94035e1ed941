//! Clocks that are read for each request where a few milliseconds do not matter. The kernel keeps
//! them in memory, so that reading one costs a tenth of reading the exact time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since some fixed moment, which never goes back. It moves with the kernel's tick, every one
/// to ten milliseconds.
pub(crate) fn coarse() -> Duration {
    read(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// Seconds since 1970.
pub(crate) fn unix_second() -> i64 {
    i64::try_from(read(ClockId::CLOCK_REALTIME_COARSE).as_secs()).unwrap_or_default()
}

fn read(clock: ClockId) -> Duration {
    // Linux has both since 2.6.32.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}
