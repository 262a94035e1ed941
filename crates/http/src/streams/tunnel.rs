//! A stream as bytes in both directions, after CONNECT (RFC 9113, 8.5, and RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Claim, Failure, remember};
use crate::h2::Code;

/// Both directions of one stream. To shut it down sends END_STREAM; to drop it before that resets
/// the stream.
pub(crate) struct Tunnel {
    claim: Claim,
    shut: bool,
}

impl Tunnel {
    pub(crate) fn new(claim: Claim) -> Self {
        Tunnel { claim, shut: false }
    }
}

fn broken(failure: &Failure) -> io::Error {
    let kind = match failure {
        Failure::Reset(_) | Failure::Refused(_) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, failure.clone().into_error().to_string())
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let id = self.claim.id;
        let state = &mut *self.claim.lock();
        let stream = state.stream(id);
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if stream.inbox.len() > 0 {
            let mut n = 0;
            while let Some(data) = stream.inbox.pop_part(buf.remaining()) {
                buf.put_slice(&data);
                n += data.len();
                if buf.remaining() == 0 {
                    break;
                }
            }
            state.release(id, n);
            return Poll::Ready(Ok(()));
        }
        if stream.inbox.is_ended() {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = &stream.failure {
            return Poll::Ready(Err(broken(failure)));
        }
        remember(&mut stream.reader, cx);
        Poll::Pending
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let id = self.claim.id;
        let state = &mut *self.claim.lock();
        let stream = state.stream(id);
        if let Some(failure) = &stream.failure {
            return Poll::Ready(Err(broken(failure)));
        }
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        remember(&mut stream.writer, cx);
        let n = state.codec.room(id).min(buf.len());
        if n == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        let data = Bytes::copy_from_slice(&buf[..n]);
        let sent = state.codec.send_data(id, data, false);
        state.stir();
        Poll::Ready(sent.map(|()| n).map_err(io::Error::other))
    }

    /// What was taken is on its way; the driver sees to it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.shut, true) {
            let state = &mut *self.claim.lock();
            // Where the stream is gone there is nothing to end.
            let _ = state.codec.send_data(self.claim.id, Bytes::new(), true);
            state.stir();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // What was written before the shutdown still goes out.
        let code = match self.shut {
            true => Code::NO_ERROR,
            false => Code::CANCEL,
        };
        self.claim.lock().reset(self.claim.id, code);
    }
}
