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

/// Up to this many bytes are copied behind the stream's own: that costs less than a frame of their
/// own, and most changes are small.
const COPIED_MAX: usize = 2 << 10;

/// One message: the fields of the stream's own, and those that are shared.
#[derive(Debug)]
pub(super) struct Message {
    /// `None` when it is on its way.
    head: Option<Bytes>,
    pieces: Arc<[Bytes]>,
    /// How many of them are on their way.
    n_sent: usize,
}

impl Message {
    /// `None` when it is longer than a gRPC message may be.
    pub(super) fn new(own: &impl prost::Message, payload: &Payload) -> Option<Message> {
        let own_len = own.encoded_len();
        let len = u32::try_from(own_len.checked_add(payload.len)?).ok()?;
        let copied = match payload.len <= COPIED_MAX {
            true => payload.len,
            false => 0,
        };
        let mut head = BytesMut::with_capacity(PREFIX + own_len + copied);
        head.put_u8(0);
        head.put_u32(len);
        own.encode(&mut head).ok()?;
        let pieces = payload.pieces.clone();
        let mut n_sent = 0;
        if copied > 0 {
            pieces
                .iter()
                .for_each(|piece| head.extend_from_slice(piece));
            n_sent = pieces.len();
        }
        Some(Message {
            head: Some(head.freeze()),
            pieces,
            n_sent,
        })
    }

    /// The next bytes of it; `None` at its end.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let piece = self.pieces.get(self.n_sent)?;
        self.n_sent += 1;
        Some(piece.clone())
    }
}

/// Messages on their way to the transport; beyond that the stream waits.
const OUTGOING: usize = 4;

/// What a stream has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Responses(Arc<Mutex<Waiting>>);

/// Messages in their order, of which there is mostly one at a time.
#[derive(Debug, Default)]
struct Waiting {
    first: Option<Message>,
    more: VecDeque<Message>,
}

impl Waiting {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    fn push(&mut self, message: Message) {
        match self.first {
            None => self.first = Some(message),
            Some(_) => self.more.push_back(message),
        }
    }

    fn pop(&mut self) -> Option<Message> {
        let next = self.more.pop_front();
        // What a busy hour took is not kept for the days on which nothing happens.
        if self.more.is_empty() && self.more.capacity() > 0 {
            self.more = VecDeque::new();
        }
        std::mem::replace(&mut self.first, next)
    }
}

impl Responses {
    /// Nothing under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
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
            if let Some(message) = message.take() {
                waiting.push(message);
            }
            Poll::Ready(())
        })
        .await;
    }

    fn next(&self) -> Option<Message> {
        self.lock().pop()
    }
}

/// What runs a stream: until its end, and why that is.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The body. It ends with trailers when the stream does.
pub(super) struct Body {
    responses: Responses,
    stream: Option<Running>,
    /// What is on its way.
    message: Option<Message>,
    /// Why there is no more, until that is said.
    end: Option<Status>,
}

impl Body {
    /// The body of a stream that speaks through `responses`.
    pub(super) fn new(responses: Responses, stream: Running) -> Body {
        Body {
            responses,
            stream: Some(stream),
            message: None,
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
            if let Some(piece) = this.message.as_mut().and_then(Message::next) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            this.message = None;
            match ready!(this.poll_message(cx)) {
                Some(message) => this.message = Some(message),
                None => {
                    let status = this.end.take();
                    return Poll::Ready(status.map(|end| Ok(Frame::trailers(trailers(&end)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.end.is_none() && self.message.is_none()
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
        check("").await;
        check(&"long ".repeat(COPIED_MAX)).await;
    }

    async fn check(content: &str) {
        let cluster = crate::types::cluster::Cluster {
            alt_stat_name: content.to_owned(),
            ..Default::default()
        };
        let resource = Resource::new("a", &cluster);
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
        let (flag, length) = (first[0], &first[1..PREFIX]);
        let wanted = u32::try_from(first.len() - PREFIX).expect("short");
        assert_eq!((flag, length), (0, &wanted.to_be_bytes()[..]));
        let read: DeltaDiscoveryResponse =
            prost::Message::decode(&first[PREFIX..]).expect("a response");
        assert_eq!((read.nonce.as_str(), read.resources.len()), ("n", 1));
    }
}
