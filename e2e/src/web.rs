//! A web server and a client for tests that are both, in HTTP/1.1.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{HeaderMap, Request, Response, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::grpc::serve;

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path and query.
    pub target: String,
    /// The headers, `host` among them.
    pub headers: HeaderMap,
}

/// A server that answers every request in the same way and keeps what it saw.
#[derive(Debug)]
pub struct Web {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    /// Answers with this status and the text as body, after a pause.
    pub fn serve(listener: TcpListener, status: u16, text: &'static str, pause: Duration) -> Web {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let task = serve(listener, move |request: Request<_>| {
            let (head, _) = request.into_parts();
            let seen = Seen {
                target: head.uri.to_string(),
                headers: head.headers,
            };
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(seen);
            async move {
                tokio::time::sleep(pause).await;
                let mut response = Response::new(Full::<Bytes>::from(text));
                *response.status_mut() = status.try_into().expect("a status");
                response
            }
        });
        Web { seen, task }
    }

    /// Everything that was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One GET on a connection of its own; the status and the body.
pub async fn get(
    stream: TcpStream,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(target).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(crate::PATIENCE, exchange)
        .await
        .context("no answer")?
}
