//! When HTTP/1 messages leave: behind all that is done in the same turn.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lateen_http::{Abort, Body, ClientConfig, Error, Request, Response, ServerConfig, connect};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use tokio::task::yield_now;

use super::support::{Raw, Served, at_turns_ends, get, serve_at_once, serve_on, within};

/// A handler that both ways of serving take.
type Handle = Arc<dyn Fn(Request) -> Ready<Result<Response, Abort>> + Send + Sync>;
type Diary = Arc<Mutex<Vec<&'static str>>>;

/// Notes when it is written to, and may fail then.
struct Noted {
    pipe: DuplexStream,
    diary: Diary,
    broken: bool,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.diary.lock().expect("no panic").push("write");
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.diary.lock().expect("no panic").push("write");
        Pin::new(&mut self.pipe).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// A pipe that takes five bytes at a time, and makes the writer wait in between.
struct Narrow {
    pipe: DuplexStream,
    rests: bool,
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.rests = !self.rests;
        if !self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let some = &buf[..buf.len().min(5)];
        Pin::new(&mut self.pipe).poll_write(cx, some)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// What two connections do that are asked in one turn, by the way they are served.
async fn two_at_once(serve: impl Fn(Noted, ServerConfig, Handle) -> Served) -> Vec<&'static str> {
    let diary = Diary::default();
    let (mut clients, mut served) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let noted = Noted {
            pipe: far,
            diary: diary.clone(),
            broken: false,
        };
        let handled = diary.clone();
        let handler: Handle = Arc::new(move |_| {
            handled.lock().expect("no panic").push("handle");
            ready(Ok(Response::text(200, "done")))
        });
        served.push(serve(noted, ServerConfig::default(), handler));
        clients.push(Raw(near));
    }
    yield_now().await;
    for client in &mut clients {
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    }
    for client in &mut clients {
        client.read_to("done").await;
    }
    let diary = diary.lock().expect("no panic");
    diary.clone()
}

#[tokio::test]
async fn responses_leave_when_everybody_was_served() {
    let diary = two_at_once(|io, config, handler| serve_on(io, config, move |r| handler(r))).await;
    assert_eq!(diary, ["handle", "handle", "write", "write"]);
}

#[tokio::test]
async fn nothing_waits_where_nobody_ends_the_turn() {
    let serve = |io, config, handler: Handle| serve_at_once(io, config, move |r| handler(r));
    let diary = two_at_once(serve).await;
    assert_eq!(diary, ["handle", "write", "handle", "write"]);
}

#[tokio::test]
async fn what_does_not_fit_at_the_end_of_the_turn_follows() {
    let (near, far) = duplex(64 * 1024);
    let narrow = Narrow {
        pipe: far,
        rests: false,
    };
    let _served = serve_on(narrow, ServerConfig::default(), |request: Request| {
        ready(Ok(Response::text(200, request.head.path())))
    });
    yield_now().await;
    let mut client = Raw(near);
    // Both come at once and are answered in one turn, of which five bytes fit.
    client
        .write("GET /first HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    for path in ["/first", "/second"] {
        let response = client.read_to(path).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    }
    // And the connection goes on.
    client.write("GET /third HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.read_to("/third").await;
}

#[tokio::test]
async fn a_failure_at_the_end_of_the_turn_ends_the_connection() {
    let (near, far) = duplex(64 * 1024);
    let noted = Noted {
        pipe: far,
        diary: Diary::default(),
        broken: true,
    };
    let served = serve_on(noted, ServerConfig::default(), |_| {
        ready(Ok(Response::text(200, "done")))
    });
    let mut client = Raw(near);
    client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let result = served.result().await;
    assert!(matches!(result, Err(Error::Closed(_))), "{result:?}");
}

#[tokio::test]
async fn a_request_that_could_not_leave_is_given_back() {
    at_turns_ends();
    yield_now().await;
    let (near, far) = duplex(64 * 1024);
    drop(near);
    let noted = Noted {
        pipe: far,
        diary: Diary::default(),
        broken: true,
    };
    let connection = connect(noted, &ClientConfig::default());
    let sent = within(connection.send(&get("/"), Body::from("body"))).await;
    let error = sent.expect_err("it could not be sent");
    assert!(error.unsent.is_some(), "{:?}", error.error);
}

/// A server that speaks unasked has not answered what comes then.
#[tokio::test]
async fn what_was_said_before_the_request_is_no_response() {
    at_turns_ends();
    yield_now().await;
    let (near, mut server) = duplex(64 * 1024);
    let connection = connect(near, &ClientConfig::default());
    let stale = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    within(server.write_all(stale)).await.expect("open");
    let sent = within(connection.send(&get("/"), Body::from("body"))).await;
    let error = sent.expect_err("no response to this request");
    assert!(error.unsent.is_some(), "{:?}", error.error);
    // Nor does the request leave after all, when it may be on its way elsewhere.
    let mut text = String::new();
    within(server.read_to_string(&mut text))
        .await
        .expect("open");
    assert_eq!(text, "");
}
