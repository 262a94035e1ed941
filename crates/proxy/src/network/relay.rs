//! Two directions between two streams, until both have ended or nothing moves any more.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

/// Reads of one direction in one turn; others have theirs before it goes on.
pub(super) const ROUNDS: usize = 16;

/// What was moved.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Relayed {
    /// From the first stream to the second.
    pub sent: u64,
    /// From the second stream to the first.
    pub received: u64,
    /// Nothing moved for too long.
    pub timed_out: bool,
}

/// Relays until both directions have ended, one has failed, or nothing moved for `idle` (zero means
/// for ever). The end of one direction is passed on and the other goes on.
pub(super) async fn relay(
    pair: &mut impl Pair,
    idle: Duration,
    progress: impl Fn(u64, u64),
) -> (Relayed, io::Result<()>) {
    let mut moved = Relayed::default();
    let forever = Duration::from_secs(86_400 * 365);
    let idle = if idle.is_zero() { forever } else { idle };
    let mut last = Instant::now();
    let timer = tokio::time::sleep_until(last + idle);
    tokio::pin!(timer);
    let result = poll_fn(|cx| {
        let (first, second) = pair.poll(cx);
        let (sent, received) = pair.bytes();
        if (sent, received) != (moved.sent, moved.received) {
            progress(sent - moved.sent, received - moved.received);
            (moved.sent, moved.received) = (sent, received);
            last = Instant::now();
        }
        match (first, second) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                return Poll::Ready(Err(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        // The timer is set again when it fires, not with every byte.
        while timer.as_mut().poll(cx).is_ready() {
            let due = last + idle;
            if due <= Instant::now() {
                moved.timed_out = true;
                return Poll::Ready(Ok(()));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
    (moved, result)
}

/// Both directions.
pub(super) trait Pair {
    /// Polls each direction once.
    fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, Poll<io::Result<()>>);

    /// Bytes moved from the first stream to the second, and back.
    fn bytes(&self) -> (u64, u64);
}
