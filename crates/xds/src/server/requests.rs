//! Requests of a stream, one by one.
//!
//! tonic's reader keeps a buffer as large as the largest request for as long as the stream lives,
//! and the first requests of a client name thousands of resources. This one keeps what is not yet a
//! whole request, which mostly is nothing.

mod reader;

use std::marker::PhantomData;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tonic::Status;

use super::protocol::{Incoming, Protocol};

/// Flag and length, before each message.
const PREFIX: usize = 5;
/// The largest request that is read: one that names all that a client of a large mesh holds.
const REQUEST_MAX: usize = 32 << 20;

/// The requests of one stream.
pub(super) struct Requests<P> {
    body: tonic::body::Body,
    /// The beginning of a request.
    begun: BytesMut,
    /// What came with the last request.
    rest: Bytes,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Requests<P> {
    pub(super) fn new(body: tonic::body::Body) -> Self {
        Requests {
            body,
            begun: BytesMut::new(),
            rest: Bytes::new(),
            protocol: PhantomData,
        }
    }

    /// The next request; `None` when the client has ended its side. Nothing is lost when the future
    /// is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Option<Incoming>, Status> {
        loop {
            if let Some(request) = self.take()? {
                return Ok(Some(request));
            }
            match self.body.frame().await {
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(Status::internal("the last request is not whole")),
                Some(Err(status)) => return Err(status),
                // Trailers have nothing to say.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
    }

    /// A request of what is there, if it is whole.
    fn take(&mut self) -> Result<Option<Incoming>, Status> {
        if self.begun.is_empty() {
            let Some(end) = end_of(&self.rest)?.filter(|end| *end <= self.rest.len()) else {
                self.begun.extend_from_slice(&self.rest);
                self.rest = Bytes::new();
                return Ok(None);
            };
            let request = self.rest.split_to(end);
            return decode::<P>(&request).map(Some);
        }
        // First its length, then as much as that says.
        while !self.rest.is_empty() {
            let wanted = end_of(&self.begun)?.unwrap_or(PREFIX) - self.begun.len();
            let there = wanted.min(self.rest.len());
            self.begun.extend_from_slice(&self.rest[..there]);
            self.rest.advance(there);
            if end_of(&self.begun)? == Some(self.begun.len()) {
                let request = std::mem::take(&mut self.begun);
                return decode::<P>(&request).map(Some);
            }
        }
        Ok(None)
    }
}

/// Where the message ends that these bytes begin; `None` where too little is there to say.
fn end_of(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *prefix;
    if flag != 0 {
        return Err(Status::unimplemented("requests must not be compressed"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_MAX {
        return Err(Status::resource_exhausted("the request is too large"));
    }
    Ok(Some(PREFIX + length))
}

fn decode<P: Protocol>(request: &[u8]) -> Result<Incoming, Status> {
    reader::read(&P::REQUEST, &request[PREFIX..])
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use prost::Message;

    use super::super::protocol::StateOfTheWorld;
    use super::*;
    use crate::types::discovery::DiscoveryRequest;

    fn request(name: usize) -> DiscoveryRequest {
        DiscoveryRequest {
            response_nonce: "n".repeat(name),
            ..DiscoveryRequest::default()
        }
    }

    fn encoded(request: &DiscoveryRequest) -> Vec<u8> {
        let mut bytes = vec![0];
        let length = u32::try_from(request.encoded_len()).expect("short");
        bytes.extend(length.to_be_bytes());
        request.encode(&mut bytes).expect("room");
        bytes
    }

    fn body(pieces: Vec<Vec<u8>>) -> tonic::body::Body {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(piece))));
        tonic::body::Body::new(StreamBody::new(stream::iter(frames)))
    }

    /// The nonces of all requests.
    fn read(pieces: Vec<Vec<u8>>) -> Result<Vec<String>, Status> {
        futures::executor::block_on(async {
            let mut requests = Requests::<StateOfTheWorld>::new(body(pieces));
            let mut all = Vec::new();
            while let Some(request) = requests.next().await? {
                all.push(request.nonce);
                assert!(requests.begun.capacity() == 0, "nothing is kept");
            }
            Ok(all)
        })
    }

    proptest! {
        #[test]
        fn requests_come_whole_however_they_are_cut(
            sizes in prop::collection::vec(0..40usize, 0..6),
            cut in 1..30usize,
        ) {
            let sent: Vec<_> = sizes.into_iter().map(request).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(encoded).collect();
            let pieces = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
            let sent: Vec<_> = sent.into_iter().map(|request| request.response_nonce).collect();
            prop_assert_eq!(read(pieces).expect("well formed"), sent);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let check = |bytes: &[u8], code| {
            let status = read(vec![bytes.to_vec()]).expect_err("not a request");
            assert_eq!(status.code(), code, "{bytes:?}");
        };
        check(&[1, 0, 0, 0, 0], tonic::Code::Unimplemented);
        check(&[0, 0xff, 0, 0, 0], tonic::Code::ResourceExhausted);
        check(&[0, 0, 0, 0, 1, 0xff], tonic::Code::Internal);
        check(&[0, 0, 0, 0, 9, 0], tonic::Code::Internal);
        check(&[0, 0], tonic::Code::Internal);
    }
}
