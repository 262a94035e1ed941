//! The way of a response to its stream.

use std::future::poll_fn;

use tokio::sync::oneshot;

use crate::h2::{Code, StreamId};
use crate::head::list_has;
use crate::streams::{Claim, Pump, State, Tunnel};
use crate::upgrade::Upgraded;
use crate::{Body, Known, Method, Response, ResponseHead};

/// A response that is due. To drop it before it is complete resets the stream.
pub(super) struct Answer {
    claim: Claim,
    method: Method,
    /// Takes the stream after a response that switches protocols.
    upgrade: Option<oneshot::Sender<Upgraded>>,
    complete: bool,
}

/// What is left to do once the head is out.
enum Rest {
    Nothing,
    Body(Body),
    Tunnel,
}

impl Answer {
    pub(super) fn new(
        claim: Claim,
        method: Method,
        upgrade: Option<oneshot::Sender<Upgraded>>,
    ) -> Self {
        Answer {
            claim,
            method,
            upgrade,
            complete: false,
        }
    }

    /// Sends a response.
    pub(super) async fn send(mut self, response: Response) {
        match self.send_head(response) {
            None => {}
            Some(Rest::Nothing) => self.complete = true,
            Some(Rest::Tunnel) => {
                self.complete = true;
                if let Some(upgrade) = self.upgrade.take() {
                    let tunnel = Tunnel::new(self.claim.clone());
                    // Nobody may wait any more; then the stream ends here.
                    let _ = upgrade.send(Upgraded::new(Box::new(tunnel), Default::default()));
                }
            }
            Some(Rest::Body(body)) => {
                let mut pump = Pump::new(self.claim.clone(), body);
                // The body may have failed, and the client must not take the response for complete.
                self.complete = poll_fn(|cx| pump.poll(cx)).await.is_ok();
            }
        }
    }

    /// Sends the head, and the body where it is here as a whole. None where the stream takes none.
    fn send_head(&self, response: Response) -> Option<Rest> {
        let Response { mut head, body, .. } = response;
        let id = self.claim.id;
        let close = list_has(&head.headers, Known::CONNECTION, b"close");
        let switches = self.switches(&mut head);
        let bodiless = self.method == Method::HEAD || matches!(head.status, 204 | 304);
        let body = if bodiless { Body::empty() } else { body };
        let whole = if switches {
            None
        } else {
            Some(body.into_whole())
        };
        let state = &mut *self.claim.lock();
        let rest = match whole {
            None => {
                state.codec.send_response(id, &head, false).ok()?;
                Rest::Tunnel
            }
            Some(Err(body)) => {
                state.codec.send_response(id, &head, false).ok()?;
                Rest::Body(body)
            }
            Some(Ok((data, trailers))) => {
                let empty = data.is_empty() && trailers.is_none();
                state.codec.send_response(id, &head, empty).ok()?;
                if !empty {
                    state.send_whole(id, data, trailers).ok()?;
                }
                state.finish_sending(id);
                Rest::Nothing
            }
        };
        self.settle(state, id, close, &rest);
        Some(rest)
    }

    fn settle(&self, state: &mut State, id: StreamId, close: bool, rest: &Rest) {
        if close {
            // What HTTP/1 says by `Connection: close`.
            state.codec.graceful();
        }
        if let Rest::Tunnel = rest {
            // The stream outlives this task, and ends it no more.
            state.stream(id).task = None;
        }
        state.stir();
    }

    /// True where the stream leaves HTTP. An upstream that speaks HTTP/1 says so by 101, which
    /// HTTP/2 does not have (RFC 8441, 5).
    fn switches(&self, head: &mut ResponseHead) -> bool {
        if self.upgrade.is_none() {
            return false;
        }
        if head.status == 101 {
            head.status = 200;
            head.headers.remove(Known::SEC_WEBSOCKET_ACCEPT);
            head.headers.remove(Known::CONTENT_LENGTH);
        }
        (200..300).contains(&head.status)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.complete {
            self.claim.lock().reset(self.claim.id, Code::INTERNAL_ERROR);
        }
    }
}
