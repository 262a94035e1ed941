//! Copying in both directions: one large buffer per thread, so that an idle connection holds none.
//! Only what the other side would not take at once is kept with the connection.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The fastest size by measurement: fewer, larger system calls.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What was copied.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Copied {
    /// From the first stream to the second.
    pub sent: u64,
    /// From the second stream to the first.
    pub received: u64,
    /// Nothing moved for too long.
    pub timed_out: bool,
}

#[derive(Default)]
struct Half {
    left: Vec<u8>,
    position: usize,
    at_end: bool,
    done: bool,
    bytes: u64,
}

/// Copies until both directions have ended, one has failed, or nothing moved for `idle` (zero means
/// for ever). The end of one direction is passed on and the other goes on.
pub(crate) async fn copy<A, B>(
    a: &mut A,
    b: &mut B,
    idle: Duration,
    progress: impl Fn(u64, u64),
) -> (Copied, io::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::default(), Half::default());
    let timer = tokio::time::sleep(if idle.is_zero() {
        Duration::from_secs(86_400)
    } else {
        idle
    });
    tokio::pin!(timer);
    let mut timed_out = false;
    let mut reported = (0, 0);
    let result = poll_fn(|cx| {
        let before = up.bytes + down.bytes;
        let first = up.poll(cx, a, b);
        let second = down.poll(cx, b, a);
        if up.bytes + down.bytes != before {
            progress(up.bytes - reported.0, down.bytes - reported.1);
            reported = (up.bytes, down.bytes);
            if !idle.is_zero() {
                timer.as_mut().reset(Instant::now() + idle);
            }
        }
        match (first, second) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                return Poll::Ready(Err(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        if !idle.is_zero() {
            ready!(timer.as_mut().poll(cx));
            timed_out = true;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await;
    (
        Copied {
            sent: up.bytes,
            received: down.bytes,
            timed_out,
        },
        result,
    )
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
        loop {
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
            if self.at_end {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if BUFFER
                .with_borrow_mut(|buffer| self.step(cx, from, to, buffer))?
                .is_pending()
            {
                // TLS keeps records back until it is told to flush.
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            }
        }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

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
    async fn an_idle_connection_ends() {
        let (_client, mut near) = duplex(16);
        let (mut far, _server) = duplex(16);
        let (copied, _) = copy(&mut near, &mut far, Duration::from_millis(20), |_, _| {}).await;
        assert!(copied.timed_out);
    }
}
