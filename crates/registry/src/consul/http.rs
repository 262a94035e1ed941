//! Blocking queries over HTTP.

use std::time::Duration;

use ::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client as Connections, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::Consul;

/// How long a query waits for a change. Consul adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(60);
/// How long an answer may take beyond that.
const SLACK: Duration = Duration::from_secs(15);
/// An answer that is longer is refused.
const MAX_ANSWER: usize = 64 << 20;

/// What a path's part may not hold as it is.
const RESERVED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// A name as a part of a path.
pub(super) fn escaped(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// An answer and the state that it is of.
pub(super) struct Answer<T> {
    pub(super) value: T,
    /// What the next query says it knows.
    pub(super) index: u64,
}

/// Asks one agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    connections: Connections<HttpConnector, Empty<Bytes>>,
    base: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(consul: &Consul) -> Result<Self, String> {
        let base = consul.address.trim_end_matches('/').to_owned();
        let uri: Uri = base
            .parse()
            .map_err(|error| format!("{base:?} is not a URL: {error}"))?;
        match uri.scheme_str() {
            Some("http") if uri.path() == "/" => {}
            Some("http") => return Err(format!("{base:?} has a path, which is not supported")),
            Some("https") => {
                return Err(format!(
                    "{base:?}: HTTPS is not supported; use the agent of this machine or pod over HTTP"
                ));
            }
            _ => return Err(format!("{base:?} is not like http://127.0.0.1:8500")),
        }
        Ok(Self {
            connections: Connections::builder(TokioExecutor::new()).build_http(),
            base,
            token: consul.token.clone(),
        })
    }

    /// What there is once it is another than at `index`; at once for 0.
    ///
    /// # Errors
    /// Why there is no answer that can be used.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        index: u64,
    ) -> Result<Answer<T>, String> {
        let wait = WAIT.as_secs();
        let uri = match index {
            0 => format!("{}{path}", self.base),
            index => format!("{}{path}?index={index}&wait={wait}s", self.base),
        };
        let mut request = Request::get(&uri);
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", token);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let in_words = |error: &dyn std::error::Error| match error.source() {
            Some(source) => format!("{uri}: {error}: {source}"),
            None => format!("{uri}: {error}"),
        };
        let exchange = async {
            let response = self.connections.request(request).await;
            let (head, body) = response.map_err(|error| in_words(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| format!("{uri}: {error}"))?.to_bytes();
            Ok::<_, String>((head, body))
        };
        let (head, body) = tokio::time::timeout(WAIT + WAIT / 16 + SLACK, exchange)
            .await
            .map_err(|_| format!("{uri}: no answer"))??;
        if head.status != StatusCode::OK {
            let said = String::from_utf8_lossy(&body);
            let said: String = said.trim().chars().take(200).collect();
            return Err(format!("{uri}: {}: {said}", head.status));
        }
        // Without it there would be nothing to wait for, and the same would be asked without a pause.
        let next = head.headers.get("x-consul-index");
        let next = next.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let next = next.filter(|next| *next > 0);
        let next = next.ok_or_else(|| format!("{uri}: the answer has no X-Consul-Index"))?;
        let value = serde_json::from_slice(&body).map_err(|error| format!("{uri}: {error}"))?;
        Ok(Answer {
            value,
            // One that goes back is of a server that has begun anew.
            index: if next >= index { next } else { 0 },
        })
    }
}
