//! When a request is tried again.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lateen_core::Reason;
use lateen_http::{Body, BodyError, Error, Frame, Known, RequestHead, Response, Source};
use lateen_route::{HeaderTest, RetryOn, RetryPolicy};
use tokio::time::Instant;

use crate::cluster::ConnectError;

/// Why an attempt brought no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Connect(ConnectError),
    /// A connection, but no response.
    Exchange {
        error: Error,
        /// On a connection that had served before.
        reused: bool,
    },
    /// The time for one try was up.
    PerTryTimeout,
}

impl Failure {
    /// The reason in logs, metrics and the answer.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Failure::Connect(ConnectError::Overflow(_)) => Reason::UpstreamOverflow,
            Failure::Connect(_) => Reason::UpstreamConnectionFailure,
            Failure::PerTryTimeout => Reason::UpstreamRequestTimeout,
            Failure::Exchange { error, .. } => match error {
                Error::Closed(_) | Error::Timeout(_) => Reason::UpstreamConnectionTermination,
                Error::Refused(_) | Error::Reset(_) => Reason::UpstreamRemoteReset,
                Error::Protocol(_) | Error::Unsendable(_) => Reason::UpstreamProtocolError,
                Error::Body(_) => Reason::DownstreamConnectionTermination,
            },
        }
    }

    /// The text for the log.
    pub(crate) fn text(&self) -> String {
        match self {
            Failure::Connect(error) => error.to_string(),
            Failure::Exchange { .. } | Failure::PerTryTimeout => String::new(),
        }
    }

    /// True where the policy asks for another try.
    pub(crate) fn wants_retry(&self, policy: &RetryPolicy) -> bool {
        let on = policy.on;
        let any_failure = on.has(RetryOn::SERVER_ERROR) || on.has(RetryOn::GATEWAY_ERROR);
        match self {
            Failure::Connect(ConnectError::Overflow(_)) => false,
            Failure::Connect(_) => {
                any_failure
                    || on.has(
                        RetryOn::CONNECT_FAILURE
                            .with(RetryOn::RESET)
                            .with(RetryOn::RESET_BEFORE_REQUEST),
                    )
            }
            Failure::PerTryTimeout => any_failure || on.has(RetryOn::RESET),
            Failure::Exchange {
                error: Error::Body(_) | Error::Unsendable(_),
                ..
            } => false,
            Failure::Exchange {
                error: Error::Refused(_),
                ..
            } => any_failure || on.has(RetryOn::REFUSED_STREAM.with(RetryOn::RESET)),
            Failure::Exchange { .. } => any_failure || on.has(RetryOn::RESET),
        }
    }
}

/// True where the policy asks for another try after this response.
pub(crate) fn response_wants_retry(policy: &RetryPolicy, response: &Response) -> bool {
    let head = &response.head;
    let grpc = head
        .headers
        .get(Known::GRPC_STATUS)
        .and_then(|status| status.parse().ok());
    if policy.wants_status(head.status, grpc) {
        return true;
    }
    policy.on.has(RetryOn::HEADERS)
        && policy
            .headers
            .iter()
            .any(|test| test.test(head.headers.joined(test.name()).as_deref()))
}

/// True where the policy is for requests like this one.
pub(crate) fn request_allows_retry(policy: &RetryPolicy, head: &RequestHead) -> bool {
    let tests = &policy.request_headers;
    let passes = |test: &HeaderTest| test.test(head.headers.joined(test.name()).as_deref());
    tests.is_empty() || tests.iter().any(passes)
}

/// How long a try has been quiet: since it began, or since the last piece of the request's body.
pub(crate) struct Quiet {
    limit: Duration,
    since: Arc<Mutex<Instant>>,
}

impl Quiet {
    /// Watches a try whose request has this body.
    pub(crate) fn new(limit: Duration, body: Body) -> (Self, Body) {
        let since = Arc::new(Mutex::new(Instant::now()));
        let quiet = Quiet {
            limit,
            since: since.clone(),
        };
        let body = match body.is_whole() {
            true => body,
            false => Body::from_source(Watched { body, since }),
        };
        (quiet, body)
    }

    /// Resolves when it was quiet for longer than it may be.
    pub(crate) async fn lasts_too_long(&self) {
        loop {
            let until = *self.since.lock().unwrap_or_else(PoisonError::into_inner) + self.limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A body that says when it moves on.
struct Watched {
    body: Body,
    since: Arc<Mutex<Instant>>,
}

impl Source for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.body.poll_next(cx));
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

/// The pause before the next try: random, up to a bound that doubles.
pub(crate) fn pause(policy: &RetryPolicy, tries: u32) -> Duration {
    let base = policy.base_interval.max(Duration::from_millis(1));
    let factor = 2_u32.saturating_pow(tries.saturating_sub(1).min(16));
    let bound = base
        .saturating_mul(factor)
        .min(policy.max_interval.max(base));
    bound.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_failures() {
        let policy = |on: &str| RetryPolicy {
            on: RetryOn::parse(on).0,
            ..RetryPolicy::default()
        };
        let connect = Failure::Connect(ConnectError::Timeout);
        let closed = Failure::Exchange {
            error: Error::Closed("reset".to_owned()),
            reused: false,
        };
        let refused = Failure::Exchange {
            error: Error::Refused("goaway".to_owned()),
            reused: false,
        };
        let istio = policy("connect-failure,refused-stream,unavailable,cancelled");
        assert!(connect.wants_retry(&istio));
        assert!(refused.wants_retry(&istio));
        assert!(!closed.wants_retry(&istio));
        assert!(closed.wants_retry(&policy("reset")));
        assert!(closed.wants_retry(&policy("5xx")));
        assert!(!Failure::PerTryTimeout.wants_retry(&istio));
    }

    #[test]
    fn pauses_are_bounded() {
        let policy = RetryPolicy::default();
        for tries in 1..40 {
            assert!(pause(&policy, tries) <= policy.max_interval);
        }
    }
}
