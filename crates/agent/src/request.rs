//! `pilot-agent wait` and `pilot-agent request`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};

use crate::{Error, http};

/// A drain may take its time.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks `url` until it answers 200.
pub(crate) async fn wait(
    url: &str,
    total: Duration,
    attempt: Duration,
    period: Duration,
) -> Result<(), Error> {
    let mut last = "no attempt was made".to_owned();
    let ready = async {
        loop {
            last = match http::get(url, attempt).await {
                Ok(answer) if answer.status.is_success() => return,
                Ok(answer) => answer.status.to_string(),
                Err(error) => error,
            };
            tokio::time::sleep(period).await;
        }
    };
    let in_time = tokio::time::timeout(total, ready).await.is_ok();
    if in_time {
        return Ok(());
    }
    Err(Error::Request(format!(
        "{url} is not ready after {total:?}: {last}"
    )))
}

/// Sends one request to a port of this pod and returns the body of a successful answer.
pub(crate) async fn send(
    port: u16,
    method: &str,
    path: &str,
    body: String,
) -> Result<String, Error> {
    let failed = |why: String| Error::Request(format!("{method} {path}: {why}"));
    let method_ = Method::from_bytes(method.to_uppercase().as_bytes());
    let url = format!("http://localhost:{port}/{}", path.trim_start_matches('/'));
    let request = Request::builder()
        .method(method_.map_err(|e| failed(e.to_string()))?)
        .uri(url)
        .header("content-length", body.len())
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| failed(e.to_string()))?;
    let answer = http::send(request, LIMIT).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status.is_success() {
        return Ok(text);
    }
    Err(failed(format!("{} {}", answer.status, text.trim())))
}
