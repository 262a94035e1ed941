//! CONNECT and extended CONNECT.

use bytes::Bytes;
use lateen_http::{Abort, Body, Error, Method, Request, RequestHead, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::support::{Client, Raw, get, head, http2_only, http2_pair, pattern, serve_on, within};

/// The client's key and its answer of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn websocket() -> RequestHead {
    let mut head = get("/chat");
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ] {
        head.headers.append(name, value).expect("valid");
    }
    head
}

/// Agrees with this status and sends back what comes, then its end.
fn agree(status: u16) -> impl Fn(Request) -> BoxFuture + Clone + Send + Sync + 'static {
    move |mut request| {
        Box::pin(async move {
            assert!(request.body.is_end());
            let upgrade = request.upgrade.take().expect("asked for");
            tokio::spawn(async move {
                let stream = upgrade.stream().await.expect("switched");
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.expect("open");
                write.shutdown().await.expect("open");
            });
            let mut response = Response::new(status, "");
            response
                .head
                .headers
                .append("x-path", request.head.path())
                .expect("valid");
            if let Some(protocol) = request.head.protocol() {
                response
                    .head
                    .headers
                    .append("x-protocol", protocol)
                    .expect("valid");
            }
            Ok(response)
        })
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Result<Response, Abort>> + Send>>;

async fn echoes(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let data = pattern(2 << 20);
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = async {
        write.write_all(&data).await.expect("open");
        write.shutdown().await.expect("open");
    };
    let mut got = Vec::new();
    let reading = async {
        read.read_to_end(&mut got).await.expect("open");
    };
    within(async { tokio::join!(writing, reading) }).await;
    assert!(got == data);
}

#[tokio::test]
async fn an_upgrade_travels_as_extended_connect() {
    for status in [200, 101] {
        let (client, _served) = http2_pair(http2_only(), agree(status)).await;
        let response = within(client.send(&websocket(), Body::empty())).await;
        let response = response.expect("answered");
        assert_eq!(response.head.status, 101);
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", ACCEPT),
            ("x-path", "/chat"),
            ("x-protocol", "websocket"),
        ] {
            assert_eq!(response.head.headers.get(name), Some(value), "{name}");
        }
        let stream = response.upgrade.expect("switched").stream().await;
        echoes(stream.expect("ready")).await;
    }
}

#[tokio::test]
async fn plain_connect_is_a_tunnel() {
    let (client, _served) = http2_pair(http2_only(), agree(200)).await;
    let mut request = head(Method::CONNECT, "/");
    request.set_authority("far.example:443").expect("valid");
    let response = within(client.send(&request, Body::empty())).await;
    let response = response.expect("answered");
    assert_eq!(response.head.status, 200);
    let stream = response.upgrade.expect("switched").stream().await;
    echoes(stream.expect("ready")).await;
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_response() {
    let handler = |_: Request| async { Ok::<_, Abort>(Response::text(403, "no")) };
    let (client, mut served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&websocket(), Body::empty())).await;
    let response = response.expect("answered");
    assert_eq!(response.head.status, 403);
    assert!(response.upgrade.is_none());
    assert_eq!(response.body.collect(10).await.expect("whole"), "no");
    // And leaves no stream behind.
    served.drain();
    served.result().await.expect("a clean end");
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_breaks_off() {
    let (told_tx, told) = tokio::sync::oneshot::channel();
    let told_tx = std::sync::Arc::new(std::sync::Mutex::new(Some(told_tx)));
    let handler = move |mut request: Request| {
        let told = told_tx.clone();
        async move {
            let upgrade = request.upgrade.take().expect("asked for");
            tokio::spawn(async move {
                let mut stream = upgrade.stream().await.expect("switched");
                let mut all = Vec::new();
                let result = stream.read_to_end(&mut all).await;
                let told = told.lock().expect("no panic").take().expect("once");
                told.send(result.map_err(|error| error.kind()))
                    .expect("the test waits");
            });
            Ok::<_, Abort>(Response::new(200, ""))
        }
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&websocket(), Body::empty())).await;
    let upgrade = response.expect("answered").upgrade.expect("switched");
    drop(upgrade.stream().await.expect("ready"));
    let result = within(told).await.expect("told");
    assert_eq!(result, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn what_was_written_before_the_shutdown_arrives_though_the_stream_is_dropped() {
    let (told_tx, mut told) = tokio::sync::mpsc::channel(1);
    let handler = move |mut request: Request| {
        let told = told_tx.clone();
        async move {
            let upgrade = request.upgrade.take().expect("asked for");
            tokio::spawn(async move {
                let mut stream = upgrade.stream().await.expect("switched");
                let mut all = Vec::new();
                let result = stream.read_to_end(&mut all).await;
                told.send(result.map(|_| all))
                    .await
                    .expect("the test waits");
            });
            Ok::<_, Abort>(Response::new(200, ""))
        }
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&websocket(), Body::empty())).await;
    let upgrade = response.expect("answered").upgrade.expect("switched");
    let mut stream = upgrade.stream().await.expect("ready");
    let data = pattern(1 << 20);
    within(stream.write_all(&data)).await.expect("open");
    stream.shutdown().await.expect("open");
    drop(stream);
    let all = within(told.recv())
        .await
        .expect("told")
        .expect("no reset before the end");
    assert!(all == data);
}

/// WebSocket over HTTP/1, HTTP/2 and HTTP/1 again: two proxies between client and server.
#[tokio::test]
async fn an_upgrade_crosses_both_bridges() {
    let (near, far) = duplex(4096);
    let mut server = Raw(far);
    let http1 = lateen_http::connect(near, &lateen_http::ClientConfig::default());
    let http1 = std::sync::Arc::new(std::sync::Mutex::new(Some(http1)));
    let second = move |request: Request| {
        let http1 = http1.lock().expect("no panic").take().expect("once");
        forward(request, http1)
    };
    let (h2, _second) = http2_pair(http2_only(), second).await;
    let h2 = std::sync::Arc::new(h2);
    let first = move |mut request: Request| {
        let h2 = h2.clone();
        async move {
            let response = h2
                .send(&request.head, Body::empty())
                .await
                .expect("answered");
            Ok::<_, Abort>(join(request.upgrade.take(), response))
        }
    };
    let (near, far) = duplex(4096);
    let _first = serve_on(far, Default::default(), first);
    let mut client = Raw(near);
    client
        .write(&format!(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ))
        .await;
    let asked = server.read_to("\r\n\r\n").await.to_ascii_lowercase();
    assert!(asked.starts_with("get /chat http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nupgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("\r\nsec-websocket-key: "), "{asked}");
    server
        .write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: bm90IGZvciB5b3U=\r\n\r\nfirst",
        )
        .await;
    let answer = client.read_to("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains(&format!("sec-websocket-accept: {ACCEPT}").to_ascii_lowercase()),
        "{answer}"
    );
    assert_eq!(answer.matches("ccept").count(), 1, "{answer}");
    client.read_to("first").await;
    client.write("second").await;
    server.read_to("second").await;
}

async fn forward(
    mut request: Request,
    connection: lateen_http::Connection,
) -> Result<Response, Abort> {
    let response = connection.send(&request.head, Body::empty()).await;
    Ok(join(request.upgrade.take(), response.expect("answered")))
}

/// Connects the two sides of an upgrade.
fn join(asked: Option<lateen_http::Upgrade>, mut response: Response) -> Response {
    let (asked, given) = (
        asked.expect("asked"),
        response.upgrade.take().expect("given"),
    );
    tokio::spawn(async move {
        let (near, far) = (asked.stream().await, given.stream().await);
        let (mut near, mut far) = (near.expect("open"), far.expect("open"));
        // The test ends before the streams do.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    response
}

#[tokio::test]
async fn a_server_without_extended_connect_is_not_asked() {
    let (near, far) = duplex(4096);
    let service = hyper::service::service_fn(|_| async {
        let body = http_body_util::Full::new(Bytes::new());
        Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
    });
    tokio::spawn(async move {
        let io = hyper_util::rt::TokioIo::new(far);
        let executor = hyper_util::rt::TokioExecutor::new();
        let server = hyper::server::conn::http2::Builder::new(executor);
        server.serve_connection(io, service).await.expect("fine");
    });
    let client = Client::http2(near).await;
    let error = within(client.send(&websocket(), Body::empty())).await;
    let error = error.expect_err("not sent");
    assert!(
        matches!(&error.error, Error::Unsendable(text) if text.contains("CONNECT")),
        "{error}"
    );
    assert!(error.unsent.is_some());
    let response = within(client.send(&get("/"), Body::empty())).await;
    assert_eq!(response.expect("answered").head.status, 200);
}
