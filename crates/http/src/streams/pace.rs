//! What a connection does about time. It looks at the clock once a second while something happens,
//! and not at all between the deadlines of one where nothing does.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::Keepalive;
use crate::timer::{Timer, after};

/// How often an active connection is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a peer may leave what we have for it, or for one stream, without taking a byte. Envoy's
/// default for streams that cannot be flushed is its `stream_idle_timeout`, five minutes.
const STALL: Duration = Duration::from_secs(300);
/// How long a client may take to notice that we are going away, before we stop waiting for streams
/// that it opened meanwhile.
const NOTICE: Duration = Duration::from_secs(5);

/// Limits in time; zero means none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Without a stream.
    pub idle: Duration,
    /// For one head, and for the start of the connection.
    pub head: Duration,
    /// PINGs, where there are any.
    pub keepalive: Option<Keepalive>,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// No stream is open.
    pub idle: bool,
    /// There is something that the peer does not take, by its socket or its window of the whole
    /// connection.
    pub held_up: bool,
    /// Since which second of the connection a stream waits for its window, where one does.
    pub stuck_since: Option<u64>,
    /// A head has begun and not ended, or the connection has not begun.
    pub mid_head: bool,
    /// We said that we stop, and not yet with which stream.
    pub leaving: bool,
    /// The peer has answered the last PING.
    pub answered: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing has happened for a while: memory can be given back.
    Quiet,
    /// The idle timeout.
    Idle,
    /// The timeout of a head.
    Head,
    /// The peer does not read.
    Stalled,
    /// It does not read the streams that have waited since this second.
    Stuck { since: u64 },
    /// The peer was warned for long enough.
    Leave,
    /// A PING is to be sent.
    Ping,
    /// The last one was not answered in time.
    Dead,
}

pub(super) struct Clock {
    pace: Pace,
    timer: Timer,
    start: Instant,
    next: Instant,
    /// `next` is a deadline, and no tick.
    far: bool,
    active: bool,
    wrote: bool,
    quiet_since: Instant,
    written: Instant,
    head_since: Option<Instant>,
    leaving_since: Option<Instant>,
    /// When the last PING was sent, or the connection began.
    pinged: Instant,
    /// It was not answered yet.
    unanswered: bool,
}

impl Clock {
    pub(super) fn new(pace: Pace) -> Self {
        let now = Instant::now();
        Clock {
            pace,
            timer: Timer::default(),
            start: now,
            next: now + TICK,
            far: false,
            active: true,
            wrote: false,
            quiet_since: now,
            written: now,
            head_since: None,
            leaving_since: None,
            pinged: now,
            unanswered: false,
        }
    }

    /// Something came, or is to go.
    pub(super) fn active(&mut self) {
        self.active = true;
    }

    /// Something went.
    pub(super) fn wrote(&mut self) {
        self.active = true;
        self.wrote = true;
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> u64 {
        self.quiet_since.duration_since(self.start).as_secs()
    }

    /// Ready where something is due. The task is woken when it may be. `facts` is asked with the
    /// second of the connection, where it matters what it says.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut facts: impl FnMut(u64) -> Facts,
    ) -> Poll<Due> {
        if self.active && self.far {
            self.far = false;
            self.next = Instant::now() + TICK;
        }
        loop {
            ready!(self.timer.poll_until(cx, self.next));
            let now = Instant::now();
            let facts = facts(now.duration_since(self.start).as_secs());
            if let Some(due) = self.look(now, facts) {
                return Poll::Ready(due);
            }
        }
    }

    fn look(&mut self, now: Instant, facts: Facts) -> Option<Due> {
        let was_active = std::mem::take(&mut self.active);
        if was_active {
            self.quiet_since = now;
        }
        if std::mem::take(&mut self.wrote) || !facts.held_up {
            self.written = now;
        }
        keep(&mut self.head_since, facts.mid_head, now);
        keep(&mut self.leaving_since, facts.leaving, now);
        self.unanswered &= !facts.answered;
        let (interval, timeout) = self
            .pace
            .keepalive
            .map_or((Duration::ZERO, Duration::ZERO), |keepalive| {
                (keepalive.interval, keepalive.timeout)
            });
        let deadlines = [
            (
                Due::Idle,
                facts.idle.then_some(self.quiet_since),
                self.pace.idle,
            ),
            (Due::Stalled, facts.held_up.then_some(self.written), STALL),
            (
                Due::Stuck {
                    since: now
                        .duration_since(self.start)
                        .saturating_sub(STALL)
                        .as_secs(),
                },
                facts
                    .stuck_since
                    .map(|second| self.start + Duration::from_secs(second)),
                STALL,
            ),
            (Due::Head, self.head_since, self.pace.head),
            (Due::Leave, self.leaving_since, NOTICE),
            (Due::Dead, self.unanswered.then_some(self.pinged), timeout),
            (
                Due::Ping,
                (!self.unanswered).then_some(self.pinged),
                interval,
            ),
        ];
        let mut next = if was_active {
            now + TICK
        } else {
            after(Duration::ZERO)
        };
        for (due, since, limit) in deadlines {
            let Some(since) = since.filter(|_| !limit.is_zero()) else {
                continue;
            };
            if since + limit <= now {
                if due == Due::Ping {
                    self.pinged = now;
                    self.unanswered = true;
                }
                return Some(due);
            }
            next = next.min(since + limit);
        }
        self.next = next;
        let became_quiet = !was_active && !self.far;
        self.far = !was_active;
        became_quiet.then_some(Due::Quiet)
    }
}

/// The time since when something is so.
fn keep(since: &mut Option<Instant>, holds: bool, now: Instant) {
    match holds {
        true => _ = since.get_or_insert(now),
        false => *since = None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PACE: Pace = Pace {
        idle: Duration::from_secs(100),
        head: Duration::from_secs(10),
        keepalive: None,
    };

    /// What becomes due, and after how many seconds.
    async fn wait(clock: &mut Clock, facts: Facts) -> (Due, u64) {
        let start = Instant::now();
        let due = poll_fn(|cx| clock.poll(cx, |_| facts)).await;
        (due, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_comes_once_and_then_the_deadline() {
        let idle = Facts {
            idle: true,
            ..Facts::default()
        };
        let mut clock = Clock::new(PACE);
        assert_eq!(wait(&mut clock, idle).await, (Due::Quiet, 2));
        let (due, after) = wait(&mut clock, idle).await;
        assert_eq!(due, Due::Idle);
        assert!((98..=101).contains(&after), "{after}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_holds() {
        let cases = [
            (
                Facts {
                    mid_head: true,
                    ..Facts::default()
                },
                Due::Head,
                10,
            ),
            (
                Facts {
                    held_up: true,
                    ..Facts::default()
                },
                Due::Stalled,
                300,
            ),
            (
                Facts {
                    stuck_since: Some(1),
                    ..Facts::default()
                },
                Due::Stuck { since: 1 },
                301,
            ),
            (
                Facts {
                    leaving: true,
                    ..Facts::default()
                },
                Due::Leave,
                5,
            ),
        ];
        for (facts, expect, seconds) in cases {
            let mut clock = Clock::new(PACE);
            let start = Instant::now();
            let mut due = Due::Quiet;
            while due == Due::Quiet {
                due = wait(&mut clock, facts).await.0;
            }
            assert_eq!(due, expect);
            let took = start.elapsed().as_secs();
            assert!(took.abs_diff(seconds) <= 2, "{expect:?} after {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn activity_puts_deadlines_off() {
        let idle = Facts {
            idle: true,
            ..Facts::default()
        };
        let mut clock = Clock::new(PACE);
        assert_eq!(wait(&mut clock, idle).await.0, Due::Quiet);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            clock.active();
            assert_eq!(wait(&mut clock, idle).await.0, Due::Quiet);
        }
        assert_eq!(wait(&mut clock, idle).await.0, Due::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_is_dead() {
        let keepalive = Keepalive {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
        };
        let mut clock = Clock::new(Pace {
            keepalive: Some(keepalive),
            ..Pace::default()
        });
        let start = Instant::now();
        let mut seen = Vec::new();
        for answered in [true, true, true, false, false] {
            let facts = Facts {
                answered,
                ..Facts::default()
            };
            let due = wait(&mut clock, facts).await.0;
            seen.push((due, start.elapsed().as_secs()));
        }
        let expect = [
            (Due::Quiet, 2),
            (Due::Ping, 30),
            (Due::Ping, 60),
            (Due::Dead, 65),
        ];
        assert_eq!(seen[..4], expect, "{seen:?}");
    }
}
