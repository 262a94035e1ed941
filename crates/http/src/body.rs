//! A message body: a stream of chunks that ends, perhaps, with trailers.
//!
//! Nothing here buffers a whole body: a chunk is asked for when the other side has room for it. But
//! a body that arrived together with its head is kept as what it is, and needs no state at all.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::message::content_length;
use crate::{BodyError, BodyFault, Headers, ResponseHead};

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
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// The number of bytes still to come, where it is known.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// True where nothing more will come.
    fn is_end(&self) -> bool {
        false
    }

    /// For the body of a response that failed before anything of it was sent: the client gets this
    /// response instead, with so many bytes of content.
    fn replaced(&mut self, _by: &ResponseHead, _length: u64) {}
}

/// A streaming body. Dropping one that has not ended tells its sender that nobody reads it.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Whole(Bytes, Option<Box<Headers>>),
    Source(Box<dyn Source>),
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Body(Inner::Empty)
    }

    /// A body from a source.
    pub fn from_source(source: impl Source + 'static) -> Self {
        Body(Inner::Source(Box::new(source)))
    }

    /// All of a body, with its trailers.
    pub fn whole(data: Bytes, trailers: Option<Headers>) -> Self {
        if data.is_empty() && trailers.is_none() {
            return Body::empty();
        }
        Body(Inner::Whole(data, trailers.map(Box::new)))
    }

    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Frame, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next piece, or `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Whole(data, trailers) => {
                let data = std::mem::take(data);
                let frame = if !data.is_empty() {
                    Some(Frame::Data(data))
                } else {
                    trailers.take().map(|trailers| Frame::Trailers(*trailers))
                };
                if trailers.is_none() {
                    self.0 = Inner::Empty;
                }
                Poll::Ready(frame.map(Ok))
            }
            Inner::Source(source) => source.poll_frame(cx),
        }
    }

    /// The number of bytes still to come, where it is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Whole(data, None) => Some(data.len() as u64),
            // Trailers need a framing that has a place for them.
            Inner::Whole(_, Some(_)) => None,
            Inner::Source(source) => source.remaining(),
        }
    }

    /// True where nothing more will come.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Whole(..) => false,
            Inner::Source(source) => source.is_end(),
        }
    }

    /// True where all that is still to come is here already.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Inner::Empty | Inner::Whole(..) => true,
            Inner::Source(source) => source.is_end(),
        }
    }

    /// The number of bytes of content that are here already, of a body that is whole.
    pub fn whole_length(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Whole(data, _) => Some(data.len() as u64),
            Inner::Source(source) => source.is_end().then_some(0),
        }
    }

    /// The length for a framing of HTTP/1, where the body has one: as far as it is known, or as the
    /// message's own head says. A message that says its length keeps it, and loses the trailers,
    /// which have no place then. Whether they are here already must not decide that.
    pub(crate) fn framed_length(&self, headers: &Headers) -> Option<u64> {
        self.remaining().or_else(|| {
            let said = content_length(headers)?;
            self.whole_length().filter(|length| *length == said)
        })
    }

    /// The trailers of a body that is whole.
    pub fn whole_trailers(&self) -> Option<&Headers> {
        match &self.0 {
            Inner::Whole(_, trailers) => trailers.as_deref(),
            Inner::Empty | Inner::Source(_) => None,
        }
    }

    /// The same body once more, where it is whole. The bytes are shared.
    pub fn duplicate(&self) -> Option<Body> {
        match &self.0 {
            Inner::Empty => Some(Body::empty()),
            Inner::Whole(data, trailers) => {
                Some(Body(Inner::Whole(data.clone(), trailers.clone())))
            }
            Inner::Source(source) => source.is_end().then(Body::empty),
        }
    }

    /// All that is still to come, where it is here already; else the body itself.
    pub(crate) fn into_whole(self) -> Result<(Bytes, Option<Headers>), Body> {
        match self.0 {
            Inner::Empty => Ok((Bytes::new(), None)),
            Inner::Whole(data, trailers) => Ok((data, trailers.map(|trailers| *trailers))),
            Inner::Source(source) if source.is_end() => Ok((Bytes::new(), None)),
            Inner::Source(source) => Err(Body(Inner::Source(source))),
        }
    }

    /// The client gets another response than the one whose body this is.
    pub(crate) fn replaced(&mut self, by: &ResponseHead, length: u64) {
        if let Inner::Source(source) = &mut self.0 {
            source.replaced(by, length);
        }
    }

    /// Reads the whole body, at most `limit` bytes. For small answers to our own requests and for
    /// tests; the data path streams.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            if let Frame::Data(bytes) = frame? {
                if all.len() + bytes.len() > limit {
                    let text = format!("longer than {limit} bytes");
                    return Err(BodyError::new(BodyFault::Local, text));
                }
                all.extend_from_slice(&bytes);
            }
        }
        Ok(all.into())
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
    fn from(data: Bytes) -> Self {
        Body::whole(data, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(mut body: Body) -> (Vec<u8>, Option<Headers>) {
        let (mut data, mut trailers) = (Vec::new(), None);
        while let Some(frame) = body.next().await {
            match frame.expect("in memory") {
                Frame::Data(bytes) => data.extend_from_slice(&bytes),
                Frame::Trailers(fields) => trailers = Some(fields),
            }
        }
        (data, trailers)
    }

    #[tokio::test]
    async fn a_whole_body_yields_data_then_trailers() {
        let mut fields = Headers::new();
        fields.append("grpc-status", "0").expect("valid");
        let body = Body::whole("abc".into(), Some(fields.clone()));
        assert_eq!((body.remaining(), body.whole_length()), (None, Some(3)));
        let copy = body.duplicate().expect("whole");
        for body in [body, copy] {
            let (data, trailers) = frames(body).await;
            assert_eq!(data, b"abc");
            assert_eq!(trailers.expect("set").get("grpc-status"), Some("0"));
        }
        let (data, trailers) = frames(Body::whole(Bytes::new(), Some(fields))).await;
        assert!(data.is_empty() && trailers.is_some());
        assert!(Body::from("").is_end());
    }

    #[tokio::test]
    async fn collecting_is_bounded() {
        assert_eq!(
            Body::from("abc").collect(3).await.expect("fits").as_ref(),
            b"abc"
        );
        assert!(Body::from("abc").collect(2).await.is_err());
    }
}
