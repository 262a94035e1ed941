//! Our HTTP/1 client and its pool, as a server sees it that writes bytes.

use std::convert::Infallible;
use std::hash::RandomState;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use lateen_http::{
    Abort, Body, ClientConfig, Error, Frame, Interim, Lease, Method, Pool, Request, Response,
    connect,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};

use super::support::{
    Raw, at_turns_ends, feed, fields, get, head, http2_only, http2_pair, pattern, post, read_all,
    within, write_all,
};

/// A pool, and the servers' ends of its connections.
struct Servers {
    pool: Pool<u8, RandomState>,
    ends: Arc<Mutex<Vec<Raw>>>,
}

impl Servers {
    fn new() -> Self {
        at_turns_ends();
        Servers {
            pool: Pool::new(2),
            ends: Arc::default(),
        }
    }

    async fn lease(&self) -> Lease {
        if let Some(lease) = self.pool.checkout(&0) {
            return lease;
        }
        let connecting = async {
            let (near, far) = duplex(64 * 1024);
            self.ends.lock().expect("no panic").push(Raw(far));
            Ok::<_, Infallible>(connect(near, &ClientConfig::default()))
        };
        let lease = self.pool.connect(&0, false, connecting).await;
        lease.expect("infallible")
    }

    /// The server's end that was connected last.
    fn server(&self) -> Raw {
        self.ends
            .lock()
            .expect("no panic")
            .pop()
            .expect("connected")
    }

    fn is_empty(&self) -> bool {
        self.ends.lock().expect("no panic").is_empty()
    }
}

/// Sends a request on a fresh connection, and answers it so.
async fn exchange(method: Method, answer: &str) -> (Result<Response, Error>, Servers, Raw) {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let request = head(method, "/");
    let sending = lease.send(&request, Body::empty(), None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        server.write(answer).await;
        server.0.shutdown().await.expect("open");
    };
    let (result, ()) = within(async { tokio::join!(sending, serving) }).await;
    (result.map_err(|error| error.error), servers, server)
}

#[tokio::test]
async fn bodies_by_their_framings() {
    let cases = [
        (Method::GET, "Content-Length: 3\r\n\r\nabc", "abc", None),
        (
            Method::GET,
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
            None,
        ),
        (
            Method::GET,
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n",
            "abc",
            Some("1"),
        ),
        (Method::GET, "\r\nuntil the end", "until the end", None),
        (Method::HEAD, "Content-Length: 3\r\n\r\n", "", None),
        (Method::GET, "Content-Length: 0\r\n\r\n", "", None),
    ];
    for (method, answer, body, trailer) in cases {
        let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
        let (response, _servers, _server) = exchange(method, &answer).await;
        let (data, trailers) = read_all(response.expect("answered").body)
            .await
            .expect("whole");
        assert_eq!(String::from_utf8_lossy(&data), body, "{answer}");
        let got = trailers.and_then(|fields| fields.get("x").map(str::to_owned));
        assert_eq!(got.as_deref(), trailer);
    }
}

#[tokio::test]
async fn cut_and_broken_responses_are_errors() {
    for (answer, closed) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\nConte", false),
        ("nonsense\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            false,
        ),
    ] {
        let (response, _servers, _server) = exchange(Method::GET, answer).await;
        let error = response.expect_err("broken");
        assert_eq!(
            matches!(error, Error::Closed(_)),
            closed,
            "{answer}: {error}"
        );
    }
    for answer in [
        "Content-Length: 4\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
        let (response, _servers, _server) = exchange(Method::GET, &answer).await;
        read_all(response.expect("answered").body)
            .await
            .expect_err("cut");
    }
}

#[tokio::test]
async fn connections_are_reused_where_they_can_be() {
    let cases = [
        ("Content-Length: 2\r\n\r\nok", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        ("Connection: close\r\nContent-Length: 2\r\n\r\nok", false),
        ("Content-Length: 2\r\n\r\nok and more", false),
    ];
    for (answer, reused) in cases {
        let servers = Servers::new();
        let lease = servers.lease().await;
        let mut server = servers.server();
        let request = get("/");
        let sending = lease.send(&request, Body::empty(), None);
        let serving = async {
            server.read_to("\r\n\r\n").await;
            server.write(&format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        };
        let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
        let (data, _) = read_all(response.expect("answered").body)
            .await
            .expect("whole");
        assert_eq!(data, b"ok");
        let _lease = servers.lease().await;
        assert_eq!(servers.is_empty(), reused, "{answer}");
    }
}

/// A pool that forgot a key while its connections were all at work would make them anew after each
/// look for unused ones.
#[tokio::test]
async fn a_sweep_leaves_connections_at_work_their_place() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let request = get("/");
    let sending = lease.send(&request, Body::empty(), None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        servers.pool.sweep(|_| Some(Duration::from_secs(60)));
        server
            .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
    response.expect("answered");
    assert_eq!(servers.pool.idle_count(), 1);
    // Afterwards it is as unused as any other.
    servers.pool.sweep(|_| Some(Duration::ZERO));
    assert_eq!(servers.pool.idle_count(), 0);
}

/// Answers one request, so that the connection is in the pool.
async fn used(servers: &Servers) -> Raw {
    let lease = servers.lease().await;
    let mut server = servers.server();
    let request = get("/");
    let sending = lease.send(&request, Body::empty(), None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        server
            .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
    response.expect("answered");
    assert_eq!(servers.pool.idle_count(), 1);
    server
}

/// A request on a connection that proves useless comes back as a whole, also where its body can be
/// read only once.
async fn is_given_back(servers: &Servers) {
    let lease = servers.lease().await;
    assert!(servers.is_empty(), "it waited in the pool");
    let (tx, body) = feed();
    let sent = within(lease.send(&post("/"), body, None)).await;
    let error = sent.expect_err("useless");
    assert!(
        matches!(error.error, Error::Closed(_)) && error.reused,
        "{error}"
    );
    let body = error.unsent.expect("not one byte went out");
    let writing = write_all(tx, "again".into(), 2);
    let (data, ()) = tokio::join!(body.collect(10), writing);
    assert_eq!(data.expect("whole"), "again");
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_not_used() {
    let servers = Servers::new();
    drop(used(&servers).await);
    is_given_back(&servers).await;
}

#[tokio::test]
async fn a_server_that_speaks_unasked_is_not_used() {
    let servers = Servers::new();
    let mut server = used(&servers).await;
    server.write("HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    is_given_back(&servers).await;
}

#[tokio::test]
async fn the_reuse_race_is_told() {
    let servers = Servers::new();
    let server = used(&servers).await;
    let lease = servers.lease().await;
    assert!(servers.is_empty(), "it looks alive");
    // And dies before it has read a byte.
    drop(server);
    let sent = within(lease.send(&post("/"), Body::from("again"), None)).await;
    let error = sent.expect_err("dead");
    assert!(
        matches!(error.error, Error::Closed(_)) && error.reused,
        "{error}"
    );
    let body = error.unsent.expect("not one byte went out");
    assert_eq!(body.collect(10).await.expect("whole"), "again");
}

#[tokio::test]
async fn a_server_that_has_begun_is_not_one_that_was_gone() {
    let servers = Servers::new();
    let mut server = used(&servers).await;
    let lease = servers.lease().await;
    let request = get("/");
    let sending = lease.send(&request, Body::empty(), None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        server.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        drop(server);
    };
    let (result, ()) = within(async { tokio::join!(sending, serving) }).await;
    let error = result.expect_err("no answer").error;
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn an_exchange_that_is_dropped_takes_its_connection_with_it() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let request = get("/");
    {
        let sending = lease.send(&request, Body::empty(), None);
        tokio::pin!(sending);
        tokio::select! {
            _ = &mut sending => panic!("nobody answers"),
            _ = server.read_to("\r\n\r\n") => {}
        }
    }
    assert_eq!(server.read_rest().await, "");
    assert_eq!(servers.pool.idle_count(), 0);
}

#[tokio::test]
async fn informational_responses_are_passed_on() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let lease = Arc::new(Mutex::new(Some(lease)));
    let proxy = move |request: Request| {
        let lease = lease.lock().expect("no panic").take().expect("once");
        async move {
            let interim: Option<Interim> = request.interim;
            let sent = lease
                .send(&request.head, request.body, interim.as_ref())
                .await;
            Ok::<_, Abort>(sent.expect("answered"))
        }
    };
    let (near, far) = duplex(4096);
    let _proxy = super::support::serve_on(far, Default::default(), proxy);
    let mut client = Raw(near);
    client
        .write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    server.read_to("\r\n\r\n").await;
    server
        .write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        .await;
    let text = client.read_to("\r\n\r\n").await;
    assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    server
        .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let text = client.read_rest().await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok"),
        "{text}"
    );
}

#[tokio::test]
async fn an_upload_goes_on_after_an_early_response() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let (tx, body) = feed();
    let request = post("/");
    let sending = lease.send(&request, body, None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        server
            .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
    };
    let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
    let mut body = response.expect("answered").body;
    tx.send(Ok(Frame::Data("late".into()))).await.expect("read");
    tx.send(Ok(Frame::Trailers(fields(&[("x-sum", "4")]))))
        .await
        .expect("read");
    let text = server.read_to("0\r\nx-sum: 4\r\n\r\n").await;
    assert!(text.starts_with("4\r\nlate\r\n"), "{text}");
    server.write("2\r\nok\r\n0\r\n\r\n").await;
    let mut data = Vec::new();
    while let Some(frame) = within(body.next()).await {
        if let Frame::Data(piece) = frame.expect("whole") {
            data.extend_from_slice(&piece);
        }
    }
    assert_eq!(data, b"ok");
    while servers.pool.idle_count() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_refusal_is_seen_though_the_upload_breaks() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let (tx, body) = feed();
    let writing = tokio::spawn(write_all(tx, pattern(10 << 20), 50_000));
    let request = post("/");
    let sending = lease.send(&request, body, None);
    let serving = async {
        server.read_to("\r\n\r\n").await;
        server
            .write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
            .await;
        drop(server);
    };
    let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
    let response = response.expect("answered");
    assert_eq!(response.head.status, 413);
    let (data, _) = read_all(response.body).await.expect("whole");
    assert_eq!(data, b"no");
    within(writing).await.expect("the upload was let go");
    assert_eq!(servers.pool.idle_count(), 0);
}

/// A socket whose peer has answered and gone: writing fails at once, and the answer is noticed only
/// when the reactor has had its turn.
#[derive(Default)]
struct Gone {
    head_out: bool,
    failed: bool,
    noticed: bool,
    answer: &'static [u8],
}

impl AsyncWrite for Gone {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.failed = std::mem::replace(&mut self.head_out, true);
        match self.failed {
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.failed {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.noticed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buf.put_slice(std::mem::take(&mut self.answer));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_refusal_is_seen_though_it_is_noticed_after_the_failure() {
    let cases: [(&'static [u8], _); 2] = [
        (b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", Some(417)),
        (b"", None),
    ];
    for (answer, status) in cases {
        let socket = Gone {
            answer,
            ..Gone::default()
        };
        let connection = connect(socket, &ClientConfig::default());
        let (tx, body) = feed();
        let writing = tokio::spawn(write_all(tx, pattern(100_000), 50_000));
        let result = within(connection.send(&post("/"), body)).await;
        within(writing).await.expect("the upload was let go");
        match result {
            Ok(response) => assert_eq!(Some(response.head.status), status),
            Err(failed) => {
                assert!(status.is_none(), "{failed}");
                assert!(failed.to_string().contains("broken pipe"), "{failed}");
            }
        }
    }
}

#[tokio::test]
async fn an_upgrade_hands_over_what_came_with_it() {
    let servers = Servers::new();
    let lease = servers.lease().await;
    let mut server = servers.server();
    let mut request = get("/");
    for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "other")] {
        request.headers.append(name, value).expect("valid");
    }
    let sending = lease.send(&request, Body::empty(), None);
    let serving = async {
        let text = server.read_to("\r\n\r\n").await;
        assert!(text.contains("Upgrade: other\r\n"), "{text}");
        server
            .write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nearly")
            .await;
    };
    let (response, ()) = within(async { tokio::join!(sending, serving) }).await;
    let upgrade = response.expect("answered").upgrade.expect("switched");
    let mut stream = upgrade.stream().await.expect("ready");
    let mut early = [0; 5];
    within(stream.read_exact(&mut early)).await.expect("open");
    assert_eq!(&early, b"early");
    stream.write_all(b"late").await.expect("open");
    server.read_to("late").await;
}

/// Whether trailers are here together with the body must not decide how it is framed.
#[tokio::test]
async fn a_request_that_says_its_length_keeps_it_beside_trailers() {
    let trailers = || fields(&[("x-t", "v")]);
    for (says_length, streams) in [(true, true), (true, false), (false, true), (false, false)] {
        let servers = Servers::new();
        let lease = servers.lease().await;
        let mut server = servers.server();
        let mut request = post("/");
        if says_length {
            request
                .headers
                .append("content-length", "3")
                .expect("valid");
        }
        let (tx, streamed) = feed();
        let body = match streams {
            // What an HTTP/2 stream says of a body whose end has not come.
            true => Body::from_source(Expected(says_length.then_some(3), streamed)),
            false => Body::whole("abc".into(), Some(trailers())),
        };
        let sending = tokio::spawn(async move { lease.send(&request, body, None).await });
        if streams {
            let send = |frame| tx.send(Ok(frame));
            send(Frame::Data("abc".into())).await.expect("read");
            send(Frame::Trailers(trailers())).await.expect("read");
        }
        let end = if says_length {
            "\r\n\r\nabc"
        } else {
            "x-t: v\r\n\r\n"
        };
        let text = server.read_to(end).await;
        assert_eq!(
            text.contains("content-length: 3\r\n"),
            says_length,
            "{text}"
        );
        assert_eq!(text.contains("chunked"), !says_length, "{text}");
        server.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        let answered = within(sending).await.expect("no panic");
        assert_eq!(answered.expect("answered").head.status, 204);
    }
}

struct Expected(Option<u64>, Body);

impl lateen_http::Source for Expected {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, lateen_http::BodyError>>> {
        self.1.poll_next(cx)
    }

    fn remaining(&self) -> Option<u64> {
        self.0
    }
}

/// HTTP/1 in, HTTP/2 between, HTTP/1 out, with a body that streams and has trailers.
#[tokio::test]
async fn messages_cross_both_bridges() {
    let servers = Servers::new();
    let lease = Arc::new(Mutex::new(Some(servers.lease().await)));
    let mut server = servers.server();
    let second = move |mut request: Request| {
        let lease = lease.lock().expect("no panic").take().expect("once");
        async move {
            request.head.headers.remove_hop_by_hop();
            let sent = lease.send(&request.head, request.body, None).await;
            Ok::<_, Abort>(sent.expect("answered"))
        }
    };
    let (h2, _second) = http2_pair(http2_only(), second).await;
    let h2 = Arc::new(h2);
    let first = move |mut request: Request| {
        let h2 = h2.clone();
        async move {
            request.head.headers.remove_hop_by_hop();
            let sent = h2.send(&request.head, request.body).await;
            Ok::<_, Abort>(sent.expect("answered"))
        }
    };
    let (near, far) = duplex(4096);
    let _first = super::support::serve_on(far, Default::default(), first);
    let mut client = Raw(near);
    client
        .write("POST /a HTTP/1.1\r\nHost: h.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let asked = server.read_to("\r\n\r\n").await.to_ascii_lowercase();
    assert!(asked.starts_with("post /a http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nhost: h.example\r\n"), "{asked}");
    client.write("3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n").await;
    let text = server.read_to("0\r\nx-sum: 3\r\n\r\n").await;
    assert!(text.contains("3\r\nabc\r\n"), "{text}");
    server
        .write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: 1\r\n\r\n",
        )
        .await;
    let text = client.read_to("0\r\nx-end: 1\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("2\r\nok\r\n"),
        "{text}"
    );
}
