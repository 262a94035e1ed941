//! The body of a message that comes on a stream.

use std::task::{Context, Poll};

use super::{Claim, remember};
use crate::h2::Role;
use crate::{BodyError, Frame, ResponseHead, Source};

/// Reads the inbox of a stream. What was read the peer may send again; to drop it early says that
/// nobody wants the rest.
pub(crate) struct StreamBody {
    /// None once the body has ended.
    claim: Option<Claim>,
    role: Role,
    /// Bytes still to come, where the head says so.
    expected: Option<u64>,
    /// The client waits for a word before it sends the body.
    continue_due: bool,
}

impl StreamBody {
    pub(crate) fn new(claim: Claim, role: Role, expected: Option<u64>) -> Self {
        StreamBody {
            claim: Some(claim),
            role,
            expected,
            continue_due: false,
        }
    }

    /// The same for a client that has said `Expect: 100-continue`: it is told to go on when somebody
    /// asks for the body and nothing of it is there.
    pub(crate) fn with_continue(mut self, due: bool) -> Self {
        self.continue_due = due;
        self
    }

    fn poll(&mut self, claim: &Claim, cx: &Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let state = &mut *claim.lock();
        let stream = state.stream(claim.id);
        if let Some(data) = stream.inbox.pop() {
            let n = data.len();
            self.expected = self.expected.map(|left| left.saturating_sub(n as u64));
            state.release(claim.id, n);
            return Poll::Ready(Some(Ok(Frame::Data(data))));
        }
        if let Some(trailers) = stream.inbox.pop_trailers() {
            return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
        }
        if stream.inbox.is_ended() {
            return Poll::Ready(None);
        }
        if let Some(failure) = &stream.failure {
            return Poll::Ready(Some(Err(failure.clone().into_body_error())));
        }
        remember(&mut stream.reader, cx);
        if std::mem::take(&mut self.continue_due) {
            // Behind the head of the response there is nobody to tell.
            let _ = state
                .codec
                .send_informational(claim.id, &ResponseHead::new(100));
            state.stir();
        }
        Poll::Pending
    }
}

impl Source for StreamBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(claim) = self.claim.take() else {
            return Poll::Ready(None);
        };
        let frame = self.poll(&claim, cx);
        let over = match &frame {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(Frame::Data(_)))) => claim.lock().stream(claim.id).inbox.is_done(),
            Poll::Ready(_) => true,
        };
        if !over {
            self.claim = Some(claim);
        }
        frame
    }

    fn remaining(&self) -> Option<u64> {
        let Some(claim) = &self.claim else {
            return Some(0);
        };
        let state = &mut *claim.lock();
        let inbox = &state.stream(claim.id).inbox;
        match inbox.is_ended() && !inbox.has_trailers() {
            true => Some(inbox.len() as u64),
            false => self.expected,
        }
    }

    fn is_end(&self) -> bool {
        let done = |claim: &Claim| claim.lock().stream(claim.id).inbox.is_done();
        self.claim.as_ref().is_none_or(done)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            claim.lock().stop_reading(claim.id, self.role);
        }
    }
}
