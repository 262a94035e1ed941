//! A message body: a stream of chunks that ends, perhaps, with trailers.
//!
//! Nothing here buffers a whole body: a chunk is asked for when the other side has room for it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;

use crate::{BodyError, Headers};

/// One piece of a body.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Content.
    Data(Bytes),
    /// The trailer fields; nothing follows them.
    Trailers(Headers),
}

/// Something that yields a body piece by piece.
pub trait Source: Send {
    /// The next piece, or `None` at the end.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>>;

    /// The number of bytes still to come, where it is known.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// True where nothing more will come.
    fn is_end(&self) -> bool {
        false
    }
}

/// A streaming body.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Received(Incoming),
    Source(Pin<Box<dyn Source>>),
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Body(Inner::Empty)
    }

    /// A body from a source.
    pub fn from_source(source: impl Source + 'static) -> Self {
        Body(Inner::Source(Box::pin(source)))
    }

    pub(crate) fn received(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            Body::empty()
        } else {
            Body(Inner::Received(incoming))
        }
    }

    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Frame, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next piece, or `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Inner::Received(incoming) => {
                let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(receive))
            }
            Inner::Source(source) => source.as_mut().poll_frame(cx),
        }
    }

    /// The number of bytes still to come, where it is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Received(incoming) => incoming.size_hint().exact(),
            Inner::Source(source) => source.remaining(),
        }
    }

    /// True where nothing more will come.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Received(incoming) => incoming.is_end_stream(),
            Inner::Source(source) => source.is_end(),
        }
    }

    /// Reads the whole body, at most `limit` bytes. For small answers to our own requests and for
    /// tests; the data path streams.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            if let Frame::Data(bytes) = frame? {
                if all.len() + bytes.len() > limit {
                    return Err(BodyError(format!("longer than {limit} bytes")));
                }
                all.extend_from_slice(&bytes);
            }
        }
        Ok(all.into())
    }
}

fn receive(frame: Result<hyper::body::Frame<Bytes>, hyper::Error>) -> Result<Frame, BodyError> {
    let frame = frame.map_err(|error| {
        use std::error::Error as _;
        match error.source() {
            Some(source) => BodyError(format!("{error}: {source}")),
            None => BodyError(error.to_string()),
        }
    })?;
    match frame.into_data() {
        Ok(data) => Ok(Frame::Data(data)),
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => Ok(Frame::Trailers(Headers(trailers))),
            Err(_) => Err(BodyError("frame of an unknown kind".to_owned())),
        },
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Body::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Body::empty()
        } else {
            Body(Inner::Full(bytes))
        }
    }
}

/// The body in the shape that the engine beneath sends.
pub(crate) struct Wire(pub(crate) Body);

impl http_body::Body for Wire {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(self.0.poll_next(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame {
                Frame::Data(bytes) => http_body::Frame::data(bytes),
                Frame::Trailers(trailers) => http_body::Frame::trailers(trailers.0),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.0.remaining() {
            Some(exact) => http_body::SizeHint::with_exact(exact),
            None => http_body::SizeHint::new(),
        }
    }
}
