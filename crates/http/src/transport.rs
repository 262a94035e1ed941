//! The socket side of a connection: where bytes come in and go out.
//!
//! An idle connection owns no buffer. Reading goes into a block that belongs to the thread and out
//! of which pieces are cut without copying. A small message waits for the end of the loop turn (see
//! `turn`), everything else goes straight to the socket, and only what that would not take is kept.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::turn::{self, Held};

/// A stream that carries HTTP.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Bytes of the thread's block.
const BLOCK: usize = 64 * 1024;
/// A read should find at least this much room.
const ROOM: usize = 16 * 1024;
/// Pieces of one vectored write.
const PIECES: usize = 16;
/// A body of at most so many bytes waits with its head for the end of the loop turn. It is copied
/// for that; to copy more costs more than it saves.
const LATE: usize = 16 * 1024;

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static WRITE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A stream with what was read and not used, and what was sent and not written.
pub(crate) struct Transport {
    io: Box<dyn Io>,
    /// Bytes that were read and wait to be used.
    pub read: BytesMut,
    /// True where `read` is memory of its own and no part of a thread's block.
    owned: bool,
    /// What waits for the end of the loop turn. It comes before everything in `out`.
    late: Option<Box<Held>>,
    out: VecDeque<Bytes>,
    /// Written bytes may still be kept by the stream, which TLS does.
    unflushed: bool,
    /// Why what had waited could not be written.
    failed: Option<io::Error>,
    /// The stream has taken something since [`begin`](Self::begin).
    begun: bool,
}

impl Transport {
    pub(crate) fn new(io: Box<dyn Io>, read: BytesMut) -> Self {
        Transport {
            io,
            read,
            owned: true,
            late: None,
            out: VecDeque::new(),
            unflushed: false,
            failed: None,
            begun: false,
        }
    }

    /// The stream and what was read from it. What was sent must have left.
    pub(crate) fn into_parts(self) -> (Box<dyn Io>, BytesMut) {
        (self.io, self.read)
    }

    /// Reads once; 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|block| {
            if block.capacity() < ROOM {
                // Where nobody uses pieces of the old one any more, this is the old one.
                block.reserve(BLOCK);
            }
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut *self.io), cx, block);
            let read = ready!(read)?;
            let piece = block.split();
            if self.read.is_empty() {
                self.read = piece;
                self.owned = false;
            } else {
                self.read.unsplit(piece);
            }
            Poll::Ready(Ok(read))
        })
    }

    /// Before waiting: bytes that stay for long must not hold the thread's block.
    pub(crate) fn settle(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        } else if !self.owned {
            self.read = BytesMut::from(&self.read[..]);
        }
        self.owned = true;
    }

    /// True where everything that was sent has left or waits for the end of the loop turn: more may
    /// be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.unflushed && self.failed.is_none()
    }

    /// True where something waits for the end of the loop turn. Whoever sent it has to see to it
    /// that [`flush_late`](Self::flush_late) is called then.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// From here on [`begun`](Self::begun) is asked for.
    pub(crate) fn begin(&mut self) {
        self.begun = false;
    }

    /// True where the stream has taken a byte since [`begin`](Self::begin).
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// Sends what `head` writes, then data, then the tail. What the socket does not take now is
    /// kept; callers wait by [`poll_flush`](Self::poll_flush) before they send more. `last` says
    /// that it completes a message, after which nothing follows for a while.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        head: impl FnOnce(&mut Vec<u8>),
        data: Bytes,
        tail: &'static [u8],
        last: bool,
    ) -> io::Result<()> {
        if last && data.len() <= LATE && self.is_flushed() && turn::has_end() {
            let mut held = self.late.take().unwrap_or_else(turn::held);
            head(&mut held.bytes);
            held.bytes.extend_from_slice(&data);
            held.bytes.extend_from_slice(tail);
            if held.bytes.is_empty() {
                turn::recycle(held);
                return Ok(());
            }
            let waker = held.waker.get_or_insert_with(|| cx.waker().clone());
            waker.clone_from(cx.waker());
            self.late = Some(held);
            return Ok(());
        }
        self.hasten();
        WRITE.with_borrow_mut(|scratch| {
            scratch.clear();
            head(scratch);
            self.write_or_keep(cx, scratch, data, tail)
        })
    }

    /// Something else follows what waited.
    fn hasten(&mut self) {
        if let Some(mut held) = self.late.take() {
            let bytes = std::mem::take(&mut held.bytes);
            self.out.push_front(bytes.into());
            turn::recycle(held);
        }
    }

    /// Writes what has waited for the end of the loop turn.
    pub(crate) fn flush_late(&mut self) {
        let Some(mut held) = self.late.take() else {
            return;
        };
        let waker = held.waker.take();
        let cx = &mut Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        let mut written = 0;
        let flushed = loop {
            let io = Pin::new(&mut *self.io);
            if written == held.bytes.len() {
                break io.poll_flush(cx);
            }
            match io.poll_write(cx, &held.bytes[written..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(more)) => {
                    self.begun = true;
                    written += more;
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        match flushed {
            Poll::Ready(Ok(())) => {}
            // Its task is woken when there is room, and goes on.
            Poll::Pending => {
                let rest = &held.bytes[written..];
                if !rest.is_empty() {
                    self.out.push_front(Bytes::copy_from_slice(rest));
                }
                self.unflushed = true;
            }
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
        turn::recycle(held);
    }

    /// Forgets what waits for the end of the loop turn.
    pub(crate) fn discard_late(&mut self) {
        self.late = None;
    }

    fn write_or_keep(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        data: Bytes,
        tail: &'static [u8],
    ) -> io::Result<()> {
        let mut written = 0;
        if self.out.is_empty() {
            let slices = [IoSlice::new(head), IoSlice::new(&data), IoSlice::new(tail)];
            let write = if data.is_empty() && tail.is_empty() {
                Pin::new(&mut *self.io).poll_write(cx, head)
            } else {
                Pin::new(&mut *self.io).poll_write_vectored(cx, &slices)
            };
            if let Poll::Ready(result) = write {
                written = result?;
                self.begun |= written > 0;
                self.unflushed = true;
            }
        }
        let mut left = written;
        if left < head.len() {
            self.out.push_back(Bytes::copy_from_slice(&head[left..]));
        }
        left = left.saturating_sub(head.len());
        if left < data.len() {
            self.out.push_back(data.slice(left..));
        }
        left = left.saturating_sub(data.len());
        if left < tail.len() {
            self.out.push_back(Bytes::from_static(&tail[left..]));
        }
        Ok(())
    }

    /// Writes until nothing is left.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.hasten();
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut n_slices = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(piece);
                n_slices += 1;
            }
            let io = Pin::new(&mut *self.io);
            let mut written = ready!(io.poll_write_vectored(cx, &slices[..n_slices]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.unflushed = true;
            while let Some(first) = self.out.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                self.out.pop_front();
            }
        }
        if self.out.capacity() > 0 {
            self.out = VecDeque::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut *self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some slices straight to the stream, for a codec that keeps its own output.
    pub(crate) fn poll_write_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.io).poll_write_vectored(cx, slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        Poll::Ready(Ok(written))
    }

    /// Flushes and ends our direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_the_stream_does_not_take_is_kept_in_order() {
        let (near, mut far) = duplex(5);
        let mut transport = Transport::new(Box::new(near), BytesMut::new());
        poll_fn(|cx| {
            let head = |out: &mut Vec<u8>| out.extend_from_slice(b"head");
            transport.begin();
            let sent = transport.send(cx, head, "data".into(), b"tail", true);
            sent.expect("open");
            assert!(transport.begun());
            Poll::Ready(())
        })
        .await;
        assert!(!transport.is_flushed());
        let reading = tokio::spawn(async move {
            let mut text = vec![0; 12];
            far.read_exact(&mut text).await.expect("open");
            text
        });
        poll_fn(|cx| transport.poll_flush(cx)).await.expect("open");
        assert!(transport.is_flushed());
        assert_eq!(reading.await.expect("no panic"), b"headdatatail");
    }

    #[tokio::test]
    async fn bytes_that_stay_do_not_hold_the_block() {
        let (near, mut far) = duplex(64);
        let mut transport = Transport::new(Box::new(near), BytesMut::new());
        far.write_all(b"part").await.expect("open");
        let read = poll_fn(|cx| transport.poll_read(cx)).await;
        assert_eq!(read.expect("open"), 4);
        transport.settle();
        assert!(transport.read.capacity() < ROOM);
        far.write_all(b"ial").await.expect("open");
        poll_fn(|cx| transport.poll_read(cx)).await.expect("open");
        assert_eq!(&transport.read[..], b"partial");
        drop(far);
        let read = poll_fn(|cx| transport.poll_read(cx)).await;
        assert_eq!(read.expect("an end is no error"), 0);
    }
}
