//! The fault filter's settings.

use std::time::Duration;

use lateen_route::{Fraction, HeaderTest};
use lateen_xds::types::http_filter::{common_fault, fault as pb};

use super::common::{duration, fraction};
use super::route::header_tests;
use super::{DecodeError, Result};
use crate::common::FRACTION;
use crate::route::reads::HEADER_MATCHER;
use crate::unread::Kind::{Harmless, In, Whole};
use crate::unread::Reads;

/// Faults to inject.
#[derive(Debug)]
pub struct Fault {
    /// Of how many requests, and how long.
    pub delay: Option<(Fraction, Duration)>,
    /// What is answered at once.
    pub abort: Option<Abort>,
    /// Requests that pass all of these alone.
    pub headers: Vec<HeaderTest>,
    /// Requests to this cluster alone; empty means any.
    pub upstream_cluster: String,
    /// At most so many at once.
    pub max_active: Option<u32>,
}

/// An answer instead of the upstream's.
#[derive(Debug)]
pub struct Abort {
    /// Of how many requests.
    pub share: Fraction,
    /// The answer.
    pub status: AbortStatus,
}

/// What an abort answers.
#[derive(Debug, Clone, Copy)]
pub enum AbortStatus {
    /// This HTTP status.
    Http(u16),
    /// This gRPC status.
    Grpc(u32),
}

impl Fault {
    /// True where nothing is injected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

/// Compiles them.
pub(super) fn fault(spec: &pb::HttpFault) -> Result<Fault> {
    use common_fault::fault_delay::FaultDelaySecifier;
    use pb::fault_abort::ErrorType;
    if spec.response_rate_limit.is_some() {
        return Err(DecodeError::unsupported(
            "fault.response_rate_limit",
            "a response rate limit",
        ));
    }
    let delay = match &spec.delay {
        None => None,
        Some(delay) => match &delay.fault_delay_secifier {
            Some(FaultDelaySecifier::FixedDelay(fixed)) => Some((
                fraction(delay.percentage.as_ref()),
                duration(Some(fixed)).unwrap_or_default(),
            )),
            _ => return Err(DecodeError::unsupported("fault.delay", "a delay by header")),
        },
    };
    let abort = match &spec.abort {
        None => None,
        Some(abort) => {
            let status = match abort.error_type {
                Some(ErrorType::HttpStatus(status)) => {
                    let status = u16::try_from(status)
                        .ok()
                        .filter(|s| (200..600).contains(s));
                    AbortStatus::Http(status.ok_or_else(|| {
                        DecodeError::new("fault.abort.http_status", "is not between 200 and 599")
                    })?)
                }
                Some(ErrorType::GrpcStatus(status)) => AbortStatus::Grpc(status),
                _ => {
                    return Err(DecodeError::unsupported(
                        "fault.abort",
                        "an abort by header",
                    ));
                }
            };
            Some(Abort {
                share: fraction(abort.percentage.as_ref()),
                status,
            })
        }
    };
    Ok(Fault {
        delay,
        abort,
        headers: header_tests(&spec.headers)?,
        upstream_cluster: spec.upstream_cluster.clone(),
        max_active: spec.max_active_faults.as_ref().map(|max| max.value),
    })
}

pub(crate) static FAULT: Reads = Reads::of(
    "envoy.extensions.filters.http.fault.v3.HTTPFault",
    &[
        (1, "delay", In(&DELAY)),
        (2, "abort", In(&ABORT)),
        (3, "upstream_cluster", Whole),
        (4, "headers[]", In(&HEADER_MATCHER)),
        (6, "max_active_faults", Whole),
        (7, "response_rate_limit", Whole),
        (8, "delay_percent_runtime", Harmless),
        (9, "abort_percent_runtime", Harmless),
        (10, "delay_duration_runtime", Harmless),
        (11, "abort_http_status_runtime", Harmless),
        (12, "max_active_faults_runtime", Harmless),
        (13, "response_rate_limit_percent_runtime", Harmless),
        (14, "abort_grpc_status_runtime", Harmless),
        (15, "disable_downstream_cluster_stats", Harmless),
        (16, "filter_metadata", Harmless),
    ],
);

pub(crate) static DELAY: Reads = Reads::of(
    "envoy.extensions.filters.common.fault.v3.FaultDelay",
    &[
        (3, "fixed_delay", Whole),
        (4, "percentage", In(&FRACTION)),
        (5, "header_delay", Whole),
    ],
);

pub(crate) static ABORT: Reads = Reads::of(
    "envoy.extensions.filters.http.fault.v3.FaultAbort",
    &[
        (2, "http_status", Whole),
        (3, "percentage", In(&FRACTION)),
        (4, "header_abort", Whole),
        (5, "grpc_status", Whole),
    ],
);
