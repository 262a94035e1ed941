//! The body of a streaming gRPC response, made of bytes that other streams send too.
//!
//! tonic copies each message into a buffer of the stream's own. Here a message is a list of shared
//! pieces behind a few bytes of its own, handed to the transport one by one as it has room.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::mpsc;
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

/// What the stream's task has to say: messages, and at the end perhaps why there are no more.
pub(super) type Responses = mpsc::Sender<Result<Message, Status>>;

/// The body. It ends with trailers when the stream's task does.
pub(super) struct Body {
    responses: mpsc::Receiver<Result<Message, Status>>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Body {
    pub(super) fn new(responses: mpsc::Receiver<Result<Message, Status>>) -> Body {
        Body {
            responses,
            ready: VecDeque::new(),
            ended: false,
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
            if this.ended {
                return Poll::Ready(None);
            }
            // What a long list took is not kept for the days on which nothing happens.
            this.ready.shrink_to_fit();
            let status = match ready!(this.responses.poll_recv(cx)) {
                Some(Ok(message)) => {
                    this.ready.push_back(message.head);
                    this.ready.extend(message.pieces.iter().cloned());
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            this.ended = true;
            this.responses.close();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty()
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
        let (responses_tx, responses_rx) = mpsc::channel(4);
        for _ in 0..2 {
            let message = Message::new(&own, &payload).expect("short");
            responses_tx.send(Ok(message)).await.expect("room");
        }
        let end = Status::unavailable("of age\n");
        responses_tx.send(Err(end)).await.expect("room");
        let collected = Body::new(responses_rx).collect().await.expect("no error");
        let trailers = collected.trailers().expect("trailers").clone();
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(status.message(), "of age\n");
        let bytes = collected.to_bytes();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert_eq!(first, second);
        assert_eq!(first[..PREFIX], [0, 0, 0, 0, (first.len() - PREFIX) as u8]);
        let read: DeltaDiscoveryResponse =
            prost::Message::decode(&first[PREFIX..]).expect("a response");
        assert_eq!((read.nonce.as_str(), read.resources.len()), ("n", 1));
    }
}
