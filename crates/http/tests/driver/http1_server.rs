//! Our HTTP/1 server, as a client sees it that writes bytes.

use std::time::Duration;

use lateen_http::{
    Abort, Body, Error, Frame, Request, Response, ResponseHead, ServerConfig, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;

use super::support::{Dropped, Raw, Served, echo, feed, fields, read_all, serve_on, within};

/// A connection to a server with this handler.
fn client<F, R>(handler: F) -> (Raw, Served)
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send + 'static,
{
    let (near, far) = duplex(64 * 1024);
    (Raw(near), serve_on(far, ServerConfig::default(), handler))
}

/// Says what was asked.
async fn name(request: Request) -> Result<Response, Abort> {
    let path = request.head.path().to_owned();
    let (data, trailers) = read_all(request.body).await.map_err(|_| Abort)?;
    let sum = trailers.and_then(|fields| fields.get("x-sum").map(str::to_owned));
    let text = String::from_utf8_lossy(&data).into_owned();
    Ok(Response::text(
        200,
        format!("[{path} {text} {}]", sum.unwrap_or_default()),
    ))
}

#[tokio::test]
async fn requests_are_answered_in_order_on_one_connection() {
    let cases = [
        ("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "[/a  ]"),
        (
            "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "[/b abc ]",
        ),
        (
            "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n2;x=y\r\nbc\r\n0\r\nX-Sum: 3\r\n\r\n",
            "[/c abc 3]",
        ),
    ];
    let (mut raw, _served) = client(name);
    for (request, answer) in cases {
        raw.write(request).await;
        raw.read_to(answer).await;
    }
    // All at once.
    let all: String = cases.iter().map(|case| case.0).collect();
    raw.write(&all).await;
    for (_, answer) in cases {
        let text = raw.read_to(answer).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    }
    // One byte after the other.
    for byte in all.chars() {
        raw.write(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    for (_, answer) in cases {
        raw.read_to(answer).await;
    }
}

#[tokio::test]
async fn malformed_requests_get_400_and_the_end() {
    for bad in [
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "\u{1}\r\n\r\n",
    ] {
        let (mut raw, served) = client(name);
        raw.write(bad).await;
        let text = raw.read_rest().await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{bad:?}: {text:?}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text:?}");
        drop(raw);
        served.result().await.expect_err("told");
    }
}

#[tokio::test]
async fn heads_have_a_limit() {
    let (mut raw, _served) = client(name);
    let big = "x".repeat(70_000);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Big: {big}\r\n\r\n");
    let (mut read, mut write) = tokio::io::split(&mut raw.0);
    let writing = async { _ = write.write_all(request.as_bytes()).await };
    let mut text = String::new();
    let reading = async { read.read_to_string(&mut text).await.expect("open") };
    within(async { tokio::join!(writing, reading) }).await;
    assert!(text.starts_with("HTTP/1.1 431 "), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_heads_get_408_and_idle_connections_an_end() {
    let config = ServerConfig {
        idle_timeout: Duration::from_secs(100),
        head_timeout: Duration::from_secs(10),
        ..ServerConfig::default()
    };
    for (part, status, seconds) in [("GET / HTT", "HTTP/1.1 408 ", 10), ("", "", 100)] {
        let (near, far) = duplex(4096);
        let _served = serve_on(far, config.clone(), name);
        let mut raw = Raw(near);
        let start = tokio::time::Instant::now();
        // Once before, so that the timers are not at their start.
        raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.read_to("[/  ]").await;
        raw.write(part).await;
        let mut text = String::new();
        raw.0.read_to_string(&mut text).await.expect("open");
        assert!(text.starts_with(status), "{text}");
        let took = start.elapsed().as_secs();
        assert!(took.abs_diff(seconds) <= 1, "{part:?} after {took}");
    }
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted() {
    let (go_tx, go) = tokio::sync::watch::channel(false);
    let handler = move |request: Request| {
        let mut go = go.clone();
        async move {
            if request.head.path() == "/no" {
                return Ok(Response::text(403, "no"));
            }
            go.wait_for(|go| *go).await.expect("the test goes on");
            name(request).await
        }
    };
    let (mut raw, _served) = client(handler);
    let head = "POST /yes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    raw.write(head).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut byte = [0];
    let early = tokio::select! {
        biased;
        _ = raw.0.read(&mut byte) => true,
        () = std::future::ready(()) => false,
    };
    assert!(!early, "nobody has asked for the body");
    go_tx.send(true).expect("the handler waits");
    let text = raw.read_to("\r\n\r\n").await;
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.write("abc").await;
    raw.read_to("[/yes abc ]").await;
    // Without it the client may send or not: the connection cannot go on.
    raw.write(&head.replace("/yes", "/no")).await;
    let text = raw.read_rest().await;
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    assert!(text.contains("connection: close"), "{text}");
}

#[tokio::test]
async fn informational_responses_go_before_the_response() {
    let handler = |request: Request| async move {
        let mut early = ResponseHead::new(103);
        early.headers.append("Link", "</a>").expect("valid");
        let interim = request.interim.clone().expect("set");
        interim.send(&early);
        name(request).await
    };
    let (mut raw, _served) = client(handler);
    raw.write("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = raw.read_to("[/a  ]").await;
    assert!(
        text.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200"),
        "{text}"
    );
    // HTTP/1.0 has none.
    raw.write("GET /b HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let text = raw.read_rest().await;
    assert!(
        text.starts_with("HTTP/1.") && text.contains(" 200 ") && !text.contains("103"),
        "{text}"
    );
}

#[tokio::test]
async fn http_1_0_keeps_alive_only_where_it_asks() {
    let handler = |request: Request| async move {
        assert_eq!(request.head.version, Version::Http10);
        let (tx, body) = feed();
        tokio::spawn(async move {
            tx.send(Ok(Frame::Data("streamed".into())))
                .await
                .expect("read");
        });
        match request.head.path() {
            "/stream" => Ok::<_, Abort>(Response::new(200, body)),
            _ => Ok(Response::text(200, "whole")),
        }
    };
    let (mut raw, _served) = client(handler);
    raw.write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let text = raw.read_to("whole").await;
    assert!(text.contains("connection: keep-alive\r\n"), "{text}");
    // No chunks for HTTP/1.0: the end of the connection is the end of the body.
    raw.write("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let text = raw.read_rest().await;
    assert!(text.ends_with("\r\n\r\nstreamed"), "{text}");
    assert!(
        !text.contains("chunked") && text.contains("connection: close"),
        "{text}"
    );
}

#[tokio::test]
async fn streamed_responses_are_chunked_with_trailers() {
    let handler = |_: Request| async {
        let (tx, body) = feed();
        tokio::spawn(async move {
            for frame in [
                Frame::Data("one".into()),
                Frame::Data("".into()),
                Frame::Data("two".into()),
                Frame::Trailers(fields(&[("x-sum", "6"), ("content-length", "1")])),
            ] {
                tx.send(Ok(frame)).await.expect("read");
            }
        });
        Ok::<_, Abort>(Response::new(200, body))
    };
    let (mut raw, _served) = client(handler);
    raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = raw.read_to("0\r\nx-sum: 6\r\n\r\n").await;
    assert!(
        text.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn an_unread_body_is_read_away_within_bounds() {
    let handler = |_: Request| async { Ok::<_, Abort>(Response::text(200, "unread")) };
    let (mut raw, _served) = client(handler);
    let body = "x".repeat(100_000);
    for _ in 0..3 {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw.write(&head).await;
        raw.read_to("unread").await;
        raw.write(&body).await;
    }
    // Too much to be read for nothing.
    raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    raw.read_to("unread").await;
    let more = vec![b'x'; 1 << 20];
    let mut closed = false;
    for _ in 0..20 {
        closed |= within(raw.0.write_all(&more)).await.is_err();
    }
    assert!(closed);
}

#[tokio::test]
async fn what_follows_an_upgrade_belongs_to_the_other_protocol() {
    let handler = |mut request: Request| async move {
        assert_eq!(request.head.upgrade_type(), Some("other"));
        let upgrade = request.upgrade.take().expect("asked for");
        tokio::spawn(async move {
            let stream = upgrade.stream().await.expect("switched");
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.expect("open");
        });
        let mut response = Response::new(101, Body::empty());
        for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "other")] {
            response.head.headers.append(name, value).expect("valid");
        }
        Ok::<_, Abort>(response)
    };
    let (mut raw, served) = client(handler);
    raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nearly")
        .await;
    let text = raw.read_to("early").await;
    assert!(
        text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{text}"
    );
    served.result().await.expect("a clean end");
    raw.write("late").await;
    raw.read_to("late").await;
}

#[tokio::test]
async fn a_refused_upgrade_leaves_the_connection_in_order() {
    let handler = |request: Request| async move {
        match request.head.path() {
            "/up" => Ok(Response::text(200, "stay")),
            _ => name(request).await,
        }
    };
    let (mut raw, _served) = client(handler);
    raw.write(
        "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n\
         GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    raw.read_to("stay").await;
    raw.read_to("[/next  ]").await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_handler() {
    let (begun_tx, mut begun) = mpsc::channel(1);
    let handler = move |_: Request| {
        let begun = begun_tx.clone();
        async move {
            let (dropped, told) = Dropped::new();
            begun.send(told).await.expect("the test waits");
            std::future::pending::<()>().await;
            drop(dropped);
            Err::<Response, _>(Abort)
        }
    };
    let (mut raw, served) = client(handler);
    raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let told = within(begun.recv()).await.expect("begun");
    drop(raw);
    within(told).await.expect("the handler was dropped");
    served.result().await.expect_err("told");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_given_up() {
    let (mut near, far) = duplex(1024);
    let served = serve_on(far, ServerConfig::default(), |_: Request| async {
        Ok::<_, Abort>(Response::new(200, "x".repeat(60_000)))
    });
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    near.write_all(request).await.expect("open");
    let start = tokio::time::Instant::now();
    let error = served.task.await.expect("no panic").expect_err("given up");
    assert_eq!(start.elapsed().as_secs(), 300, "{error}");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
}

#[tokio::test]
async fn an_abort_closes_without_a_word() {
    let (mut raw, _served) = client(|_: Request| async { Err(Abort) });
    raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.read_rest().await, "");
}

#[tokio::test]
async fn a_body_that_fails_is_not_taken_for_complete() {
    let handler = |_: Request| async {
        let (tx, body) = feed();
        tokio::spawn(async move {
            tx.send(Ok(Frame::Data("some".into()))).await.expect("read");
            let error = lateen_http::BodyError::new(lateen_http::BodyFault::Closed, "gone");
            tx.send(Err(error)).await.expect("read");
        });
        Ok::<_, Abort>(Response::new(200, body))
    };
    let (mut raw, _served) = client(handler);
    raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = raw.read_rest().await;
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn a_drain_ends_between_requests() {
    let (mut raw, mut served) = client(name);
    raw.write("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.read_to("[/a  ]").await;
    served.drain();
    assert_eq!(raw.read_rest().await, "");
    served.result().await.expect("a clean end");
}

#[tokio::test]
async fn a_writer_waits_for_a_reader_that_stops() {
    let (mut raw, _served) = client(echo);
    let total = 5_000_000;
    raw.write(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"
    ))
    .await;
    let piece = vec![b'x'; 10_000];
    let mut sent = 0;
    // Nothing is read, so that before long nothing more is taken.
    while sent < total {
        let write = async {
            raw.0.write_all(&piece).await.expect("open");
            true
        };
        let mut idle = 0;
        tokio::pin!(write);
        let taken = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(taken) = write.as_mut().poll(cx) {
                return std::task::Poll::Ready(taken);
            }
            idle += 1;
            cx.waker().wake_by_ref();
            match idle {
                1000 => std::task::Poll::Ready(false),
                _ => std::task::Poll::Pending,
            }
        })
        .await;
        if !taken {
            break;
        }
        sent += piece.len();
    }
    assert!(sent < 1_000_000, "{sent}");
    raw.read_to("\r\n\r\nx").await;
}
