use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tonic::server::NamedService;
use tonic::transport::{Endpoint, Server};
use tower::service_fn;

use super::*;
use crate::client;

/// A server that takes what is said, answers nothing, and ends each stream after a while.
#[derive(Clone)]
struct Silent(Duration);

impl NamedService for Silent {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<tonic::body::Body>> for Silent {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
        let life = self.0;
        let end = stream::once(async move {
            tokio::time::sleep(life).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("14"));
            Ok::<_, tonic::Status>(Frame::<bytes::Bytes>::trailers(trailers))
        });
        let mut response = http::Response::new(tonic::body::Body::new(StreamBody::new(end)));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        ready(Ok(response))
    }
}

/// A connection to a server of its own.
async fn connect(life: Duration) -> Result<Connection, ConnectError> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let incoming = stream::iter([Ok::<DuplexStream, std::io::Error>(far)]);
    let serving = Server::builder()
        .add_service(Silent(life))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    let mut near = Some(near);
    let connector = service_fn(move |_| {
        let io = near.take().map(TokioIo::new);
        ready(io.ok_or_else(|| std::io::Error::other("one connection is all there is")))
    });
    let endpoint = Endpoint::from_static("http://server");
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(channel.into())
}

/// The times between the beginnings of streams that a client opens which only reports, each of which
/// lives so long.
async fn beginnings(life: Duration) -> Vec<Duration> {
    let began = Arc::new(Mutex::new(Vec::new()));
    let log = began.clone();
    let client = client::spawn(Node::default(), move || {
        log.lock().expect("whole").push(Instant::now());
        connect(life)
    });
    client
        .subscriber
        .report(TypeUrl::new("type.googleapis.com/x"), None);
    let n = || began.lock().expect("whole").len();
    while n() < 12 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = began.lock().expect("whole");
    began.windows(2).map(|two| two[1] - two[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lasted_is_followed_soon_though_it_was_never_answered() {
    let slack = Duration::from_millis(50);
    let life = Duration::from_secs(60);
    let between = beginnings(life).await;
    let late = between.iter().find(|gap| **gap > life + BACKOFF.0 + slack);
    assert_eq!(late, None, "{between:?}");
    // One that ends at once is a failure like any other.
    let between = beginnings(Duration::from_millis(1)).await;
    assert!(between[10] >= BACKOFF.1 / 2, "{between:?}");
}
