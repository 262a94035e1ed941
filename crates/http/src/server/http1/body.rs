//! The body of a request, read from its connection when somebody asks.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Shared, State};
use crate::incoming::poll_body;
use crate::{BodyError, BodyFault, Frame, Source};

/// What a client waits for that has said `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(super) struct RequestBody {
    shared: Arc<Shared>,
    done: bool,
}

impl RequestBody {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        RequestBody {
            shared,
            done: false,
        }
    }
}

impl Source for RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let frame = ready!(self.shared.lock().poll_body(cx));
        if !matches!(frame, Some(Ok(Frame::Data(_)))) {
            self.done = true;
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        if self.done {
            return Some(0);
        }
        self.shared.lock().body.remaining()
    }

    fn is_end(&self) -> bool {
        self.done || self.shared.lock().body.is_done()
    }
}

impl State {
    /// The next piece of the request under way.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let failed = |error: std::io::Error| {
            let text = error.to_string();
            Poll::Ready(Some(Err(BodyError::new(BodyFault::Closed, text))))
        };
        if self.continue_due && !self.responded {
            self.continue_due = false;
            let write = |out: &mut Vec<u8>| out.extend_from_slice(CONTINUE);
            if let Err(error) = self.transport.send(cx, write, Bytes::new(), b"", false) {
                return failed(error);
            }
        }
        if !self.responded && !self.transport.is_flushed() {
            // The client will not send before it has read this.
            if let Err(error) = ready!(self.transport.poll_flush(cx)) {
                return failed(error);
            }
        }
        poll_body(&mut self.body, &mut self.transport, cx)
    }
}
