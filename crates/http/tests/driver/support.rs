//! Servers, clients and bodies for tests.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::hash::RandomState;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use lateen_http::{
    Abort, Body, BodyError, ClientConfig, Error, Frame, Handler, Headers, Interim, Io, Method,
    Pool, Protocol, Request, RequestHead, Response, SendError, ServerConfig, Source, connect,
    flush_turns, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Far longer than anything takes that works.
const LIMIT: Duration = Duration::from_secs(60);

/// Fails a test that hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("nothing hangs")
}

/// Has small messages wait for the end of the loop turn, as workers have it.
pub(crate) fn at_turns_ends() {
    tokio::spawn(flush_turns());
}

/// A handler from a function.
#[derive(Clone)]
struct Answer<F>(F);

impl<F, R> Handler for Answer<F>
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send,
{
    fn handle(&self, request: Request) -> impl Future<Output = Result<Response, Abort>> + Send {
        (self.0)(request)
    }
}

/// A connection that is being served.
pub(crate) struct Served {
    pub(crate) task: JoinHandle<Result<(), Error>>,
    drain: Option<oneshot::Sender<()>>,
}

impl Served {
    /// Asks the server to finish.
    pub(crate) fn drain(&mut self) {
        let drain = self.drain.take().expect("once");
        drain.send(()).expect("it is being served");
    }

    /// What came of it.
    pub(crate) async fn result(self) -> Result<(), Error> {
        within(self.task).await.expect("no panic")
    }
}

/// Serves a connection by a function.
pub(crate) fn serve_on<F, R>(io: impl Io, config: ServerConfig, handler: F) -> Served
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send + 'static,
{
    at_turns_ends();
    serve_at_once(io, config, handler)
}

/// The same where nothing waits for the end of a turn.
pub(crate) fn serve_at_once<F, R>(io: impl Io, config: ServerConfig, handler: F) -> Served
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send + 'static,
{
    let (drain, drained) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let drained = async move {
            if drained.await.is_err() {
                pending::<()>().await;
            }
        };
        serve(io, &config, Answer(handler), drained).await
    });
    Served {
        task,
        drain: Some(drain),
    }
}

/// A client of one connection.
pub(crate) struct Client(Pool<u8, RandomState>);

impl Client {
    pub(crate) async fn http2(io: impl Io) -> Client {
        let pool = Pool::new(1);
        let config = ClientConfig {
            http2: true,
            ..ClientConfig::default()
        };
        let connecting = async { Ok::<_, Infallible>(connect(io, &config)) };
        let lease = pool.connect(&0, true, connecting).await;
        drop(lease.expect("infallible"));
        Client(pool)
    }

    pub(crate) async fn send(&self, head: &RequestHead, body: Body) -> Result<Response, SendError> {
        self.send_with(head, body, None).await
    }

    pub(crate) async fn send_with(
        &self,
        head: &RequestHead,
        body: Body,
        interim: Option<&Interim>,
    ) -> Result<Response, SendError> {
        let lease = match self.0.checkout(&0) {
            Some(lease) => lease,
            // Waits for the server's settings.
            None => within(self.0.connect(&0, true, pending::<Result<_, Infallible>>()))
                .await
                .expect("infallible"),
        };
        lease.send(head, body, interim).await
    }

    /// True where another request may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.checkout(&0).is_some()
    }
}

/// Our HTTP/2 client and our server at the two ends of a pipe.
pub(crate) async fn http2_pair<F, R>(config: ServerConfig, handler: F) -> (Client, Served)
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Abort>> + Send + 'static,
{
    let (near, far) = duplex(64 * 1024);
    let served = serve_on(far, config, handler);
    (Client::http2(near).await, served)
}

/// A server that speaks HTTP/2 alone.
pub(crate) fn http2_only() -> ServerConfig {
    ServerConfig {
        protocol: Protocol::Http2,
        ..ServerConfig::default()
    }
}

/// The request's body as the response's.
pub(crate) async fn echo(request: Request) -> Result<Response, Abort> {
    Ok(Response::new(200, request.body))
}

pub(crate) fn head(method: Method, target: &str) -> RequestHead {
    RequestHead::new(method, "test.example", target).expect("valid")
}

pub(crate) fn get(target: &str) -> RequestHead {
    head(Method::GET, target)
}

pub(crate) fn post(target: &str) -> RequestHead {
    head(Method::POST, target)
}

pub(crate) fn fields(list: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in list {
        headers.append(*name, value).expect("valid");
    }
    headers
}

/// A body that a test writes piece by piece.
pub(crate) fn feed() -> (mpsc::Sender<Result<Frame, BodyError>>, Body) {
    let (tx, rx) = mpsc::channel(1);
    (tx, Body::from_source(Feed(rx)))
}

struct Feed(mpsc::Receiver<Result<Frame, BodyError>>);

impl Source for Feed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

/// Bytes in which a shift or a swap is seen.
pub(crate) fn pattern(length: usize) -> Bytes {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

/// Writes a body in pieces, then its end.
pub(crate) async fn write_all(
    tx: mpsc::Sender<Result<Frame, BodyError>>,
    data: Bytes,
    piece: usize,
) {
    for at in (0..data.len()).step_by(piece) {
        let part = data.slice(at..data.len().min(at + piece));
        if tx.send(Ok(Frame::Data(part))).await.is_err() {
            return;
        }
    }
}

/// All of a body, trailers apart.
pub(crate) async fn read_all(mut body: Body) -> Result<(Vec<u8>, Option<Headers>), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = within(body.next()).await {
        match frame? {
            Frame::Data(bytes) => data.extend_from_slice(&bytes),
            Frame::Trailers(fields) => trailers = Some(fields),
        }
    }
    Ok((data, trailers))
}

/// Tells when it is dropped.
pub(crate) struct Dropped(Option<oneshot::Sender<()>>);

impl Dropped {
    pub(crate) fn new() -> (Dropped, oneshot::Receiver<()>) {
        let (tx, rx) = oneshot::channel();
        (Dropped(Some(tx)), rx)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            // The test may be over.
            let _ = tx.send(());
        }
    }
}

/// A peer that writes and reads bytes.
pub(crate) struct Raw(pub(crate) DuplexStream);

impl Raw {
    pub(crate) async fn write(&mut self, text: &str) {
        within(self.0.write_all(text.as_bytes()))
            .await
            .expect("open");
    }

    /// Reads until the text ends so.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let byte = within(self.0.read_u8()).await;
            let seen = String::from_utf8_lossy(&text).into_owned();
            text.push(byte.unwrap_or_else(|error| panic!("{error} after {seen:?}")));
        }
        String::from_utf8(text).expect("text")
    }

    /// Reads until the peer closes.
    pub(crate) async fn read_rest(&mut self) -> String {
        let mut text = String::new();
        within(self.0.read_to_string(&mut text))
            .await
            .expect("open");
        text
    }
}
