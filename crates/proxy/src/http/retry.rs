//! When a request is tried again.

use std::time::Duration;

use lateen_core::Reason;
use lateen_http::{Error, Known, Response};
use lateen_route::{RetryOn, RetryPolicy};

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
