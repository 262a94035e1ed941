//! Against hyper, on either side.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_http::{Abort, Body, Error, Request, Response};
use tokio::io::duplex;
use tokio::sync::mpsc;

use super::support::{
    Client, echo, feed, get, http2_only, pattern, post, read_all, serve_on, within, write_all,
};

type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

/// hyper's client on our server.
async fn hyper_client<B, F, R>(handler: F) -> Sender<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send + 'static,
{
    let (near, far) = duplex(64 * 1024);
    serve_on(far, http2_only(), handler);
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(near)).await.expect("open");
    tokio::spawn(connection);
    sender
}

fn request<B>(body: B) -> hyper::Request<B> {
    let builder = hyper::Request::post("http://test.example/a?b");
    builder.header("x-one", "1").body(body).expect("valid")
}

#[tokio::test]
async fn its_client_is_served() {
    let handler = |request: Request| async move {
        assert_eq!(request.head.authority(), "test.example");
        assert_eq!(request.head.target(), "/a?b");
        assert_eq!(request.head.headers.get("x-one"), Some("1"));
        echo(request).await
    };
    let mut sender = hyper_client(handler).await;
    for length in [0, 10, 20_000, 3 << 20] {
        let data = pattern(length);
        let sent = sender.send_request(request(Full::new(data.clone())));
        let response = within(sent).await.expect("answered");
        assert_eq!(response.status(), 200);
        let body = within(response.into_body().collect()).await.expect("whole");
        assert!(body.to_bytes() == data, "{length}");
    }
}

#[tokio::test]
async fn its_client_streams_with_trailers() {
    let mut sender = hyper_client(echo).await;
    let (tx, rx) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx));
    let response = within(sender.send_request(request(body)))
        .await
        .expect("answered");
    let mut body = response.into_body();
    for n in 0..50 {
        // Each piece comes back before the next one goes.
        let data = pattern(1000 + n);
        tx.send(Ok(Frame::data(data.clone()))).await.expect("open");
        let mut got = Vec::new();
        while got.len() < data.len() {
            let frame = within(body.frame()).await.expect("more").expect("whole");
            got.extend_from_slice(&frame.into_data().expect("data"));
        }
        assert!(got == data);
    }
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", "7".parse().expect("valid"));
    tx.send(Ok(Frame::trailers(trailers))).await.expect("open");
    drop(tx);
    let frame = within(body.frame()).await.expect("more").expect("whole");
    let trailers = frame.into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "7");
    assert!(within(body.frame()).await.is_none());
}

#[tokio::test]
async fn its_client_is_told_of_an_abort() {
    let mut sender = hyper_client(|_: Request| async { Err(Abort) }).await;
    let sent = sender.send_request(request(Full::new(Bytes::new())));
    within(sent).await.expect_err("reset");
    assert!(!sender.is_closed());
}

/// Our client on hyper's server.
async fn hyper_server<F, R, B>(service: F) -> Client
where
    F: Fn(hyper::Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Result<hyper::Response<B>, std::io::Error>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let service = hyper::service::service_fn(service);
        server.serve_connection(TokioIo::new(far), service).await
    });
    Client::http2(near).await
}

#[tokio::test]
async fn its_server_is_used() {
    let service = |request: hyper::Request<Incoming>| async move {
        assert_eq!(request.uri(), "http://test.example/a");
        Ok(hyper::Response::new(request.into_body()))
    };
    let client = hyper_server(service).await;
    for length in [0, 10, 20_000] {
        let data = pattern(length);
        let request = post("/a");
        let sent = client.send(&request, Body::from(data.clone()));
        let response = within(sent).await.expect("answered");
        let (got, _) = read_all(response.body).await.expect("whole");
        assert!(got == data);
    }
    let data = pattern(3 << 20);
    let (tx, body) = feed();
    tokio::spawn(write_all(tx, data.clone(), 40_000));
    let response = within(client.send(&post("/a"), body))
        .await
        .expect("answered");
    let (got, _) = read_all(response.body).await.expect("whole");
    assert!(got == data);
}

#[tokio::test]
async fn its_server_may_break_off() {
    let service = |_| async { Err::<hyper::Response<Full<Bytes>>, _>(std::io::Error::other("no")) };
    let client = hyper_server(service).await;
    let error = within(client.send(&get("/"), Body::empty()))
        .await
        .expect_err("reset");
    assert!(matches!(error.error, Error::Reset(_)), "{error}");
}
