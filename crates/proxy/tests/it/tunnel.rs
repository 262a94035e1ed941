//! TCP through an HTTP proxy: another one of ours, or a server of the test's own.

use std::net::SocketAddr;

use lateen_http::{Abort, Handler, Request, Response, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::common::{TCP, cluster, listener};
use crate::oracle::both;

/// What a tunnel was opened with.
#[derive(Debug, PartialEq, Eq)]
struct Opened {
    method: String,
    authority: String,
    target: String,
    mark: String,
}

/// An HTTP proxy that says all back what it is told within a tunnel, in capitals. It refuses what
/// leads to `refused`.
#[derive(Clone)]
struct Shouter(mpsc::UnboundedSender<Opened>);

impl Shouter {
    async fn start() -> (SocketAddr, mpsc::UnboundedReceiver<Opened>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (opened_tx, opened_rx) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Shouter(opened_tx.clone());
                tokio::spawn(async move {
                    let config = ServerConfig::default();
                    let _ =
                        lateen_http::serve(stream, &config, handler, std::future::pending()).await;
                });
            }
        });
        (address, opened_rx)
    }
}

impl Handler for Shouter {
    async fn handle(&self, request: Request) -> Result<Response, Abort> {
        let head = &request.head;
        let opened = Opened {
            method: head.method.as_str().to_owned(),
            authority: head.authority().to_owned(),
            target: head.target().to_owned(),
            mark: head.headers.get("x-mark").unwrap_or("").to_owned(),
        };
        let refused = opened.authority.starts_with("refused");
        self.0.send(opened).map_err(|_| Abort)?;
        if refused {
            return Ok(Response::text(403, "no"));
        }
        if let Some(upgrade) = request.upgrade {
            tokio::spawn(async move {
                let Ok(mut stream) = upgrade.stream().await else {
                    return;
                };
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    let loud = buffer[..n].to_ascii_uppercase();
                    if stream.write_all(&loud).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
            });
            return Ok(Response::new(200, ""));
        }
        Ok(Response::new(200, Loud(request.body).into_body()))
    }
}

/// A body in capitals.
struct Loud(lateen_http::Body);

impl Loud {
    fn into_body(self) -> lateen_http::Body {
        lateen_http::Body::from_source(self)
    }
}

impl lateen_http::Source for Loud {
    fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<lateen_http::Frame, lateen_http::BodyError>>> {
        use lateen_http::Frame;
        let frame = std::task::ready!(self.0.poll_next(cx));
        std::task::Poll::Ready(match frame {
            Some(Ok(Frame::Data(data))) => Some(Ok(Frame::Data(data.to_ascii_uppercase().into()))),
            other => other,
        })
    }
}

fn tunnel(port: u16, config: &Value) -> Value {
    let filter = json!({ "@type": TCP, "stat_prefix": "t", "cluster": "up",
        "tunneling_config": config });
    json!([listener("main", port, "OUTBOUND", filter)])
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_through_an_http_proxy() {
    let mark = json!([{ "header": { "key": "x-mark", "value": "here" } }]);
    let connect = json!({ "hostname": "far.example:443", "headers_to_add": mark });
    let post = json!({ "hostname": "far.example:443", "use_post": true, "headers_to_add": mark });
    let path = json!({ "hostname": "far.example:443", "use_post": true, "post_path": "/in",
        "headers_to_add": mark });
    for http2 in [false, true] {
        for (config, method, target) in [
            (&connect, "CONNECT", "/"),
            (&post, "POST", "/"),
            (&path, "POST", "/in"),
        ] {
            let (address, opened) = Shouter::start().await;
            let opened = tokio::sync::Mutex::new(opened);
            let mut up = cluster("up", &[address]);
            if http2 {
                up["http2_protocol_options"] = json!({});
            }
            let make = |port| tunnel(port, config);
            both(make, json!([up]), async |who, port| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
                for word in ["one", "two"] {
                    stream.write_all(word.as_bytes()).await.expect("open");
                    let mut loud = [0; 3];
                    stream.read_exact(&mut loud).await.expect("an answer");
                    assert_eq!(loud[..], word.to_ascii_uppercase().into_bytes(), "{who:?}");
                }
                stream.shutdown().await.expect("open");
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.expect("an end");
                assert_eq!(rest, b"");
                let mut opened = opened.lock().await;
                let seen = opened.recv().await.expect("a tunnel");
                // The last one is the one that was used: Envoy opens some for whoever only knocks.
                let seen = std::iter::from_fn(|| opened.try_recv().ok())
                    .last()
                    .unwrap_or(seen);
                let expect = Opened {
                    method: method.into(),
                    authority: "far.example:443".into(),
                    target: target.into(),
                    mark: "here".into(),
                };
                let seen = Opened {
                    // What CONNECT asks for is its authority.
                    target: match method {
                        "CONNECT" => "/".into(),
                        _ => seen.target,
                    },
                    ..seen
                };
                assert_eq!(seen, expect, "{who:?}, HTTP/2: {http2}");
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_refused_closes() {
    for http2 in [false, true] {
        let (address, opened) = Shouter::start().await;
        let opened = tokio::sync::Mutex::new(opened);
        let mut up = cluster("up", &[address]);
        if http2 {
            up["http2_protocol_options"] = json!({});
        }
        let config = json!({ "hostname": "refused.example:1" });
        both(
            |port| tunnel(port, &config),
            json!([up]),
            async |who, port| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("open");
                let _ = stream.write_all(b"hello").await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                assert_eq!(rest, b"", "{who:?}");
                let asked = opened
                    .lock()
                    .await
                    .recv()
                    .await
                    .expect("a tunnel was asked for");
                assert_eq!(
                    (asked.method.as_str(), asked.authority.as_str()),
                    ("CONNECT", "refused.example:1"),
                    "{who:?}"
                );
            },
        )
        .await;
    }
}
