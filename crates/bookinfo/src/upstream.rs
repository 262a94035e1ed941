//! Requests from one service to another.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

/// The most that an answer may hold; real ones have a few hundred bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Broken(String),
}

impl Failure {
    /// The status that tells the caller's caller.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Status(status) => *status,
            Self::TimedOut(_) | Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A client that keeps its connections for the next request.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than servers keep idle connections, so that we rarely meet a closed one.
            .pool_idle_timeout(Duration::from_secs(15))
            .build(connector);
        Self { client }
    }

    /// Gets JSON from `http://{authority}{path}`. The time limit is for all of it.
    pub(crate) async fn get(
        &self,
        authority: &str,
        path: &str,
        headers: &HeaderMap,
        limit: Duration,
    ) -> Result<Value, Failure> {
        let uri = format!("http://{authority}{path}");
        let uri: Uri = uri
            .parse()
            .map_err(|_| Failure::Broken(format!("{uri} is not an address")))?;
        let answer = tokio::time::timeout(limit, self.fetch(&uri, headers)).await;
        answer.unwrap_or(Err(Failure::TimedOut(limit)))
    }

    async fn fetch(&self, uri: &Uri, headers: &HeaderMap) -> Result<Value, Failure> {
        let request = || {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        let answer = match self.client.request(request()).await {
            // The server may close an idle connection in the moment in which it is used. These
            // requests change nothing, so asking again is safe.
            Err(error) if !error.is_connect() => self.client.request(request()).await,
            answer => answer,
        };
        let answer = answer.map_err(|error| Failure::Broken(describe(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| Failure::Broken(error.to_string()))?
            .to_bytes();
        if status != StatusCode::OK {
            return Err(Failure::Status(status));
        }
        serde_json::from_slice(&body).map_err(|error| Failure::Broken(error.to_string()))
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
