//! How long an answer of the API server may take, from the question to the end of its body.
//!
//! Answers that are streams (watches, logs, connections into pods) must begin in that time, and may then
//! go on for as long as they do.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::http::Uri;
use hyper::{Request, Response};
use kube::client::Body as Question;
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service};

/// Subresources of a pod whose answers are streams.
const STREAMS: [&str; 4] = ["/log", "/exec", "/attach", "/portforward"];

/// It took too long.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}; --kubeclient-timeout gives it longer")]
struct TooLate(Duration);

/// Bounds every question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Duration);

impl<S> Layer<S> for Deadline {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            limit: self.0,
        }
    }
}

/// A client whose questions are bounded.
pub(super) struct Bounded<S> {
    inner: S,
    limit: Duration,
}

impl<S, B> Service<Request<Question>> for Bounded<S>
where
    S: Service<Request<Question>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, question: Request<Question>) -> Self::Future {
        let limit = self.limit;
        let deadline = Instant::now() + limit;
        let is_stream = is_stream(question.uri());
        let answer = self.inner.call(question);
        Box::pin(async move {
            let answer = tokio::time::timeout_at(deadline, answer).await;
            let answer = answer.map_err(|_| TooLate(limit))?.map_err(Into::into)?;
            let end = (!is_stream).then(|| Box::pin(tokio::time::sleep_until(deadline)));
            Ok(answer.map(|body| Answer { body, end, limit }))
        })
    }
}

fn is_stream(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"))
        || STREAMS.iter().any(|stream| uri.path().ends_with(stream))
}

/// The body of an answer.
pub(super) struct Answer<B> {
    body: B,
    /// When it must have ended.
    end: Option<Pin<Box<Sleep>>>,
    limit: Duration,
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        match &mut self.end {
            Some(end) => end
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(TooLate(limit).into()))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    /// What is read of an answer that begins and goes on after some time.
    async fn asked(path: &str, begins: Duration, goes_on: Duration) -> Result<String, String> {
        let server = service_fn(move |_: Request<Question>| async move {
            tokio::time::sleep(begins).await;
            let lines = stream::unfold(0, move |line| async move {
                let wait = if line == 0 { Duration::ZERO } else { goes_on };
                tokio::time::sleep(wait).await;
                let frame = Frame::data(Bytes::from(format!("{line}\n")));
                (line < 2).then_some((Ok::<_, BoxError>(frame), line + 1))
            });
            Ok::<_, BoxError>(Response::new(StreamBody::new(Box::pin(lines))))
        });
        let question = Request::get(path)
            .body(Question::empty())
            .expect("a question");
        let answer = Deadline(LIMIT).layer(server).oneshot(question).await;
        let body = answer.map_err(|error| error.to_string())?.into_body();
        let read = body.collect().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&read.to_bytes()).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn whole_answers_are_bounded_and_streams_must_begin() {
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(60));
        let list = "/api/v1/pods?limit=500";
        let watch = "/api/v1/pods?watch=true&resourceVersion=1";
        let log = "/api/v1/namespaces/a/pods/log/log?container=c";
        for (path, begins, goes_on, is_whole) in [
            (list, soon, soon, true),
            (list, late, soon, false),
            (list, soon, late, false),
            ("/api/v1/namespaces/a/pods/b", soon, late, false),
            (watch, soon, late, true),
            (watch, late, soon, false),
            (log, soon, late, true),
            ("/api/v1/namespaces/a/pods/b/exec", soon, late, true),
        ] {
            match asked(path, begins, goes_on).await {
                Ok(read) => assert!(is_whole && read == "0\n1\n", "{path}: {read}"),
                Err(told) => {
                    assert!(!is_whole, "{path} {begins:?} {goes_on:?}: {told}");
                    assert!(told.contains("15s; --kubeclient-timeout"), "{told}");
                }
            }
        }
    }
}
