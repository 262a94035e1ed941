//! The PROXY protocol: believed where a listener asks for it, told where a cluster does.

use std::net::SocketAddr;

use lateen_core::proxy_protocol::{Header, Parse, Version, encode, parse};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::common::{Echo, TCP, cluster, hcm, listener};
use crate::oracle::both;

const FILTER: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const SOCKET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";

/// An HTTP listener whose connections begin with a header.
fn asking(port: u16, mut config: Value) -> Value {
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let mut manager = hcm(routes);
    manager["use_remote_address"] = true.into();
    config["@type"] = FILTER.into();
    let mut listener = listener("main", port, "OUTBOUND", manager);
    listener["listener_filters"] =
        json!([{ "name": "envoy.filters.listener.proxy_protocol", "typed_config": config }]);
    json!([listener])
}

/// What comes back for these pieces and a request.
async fn ask(port: u16, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
    let request = b"GET / HTTP/1.1\r\nhost: up\r\nconnection: close\r\n\r\n";
    let last = pieces.last().copied().unwrap_or_default();
    for piece in &pieces[..pieces.len().saturating_sub(1)] {
        stream.write_all(piece).await.expect("open");
        tokio::task::yield_now().await;
    }
    // The server may have closed already.
    let _ = stream.write_all(&[last, request].concat()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_says_who_the_client_is() {
    let (backend, _echo) = Echo::start("up").await;
    let clusters = || json!([cluster("up", &[backend])]);
    let names = |answer: &str, ip: &str| {
        let wanted = format!("\"x-forwarded-for\":\"{ip}\"");
        answer.contains(&wanted)
    };
    let v4 = (at("192.0.2.7:1111"), at("192.0.2.8:80"));
    let v6 = (at("[2001:db8::7]:1111"), at("[2001:db8::8]:80"));
    both(
        |port| asking(port, json!({})),
        clusters(),
        async |who, port| {
            for version in [Version::V1, Version::V2] {
                for ((source, destination), ip) in [(v4, "192.0.2.7"), (v6, "2001:db8::7")] {
                    let header = encode(version, source, destination);
                    let answer = ask(port, &[&header]).await;
                    assert!(names(&answer, ip), "{who:?} {version:?}: {answer}");
                    let answer = ask(port, &[&header[..9], &header[9..]]).await;
                    assert!(
                        names(&answer, ip),
                        "{who:?} {version:?} in pieces: {answer}"
                    );
                }
            }
            let own: [&[u8]; 2] = [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"];
            for header in own {
                let answer = ask(port, &[header]).await;
                // For a client on loopback, Envoy names itself.
                assert!(answer.starts_with("HTTP/1.1 200"), "{who:?}: {answer}");
            }
            let bad: [&[u8]; 3] = [b"", b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP5 a b 1 2\r\n"];
            for header in bad {
                assert_eq!(ask(port, &[header]).await, "", "{who:?} took {header:?}");
            }
        },
    )
    .await;
    let optional = json!({ "allow_requests_without_proxy_protocol": true,
        "disallowed_versions": ["V1"] });
    both(
        |port| asking(port, optional.clone()),
        clusters(),
        async |who, port| {
            let answer = ask(port, &[]).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{who:?}: {answer}");
            let answer = ask(port, &[&encode(Version::V2, v4.0, v4.1)]).await;
            assert!(names(&answer, "192.0.2.7"), "{who:?}: {answer}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_knows_the_client_from_whoever_connects() {
    let (backend, _echo) = Echo::start("up").await;
    let log = std::env::temp_dir().join(format!("lateen-direct-{}", std::process::id()));
    let format = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\n";
    let make = |port| {
        let mut listeners = asking(port, json!({}));
        let manager = &mut listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
        manager["access_log"] = json!([{ "name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log, "log_format": { "text_format": format } } }]);
        listeners
    };
    both(
        make,
        json!([cluster("up", &[backend])]),
        async |who, port| {
            let header = encode(Version::V1, at("192.0.2.7:1111"), at("192.0.2.8:80"));
            let answer = ask(port, &[&header]).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{who:?}: {answer}");
            let line = loop {
                let written = std::fs::read_to_string(&log).unwrap_or_default();
                if let Some((line, _)) = written.split_once('\n') {
                    break line.to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            };
            assert_eq!(line, "192.0.2.7:1111 127.0.0.1", "{who:?}");
            std::fs::remove_file(&log).expect("a file of the test");
        },
    )
    .await;
}

/// A server that tells the header of each connection, and answers one request or two.
async fn told() -> (SocketAddr, mpsc::UnboundedReceiver<Header>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (headers_tx, headers_rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let headers_tx = headers_tx.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if let Parse::Done(header) = parse(&seen) {
                        let _ = headers_tx.send(header);
                        seen.drain(..header.length);
                        break;
                    }
                }
                loop {
                    if seen.windows(4).any(|end| end == b"\r\n\r\n") {
                        seen.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                    if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    (address, headers_rx)
}

fn telling(address: SocketAddr, version: &str) -> Value {
    let mut up = cluster("up", &[address]);
    let raw = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let raw = json!({ "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": { "@type": raw } });
    up["transport_socket"] = json!({ "name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": { "@type": SOCKET, "config": { "version": version },
            "transport_socket": raw } });
    json!([up])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_who_the_client_is() {
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let manager = hcm(routes);
    let bytes = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "up" });
    for (name, version) in [("V1", Version::V1), ("V2", Version::V2)] {
        for filter in [&manager, &bytes] {
            let (address, headers) = told().await;
            let headers = tokio::sync::Mutex::new(headers);
            let make = |port| json!([listener("main", port, "OUTBOUND", filter.clone())]);
            both(make, telling(address, name), async |who, port| {
                let mut headers = headers.lock().await;
                for _ in 0..2 {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
                    let own = stream.local_addr().expect("connected");
                    for _ in 0..2 {
                        let request = b"GET / HTTP/1.1\r\nhost: up\r\n\r\n";
                        stream.write_all(request).await.expect("open");
                        let mut answer = Vec::new();
                        while !answer.ends_with(b"ok") {
                            let n = stream.read_buf(&mut answer).await.expect("open");
                            assert!(n > 0, "{who:?}: {}", String::from_utf8_lossy(&answer));
                        }
                    }
                    // One connection for each client, and none for another one.
                    let expect = (own, SocketAddr::from(([127, 0, 0, 1], port)));
                    let header = loop {
                        let header = headers.recv().await.expect("a connection");
                        // A connection that only looked whether the listener is there.
                        if header.addresses == Some(expect) {
                            break header;
                        }
                        assert!(filter["stat_prefix"] == "t", "{who:?}: {header:?}");
                    };
                    assert_eq!(header.version, version);
                    while let Ok(other) = headers.try_recv() {
                        assert_ne!(other.addresses, Some(expect), "{who:?} connected twice");
                    }
                }
            })
            .await;
        }
    }
}
