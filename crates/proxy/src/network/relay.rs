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
    /// Why it was ended, where neither side did.
    pub ended: Option<Ended>,
}

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing moved for too long.
    Idle,
    /// It went on for too long.
    Over,
}

/// How long a relay goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The time without a byte; zero means for ever.
    pub idle: Duration,
    /// The end, whatever moves.
    pub until: Option<Instant>,
}

impl From<Duration> for Bounds {
    fn from(idle: Duration) -> Self {
        Bounds { idle, until: None }
    }
}

/// Relays until both directions have ended, one has failed, or a bound is reached. The end of one
/// direction is passed on and the other goes on.
pub(super) async fn relay(
    pair: &mut impl Pair,
    bounds: Bounds,
    progress: impl Fn(u64, u64),
) -> (Relayed, io::Result<()>) {
    let mut moved = Relayed::default();
    let forever = Duration::from_secs(86_400 * 365);
    let idle = match bounds.idle {
        Duration::ZERO => forever,
        idle => idle,
    };
    let mut last = Instant::now();
    let due = |last: Instant| {
        let quiet = last + idle;
        bounds.until.map_or(quiet, |until| until.min(quiet))
    };
    let timer = tokio::time::sleep_until(due(last));
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
            let (now, due) = (Instant::now(), due(last));
            if due <= now {
                let over = bounds.until.is_some_and(|until| until <= now);
                moved.ended = Some(if over { Ended::Over } else { Ended::Idle });
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
