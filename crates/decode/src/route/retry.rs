//! When and how requests are tried again.

use lateen_route::{RetryOn, RetryPolicy};
use lateen_xds::types::route as pb;

use super::matching::header_test;
use super::reads::HEADER_MATCHER;
use crate::common::duration;
use crate::unread::Kind::{Harmless, In, Packed, Whole, Words};
use crate::unread::{Reads, Types};
use crate::{DecodeError, Result, typed};

/// Compiles a retry policy.
pub(super) fn retry(spec: &pb::RetryPolicy) -> Result<RetryPolicy> {
    let defaults = RetryPolicy::default();
    let (on, mut status_codes) = RetryOn::parse(&spec.retry_on);
    for code in &spec.retriable_status_codes {
        let code = u16::try_from(*code);
        status_codes.push(code.map_err(|_| {
            DecodeError::new("retry_policy.retriable_status_codes", "is no HTTP status")
        })?);
    }
    let back_off = spec.retry_back_off.as_ref();
    let base = back_off.and_then(|back_off| duration(back_off.base_interval.as_ref()));
    let base = base.unwrap_or(defaults.base_interval);
    let max = back_off.and_then(|back_off| duration(back_off.max_interval.as_ref()));
    let hosts = u32::try_from(spec.host_selection_retry_max_attempts).unwrap_or(1);
    Ok(RetryPolicy {
        on,
        attempts: spec
            .num_retries
            .as_ref()
            .map_or(defaults.attempts, |number| number.value),
        per_try_timeout: duration(spec.per_try_timeout.as_ref()).unwrap_or_default(),
        per_try_idle: duration(spec.per_try_idle_timeout.as_ref()).unwrap_or_default(),
        base_interval: base,
        max_interval: max.unwrap_or(base * 10),
        status_codes,
        headers: spec
            .retriable_headers
            .iter()
            .map(header_test)
            .collect::<Result<_>>()?,
        request_headers: spec
            .retriable_request_headers
            .iter()
            .map(header_test)
            .collect::<Result<_>>()?,
        avoid_previous_hosts: spec
            .retry_host_predicate
            .iter()
            .any(|predicate| predicate.name.ends_with("previous_hosts")),
        host_attempts: hosts.max(1),
        leave_priorities_after: retry_priority(spec.retry_priority.as_ref())?,
    })
}

/// After how many tries their priorities are passed over.
fn retry_priority(spec: Option<&pb::retry_policy::RetryPriority>) -> Result<u32> {
    use lateen_xds::envoy::extensions::retry::priority::previous_priorities::v3 as previous;
    use pb::retry_policy::retry_priority::ConfigType;
    let Some(spec) = spec else {
        return Ok(0);
    };
    let field = "retry_policy.retry_priority";
    if !spec.name.ends_with("previous_priorities") {
        return Err(DecodeError::unsupported(field, format!("{:?}", spec.name)));
    }
    let Some(ConfigType::TypedConfig(any)) = &spec.config_type else {
        return Err(DecodeError::new(field, "has no configuration"));
    };
    let config: previous::PreviousPrioritiesConfig = typed(field, any)?;
    match u32::try_from(config.update_frequency) {
        Ok(after) if after > 0 => Ok(after),
        _ => Err(DecodeError::new(field, "update_frequency is not above 0")),
    }
}

pub(crate) static RETRY: Reads = Reads::of(
    "envoy.config.route.v3.RetryPolicy",
    &[
        (
            1,
            "retry_on",
            Words(|list| RetryOn::unknown(list).map(str::to_owned).collect()),
        ),
        (2, "num_retries", Whole),
        (3, "per_try_timeout", Whole),
        (4, "retry_priority", In(&RETRY_PRIORITY)),
        (5, "retry_host_predicate[]", In(&HOST_PREDICATE)),
        (6, "host_selection_retry_max_attempts", Whole),
        (7, "retriable_status_codes[]", Whole),
        (8, "retry_back_off", In(&BACK_OFF)),
        (9, "retriable_headers[]", In(&HEADER_MATCHER)),
        (10, "retriable_request_headers[]", In(&HEADER_MATCHER)),
        (13, "per_try_idle_timeout", Whole),
    ],
);

pub(crate) static RETRY_PRIORITY: Reads = Reads::of(
    "envoy.config.route.v3.RetryPolicy.RetryPriority",
    &[
        (1, "name", Whole),
        (
            3,
            "typed_config",
            Packed(Types::of(&[&PREVIOUS_PRIORITIES])),
        ),
    ],
);

pub(crate) static PREVIOUS_PRIORITIES: Reads = Reads::of(
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    &[(1, "update_frequency", Whole)],
);

pub(crate) static HOST_PREDICATE: Reads = Reads::of(
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    &[(1, "name", Whole), (3, "typed_config", Harmless)],
);

pub(crate) static BACK_OFF: Reads = Reads::of(
    "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    &[(1, "base_interval", Whole), (2, "max_interval", Whole)],
);
