//! Why a request or connection ended as it did: one word for the response
//! flag, the metric's label and the log line.

use std::fmt;

/// What went wrong, in the words of Envoy's response flags
/// (access-log command `%RESPONSE_FLAGS%`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client went away.
    DownstreamConnectionTermination,
    /// The client broke the protocol.
    DownstreamProtocolError,
    /// The upstream broke the protocol.
    UpstreamProtocolError,
    /// No connection to the upstream could be made.
    UpstreamConnectionFailure,
    /// The upstream closed the connection in the middle.
    UpstreamConnectionTermination,
    /// The upstream reset the stream.
    UpstreamRemoteReset,
    /// The proxy reset the stream.
    LocalReset,
    /// No healthy endpoint is known.
    NoHealthyUpstream,
    /// No route matched.
    NoRouteFound,
    /// The route names a cluster that is not known.
    NoClusterFound,
    /// A circuit breaker is open.
    UpstreamOverflow,
    /// The name of the upstream could not be looked up.
    DnsResolutionFailed,
    /// The upstream took longer than the route's timeout.
    UpstreamRequestTimeout,
    /// The stream was idle for too long.
    StreamIdleTimeout,
    /// The whole request took longer than allowed.
    DurationTimeout,
    /// All attempts were used up.
    UpstreamRetryLimitExceeded,
    /// A fault rule delayed the request.
    DelayInjected,
    /// A fault rule answered the request.
    FaultInjected,
    /// A rate limit was reached.
    RateLimited,
    /// A policy refused the request.
    UnauthorizedExternalService,
    /// The proxy is overloaded.
    OverloadManager,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client's.
    Client,
    /// The upstream's, or the network's on the way there.
    Upstream,
    /// The mesh's own: its configuration, policy or limits.
    Mesh,
}

/// Whether trying again can be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The request may have been processed, or trying again cannot help.
    Never,
    /// Nothing was processed: a fresh connection may do better.
    FreshConnection,
}

impl Reason {
    /// The short form, as in access logs and the label `response_flags`.
    pub const fn flag(self) -> &'static str {
        match self {
            Reason::DownstreamConnectionTermination => "DC",
            Reason::DownstreamProtocolError => "DPE",
            Reason::UpstreamProtocolError => "UPE",
            Reason::UpstreamConnectionFailure => "UF",
            Reason::UpstreamConnectionTermination => "UC",
            Reason::UpstreamRemoteReset => "UR",
            Reason::LocalReset => "LR",
            Reason::NoHealthyUpstream => "UH",
            Reason::NoRouteFound => "NR",
            Reason::NoClusterFound => "NC",
            Reason::UpstreamOverflow => "UO",
            Reason::DnsResolutionFailed => "DF",
            Reason::UpstreamRequestTimeout => "UT",
            Reason::StreamIdleTimeout => "SI",
            Reason::DurationTimeout => "DT",
            Reason::UpstreamRetryLimitExceeded => "URX",
            Reason::DelayInjected => "DI",
            Reason::FaultInjected => "FI",
            Reason::RateLimited => "RL",
            Reason::UnauthorizedExternalService => "UAEX",
            Reason::OverloadManager => "OM",
        }
    }

    /// Whose fault it was.
    pub const fn fault(self) -> Fault {
        match self {
            Reason::DownstreamConnectionTermination | Reason::DownstreamProtocolError => {
                Fault::Client
            }
            Reason::UpstreamProtocolError
            | Reason::UpstreamConnectionFailure
            | Reason::UpstreamConnectionTermination
            | Reason::UpstreamRemoteReset
            | Reason::NoHealthyUpstream
            | Reason::DnsResolutionFailed
            | Reason::UpstreamRequestTimeout
            | Reason::UpstreamRetryLimitExceeded => Fault::Upstream,
            Reason::LocalReset
            | Reason::NoRouteFound
            | Reason::NoClusterFound
            | Reason::UpstreamOverflow
            | Reason::StreamIdleTimeout
            | Reason::DurationTimeout
            | Reason::DelayInjected
            | Reason::FaultInjected
            | Reason::RateLimited
            | Reason::UnauthorizedExternalService
            | Reason::OverloadManager => Fault::Mesh,
        }
    }

    /// Whether a retry is known to be safe.
    pub const fn retry(self) -> Retry {
        match self {
            Reason::UpstreamConnectionFailure => Retry::FreshConnection,
            _ => Retry::Never,
        }
    }

    /// The HTTP status that a client gets when the proxy answers for this reason.
    pub const fn status(self) -> u16 {
        match self {
            Reason::DownstreamConnectionTermination | Reason::LocalReset => 499,
            Reason::DownstreamProtocolError => 400,
            Reason::UpstreamProtocolError => 502,
            Reason::UpstreamConnectionFailure
            | Reason::UpstreamConnectionTermination
            | Reason::UpstreamRemoteReset
            | Reason::NoHealthyUpstream
            | Reason::NoClusterFound
            | Reason::UpstreamOverflow
            | Reason::DnsResolutionFailed
            | Reason::UpstreamRetryLimitExceeded
            | Reason::FaultInjected
            | Reason::OverloadManager => 503,
            Reason::NoRouteFound => 404,
            Reason::UpstreamRequestTimeout | Reason::DurationTimeout => 504,
            Reason::StreamIdleTimeout => 408,
            Reason::RateLimited => 429,
            Reason::UnauthorizedExternalService => 403,
            Reason::DelayInjected => 200,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_sent_is_safe_to_retry() {
        assert_eq!(
            Reason::UpstreamConnectionFailure.retry(),
            Retry::FreshConnection
        );
        assert_eq!(Reason::UpstreamConnectionTermination.retry(), Retry::Never);
        assert_eq!(Reason::NoRouteFound.fault(), Fault::Mesh);
    }
}
