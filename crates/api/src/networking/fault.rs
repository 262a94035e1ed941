//! What the fields of a fault come to, for those who judge them and those who act on them.

use super::{FaultAbort, FaultDelay, Percent};

impl FaultDelay {
    /// The share of requests that are delayed, in percent.
    pub fn share(&self) -> f64 {
        share(self.percentage.as_ref(), self.percent)
    }
}

impl FaultAbort {
    /// The share of requests that are aborted, in percent.
    pub fn share(&self) -> f64 {
        share(self.percentage.as_ref(), self.percent)
    }
}

/// The newer field, else the deprecated whole number, else nobody, as in Istio.
fn share(percentage: Option<&Percent>, percent: Option<f64>) -> f64 {
    percentage.map(|p| p.value).or(percent).unwrap_or(0.0)
}

/// gRPC's status codes in the order of their numbers.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a gRPC status, which users write by number or by name.
pub fn grpc_status(text: &str) -> Option<u32> {
    let by_name = GRPC_STATUSES
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    let known = |number: &usize| *number < GRPC_STATUSES.len();
    let number = by_name.or_else(|| text.parse().ok().filter(known))?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_by_name_and_number() {
        for (text, want) in [
            ("UNAVAILABLE", Some(14)),
            ("unavailable", Some(14)),
            ("16", Some(16)),
            ("17", None),
            ("-1", None),
            ("AWAY", None),
        ] {
            assert_eq!(grpc_status(text), want, "{text}");
        }
    }

    #[test]
    fn the_newer_share_counts_and_none_is_nobody() {
        let share = |percent, percentage: Option<f64>| {
            let percentage = percentage.map(|value| Percent { value });
            FaultDelay {
                percent,
                percentage,
                ..FaultDelay::default()
            }
            .share()
        };
        assert!((share(Some(10.0), Some(20.5)) - 20.5).abs() < f64::EPSILON);
        assert!((share(Some(10.0), None) - 10.0).abs() < f64::EPSILON);
        assert!(share(None, None).abs() < f64::EPSILON);
    }
}
