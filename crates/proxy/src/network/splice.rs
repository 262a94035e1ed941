//! Relaying between two TCP sockets without copying through this process.
//!
//! Much data goes by `splice(2)` through a pipe: socket buffers change hands inside the kernel.
//! That takes one call more than reading and writing, so small exchanges go through the thread's
//! buffer. Neither pipe nor buffer is held by an idle connection, and each direction holds at most
//! one of them filled: when the receiver does not read, nothing more is taken from the sender.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::copy::with_buffer;
use super::pipe::Pipe;
use super::relay::{Bounds, Pair, ROUNDS, Relayed, relay};

/// A read that finds this much says that more is to come by the pipe.
const MUCH: usize = 64 * 1024;
/// A pipe load below this says that it is not worth its calls.
const LITTLE: usize = 16 * 1024;

struct Half {
    /// Bytes that are in this process: read by inspection, or not taken by the other side.
    left: Bytes,
    pipe: Option<Pipe>,
    /// Data comes in amounts that are worth a pipe.
    much: bool,
    at_end: bool,
    done: bool,
    bytes: u64,
}

struct Splicing<'a> {
    a: (ReadHalf<'a>, WriteHalf<'a>),
    b: (ReadHalf<'a>, WriteHalf<'a>),
    up: Half,
    down: Half,
}

/// Relays like [`copy`](super::copy()); `prefix` is sent to `b` first.
pub(crate) async fn splice(
    prefix: Bytes,
    a: &mut TcpStream,
    b: &mut TcpStream,
    bounds: impl Into<Bounds>,
    progress: impl Fn(u64, u64),
) -> (Relayed, io::Result<()>) {
    let mut splicing = Splicing {
        a: a.split(),
        b: b.split(),
        up: Half::new(prefix),
        down: Half::new(Bytes::new()),
    };
    relay(&mut splicing, bounds.into(), progress).await
}

impl Pair for Splicing<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, Poll<io::Result<()>>) {
        let up = self.up.poll(cx, &mut self.a.0, self.b.1.as_ref());
        (up, self.down.poll(cx, &mut self.b.0, self.a.1.as_ref()))
    }

    fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }
}

impl Half {
    fn new(left: Bytes) -> Self {
        Half {
            left,
            pipe: None,
            much: false,
            at_end: false,
            done: false,
            bytes: 0,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &TcpStream,
    ) -> Poll<io::Result<()>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.poll_out(cx, to))?;
            if self.at_end {
                self.release();
                SockRef::from(to).shutdown(Shutdown::Write)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if self.poll_in(cx, from, to)?.is_pending() {
                self.release();
                return Poll::Pending;
            }
        }
        // Others have their turn first. The pipe is empty or waits for the receiver, but this turn
        // ended with neither side waiting.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what was taken; ready once nothing is left.
    fn poll_out(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let sent = ready!(poll_io(cx, to, TcpStream::poll_write_ready, || {
                to.try_write(&self.left)
            }))?;
            self.left.advance(sent);
            self.bytes += sent as u64;
        }
        self.left = Bytes::new();
        let Some(pipe) = &mut self.pipe else {
            return Poll::Ready(Ok(()));
        };
        while !pipe.is_empty() {
            let sent = ready!(poll_io(cx, to, TcpStream::poll_write_ready, || pipe.drain(to)))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes += sent as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has arrived.
    fn poll_in(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &TcpStream,
    ) -> io::Result<Poll<()>> {
        if self.much && self.pipe.is_none() {
            self.pipe = Pipe::take()
                .inspect_err(|error| tracing::debug!(%error, "no pipe; copying"))
                .ok();
        }
        let taken = match &mut self.pipe {
            Some(pipe) => {
                let from = from.as_ref();
                let taken = poll_io(cx, from, TcpStream::poll_read_ready, || pipe.fill(from));
                if let Poll::Ready(Ok(taken)) = taken
                    && taken < LITTLE
                {
                    self.much = false;
                }
                taken
            }
            None => with_buffer(|buffer| self.poll_copy(cx, buffer, from, to)),
        };
        match taken {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(taken) => self.at_end = taken? == 0,
        }
        if !self.much && self.pipe.as_ref().is_some_and(Pipe::is_empty) {
            self.release();
        }
        Ok(Poll::Ready(()))
    }

    /// Reads into the thread's buffer, and keeps what the other side would not take.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        from: &mut ReadHalf<'_>,
        to: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let taken = buffer.filled();
        self.much = taken.len() >= MUCH;
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = match to.try_write(taken) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        self.bytes += sent as u64;
        if sent < taken.len() {
            self.left = Bytes::copy_from_slice(&taken[sent..]);
        }
        Poll::Ready(Ok(taken.len()))
    }

    /// An idle direction holds no pipe.
    fn release(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.put();
        }
    }
}

/// Tries, and waits for the socket where it would block.
fn poll_io<T>(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    ready: impl Fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
    mut work: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        ready!(ready(socket, cx))?;
        match work() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

#[cfg(test)]
mod tests;
