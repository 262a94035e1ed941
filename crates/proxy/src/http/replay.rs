//! A request body that can be sent again: what was read is kept, up to a limit, until the response
//! is decided.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use lateen_http::{Body, BodyError, Frame, Headers, Source};

/// Envoy's default for the per-connection buffer.
const LIMIT: usize = 1024 * 1024;

/// The body of a request that may be tried again.
pub(crate) struct Replay {
    state: Option<Arc<Mutex<State>>>,
}

struct State {
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
        if body.is_end() {
            return Replay { state: None };
        }
        let state = State {
            source: body,
            kept: Vec::new(),
            size: 0,
            trailers: None,
            overflowed: false,
            sealed: false,
            ended: false,
            current: 0,
        };
        Replay {
            state: Some(Arc::new(Mutex::new(state))),
        }
    }

    /// True while the body can be sent from its start.
    pub(crate) fn is_possible(&self) -> bool {
        self.state.as_ref().is_none_or(|state| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            !(state.overflowed || state.sealed && state.size > 0)
        })
    }

    /// The body for another attempt; the one before it ends with an error.
    pub(crate) fn attempt(&self) -> Body {
        let Some(shared) = &self.state else {
            return Body::empty();
        };
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
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
        if let Some(state) = &self.state {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.sealed = true;
        }
    }
}

struct Attempt {
    state: Arc<Mutex<State>>,
    attempt: u32,
    position: usize,
    done: bool,
}

impl Source for Attempt {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let shared = self.state.clone();
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.current != self.attempt {
            return Poll::Ready(Some(Err(BodyError(
                "another attempt is under way".to_owned(),
            ))));
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
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead: usize = state.kept.iter().skip(self.position).map(Bytes::len).sum();
        let rest = if state.ended {
            0
        } else {
            state.source.remaining()?
        };
        Some(ahead as u64 + rest)
    }

    fn is_end(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let drained = self.position >= state.kept.len();
        self.done || (drained && state.trailers.is_none() && (state.ended || state.source.is_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_attempt_reads_the_same() {
        let replay = Replay::new(Body::from("hello"));
        let mut first = replay.attempt();
        assert!(matches!(first.next().await, Some(Ok(Frame::Data(_)))));
        let second = replay.attempt();
        assert!(matches!(first.next().await, Some(Err(_))));
        assert_eq!(second.remaining(), Some(5));
        assert_eq!(&second.collect(100).await.expect("kept")[..], b"hello");
        assert!(replay.is_possible());
    }

    #[tokio::test]
    async fn a_large_body_is_not_kept() {
        let replay = Replay::new(Body::from("x".repeat(LIMIT + 1)));
        let body = replay.attempt().collect(usize::MAX).await.expect("streams");
        assert_eq!(body.len(), LIMIT + 1);
        assert!(!replay.is_possible());
    }
}
