//! The raw stream that remains when both sides have agreed to stop speaking HTTP.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::Error;
use crate::transport::Io;

/// The promise of a raw stream; resolves once the response that switches protocols is out.
#[derive(Debug)]
pub struct Upgrade(oneshot::Receiver<Upgraded>);

impl Upgrade {
    /// A promise, and the way to keep it.
    pub(crate) fn pair() -> (oneshot::Sender<Upgraded>, Upgrade) {
        let (tx, rx) = oneshot::channel();
        (tx, Upgrade(rx))
    }

    /// A promise that is kept already.
    pub(crate) fn ready(stream: Upgraded) -> Upgrade {
        let (tx, upgrade) = Upgrade::pair();
        // The receiver is at hand.
        let _ = tx.send(stream);
        upgrade
    }

    /// The stream, bytes that were read past the head included.
    pub async fn stream(self) -> Result<Upgraded, Error> {
        let closed = |_| Error::Closed("before the protocol was switched".to_owned());
        self.0.await.map_err(closed)
    }
}

/// A stream that left HTTP.
pub struct Upgraded {
    io: Box<dyn Io>,
    /// What was read before the switch.
    prefix: BytesMut,
}

impl Upgraded {
    pub(crate) fn new(io: Box<dyn Io>, prefix: BytesMut) -> Self {
        Upgraded { io, prefix }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("prefix", &self.prefix.len())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut *self.io).poll_read(cx, buf);
        }
        let length = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..length]);
        self.prefix.advance(length);
        if self.prefix.is_empty() {
            // Give the memory back.
            self.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
