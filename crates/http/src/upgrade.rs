//! The raw stream that remains when both sides have agreed to stop speaking HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;

/// The promise of a raw stream; resolves once the response that switches protocols is out.
#[derive(Debug)]
pub struct Upgrade(pub(crate) hyper::upgrade::OnUpgrade);

impl Upgrade {
    /// The stream, bytes that were read past the head included.
    pub async fn stream(self) -> Result<Upgraded, Error> {
        match self.0.await {
            Ok(upgraded) => Ok(Upgraded(TokioIo::new(upgraded))),
            Err(error) => Err(Error::from_engine(&error)),
        }
    }
}

/// A stream that left HTTP.
#[derive(Debug)]
pub struct Upgraded(TokioIo<hyper::upgrade::Upgraded>);

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
