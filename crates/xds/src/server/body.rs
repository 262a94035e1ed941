//! The body of a streaming gRPC response, made of bytes that other streams send too.
//!
//! tonic copies each message into a buffer of the stream's own. Here a message is a list of shared
//! pieces behind a few bytes of its own, handed to the transport one by one as it has room.
//!
//! The stream itself runs in here, when the transport asks for more: what a change costs a stream is
//! mostly the tasks that it wakes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

use super::payload::Payload;

/// Flag and length, before each message.
const PREFIX: usize = 5;

/// One message: the fields of the stream's own, and those that are shared.
#[derive(Debug)]
pub(super) struct Message {
    head: Bytes,
    pieces: Arc<[Bytes]>,
}

impl Message {
    /// `None` when it is longer than a gRPC message may be.
    pub(super) fn new(own: &impl prost::Message, payload: &Payload) -> Option<Message> {
        let own_len = own.encoded_len();
        let len = u32::try_from(own_len.checked_add(payload.len)?).ok()?;
        let mut head = BytesMut::with_capacity(PREFIX + own_len);
        head.put_u8(0);
        head.put_u32(len);
        own.encode(&mut head).ok()?;
        Some(Message {
            head: head.freeze(),
            pieces: payload.pieces.clone(),
        })
    }
}

/// Messages on their way to the transport; beyond that the stream waits.
const OUTGOING: usize = 4;

/// What a stream has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses(Arc<Mutex<VecDeque<Message>>>);

impl Responses {
    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something, when there is room. The body asks the stream for more whenever it has taken
    /// something from here, so nobody has to be woken.
    pub(super) async fn send(&self, message: Message) {
        let mut message = Some(message);
        poll_fn(|_| {
            let mut waiting = self.lock();
            if waiting.len() >= OUTGOING {
                return Poll::Pending;
            }
            waiting.extend(message.take());
            Poll::Ready(())
        })
        .await;
    }

    fn next(&self) -> Option<Message> {
        let mut waiting = self.lock();
        let next = waiting.pop_front();
        // What a busy hour took is not kept for the days on which nothing happens.
        if waiting.is_empty() {
            *waiting = VecDeque::new();
        }
        next
    }
}

/// What runs a stream: until its end, and why that is.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The body. It ends with trailers when the stream does.
pub(super) struct Body {
    responses: Responses,
    stream: Option<Running>,
    ready: VecDeque<Bytes>,
    /// Why there is no more, until that is said.
    end: Option<Status>,
}

impl Body {
    /// The body of a stream that speaks through `responses`.
    pub(super) fn new(responses: Responses, stream: Running) -> Body {
        Body {
            responses,
            stream: Some(stream),
            ready: VecDeque::new(),
            end: None,
        }
    }

    /// The next message that the stream has for us; `None` at its end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.responses.next() {
                return Poll::Ready(Some(message));
            }
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(None);
            };
            match stream.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    self.stream = None;
                    self.end = Some(result.err().unwrap_or_else(|| Status::ok("")));
                }
                Poll::Pending => {
                    return match self.responses.next() {
                        Some(message) => Poll::Ready(Some(message)),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            // What a long list took is not kept either.
            this.ready = VecDeque::new();
            match ready!(this.poll_message(cx)) {
                Some(message) => {
                    this.ready.reserve_exact(1 + message.pieces.len());
                    this.ready.push_back(message.head);
                    this.ready.extend(message.pieces.iter().cloned());
                }
                None => {
                    let status = this.end.take();
                    return Poll::Ready(status.map(|end| Ok(Frame::trailers(trailers(&end)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.end.is_none() && self.ready.is_empty()
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A message that no header can carry is left out; the code is what counts.
        trailers.clear();
        let bare = Status::new(status.code(), "");
        let _ = bare.add_header(&mut trailers);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::Resource;
    use super::super::payload::Form;
    use super::*;
    use crate::types::discovery::DeltaDiscoveryResponse;

    #[tokio::test]
    async fn messages_then_trailers() {
        let resource = Resource::new("a", &crate::types::cluster::Cluster::default());
        let payload = Payload::new(Form::Delta, [&resource].into_iter());
        let own = DeltaDiscoveryResponse {
            nonce: "n".into(),
            ..DeltaDiscoveryResponse::default()
        };
        let responses = Responses::default();
        let stream = {
            let responses = responses.clone();
            Box::pin(async move {
                // More than are taken at once.
                for _ in 0..OUTGOING + 2 {
                    let message = Message::new(&own, &payload).expect("short");
                    responses.send(message).await;
                }
                Err(Status::unavailable("of age\n"))
            })
        };
        let body = Body::new(responses, stream);
        let collected = body.collect().await.expect("no error");
        let trailers = collected.trailers().expect("trailers").clone();
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(status.message(), "of age\n");
        let bytes = collected.to_bytes();
        let first = &bytes[..bytes.len() / (OUTGOING + 2)];
        assert_eq!(bytes, first.repeat(OUTGOING + 2));
        assert_eq!(first[..PREFIX], [0, 0, 0, 0, (first.len() - PREFIX) as u8]);
        let read: DeltaDiscoveryResponse =
            prost::Message::decode(&first[PREFIX..]).expect("a response");
        assert_eq!((read.nonce.as_str(), read.resources.len()), ("n", 1));
    }
}
