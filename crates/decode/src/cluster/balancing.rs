//! How a cluster chooses among its hosts.

use lateen_balance::{Policy, SlowStart, ZoneAware};
use lateen_xds::TypeUrl;
use lateen_xds::envoy::extensions::load_balancing_policies::common::v3 as lb;
use lateen_xds::types::cluster as pb;
use lateen_xds::types::cluster::cluster::{LbConfig, LbPolicy};
use lateen_xds::types::core::RuntimeDouble;
use lateen_xds::types::kind::Percent;
use lateen_xds::types::wkt::{Duration, UInt64Value};

use crate::common::duration;
use crate::unread::Kind::{Harmless, In, Packed, Whole};
use crate::unread::{Reads, Types};
use crate::{DecodeError, Result, typed};

/// Envoy's defaults of `minimum_ring_size` and `maximum_ring_size`.
const RING_MIN: u32 = 1024;
const RING_MAX: u32 = 8_388_608;
/// Envoy's default of `table_size`, and its greatest.
const MAGLEV_SIZE: u64 = 65_537;
const MAGLEV_SIZE_MAX: u64 = 5_000_011;
/// Envoy's default of `min_weight_percent`.
const MIN_WEIGHT_PERCENT: f64 = 10.0;

/// How a cluster chooses.
pub(super) struct Choice {
    pub policy: Policy,
    /// How new hosts come into their share.
    pub slow_start: Option<SlowStart>,
    /// Localities have shares of their own.
    pub locality_weighted: bool,
    /// When zones count; what says nothing of it has the default.
    pub zones: Option<ZoneAware>,
}

/// Compiles the way of choosing.
pub(super) fn choice(spec: &pb::Cluster) -> Result<Choice> {
    if let Some(policies) = &spec.load_balancing_policy {
        return extension(policies);
    }
    use pb::cluster::common_lb_config::LocalityConfigSpecifier::{
        LocalityWeightedLbConfig, ZoneAwareLbConfig,
    };
    let common = spec.common_lb_config.as_ref();
    let localities = common.and_then(|common| common.locality_config_specifier.as_ref());
    let is_provided = spec.lb_policy() == LbPolicy::ClusterProvided;
    Ok(Choice {
        policy: policy(spec)?,
        slow_start: slow_start(spec)?,
        locality_weighted: matches!(localities, Some(LocalityWeightedLbConfig(_))),
        zones: match localities {
            _ if is_provided => None,
            Some(LocalityWeightedLbConfig(_)) => None,
            Some(ZoneAwareLbConfig(config)) => Some(ZoneAware {
                fail_on_panic: config.fail_traffic_on_panic,
                ..zone_aware(config.routing_enabled, config.min_cluster_size)
            }),
            None => Some(ZoneAware::default()),
        },
    })
}

/// When zones count, by the fields that both forms have.
fn zone_aware(enabled: Option<Percent>, min_hosts: Option<UInt64Value>) -> ZoneAware {
    let default = ZoneAware::default();
    ZoneAware {
        percent: enabled.map_or(default.percent, |percent| percent.value.round() as u32),
        min_hosts: min_hosts.map_or(default.min_hosts, |size| size.value),
        ..default
    }
}

fn policy(spec: &pb::Cluster) -> Result<Policy> {
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
        LbPolicy::RingHash => match &spec.lb_config {
            Some(LbConfig::RingHashLbConfig(config)) => {
                ring(config.minimum_ring_size, config.maximum_ring_size)
            }
            _ => ring(None, None),
        },
        LbPolicy::Maglev => maglev(match &spec.lb_config {
            Some(LbConfig::MaglevLbConfig(config)) => config.table_size,
            _ => None,
        })?,
        LbPolicy::LoadBalancingPolicyConfig => {
            return Err(DecodeError::new("load_balancing_policy", "is required"));
        }
    })
}

fn ring(min: Option<UInt64Value>, max: Option<UInt64Value>) -> Policy {
    let size = |value: Option<UInt64Value>, default: u32| {
        value.map_or(default, |size| {
            u32::try_from(size.value).unwrap_or(u32::MAX)
        })
    };
    Policy::RingHash {
        min: size(min, RING_MIN),
        max: size(max, RING_MAX),
    }
}

fn maglev(size: Option<UInt64Value>) -> Result<Policy> {
    let size = size.map_or(MAGLEV_SIZE, |size| size.value);
    let field = "table_size";
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

fn slow_start(spec: &pb::Cluster) -> Result<Option<SlowStart>> {
    let config = match &spec.lb_config {
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
        _ => None,
    };
    let Some(config) = config else {
        return Ok(None);
    };
    window(
        config.slow_start_window.as_ref(),
        config.aggression.as_ref(),
        config.min_weight_percent.as_ref(),
    )
}

/// How new hosts come into their share.
fn window(
    length: Option<&Duration>,
    aggression: Option<&RuntimeDouble>,
    min_weight_percent: Option<&Percent>,
) -> Result<Option<SlowStart>> {
    let aggression = aggression.map_or(1.0, |value| value.default_value);
    if !(aggression > 0.0 && aggression.is_finite()) {
        let text = format!("{aggression} is not above 0");
        return Err(DecodeError::new("slow_start_config.aggression", text));
    }
    Ok(duration(length).map(|window| SlowStart {
        window: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        aggression,
        min_percent: min_weight_percent.map_or(MIN_WEIGHT_PERCENT, |percent| percent.value),
    }))
}

/// The newer form: of the policies that it lists, the first known one counts.
fn extension(list: &pb::LoadBalancingPolicy) -> Result<Choice> {
    use lateen_xds::envoy::extensions::load_balancing_policies as ext;
    let field = "load_balancing_policy";
    for policy in &list.policies {
        let config = policy.typed_extension_config.as_ref();
        let Some(any) = config.and_then(|config| config.typed_config.as_ref()) else {
            continue;
        };
        let message = TypeUrl::new(&any.type_url).message().to_owned();
        let Some(name) = message.strip_prefix("envoy.extensions.load_balancing_policies.") else {
            continue;
        };
        let plain = |policy| Choice {
            policy,
            slow_start: None,
            locality_weighted: false,
            zones: None,
        };
        return Ok(match name {
            "round_robin.v3.RoundRobin" => {
                let config: ext::round_robin::v3::RoundRobin = typed(field, any)?;
                Choice {
                    slow_start: extension_slow_start(config.slow_start_config.as_ref())?,
                    locality_weighted: weighted(config.locality_lb_config.as_ref()),
                    zones: zones(config.locality_lb_config.as_ref()),
                    ..plain(Policy::RoundRobin)
                }
            }
            "least_request.v3.LeastRequest" => {
                let config: ext::least_request::v3::LeastRequest = typed(field, any)?;
                let choices = config.choice_count.map_or(2, |count| count.value);
                Choice {
                    slow_start: extension_slow_start(config.slow_start_config.as_ref())?,
                    locality_weighted: weighted(config.locality_lb_config.as_ref()),
                    zones: zones(config.locality_lb_config.as_ref()),
                    ..plain(Policy::LeastRequest { choices })
                }
            }
            "random.v3.Random" => {
                let config: ext::random::v3::Random = typed(field, any)?;
                Choice {
                    locality_weighted: weighted(config.locality_lb_config.as_ref()),
                    zones: zones(config.locality_lb_config.as_ref()),
                    ..plain(Policy::Random)
                }
            }
            "ring_hash.v3.RingHash" => {
                let config: ext::ring_hash::v3::RingHash = typed(field, any)?;
                Choice {
                    locality_weighted: config.locality_weighted_lb_config.is_some(),
                    ..plain(ring(config.minimum_ring_size, config.maximum_ring_size))
                }
            }
            "maglev.v3.Maglev" => {
                let config: ext::maglev::v3::Maglev = typed(field, any)?;
                Choice {
                    locality_weighted: config.locality_weighted_lb_config.is_some(),
                    ..plain(maglev(config.table_size)?)
                }
            }
            "cluster_provided.v3.ClusterProvided" => plain(Policy::RoundRobin),
            _ => continue,
        });
    }
    Err(DecodeError::unsupported(field, "any of these policies"))
}

/// Whether localities have shares of their own.
fn weighted(config: Option<&lb::LocalityLbConfig>) -> bool {
    use lb::locality_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig;
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    matches!(specifier, Some(LocalityWeightedLbConfig(_)))
}

/// When zones count.
fn zones(config: Option<&lb::LocalityLbConfig>) -> Option<ZoneAware> {
    use lb::locality_lb_config::LocalityConfigSpecifier::{
        LocalityWeightedLbConfig, ZoneAwareLbConfig,
    };
    use lb::locality_lb_config::zone_aware_lb_config::LocalityBasis;
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    let config = match specifier {
        Some(LocalityWeightedLbConfig(_)) => return None,
        Some(ZoneAwareLbConfig(config)) => config,
        None => return Some(ZoneAware::default()),
    };
    let least = config.force_local_zone.as_ref();
    let least = least.map(|force| force.min_size.map_or(1, |size| u64::from(size.value)));
    #[expect(deprecated, reason = "configurations of older releases have it")]
    let is_forced = config.force_locality_direct_routing;
    Some(ZoneAware {
        force: least.or(is_forced.then_some(1)),
        by_weight: config.locality_basis() == LocalityBasis::HealthyHostsWeight,
        fail_on_panic: config.fail_traffic_on_panic,
        ..zone_aware(config.routing_enabled, config.min_cluster_size)
    })
}

fn extension_slow_start(config: Option<&lb::SlowStartConfig>) -> Result<Option<SlowStart>> {
    let Some(config) = config else {
        return Ok(None);
    };
    window(
        config.slow_start_window.as_ref(),
        config.aggression.as_ref(),
        config.min_weight_percent.as_ref(),
    )
}

pub(crate) static RING_HASH: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
    &[
        (1, "minimum_ring_size", Whole),
        (4, "maximum_ring_size", Whole),
    ],
);

pub(crate) static MAGLEV: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.MaglevLbConfig",
    &[(1, "table_size", Whole)],
);

pub(crate) static ROUND_ROBIN: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig",
    &[(1, "slow_start_config", In(&SLOW_START))],
);

pub(crate) static LEAST_REQUEST: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    &[
        (1, "choice_count", Whole),
        (3, "slow_start_config", In(&SLOW_START)),
    ],
);

pub(crate) static SLOW_START: Reads = Reads::of(
    "envoy.config.cluster.v3.Cluster.SlowStartConfig",
    &[
        (1, "slow_start_window", Whole),
        (2, "aggression", In(&RUNTIME_DOUBLE)),
        (3, "min_weight_percent", Whole),
    ],
);

pub(crate) static RUNTIME_DOUBLE: Reads = Reads::of(
    "envoy.config.core.v3.RuntimeDouble",
    &[(1, "default_value", Whole), (2, "runtime_key", Harmless)],
);

pub(crate) static LB_POLICY: Reads = Reads::of(
    "envoy.config.cluster.v3.LoadBalancingPolicy",
    &[(1, "policies[]", In(&LB_POLICY_ITEM))],
);

pub(crate) static LB_POLICY_ITEM: Reads = Reads::of(
    "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
    &[(4, "typed_extension_config", In(&LB_EXTENSION))],
);

pub(crate) static LB_EXTENSION: Reads = Reads::of(
    "envoy.config.core.v3.TypedExtensionConfig",
    &[
        (1, "name", Harmless),
        (
            2,
            "typed_config",
            Packed(Types::of(&[
                &EXT_ROUND_ROBIN,
                &EXT_LEAST_REQUEST,
                &EXT_RANDOM,
                &EXT_RING_HASH,
                &EXT_MAGLEV,
            ])),
        ),
    ],
);

pub(crate) static EXT_ROUND_ROBIN: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    &[
        (1, "slow_start_config", In(&EXT_SLOW_START)),
        (2, "locality_lb_config", In(&EXT_LOCALITY)),
    ],
);

pub(crate) static EXT_LEAST_REQUEST: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    &[
        (1, "choice_count", Whole),
        (3, "slow_start_config", In(&EXT_SLOW_START)),
        (4, "locality_lb_config", In(&EXT_LOCALITY)),
    ],
);

pub(crate) static EXT_RANDOM: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.random.v3.Random",
    &[(1, "locality_lb_config", In(&EXT_LOCALITY))],
);

pub(crate) static EXT_RING_HASH: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    &[
        (2, "minimum_ring_size", Whole),
        (3, "maximum_ring_size", Whole),
        (7, "locality_weighted_lb_config", Whole),
    ],
);

pub(crate) static EXT_MAGLEV: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    &[
        (1, "table_size", Whole),
        (3, "locality_weighted_lb_config", Whole),
    ],
);

pub(crate) static EXT_SLOW_START: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig",
    &[
        (1, "slow_start_window", Whole),
        (2, "aggression", In(&RUNTIME_DOUBLE)),
        (3, "min_weight_percent", Whole),
    ],
);

pub(crate) static EXT_LOCALITY: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
    &[
        (1, "zone_aware_lb_config", In(&EXT_ZONE_AWARE)),
        (2, "locality_weighted_lb_config", Whole),
    ],
);

pub(crate) static EXT_ZONE_AWARE: Reads = Reads::of(
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
    &[
        (1, "routing_enabled", Whole),
        (2, "min_cluster_size", Whole),
        (3, "fail_traffic_on_panic", Whole),
        (4, "force_locality_direct_routing", Whole),
        (5, "force_local_zone", Whole),
        (6, "locality_basis", Whole),
    ],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_maglevs_table() {
        let of = |size: u64| maglev(Some(UInt64Value { value: size }));
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

    #[test]
    fn zones_count_by_default_and_as_is_said() {
        use lateen_xds::types::cluster::cluster::common_lb_config as common;
        let of = |lb_policy: LbPolicy, specifier| {
            let cluster = pb::Cluster {
                lb_policy: lb_policy.into(),
                common_lb_config: Some(pb::cluster::CommonLbConfig {
                    locality_config_specifier: specifier,
                    ..Default::default()
                }),
                ..pb::Cluster::default()
            };
            choice(&cluster).expect("known").zones
        };
        use common::LocalityConfigSpecifier::{LocalityWeightedLbConfig, ZoneAwareLbConfig};
        assert_eq!(of(LbPolicy::Random, None), Some(ZoneAware::default()));
        assert_eq!(of(LbPolicy::ClusterProvided, None), None);
        let weighted = LocalityWeightedLbConfig(common::LocalityWeightedLbConfig {});
        assert_eq!(of(LbPolicy::Random, Some(weighted)), None);
        let said = ZoneAwareLbConfig(common::ZoneAwareLbConfig {
            routing_enabled: Some(Percent { value: 24.6 }),
            min_cluster_size: Some(UInt64Value { value: 2 }),
            fail_traffic_on_panic: true,
        });
        let found = of(LbPolicy::LeastRequest, Some(said)).expect("zones");
        assert_eq!((found.percent, found.min_hosts), (25, 2));
        assert!(found.fail_on_panic && found.force.is_none());
        let ext = lb::LocalityLbConfig {
            locality_config_specifier: Some(
                lb::locality_lb_config::LocalityConfigSpecifier::ZoneAwareLbConfig(
                    lb::locality_lb_config::ZoneAwareLbConfig {
                        force_local_zone: Some(Default::default()),
                        locality_basis: 1,
                        ..Default::default()
                    },
                ),
            ),
        };
        let found = zones(Some(&ext)).expect("zones");
        assert_eq!((found.force, found.by_weight), (Some(1), true));
    }

    #[test]
    fn settings_of_extension_policies_count() {
        use lateen_xds::envoy::extensions::load_balancing_policies::least_request::v3 as least;
        use lateen_xds::types::cluster::load_balancing_policy::Policy as Item;
        use lateen_xds::types::core::TypedExtensionConfig;
        let config = least::LeastRequest {
            choice_count: Some(lateen_xds::types::wkt::UInt32Value { value: 5 }),
            slow_start_config: Some(lb::SlowStartConfig {
                slow_start_window: Some(Duration {
                    seconds: 7,
                    nanos: 0,
                }),
                ..lb::SlowStartConfig::default()
            }),
            ..least::LeastRequest::default()
        };
        let item = Item {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "any".to_owned(),
                typed_config: Some(lateen_xds::pack_any(&config)),
            }),
        };
        let policies = vec![item];
        let choice = extension(&pb::LoadBalancingPolicy { policies }).expect("known");
        assert_eq!(choice.policy, Policy::LeastRequest { choices: 5 });
        assert_eq!(choice.slow_start.map(|start| start.window), Some(7_000));
    }
}
