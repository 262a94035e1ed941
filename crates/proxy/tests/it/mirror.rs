//! Copies of requests: whole ones, and none that holds up its original.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use lateen_http::{
    Abort, Body, BodyError, Frame, Handler, Method, Request, RequestHead, Response, ServerConfig,
    Source,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::common::{Client, Echo, Proxy, cluster, free_port, hcm, listener};

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.expect("nothing hangs")
}

/// What a copy came to: its authority, and its body or why there is none.
type Seen = (String, Result<Bytes, String>);

/// Takes copies: reads them, or lets them lie.
#[derive(Clone)]
struct Shadow {
    reads: bool,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Handler for Shadow {
    async fn handle(&self, request: Request) -> Result<Response, Abort> {
        let authority = request.head.authority().to_owned();
        if !self.reads {
            std::future::pending::<()>().await;
        }
        let body = request.body.collect(1 << 30).await;
        let body = body.map_err(|error| error.to_string());
        // The test may be over.
        let _ = self.seen.send((authority, body));
        Ok(Response::new(200, ""))
    }
}

async fn shadow(reads: bool) -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let (seen, rx) = mpsc::unbounded_channel();
    let handler = Shadow { reads, seen };
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let config = ServerConfig::default();
                let _ = lateen_http::serve(stream, &config, handler, std::future::pending()).await;
            });
        }
    });
    (address, rx)
}

/// A proxy that sends requests to the first and copies to the second.
async fn proxy(app: SocketAddr, copies: SocketAddr) -> Proxy {
    let routes = json!([{ "name": "all", "domains": ["*"], "routes": [{
        "match": { "prefix": "/" },
        "route": { "cluster": "app", "request_mirror_policies": [{ "cluster": "copies" }] } }] }]);
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", hcm(routes))]);
    let clusters = json!([cluster("app", &[app]), cluster("copies", &[copies])]);
    Proxy::start(port, listeners, clusters).await
}

/// A body in pieces, whose length nobody knows unless it is said.
fn pieces(count: usize, size: usize, says_length: bool) -> Body {
    struct Pieces {
        left: usize,
        piece: Bytes,
        says_length: bool,
    }
    impl Source for Pieces {
        fn poll_frame(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
            let piece = self.left.checked_sub(1).map(|left| {
                self.left = left;
                Ok(Frame::Data(self.piece.clone()))
            });
            std::task::Poll::Ready(piece)
        }

        fn remaining(&self) -> Option<u64> {
            let left = self.left * self.piece.len();
            self.says_length.then_some(left as u64)
        }
    }
    Body::from_source(Pieces {
        left: count,
        piece: vec![b'x'; size].into(),
        says_length,
    })
}

fn post(body: Body) -> Request {
    let head = RequestHead::new(Method::POST, "app:80", "/").expect("valid");
    Request::new(head, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_size_are_copied() {
    let (app, _echo) = Echo::start("app").await;
    let (copies, mut seen) = shadow(true).await;
    let proxy = proxy(app, copies).await;
    for http2 in [false, true] {
        for (count, size, says_length) in [
            (0, 0, true),
            (1, 5, true),
            (1, 5, false),
            (40, 10_000, true),
            (40, 10_000, false),
        ] {
            let mut client = Client::connect(proxy.port, http2).await;
            let answer = client.send(post(pieces(count, size, says_length))).await;
            let echoed = answer.json()["body"].as_str().expect("text").len();
            assert_eq!((answer.status, echoed), (200, count * size));
            let (authority, body) = within(seen.recv()).await.expect("copied");
            assert_eq!(authority, "app-shadow:80");
            let body = body.expect("whole");
            assert_eq!(body.len(), count * size, "{http2} {says_length}");
        }
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_lags_is_given_up_and_the_original_is_not() {
    let (app, _echo) = Echo::start("app").await;
    let (copies, _seen) = shadow(false).await;
    let proxy = proxy(app, copies).await;
    let mut client = proxy.client().await;
    // More than sockets and queues hold between the proxy and one that does not read.
    let (count, size) = (160, 100_000);
    let answer = within(client.send(post(pieces(count, size, true)))).await;
    assert_eq!(
        answer.json()["body"].as_str().expect("text").len(),
        count * size
    );
    let count = async {
        loop {
            let metrics = proxy.admin("/stats/prometheus").await;
            let line = "envoy_cluster_upstream_rq_tx_reset{cluster_name=\"copies\"} 1";
            if metrics.lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(count).await;
    proxy.stop().await;
}

/// A copy of half a request must not look like a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_the_copy_with_it() {
    use tokio::io::AsyncWriteExt;
    let (app, _echo) = Echo::start("app").await;
    let (copies, mut seen) = shadow(true).await;
    let proxy = proxy(app, copies).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port)).await;
    let mut stream = stream.expect("the proxy listens");
    let half = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(half.as_bytes()).await.expect("open");
    // A copy that has not begun by then is not sent at all.
    let begun = async {
        let line = "envoy_cluster_upstream_rq_total{cluster_name=\"copies\"} 1";
        while !proxy.admin("/stats/prometheus").await.contains(line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(begun).await;
    drop(stream);
    let (_, body) = within(seen.recv()).await.expect("begun");
    body.expect_err("it was cut off");
    proxy.stop().await;
}
