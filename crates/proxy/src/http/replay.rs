//! A request body that can be sent again: what was read is kept, up to a limit, until the response
//! is decided.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use lateen_http::{Body, BodyError, BodyFault, Frame, Headers, Source};

/// Envoy's default for the per-connection buffer.
const LIMIT: usize = 1024 * 1024;

/// The body of a request that may be tried again.
pub(crate) enum Replay {
    /// It is here as a whole, and can be sent as often as needed.
    Whole(Body),
    /// It is still on its way.
    Streamed(Arc<Mutex<State>>),
}

pub(crate) struct State {
    source: Body,
    kept: Vec<Bytes>,
    size: usize,
    trailers: Option<Headers>,
    /// More was read than is kept: there is no way back.
    overflowed: bool,
    /// Nothing is kept any more, since nothing will be tried again.
    sealed: bool,
    ended: bool,
    /// The attempt that may read on.
    current: u32,
}

impl Replay {
    /// Takes a body over.
    pub(crate) fn new(body: Body) -> Self {
        if body.is_whole() {
            return Replay::Whole(body);
        }
        Replay::Streamed(Arc::new(Mutex::new(State {
            source: body,
            kept: Vec::new(),
            size: 0,
            trailers: None,
            overflowed: false,
            sealed: false,
            ended: false,
            current: 0,
        })))
    }

    /// True while the body can be sent from its start.
    pub(crate) fn is_possible(&self) -> bool {
        match self {
            Replay::Whole(_) => true,
            Replay::Streamed(state) => {
                let state = lock(state);
                !(state.overflowed || state.sealed && state.size > 0)
            }
        }
    }

    /// The body for another attempt; the one before it ends with an error.
    pub(crate) fn attempt(&self) -> Body {
        let shared = match self {
            Replay::Whole(body) => return body.duplicate().unwrap_or_default(),
            Replay::Streamed(shared) => shared,
        };
        let mut state = lock(shared);
        state.current += 1;
        let attempt = state.current;
        drop(state);
        Body::from_source(Attempt {
            state: shared.clone(),
            attempt,
            position: 0,
            done: false,
        })
    }

    /// Stops keeping what is read.
    pub(crate) fn seal(&self) {
        if let Replay::Streamed(state) = self {
            lock(state).sealed = true;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Attempt {
    state: Arc<Mutex<State>>,
    attempt: u32,
    position: usize,
    done: bool,
}

impl Source for Attempt {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let shared = self.state.clone();
        let mut state = lock(&shared);
        if state.current != self.attempt {
            let text = "another attempt is under way";
            return Poll::Ready(Some(Err(BodyError::new(BodyFault::Local, text))));
        }
        if let Some(chunk) = state.kept.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::Data(chunk.clone()))));
        }
        if state.ended {
            self.done = true;
            return Poll::Ready(
                state
                    .trailers
                    .clone()
                    .map(|trailers| Ok(Frame::Trailers(trailers))),
            );
        }
        let frame = std::task::ready!(state.source.poll_next(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => {
                state.size += data.len();
                if state.sealed || state.size > LIMIT {
                    state.overflowed = true;
                    state.kept = Vec::new();
                    self.position = 0;
                } else if !state.overflowed {
                    state.kept.push(data.clone());
                    self.position += 1;
                }
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                state.trailers = Some(trailers.clone());
                state.ended = true;
                self.done = true;
            }
            Some(Err(_)) => state.overflowed = true,
            None => {
                state.ended = true;
                self.done = true;
            }
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        let state = lock(&self.state);
        let ahead: usize = state.kept.iter().skip(self.position).map(Bytes::len).sum();
        let rest = if state.ended {
            0
        } else {
            state.source.remaining()?
        };
        Some(ahead as u64 + rest)
    }

    fn is_end(&self) -> bool {
        let state = lock(&self.state);
        let drained = self.position >= state.kept.len();
        self.done || (drained && state.trailers.is_none() && (state.ended || state.source.is_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that comes in pieces.
    struct Pieces(Vec<Bytes>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            Poll::Ready(self.0.pop().map(|data| Ok(Frame::Data(data))))
        }
    }

    fn streamed(text: &'static str) -> Body {
        Body::from_source(Pieces(vec![Bytes::from_static(text.as_bytes())]))
    }

    #[tokio::test]
    async fn a_second_attempt_reads_the_same() {
        let replay = Replay::new(streamed("hello"));
        let mut first = replay.attempt();
        assert!(matches!(first.next().await, Some(Ok(Frame::Data(_)))));
        let second = replay.attempt();
        assert!(matches!(first.next().await, Some(Err(_))));
        assert_eq!(&second.collect(100).await.expect("kept")[..], b"hello");
        assert!(replay.is_possible());
        replay.seal();
        assert!(!replay.is_possible());
    }

    #[tokio::test]
    async fn a_body_at_hand_is_sent_as_often_as_needed() {
        let replay = Replay::new(Body::from("hello"));
        replay.seal();
        for _ in 0..3 {
            let body = replay.attempt();
            assert_eq!(&body.collect(100).await.expect("here")[..], b"hello");
        }
        assert!(replay.is_possible());
    }

    #[tokio::test]
    async fn a_large_body_is_not_kept() {
        let chunk = Bytes::from(vec![b'x'; LIMIT]);
        let replay = Replay::new(Body::from_source(Pieces(vec![chunk.clone(), chunk])));
        let body = replay.attempt().collect(usize::MAX).await.expect("streams");
        assert_eq!(body.len(), 2 * LIMIT);
        assert!(!replay.is_possible());
    }
}
