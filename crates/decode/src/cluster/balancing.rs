//! How a cluster chooses among its hosts.

use lateen_balance::{Policy, SlowStart};
use lateen_xds::TypeUrl;
use lateen_xds::types::cluster as pb;
use lateen_xds::types::cluster::cluster::{LbConfig, LbPolicy, SlowStartConfig};
use lateen_xds::types::wkt::UInt64Value;

use crate::common::duration;
use crate::{DecodeError, Result};

/// Envoy's defaults of `minimum_ring_size` and `maximum_ring_size`.
const RING_MIN: u32 = 1024;
const RING_MAX: u32 = 8_388_608;
/// Envoy's default of `table_size`, and its greatest.
const MAGLEV_SIZE: u64 = 65_537;
const MAGLEV_SIZE_MAX: u64 = 5_000_011;
/// Envoy's default of `min_weight_percent`.
const MIN_WEIGHT_PERCENT: f64 = 10.0;

/// The way of choosing.
pub(super) fn policy(spec: &pb::Cluster) -> Result<Policy> {
    if let Some(policies) = &spec.load_balancing_policy {
        return extension_policy(policies);
    }
    Ok(match spec.lb_policy() {
        LbPolicy::RoundRobin | LbPolicy::ClusterProvided => Policy::RoundRobin,
        LbPolicy::LeastRequest => Policy::LeastRequest {
            choices: match &spec.lb_config {
                Some(LbConfig::LeastRequestLbConfig(config)) => {
                    config.choice_count.as_ref().map_or(2, |count| count.value)
                }
                _ => 2,
            },
        },
        LbPolicy::Random => Policy::Random,
        LbPolicy::RingHash => ring(spec),
        LbPolicy::Maglev => maglev(spec)?,
        LbPolicy::LoadBalancingPolicyConfig => {
            return Err(DecodeError::new("load_balancing_policy", "is required"));
        }
    })
}

fn ring(spec: &pb::Cluster) -> Policy {
    let config = match &spec.lb_config {
        Some(LbConfig::RingHashLbConfig(config)) => Some(config),
        _ => None,
    };
    let size = |value: Option<UInt64Value>, default: u32| {
        value.map_or(default, |size| {
            u32::try_from(size.value).unwrap_or(u32::MAX)
        })
    };
    Policy::RingHash {
        min: size(config.and_then(|c| c.minimum_ring_size), RING_MIN),
        max: size(config.and_then(|c| c.maximum_ring_size), RING_MAX),
    }
}

fn maglev(spec: &pb::Cluster) -> Result<Policy> {
    let size = match &spec.lb_config {
        Some(LbConfig::MaglevLbConfig(config)) => {
            let size = config.table_size.as_ref();
            size.map_or(MAGLEV_SIZE, |size| size.value)
        }
        _ => MAGLEV_SIZE,
    };
    let field = "maglev_lb_config.table_size";
    if size > MAGLEV_SIZE_MAX {
        let text = format!("{size} is above {MAGLEV_SIZE_MAX}");
        return Err(DecodeError::new(field, text));
    }
    if !is_prime(size) {
        return Err(DecodeError::new(
            field,
            format!("{size} is no prime number"),
        ));
    }
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    Ok(Policy::Maglev { size })
}

/// By division, since the greatest number asked for has few divisors to try.
fn is_prime(number: u64) -> bool {
    let divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1
        && divisors
            .into_iter()
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// How new hosts come into their share.
pub(super) fn slow_start(spec: &pb::Cluster) -> Result<Option<SlowStart>> {
    let config = match &spec.lb_config {
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
        _ => None,
    };
    let Some(config) = config else {
        return Ok(None);
    };
    let SlowStartConfig {
        slow_start_window,
        aggression,
        min_weight_percent,
    } = config;
    let aggression = aggression.as_ref().map_or(1.0, |value| value.default_value);
    if !(aggression > 0.0 && aggression.is_finite()) {
        let text = format!("{aggression} is not above 0");
        return Err(DecodeError::new("slow_start_config.aggression", text));
    }
    let percent = min_weight_percent.as_ref();
    let min_percent = percent.map_or(MIN_WEIGHT_PERCENT, |percent| percent.value);
    Ok(
        duration(slow_start_window.as_ref()).map(|window| SlowStart {
            window: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            aggression,
            min_percent,
        }),
    )
}

/// The newer form, by type alone; the first known policy counts.
fn extension_policy(list: &pb::LoadBalancingPolicy) -> Result<Policy> {
    for policy in &list.policies {
        let any = policy
            .typed_extension_config
            .as_ref()
            .and_then(|c| c.typed_config.as_ref());
        let Some(any) = any else { continue };
        match TypeUrl::new(&any.type_url).message().rsplit('.').next() {
            Some("RoundRobin" | "ClusterProvided") => return Ok(Policy::RoundRobin),
            Some("LeastRequest") => return Ok(Policy::LeastRequest { choices: 2 }),
            Some("Random") => return Ok(Policy::Random),
            Some("RingHash") => {
                return Ok(Policy::RingHash {
                    min: RING_MIN,
                    max: RING_MAX,
                });
            }
            Some("Maglev") => {
                let size = u32::try_from(MAGLEV_SIZE).unwrap_or(u32::MAX);
                return Ok(Policy::Maglev { size });
            }
            _ => {}
        }
    }
    Err(DecodeError::unsupported(
        "load_balancing_policy",
        "any of these policies",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_maglevs_table() {
        let of = |size: u64| {
            let table_size = Some(UInt64Value { value: size });
            let config = pb::cluster::MaglevLbConfig { table_size };
            maglev(&pb::Cluster {
                lb_config: Some(LbConfig::MaglevLbConfig(config)),
                ..pb::Cluster::default()
            })
        };
        assert_eq!(of(101).expect("a prime"), Policy::Maglev { size: 101 });
        assert!(of(100).is_err_and(|error| error.to_string().contains("no prime")));
        assert!(of(5_000_077).is_err_and(|error| error.to_string().contains("above")));
    }

    #[test]
    fn primes() {
        let primes = (0..30).filter(|number| is_prime(*number));
        assert!(primes.eq([2, 3, 5, 7, 11, 13, 17, 19, 23, 29]));
        assert!(is_prime(MAGLEV_SIZE) && is_prime(MAGLEV_SIZE_MAX));
        assert!(!is_prime(65_536) && !is_prime(2_003 * 2_011));
    }
}
