//! Answers: JSON, YAML, plain text, streams and refusals.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::error::ApiError;
use super::request::Form;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// A body of known length.
pub(crate) fn bytes(code: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut reply = Response::new(body);
    *reply.status_mut() = code;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static(media));
    reply
}

/// JSON.
pub(crate) fn json(code: StatusCode, value: &Value) -> Reply {
    let mut body = serde_json::to_vec(value).expect("JSON values have text keys");
    body.push(b'\n');
    bytes(code, "application/json", body)
}

/// JSON or YAML, as asked.
pub(crate) fn formed(code: StatusCode, value: &Value, form: Form) -> Reply {
    match form {
        Form::Yaml => match serde_yaml_ng::to_string(value) {
            Ok(text) => bytes(code, "application/yaml", text),
            Err(error) => refusal(&ApiError::internal(error)),
        },
        Form::Json | Form::Table | Form::Metadata => json(code, value),
    }
}

/// Plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    bytes(code, "text/plain; charset=utf-8", body)
}

/// A refusal as a `Status`; one without a reason in plain text, as Kubernetes has it, so that clients
/// that count on a `Status` are found out here.
pub(crate) fn refusal(error: &ApiError) -> Reply {
    if error.reason.is_empty() {
        return text(error.code, format!("{}\n", error.message));
    }
    let mut reply = json(error.code, &error.status());
    if error.code == StatusCode::UNAUTHORIZED {
        reply
            .headers_mut()
            .insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error
        .details
        .as_ref()
        .and_then(|details| details["retryAfterSeconds"].as_u64())
    {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

/// A body that goes on until the stream ends.
pub(crate) fn stream(
    media: &'static str,
    chunks: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Reply {
    use futures::StreamExt;
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync();
    let mut reply = Response::new(body);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static(media));
    reply
}
