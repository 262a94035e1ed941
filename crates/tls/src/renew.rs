//! Waiting for the moment of a renewal.
//!
//! Certificates expire by the wall clock, and the clock of timers stands still while a machine
//! sleeps: after a night in a closed laptop, one long timer would fire hours after the expiry.

use std::time::{Duration, SystemTime};

/// How late a renewal may be after the machine wakes up.
const SLICE: Duration = Duration::from_secs(30);

/// Waits until the wall clock shows `moment`.
pub async fn sleep_until(moment: SystemTime) {
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(SLICE)).await;
        if left.is_zero() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_past_is_not_waited_for_and_the_future_is() {
        let now = SystemTime::now();
        sleep_until(now - Duration::from_secs(3600)).await;
        let moment = now + Duration::from_millis(20);
        sleep_until(moment).await;
        assert!(SystemTime::now() >= moment);
    }
}
