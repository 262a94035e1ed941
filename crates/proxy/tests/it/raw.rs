//! Exchanges whose peers are driven byte by byte, so that what is odd or late can be had at all.

use std::hash::RandomState;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lateen_http::{Body, ClientConfig, Frame, Method, Pool, RequestHead};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::common::{Echo, Proxy, cluster, free_port, hcm, listener};

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.expect("nothing hangs")
}

/// Reads until the text ends so.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = within(stream.read_u8()).await;
        let seen = text.escape_ascii().to_string();
        text.push(byte.unwrap_or_else(|error| panic!("{error} after {seen}")));
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn read_rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    within(stream.read_to_end(&mut text)).await.expect("open");
    String::from_utf8_lossy(&text).into_owned()
}

/// A backend whose every connection is given to the test.
async fn backend() -> (SocketAddr, mpsc::UnboundedReceiver<TcpStream>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let (tx, rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            if tx.send(stream).is_err() {
                return;
            }
        }
    });
    (address, rx)
}

/// A proxy of these clusters, with these routes and an access log in this format.
async fn proxy(clusters: Value, routes: Value, log: Option<(&Path, &str)>) -> Proxy {
    let mut manager = hcm(json!([{ "name": "all", "domains": ["*"], "routes": routes }]));
    if let Some((path, format)) = log {
        manager["access_log"] = json!([{ "name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path, "log_format": { "text_format": format } } }]);
    }
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", manager)]);
    Proxy::start(port, listeners, clusters).await
}

fn to(cluster: &str) -> Value {
    json!([{ "match": { "prefix": "/" }, "route": { "cluster": cluster } }])
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port)).await;
    stream.expect("the proxy listens")
}

/// A file that is gone after the test.
struct Log(PathBuf);

impl Log {
    fn new() -> Log {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lateen-log-{}-{number}", std::process::id());
        Log(std::env::temp_dir().join(name))
    }

    /// The first line, once it is there.
    async fn line(&self) -> String {
        within(async {
            loop {
                let text = std::fs::read_to_string(&self.0).unwrap_or_default();
                if let Some((line, _)) = text.split_once('\n') {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes that are no UTF-8 hid a header from matching, and what is inverted let the request
/// through (the class of CVE-2026-73552).
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_utf8_is_seen_by_routes() {
    let (address, _echo) = Echo::start("app").await;
    let deny = |test: Value| {
        json!({ "match": { "prefix": "/", "headers": [test] },
        "direct_response": { "status": 403 } })
    };
    let cases = [
        (json!({ "name": "role", "present_match": true }), 403),
        (
            json!({ "name": "role", "present_match": true, "invert_match": true }),
            200,
        ),
        (
            json!({ "name": "role", "string_match": { "contains": "admin" } }),
            403,
        ),
        (
            json!({ "name": "role", "string_match": { "safe_regex": { "regex": ".*admin.*" } } }),
            403,
        ),
        (
            json!({ "name": "role", "string_match": { "safe_regex": { "regex": ".*admin.*" } },
                "invert_match": true, "treat_missing_header_as_empty": true }),
            200,
        ),
    ];
    for (test, expect) in cases {
        let allow = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
        let routes = json!([deny(test.clone()), allow]);
        let proxy = proxy(json!([cluster("app", &[address])]), routes, None).await;
        let mut client = connect(&proxy).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nrole: x\xffadmin\r\n\r\n";
        client.write_all(request).await.expect("open");
        let head = read_to(&mut client, "\r\n\r\n").await;
        let status = format!("HTTP/1.1 {expect} ");
        assert!(head.starts_with(&status), "{test}: {head}");
        proxy.stop().await;
    }
}

/// Whoever answers the expectation does not pass it on.
#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_was_answered_ends_here() {
    let (address, _echo) = Echo::start("app").await;
    let proxy = proxy(json!([cluster("app", &[address])]), to("app"), None).await;
    let mut client = connect(&proxy).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nExpect: 100-Continue\r\ncontent-length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("open");
    let text = read_to(&mut client, "\r\n\r\n").await;
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.expect("open");
    let text = read_to(&mut client, "}").await;
    let text = text + &read_to(&mut client, "}").await;
    assert!(text.contains("\"body\":\"hello\""), "{text}");
    assert!(
        !text.to_ascii_lowercase().contains("100-continue"),
        "{text}"
    );
    proxy.stop().await;
}

/// The client gets 502 where the body fails at once: log and metrics said 200.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_at_its_first_byte_is_logged_as_what_the_client_got() {
    let cases = [
        (
            "transfer-encoding: chunked\r\n\r\nzz\r\n",
            "UPE",
            "protocol_error",
        ),
        ("content-length: 5\r\n\r\n", "UC", "connection_termination"),
    ];
    for (rest, flag, detail) in cases {
        let log = Log::new();
        let (address, mut connections) = backend().await;
        let format = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %RESP(X-A)%\n";
        let clusters = json!([cluster("app", &[address])]);
        let proxy = proxy(clusters, to("app"), Some((&log.0, format))).await;
        let mut client = connect(&proxy).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(request).await.expect("open");
        let mut upstream = within(connections.recv()).await.expect("it connects");
        read_to(&mut upstream, "\r\n\r\n").await;
        let answer = format!("HTTP/1.1 200 OK\r\nx-a: 1\r\n{rest}");
        upstream.write_all(answer.as_bytes()).await.expect("open");
        drop(upstream);
        let text = read_rest(&mut client).await;
        // The end of a connection may come so late that the head has left.
        let late = flag == "UC" && text.starts_with("HTTP/1.1 200 ");
        let (status, when, field) = if late {
            (200, "after", "1")
        } else {
            (502, "before", "-")
        };
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        let details = format!("upstream_reset_{when}_response_started{{{detail}}}");
        let expect = format!("{status} {flag} {details} {field}");
        assert_eq!(log.line().await, expect);
        let metrics = proxy.admin("/stats/prometheus").await;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("istio_requests_total{"));
        let line = line.unwrap_or_else(|| panic!("not counted\n{metrics}"));
        let code = format!("response_code=\"{status}\"");
        assert!(line.contains(&code), "{line}");
        assert!(
            line.contains(&format!("response_flags=\"{flag}\"")),
            "{line}"
        );
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_we_speak_from_is_logged() {
    for http2 in [false, true] {
        let log = Log::new();
        let (address, mut connections) = backend().await;
        let mut upstream = cluster("app", &[address]);
        if http2 {
            upstream["http2_protocol_options"] = json!({});
        }
        let format = "%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST%\n";
        let proxy = proxy(json!([upstream]), to("app"), Some((&log.0, format))).await;
        let mut client = connect(&proxy).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(request).await.expect("open");
        let mut upstream = within(connections.recv()).await.expect("it connects");
        let peer = upstream.peer_addr().expect("connected");
        if http2 {
            upstream.write_all(&h2::SETTINGS).await.expect("open");
            h2::read_head(&mut upstream).await;
            let head = h2::head(5, &[0x89]);
            upstream.write_all(&head).await.expect("open");
        } else {
            read_to(&mut upstream, "\r\n\r\n").await;
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            upstream.write_all(answer).await.expect("open");
        }
        let head = read_to(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
        assert_eq!(log.line().await, format!("{peer} {address}"));
        proxy.stop().await;
    }
}

/// Whether trailers come with the head or later must not decide what becomes of them.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_beside_a_length_do_not_depend_on_when_they_come() {
    for (at_once, length) in [(true, 0), (false, 0), (true, 3), (false, 3)] {
        let (address, mut connections) = backend().await;
        let mut upstream = cluster("app", &[address]);
        upstream["http2_protocol_options"] = json!({});
        let proxy = proxy(json!([upstream]), to("app"), None).await;
        let mut client = connect(&proxy).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(request).await.expect("open");
        let mut upstream = within(connections.recv()).await.expect("it connects");
        upstream.write_all(&h2::SETTINGS).await.expect("open");
        h2::read_head(&mut upstream).await;
        // 200, content-length.
        let head = h2::head(4, &[0x88, 0x0f, 0x0d, 1, b'0' + length]);
        let body = h2::frame(0, 0, &b"abc"[..usize::from(length)]);
        let trailers = h2::head(5, b"\x00\x03x-t\x01v");
        let first = if at_once {
            [&head[..], &body, &trailers].concat()
        } else {
            head
        };
        upstream.write_all(&first).await.expect("open");
        let mut text = read_to(&mut client, "\r\n\r\n").await;
        if !at_once {
            upstream
                .write_all(&[body, trailers].concat())
                .await
                .expect("open");
        }
        // The next response shows that nothing of this one was left.
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.expect("open");
        h2::read_head(&mut upstream).await;
        let mut next = h2::head(5, &[0x89]);
        next[8] = 3;
        upstream.write_all(&next).await.expect("open");
        text += &read_rest(&mut client).await;
        let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
        let said = format!("content-length: {length}\r\n");
        assert!(
            head.contains(&said) && !head.contains("chunked"),
            "{at_once} {length}: {text}"
        );
        let expect = format!("{}HTTP/1.1 204 ", &"abc"[..usize::from(length)]);
        assert!(rest.starts_with(&expect), "{at_once} {length}: {text}");
        proxy.stop().await;
    }
}

/// A client of HTTP/2 gets them in any case.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_always_reach_a_client_of_http2() {
    for (at_once, length) in [(true, 0), (false, 0), (true, 3), (false, 3)] {
        let (address, mut connections) = backend().await;
        let mut upstream = cluster("app", &[address]);
        upstream["http2_protocol_options"] = json!({});
        let proxy = proxy(json!([upstream]), to("app"), None).await;
        let stream = connect(&proxy).await;
        let asking = tokio::spawn(async move {
            let config = ClientConfig {
                http2: true,
                ..ClientConfig::default()
            };
            let pool = Pool::<(), RandomState>::new(1);
            let connection = async { Ok::<_, ()>(lateen_http::connect(stream, &config)) };
            let lease = pool.connect(&(), true, connection).await.expect("made");
            let head = RequestHead::new(Method::GET, "a", "/").expect("valid");
            let response = lease.send(&head, Body::empty(), None).await;
            let mut body = response.expect("answered").body;
            let (mut length, mut trailer) = (0, None);
            while let Some(frame) = body.next().await {
                match frame.expect("whole") {
                    Frame::Data(data) => length += data.len(),
                    Frame::Trailers(fields) => trailer = fields.get("x-t").map(str::to_owned),
                }
            }
            (length, trailer)
        });
        let mut upstream = within(connections.recv()).await.expect("it connects");
        upstream.write_all(&h2::SETTINGS).await.expect("open");
        h2::read_head(&mut upstream).await;
        let mut answer = h2::head(4, &[0x88, 0x0f, 0x0d, 1, b'0' + length]);
        answer.extend(h2::frame(0, 0, &b"abc"[..usize::from(length)]));
        if !at_once {
            upstream.write_all(&answer).await.expect("open");
            answer.clear();
            // Long enough for the head to be on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        answer.extend(h2::head(5, b"\x00\x03x-t\x01v"));
        upstream.write_all(&answer).await.expect("open");
        let got = within(asking).await.expect("no panic");
        assert_eq!(
            got,
            (usize::from(length), Some("v".to_owned())),
            "{at_once}"
        );
        proxy.stop().await;
    }
}

/// As much HTTP/2 as a backend needs to answer.
mod h2 {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::within;

    /// Our settings, and the acknowledgement of the peer's.
    pub(super) const SETTINGS: [u8; 18] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];

    /// A frame of the first stream.
    pub(super) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// HEADERS of the first stream.
    pub(super) fn head(flags: u8, block: &[u8]) -> Vec<u8> {
        frame(1, flags, block)
    }

    /// Reads until a head has come, the preface with it.
    pub(super) async fn read_head(stream: &mut TcpStream) {
        loop {
            let mut head = [0; 9];
            within(stream.read_exact(&mut head)).await.expect("open");
            if head.starts_with(b"PRI") {
                let mut rest = [0; 24 - 9];
                within(stream.read_exact(&mut rest)).await.expect("open");
                continue;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            within(stream.read_exact(&mut payload)).await.expect("open");
            if head[3] == 1 {
                return;
            }
        }
    }
}
