//! The way of a streaming body to its stream: a piece is asked for when there is room for it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Claim, remember};
use crate::message::sanitize_trailers;
use crate::{Body, BodyError, Frame, Headers};

/// Sends a body behind a head that is out.
pub(crate) struct Pump {
    claim: Claim,
    body: Body,
}

/// Why a body was not sent to its end.
pub(crate) enum Stop {
    /// It failed itself.
    Body(BodyError),
    /// The stream takes no more.
    Gone,
}

impl Pump {
    pub(crate) fn new(claim: Claim, body: Body) -> Self {
        Pump { claim, body }
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Sends what there is now. Ready once everything is out or nothing more can be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        loop {
            ready!(self.poll_room(cx))?;
            // Not under the lock: the body may be one of the same connection.
            match ready!(self.body.poll_next(cx)) {
                Some(Ok(Frame::Data(data))) => {
                    let last = self.body.is_end();
                    self.data(data, last)?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Ok(Frame::Trailers(trailers))) => {
                    return Poll::Ready(self.trailers(trailers));
                }
                None => return Poll::Ready(self.data(Bytes::new(), true)),
                Some(Err(error)) => return Poll::Ready(Err(Stop::Body(error))),
            }
        }
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Stop>> {
        let state = &mut *self.claim.lock();
        let stream = state.stream(self.claim.id);
        if stream.failure.is_some() {
            return Poll::Ready(Err(Stop::Gone));
        }
        // Also while the body is what we wait for, a reset must be noticed.
        remember(&mut stream.writer, cx);
        match state.codec.room(self.claim.id) {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn data(&self, data: Bytes, last: bool) -> Result<(), Stop> {
        let id = self.claim.id;
        let state = &mut *self.claim.lock();
        let sent = state.codec.send_data(id, data, last);
        sent.map_err(|_| Stop::Gone)?;
        if last {
            state.finish_sending(id);
        }
        state.stir();
        Ok(())
    }

    fn trailers(&self, mut trailers: Headers) -> Result<(), Stop> {
        sanitize_trailers(&mut trailers);
        if trailers.is_empty() {
            return self.data(Bytes::new(), true);
        }
        let id = self.claim.id;
        let state = &mut *self.claim.lock();
        let sent = state.codec.send_trailers(id, &trailers);
        sent.map_err(|_| Stop::Gone)?;
        state.finish_sending(id);
        Ok(())
    }
}
