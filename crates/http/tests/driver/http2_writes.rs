//! How often a connection writes: once for all streams of a turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use lateen_http::Body;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::support::{Client, echo, http2_only, post, serve_on, within};

/// Counts the writes to a pipe.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn thirty_two_streams_leave_in_one_write() {
    let (near, far) = duplex(1 << 20);
    let (asked, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let _served = serve_on(Counted(far, answered.clone()), http2_only(), echo);
    let client = Arc::new(Client::http2(Counted(near, asked.clone())).await);
    for round in 0..5 {
        let before = (
            asked.load(Ordering::Relaxed),
            answered.load(Ordering::Relaxed),
        );
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let client = client.clone();
            tasks.spawn(async move {
                let response = client.send(&post("/"), Body::from("echo")).await;
                assert_eq!(response.expect("answered").head.status, 200);
            });
        }
        while let Some(result) = within(tasks.join_next()).await {
            result.expect("no panic");
        }
        if round > 0 {
            // The first has the settings and their acknowledgements.
            assert_eq!(asked.load(Ordering::Relaxed) - before.0, 1);
            assert_eq!(answered.load(Ordering::Relaxed) - before.1, 1);
        }
    }
}
