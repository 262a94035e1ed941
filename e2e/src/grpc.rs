//! gRPC by hand, over HTTP/2: small enough that the test sees every frame and trailer.

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

/// A body of frames that the other end of the channel sends.
pub type Frames = StreamBody<ReceiverStream<std::io::Result<Frame<Bytes>>>>;

/// The sender of a body of frames; dropping it ends the body.
pub type FrameSender = mpsc::Sender<std::io::Result<Frame<Bytes>>>;

/// A body and the way to fill it.
pub fn frames() -> (FrameSender, Frames) {
    let (frames_tx, frames_rx) = mpsc::channel(16);
    (frames_tx, StreamBody::new(ReceiverStream::new(frames_rx)))
}

/// A message in its envelope: not compressed, and its length.
pub fn message(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("messages of tests are short");
    [&[0], &length.to_be_bytes()[..], payload].concat().into()
}

/// Serves HTTP/1 and HTTP/2 on every connection, until the task is aborted.
pub fn serve<F, R, B>(listener: TcpListener, answer: F) -> tokio::task::JoinHandle<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    serve_few(listener, 200, answer)
}

/// As [`serve`], with a limit of HTTP/2 streams that a connection may have open at once.
pub fn serve_few<F, R, B>(
    listener: TcpListener,
    max_streams: u32,
    answer: F,
) -> tokio::task::JoinHandle<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = hyper::service::service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, std::convert::Infallible>(response.await) }
            });
            tokio::spawn(async move {
                let mut builder =
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().max_concurrent_streams(max_streams);
                // The client's end of a connection is no concern of the server.
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

/// The service of the tests. `/test.Echo/Echo` sends every byte back as it comes and ends with
/// status 0 and, in trailers too, how many bytes there were; `/test.Echo/Refuse` answers with
/// status 7 and no body.
pub async fn echo(request: Request<Incoming>) -> Response<Frames> {
    let (frames_tx, body) = frames();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", "application/grpc".parse().expect("text"));
    if let Some(certificate) = request.headers().get("x-forwarded-client-cert") {
        headers.insert("x-seen-certificate", certificate.clone());
    }
    if request.uri().path() == "/test.Echo/Refuse" {
        headers.insert("grpc-status", "7".parse().expect("text"));
        return response;
    }
    tokio::spawn(echo_body(request.into_body(), frames_tx));
    response
}

async fn echo_body(mut body: Incoming, frames_tx: FrameSender) {
    let mut n_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            n_bytes += data.len();
            if frames_tx.send(Ok(Frame::data(data))).await.is_err() {
                return;
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("text"));
    trailers.insert("x-n-bytes", n_bytes.into());
    // The client may have gone.
    let _ = frames_tx.send(Ok(Frame::trailers(trailers))).await;
}

/// A client of one connection, HTTP/2 with prior knowledge.
#[derive(Clone, Debug)]
pub struct Client {
    sender: SendRequest<Frames>,
    authority: String,
}

/// The answer of a unary call.
#[derive(Debug)]
pub struct Reply {
    /// Headers of the response.
    pub headers: HeaderMap,
    /// Everything in the body.
    pub body: Bytes,
    /// Trailers; empty where there are none.
    pub trailers: HeaderMap,
}

impl Client {
    /// Starts HTTP/2 on a connection.
    pub async fn new(stream: TcpStream, authority: &str) -> anyhow::Result<Client> {
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Client {
            sender,
            authority: authority.to_owned(),
        })
    }

    /// Opens a call; the body is sent as it comes.
    pub async fn open(&mut self, path: &str, body: Frames) -> anyhow::Result<Response<Incoming>> {
        let request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status() == 200, "{response:?}");
        Ok(response)
    }

    /// One message there and everything back.
    pub async fn unary(&mut self, path: &str, payload: &[u8]) -> anyhow::Result<Reply> {
        let (frames_tx, body) = frames();
        frames_tx.send(Ok(Frame::data(message(payload)))).await?;
        drop(frames_tx);
        let (head, body) = self.open(path, body).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Reply {
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }
}

/// The next data of a body.
pub async fn next_data(body: &mut Incoming) -> anyhow::Result<Bytes> {
    let frame = body.frame().await.context("the body has ended")??;
    frame
        .into_data()
        .map_err(|frame| anyhow::anyhow!("no data but {frame:?}"))
}
