//! One request and its response.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::h2::{Code, Role, StreamId};
use crate::message::content_length;
use crate::streams::{Claim, Pump, State, Stop, StreamBody, remember};
use crate::{Body, Error, Interim, Method, Response, ResponseHead};

/// An exchange until the response's head is here. To drop it before that resets the stream.
pub(super) struct Exchange {
    claim: Option<Claim>,
    /// The rest of the request.
    pump: Option<Pump>,
}

impl Exchange {
    pub(super) fn new(claim: Claim, pump: Option<Pump>) -> Self {
        Exchange {
            claim: Some(claim),
            pump,
        }
    }

    /// Sends on while it waits for the head of the response.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim: Option<&Interim>,
    ) -> Poll<Result<ResponseHead, Error>> {
        if let Some(pump) = &mut self.pump {
            match pump.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(Stop::Body(error))) => {
                    return Poll::Ready(Err(Error::Body(error.text)));
                }
                // Why it takes no more is seen below.
                Poll::Ready(Ok(()) | Err(Stop::Gone)) => self.pump = None,
            }
        }
        let claim = self.claim.as_ref().expect("kept until the head is here");
        let (head, informational) = poll_stream(claim, cx);
        if let Some(interim) = interim {
            // Not under the lock, since it takes that of another connection.
            for head in informational.iter().filter(|head| head.status != 100) {
                interim.send(head);
            }
        }
        head
    }

    /// Makes the response of what has arrived. The rest of the request goes on by itself.
    pub(super) fn response(mut self, method: &Method, head: ResponseHead) -> Response {
        let claim = self.claim.take().expect("kept until the head is here");
        if let Some(pump) = self.pump.take() {
            tokio::spawn(upload(pump));
        }
        let whole = {
            let state = &mut *claim.lock();
            let whole = state.stream(claim.id).inbox.take_whole();
            if let Some((data, _)) = &whole {
                state.release(claim.id, data.len());
            }
            whole
        };
        let body = match whole {
            Some((data, trailers)) => Body::whole(data, trailers),
            None => {
                let bodiless = *method == Method::HEAD || matches!(head.status, 204 | 304);
                let expected = if bodiless {
                    Some(0)
                } else {
                    content_length(&head.headers)
                };
                Body::from_source(StreamBody::new(claim, Role::Client, expected))
            }
        };
        Response {
            head,
            body,
            upgrade: None,
        }
    }

    /// Does something to the stream.
    pub(super) fn with_stream(&self, act: impl FnOnce(&mut State, StreamId)) {
        let claim = self.claim.as_ref().expect("kept until the head is here");
        act(&mut claim.lock(), claim.id);
    }

    /// The stream, for something else than a body.
    pub(super) fn into_claim(mut self) -> Claim {
        self.claim.take().expect("kept until the head is here")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            claim.lock().reset(claim.id, Code::CANCEL);
        }
    }
}

/// The head, and those before it.
fn poll_stream(
    claim: &Claim,
    cx: &Context<'_>,
) -> (Poll<Result<ResponseHead, Error>>, Vec<ResponseHead>) {
    let state = &mut *claim.lock();
    let stream = state.stream(claim.id);
    let informational = std::mem::take(&mut stream.interim);
    if let Some(head) = stream.head.take() {
        return (Poll::Ready(Ok(head)), informational);
    }
    if let Some(failure) = &stream.failure {
        let error = failure.clone().into_error();
        return (Poll::Ready(Err(error)), informational);
    }
    remember(&mut stream.reader, cx);
    (Poll::Pending, informational)
}

/// Sends the rest of a request whose response has begun.
async fn upload(mut pump: Pump) {
    if let Err(Stop::Body(error)) = poll_fn(|cx| pump.poll(cx)).await {
        tracing::debug!(%error, "request body failed after the response began");
        let claim = pump.claim();
        claim.lock().reset(claim.id, Code::CANCEL);
    }
}
