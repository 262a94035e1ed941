//! One timer for a connection that is always waiting for something else.
//!
//! Deadlines move with every request; the runtime's timer is touched only when it fires early or
//! must fire earlier.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once the deadline has passed. The task is woken then.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// When a time from now is over; a day for none.
pub(crate) fn after(time: Duration) -> Instant {
    let time = if time.is_zero() {
        Duration::from_secs(86_400)
    } else {
        time
    };
    Instant::now() + time
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_may_move_both_ways() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let far = start + Duration::from_secs(10);
        poll_fn(|cx| {
            assert!(timer.poll_until(cx, far).is_pending());
            Poll::Ready(())
        })
        .await;
        let near = start + Duration::from_secs(1);
        poll_fn(|cx| timer.poll_until(cx, near)).await;
        assert_eq!(Instant::now(), near);
        poll_fn(|cx| timer.poll_until(cx, far)).await;
        assert_eq!(Instant::now(), far);
    }
}
