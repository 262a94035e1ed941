//! Exchanges and connections that end before their time, or in good order.

use std::time::Duration;

use lateen_http::{Abort, Body, Error, Frame, Known, Request, Response, ServerConfig, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;

use super::support::{
    Client, Dropped, echo, feed, get, http2_only, http2_pair, pattern, post, read_all, serve_on,
    within, write_all,
};

/// Waits until the client has settings and acknowledgements behind it.
async fn warm(client: &Client) {
    let response = within(client.send(&get("/warm"), Body::empty())).await;
    response.expect("answered");
}

/// A handler that tells when it has begun and never ends, but for `/warm`.
fn endless(
    begun: mpsc::Sender<tokio::sync::oneshot::Receiver<()>>,
) -> impl Fn(Request) -> futures::BoxFuture + Clone + Send + Sync + 'static {
    move |request| {
        let begun = begun.clone();
        Box::pin(async move {
            if request.head.path() == "/warm" {
                return Ok(Response::new(200, ""));
            }
            let (dropped, told) = Dropped::new();
            begun.send(told).await.expect("the test waits");
            std::future::pending::<()>().await;
            drop(dropped);
            Err(Abort)
        })
    }
}

mod futures {
    use super::{Abort, Response};
    pub(super) type BoxFuture =
        std::pin::Pin<Box<dyn Future<Output = Result<Response, Abort>> + Send>>;
}

#[tokio::test]
async fn a_client_that_gives_up_ends_the_handler() {
    let (begun_tx, mut begun) = mpsc::channel(1);
    let (client, _served) = http2_pair(http2_only(), endless(begun_tx)).await;
    let request = get("/");
    let told = {
        let sending = client.send(&request, Body::empty());
        tokio::pin!(sending);
        tokio::select! {
            _ = &mut sending => panic!("it never answers"),
            told = begun.recv() => told.expect("begun"),
        }
    };
    within(told).await.expect("the handler was dropped");
    warm(&client).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_ends_handlers_and_exchanges() {
    let (begun_tx, mut begun) = mpsc::channel(1);
    let (near, far) = duplex(4096);
    let served = serve_on(far, http2_only(), endless(begun_tx));
    let client = Client::http2(near).await;
    let request = get("/");
    let sending = client.send(&request, Body::empty());
    let losing = async {
        let told = begun.recv().await.expect("begun");
        served.task.abort();
        within(told).await.expect("the handler was dropped");
    };
    let (result, ()) = within(async { tokio::join!(sending, losing) }).await;
    let error = result.expect_err("lost");
    assert!(matches!(error.error, Error::Closed(_)), "{error}");
    assert!(error.unsent.is_none() && error.reused);
    assert!(!client.is_ready());
}

#[tokio::test]
async fn an_abort_resets_the_stream_alone() {
    let handler = |request: Request| async move {
        match request.head.path() {
            "/warm" => Ok(Response::new(200, "")),
            _ => Err(Abort),
        }
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let error = within(client.send(&get("/"), Body::from("x")))
        .await
        .expect_err("reset");
    assert!(matches!(error.error, Error::Reset(_)), "{error}");
    assert!(error.unsent.is_none());
    warm(&client).await;
}

#[tokio::test]
async fn a_handler_that_panics_resets_the_stream_alone() {
    let handler = |request: Request| async move {
        assert_eq!(request.head.path(), "/warm");
        Ok::<_, Abort>(Response::new(200, ""))
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let error = within(client.send(&get("/"), Body::empty()))
        .await
        .expect_err("reset");
    assert!(matches!(error.error, Error::Reset(_)), "{error}");
    warm(&client).await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_stops_its_source() {
    let (stopped_tx, mut stopped) = mpsc::channel(1);
    let handler = move |_: Request| {
        let stopped = stopped_tx.clone();
        async move {
            let (tx, body) = feed();
            tokio::spawn(async move {
                write_all(tx, pattern(50 << 20), 50_000).await;
                stopped.send(()).await.expect("the test waits");
            });
            Ok::<_, Abort>(Response::new(200, body))
        }
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&get("/"), Body::empty())).await;
    let mut body = response.expect("answered").body;
    let first = within(body.next()).await.expect("more").expect("whole");
    assert!(matches!(first, Frame::Data(_)));
    drop(body);
    within(stopped.recv()).await.expect("told");
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_their_bodies_given_back() {
    let (begun_tx, mut begun) = mpsc::channel(1);
    let config = ServerConfig {
        max_concurrent_streams: 0,
        ..http2_only()
    };
    let (client, _served) = http2_pair(config, endless(begun_tx)).await;
    let request = post("/");
    // The client does not know the limit yet.
    let sent = client.send(&request, Body::from("b"));
    let refused = within(sent).await.expect_err("refused");
    assert!(matches!(refused.error, Error::Refused(_)), "{refused}");
    assert!(refused.error.is_safe_to_retry());
    let body = refused.unsent.expect("whole");
    assert_eq!(body.collect(10).await.expect("whole"), "b");
    // Now it does.
    assert!(!client.is_ready());
    assert!(begun.try_recv().is_err(), "the handler was not asked");
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    let (go_tx, go) = tokio::sync::watch::channel(false);
    let (begun_tx, mut begun) = mpsc::channel(1);
    let handler = move |request: Request| {
        let (mut go, begun) = (go.clone(), begun_tx.clone());
        async move {
            begun.send(()).await.expect("the test waits");
            go.wait_for(|go| *go).await.expect("the test goes on");
            echo(request).await
        }
    };
    let (client, mut served) = http2_pair(http2_only(), handler).await;
    let request = post("/");
    let sending = client.send(&request, Body::from("kept"));
    let draining = async {
        begun.recv().await.expect("begun");
        served.drain();
        while client.is_ready() {
            tokio::task::yield_now().await;
        }
        go_tx.send(true).expect("the handler waits");
    };
    let (response, ()) = within(async { tokio::join!(sending, draining) }).await;
    let (got, _) = read_all(response.expect("answered").body)
        .await
        .expect("whole");
    assert_eq!(got, b"kept");
    served.result().await.expect("a clean end");
}

#[tokio::test]
async fn a_drain_of_an_idle_connection_closes_it() {
    let (client, mut served) = http2_pair(http2_only(), echo).await;
    warm(&client).await;
    served.drain();
    served.result().await.expect("a clean end");
    assert!(!client.is_ready());
}

#[tokio::test]
async fn connection_close_lets_the_client_go() {
    let handler = |_: Request| async {
        let mut response = Response::text(200, "bye");
        let close = Value::from_static("close");
        response.head.headers.set_value(Known::CONNECTION, &close);
        Ok::<_, Abort>(response)
    };
    let (client, served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&get("/"), Body::empty())).await;
    let response = response.expect("answered");
    assert!(!response.head.headers.contains(Known::CONNECTION));
    assert_eq!(response.body.collect(10).await.expect("whole"), "bye");
    served.result().await.expect("a clean end");
    assert!(!client.is_ready());
}

#[tokio::test]
async fn a_client_without_handles_closes() {
    let (client, served) = http2_pair(http2_only(), echo).await;
    let response = within(client.send(&post("/"), Body::from("x"))).await;
    drop(client);
    served.result().await.expect("a clean end");
    response.expect("answered");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// HEADERS without END_HEADERS: a GET that goes on.
const PART_OF_A_HEAD: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];

/// What a client sends that then falls silent, and for how long the server bears it.
#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let config = ServerConfig {
        idle_timeout: Duration::from_secs(600),
        head_timeout: Duration::from_secs(30),
        ..http2_only()
    };
    let cases: [(&[&[u8]], u64); 4] = [
        (&[], 30),
        (&[PREFACE], 30),
        (&[PREFACE, SETTINGS, PART_OF_A_HEAD], 30),
        (&[PREFACE, SETTINGS], 600),
    ];
    for (parts, seconds) in cases {
        let (mut near, far) = duplex(4096);
        let served = serve_on(far, config.clone(), echo);
        for part in parts {
            near.write_all(part).await.expect("open");
        }
        let start = tokio::time::Instant::now();
        let mut all = Vec::new();
        near.read_to_end(&mut all).await.expect("closed");
        let took = start.elapsed().as_secs();
        // A second to notice, some more for goodbyes.
        assert!((seconds..seconds + 10).contains(&took), "{parts:?}: {took}");
        // How it ended is no matter here.
        let _ = served.task.await.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_given_up() {
    let (near, far) = duplex(1024);
    let served = serve_on(far, http2_only(), |_| async {
        Ok::<_, Abort>(Response::new(200, pattern(60_000)))
    });
    let (_read, mut write) = tokio::io::split(near);
    for part in [PREFACE, SETTINGS] {
        write.write_all(part).await.expect("open");
    }
    // GET http / with authority a.
    let head = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
    write.write_all(&head).await.expect("open");
    let start = tokio::time::Instant::now();
    let error = served.task.await.expect("no panic").expect_err("given up");
    let took = start.elapsed().as_secs();
    assert!((300..320).contains(&took), "{took}: {error}");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
}

/// The connection was closed, and with it whatever else went on.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_is_given_up_alone() {
    let (ended_tx, mut ended) = mpsc::channel(8);
    let handler = move |request: Request| {
        let ended = ended_tx.clone();
        async move {
            match request.head.path() {
                "/much" => {
                    let (tx, body) = feed();
                    tokio::spawn(async move {
                        write_all(tx.clone(), pattern(10_000_000), 10_000).await;
                        // The body was let go of.
                        tx.closed().await;
                        ended
                            .send(tokio::time::Instant::now())
                            .await
                            .expect("waited for");
                    });
                    Ok(Response::new(200, body))
                }
                "/whole" => Ok(Response::new(200, pattern(1_000_000))),
                "/long" => {
                    tokio::time::sleep(Duration::from_secs(1000)).await;
                    Ok(Response::new(200, "at last"))
                }
                _ => Ok::<_, Abort>(Response::new(200, "quick")),
            }
        }
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    warm(&client).await;
    let start = tokio::time::Instant::now();
    let long = get("/long");
    let waiting = client.send(&long, Body::empty());
    let others = async {
        let much = client.send(&get("/much"), Body::empty()).await;
        let much = much.expect("answered");
        let whole = client.send(&get("/whole"), Body::empty()).await;
        let whole = whole.expect("answered");
        let took = ended.recv().await.expect("told").duration_since(start);
        assert!((299..320).contains(&took.as_secs()), "{took:?}");
        // Just after it, and long after it.
        for _ in 0..2 {
            let quick = client.send(&get("/"), Body::empty()).await;
            assert_eq!(quick.expect("answered").head.status, 200);
            tokio::time::sleep(Duration::from_secs(400)).await;
        }
        for cut in [much, whole] {
            let error = read_all(cut.body).await.expect_err("cut off");
            assert!(error.text.contains("CANCEL"), "{error}");
        }
    };
    let (answer, ()) = tokio::join!(waiting, others);
    let (text, _) = read_all(answer.expect("answered").body)
        .await
        .expect("whole");
    assert_eq!(text, b"at last");
}

/// A stream that moves slowly is no stalled one.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_slowly_goes_on() {
    let handler = |_: Request| async { Ok::<_, Abort>(Response::new(200, pattern(2_000_000))) };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = client.send(&get("/"), Body::empty()).await;
    let mut body = response.expect("answered").body;
    let mut length = 0;
    while let Some(frame) = body.next().await {
        if let Frame::Data(data) = frame.expect("it goes on") {
            length += data.len();
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert_eq!(length, 2_000_000);
}

/// What a client sends is bounded in the same way.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_read_is_given_up_alone() {
    let handler = |request: Request| async move {
        if request.head.path() == "/stuck" {
            std::future::pending::<()>().await;
            drop(request);
        }
        Ok::<_, Abort>(Response::new(200, ""))
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    warm(&client).await;
    let start = tokio::time::Instant::now();
    let (tx, body) = feed();
    let writing = tokio::spawn(write_all(tx, pattern(10_000_000), 10_000));
    let error = client
        .send(&post("/stuck"), body)
        .await
        .expect_err("given up");
    assert!(matches!(error.error, Error::Timeout(_)), "{error}");
    assert!((299..320).contains(&start.elapsed().as_secs()));
    within(writing).await.expect("no panic");
    warm(&client).await;
}

#[tokio::test]
async fn nonsense_is_answered_by_goaway() {
    let (mut near, far) = duplex(4096);
    let served = serve_on(far, http2_only(), echo);
    near.write_all(PREFACE).await.expect("open");
    // PING before SETTINGS.
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    near.write_all(&ping).await.expect("open");
    near.shutdown().await.expect("open");
    let mut all = Vec::new();
    within(near.read_to_end(&mut all)).await.expect("closed");
    let goaway = all[all.len() - 17..].to_vec();
    assert_eq!(goaway[3], 7, "{all:?}");
    assert_eq!(goaway[16], 1, "PROTOCOL_ERROR");
    let error = served.result().await.expect_err("told");
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}
