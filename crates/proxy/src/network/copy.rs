//! Copying in both directions: one large buffer per thread, so that an idle connection holds none.
//! Only what the other side would not take at once is kept with the connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::relay::{Bounds, Pair, ROUNDS, Relayed, relay};

/// The fastest size by measurement: fewer, larger system calls.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Lends the thread's buffer.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(buffer))
}

#[derive(Default)]
struct Half {
    left: Vec<u8>,
    position: usize,
    at_end: bool,
    done: bool,
    bytes: u64,
}

struct Copying<'a, A, B> {
    a: &'a mut A,
    b: &'a mut B,
    up: Half,
    down: Half,
}

/// Copies until both directions have ended, one has failed, or a bound is reached. The end of one direction is passed on and the other goes on.
pub(crate) async fn copy<A, B>(
    a: &mut A,
    b: &mut B,
    bounds: impl Into<Bounds>,
    progress: impl Fn(u64, u64),
) -> (Relayed, io::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut copying = Copying {
        a,
        b,
        up: Half::default(),
        down: Half::default(),
    };
    relay(&mut copying, bounds.into(), progress).await
}

impl<A, B> Pair for Copying<'_, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, Poll<io::Result<()>>) {
        let up = self.up.poll(cx, self.a, self.b);
        (up, self.down.poll(cx, self.b, self.a))
    }

    fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }
}

impl Half {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.poll_left(cx, to))?;
            if self.at_end {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if with_buffer(|buffer| self.step(cx, from, to, buffer))?.is_pending() {
                // TLS keeps records back until it is told to flush.
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what the other side did not take before.
    fn poll_left<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.position < self.left.len() {
            let rest = &self.left[self.position..];
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.position += written;
            self.bytes += written as u64;
        }
        if !self.left.is_empty() {
            self.left = Vec::new();
            self.position = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what the other side takes.
    fn step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffer: &mut [u8],
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(from).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(result) => result?,
        }
        let data = buffer.filled();
        if data.is_empty() {
            self.at_end = true;
            return Ok(Poll::Ready(()));
        }
        let written = match Pin::new(to).poll_write(cx, data) {
            Poll::Ready(result) => result?,
            Poll::Pending => 0,
        };
        self.bytes += written as u64;
        self.left = data[written..].to_vec();
        Ok(Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn half_close_passes_and_the_other_direction_goes_on() {
        let (mut client, mut near) = duplex(16);
        let (mut far, mut server) = duplex(16);
        let task =
            tokio::spawn(async move { copy(&mut near, &mut far, Duration::ZERO, |_, _| {}).await });
        client
            .write_all(b"question that is longer than the pipe")
            .await
            .expect("open");
        client.shutdown().await.expect("open");
        let mut question = String::new();
        server.read_to_string(&mut question).await.expect("open");
        assert_eq!(question, "question that is longer than the pipe");
        server.write_all(b"answer").await.expect("open");
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("open");
        assert_eq!(answer, "answer");
        let (copied, result) = task.await.expect("no panic");
        assert!(result.is_ok());
        assert_eq!((copied.sent, copied.received), (37, 6));
    }

    #[tokio::test]
    async fn an_idle_connection_ends_and_a_busy_one_does_not() {
        let idle = Duration::from_millis(200);
        let start = Instant::now();
        let (mut client, mut near) = duplex(16);
        let (mut far, mut server) = duplex(16);
        let task = tokio::spawn(async move { copy(&mut near, &mut far, idle, |_, _| {}).await });
        let mut last = start;
        while last < start + idle * 2 {
            client.write_all(b"x").await.expect("open");
            server.read_u8().await.expect("open");
            last = Instant::now();
        }
        let (copied, _) = task.await.expect("no panic");
        assert!(copied.ended.is_some());
        assert!(copied.sent > 1);
    }
}
