//! Load balancing, connection pools and outlier detection of a cluster.

use lateen_api::mesh::{MeshConfig, MeshH2UpgradePolicy};
use lateen_api::networking::{
    ClientTlsMode, ConnectionPoolSettings, ConsistentHashLb, H2UpgradePolicy, LoadBalancerSettings,
    OutlierDetection as OutlierSettings, RetryBudget as BudgetSettings, SimpleLb,
    ZoneAwareLbSetting,
};
use lateen_core::Protocol;
use lateen_xds::envoy::config::common::matcher::v3::match_predicate::{MatchSet, Rule};
use lateen_xds::envoy::config::common::matcher::v3::{HttpHeadersMatch, MatchPredicate};
use lateen_xds::pack_any;
use lateen_xds::types::cluster::circuit_breakers::Thresholds;
use lateen_xds::types::cluster::circuit_breakers::thresholds::RetryBudget;
use lateen_xds::types::cluster::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use lateen_xds::types::cluster::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig,
};
use lateen_xds::types::cluster::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
};
use lateen_xds::types::core::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttp,
    KeepaliveSettings, RuntimeDouble, TcpKeepalive, UpstreamHttpProtocolOptions,
};
use lateen_xds::types::kind::Percent;
use lateen_xds::types::matcher::StringMatcher;
use lateen_xds::types::matcher::string_matcher::MatchPattern;
use lateen_xds::types::route::HeaderMatcher;
use lateen_xds::types::route::header_matcher::HeaderMatchSpecifier;
use lateen_xds::types::upstream::http::HttpProtocolOptions;
use lateen_xds::types::upstream::http::http_protocol_options::{
    ExplicitHttpConfig, OutlierDetection as HttpOutliers, UpstreamProtocolOptions,
    UseDownstreamHttpConfig, explicit_http_config,
};
use lateen_xds::types::wkt::{UInt32Value, UInt64Value};

use crate::policy::Policy;
use crate::tls::HttpVersion;
use crate::wire;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Ring size where a rule does not say.
const RING_SIZE: u64 = 1024;
/// Least share of a warming endpoint, in percent, where a rule does not say.
const WARMUP_PERCENT: f64 = 10.0;
/// Retries at once for each hundred requests, where a budget does not say.
const BUDGET_PERCENT: f64 = 20.0;
/// Retries that a budget always leaves room for, where it does not say.
const BUDGET_LEAST: u32 = 3;

/// What a cluster's port says of itself.
#[derive(Clone, Copy)]
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    /// Where it says nothing, HTTP goes in the version of the client.
    pub(super) follows_clients: bool,
}

impl From<Protocol> for Spoken {
    fn from(protocol: Protocol) -> Self {
        Spoken {
            protocol,
            follows_clients: true,
        }
    }
}

pub(super) fn apply(cluster: &mut Cluster, policy: &Policy<'_>, spoken: Spoken, mesh: &MeshConfig) {
    let protocol = spoken.protocol;
    cluster.circuit_breakers = Some(circuit_breakers(policy));
    http_options(cluster, policy, spoken, mesh);
    tcp_options(cluster, policy.connection_pool, mesh);
    if cluster.lb_policy == i32::from(LbPolicy::ClusterProvided) {
        // It goes where the client was going.
    } else if protocol == Protocol::Redis {
        // Keys stay with their servers.
        cluster.lb_policy = LbPolicy::Maglev.into();
    } else {
        cluster.lb_policy = LbPolicy::LeastRequest.into();
        if let Some(settings) = policy.load_balancer {
            load_balancing(cluster, settings);
        }
    }
    if let Some(settings) = policy.outlier_detection {
        outlier_detection(cluster, settings);
    }
}

/// Limits exist only where a user sets them. A budget takes the place of a number of retries.
fn circuit_breakers(policy: &Policy<'_>) -> CircuitBreakers {
    let unlimited = u32::MAX;
    let pool = policy.connection_pool;
    let tcp = pool.and_then(|p| p.tcp.as_ref());
    let http = pool.and_then(|p| p.http.as_ref());
    let limit = |value: Option<i32>| {
        let value = value.and_then(|v| u32::try_from(v).ok());
        wire::number(value.filter(|v| *v > 0).unwrap_or(unlimited))
    };
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: limit(tcp.and_then(|t| t.max_connections)),
            max_pending_requests: limit(http.and_then(|h| h.http1_max_pending_requests)),
            max_requests: limit(http.and_then(|h| h.http2_max_requests)),
            max_retries: limit(http.and_then(|h| h.max_retries)),
            track_remaining: true,
            retry_budget: policy.retry_budget.map(retry_budget),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

fn retry_budget(budget: &BudgetSettings) -> RetryBudget {
    let percent = budget.percent.as_ref().map(|percent| percent.value);
    RetryBudget {
        budget_percent: Some(Percent {
            value: percent.unwrap_or(BUDGET_PERCENT),
        }),
        min_retry_concurrency: wire::number(budget.min_retry_concurrency.unwrap_or(BUDGET_LEAST)),
        budget_interval: budget.budget_interval.map(wire::duration),
    }
}

/// What HTTP is spoken to a port of this protocol; `None` where it is bytes.
pub(super) fn http_version(
    policy: &Policy<'_>,
    spoken: Spoken,
    mesh: &MeshConfig,
) -> Option<HttpVersion> {
    let protocol = spoken.protocol;
    let http = policy.connection_pool.and_then(|p| p.http.as_ref());
    let policy = http.map_or(H2UpgradePolicy::Default, |h| h.h2_upgrade_policy);
    // Whoever asks for it at a port knows that it is HTTP, whatever the port is called: what is in
    // TLS of its own is spoken to by gateways that open it.
    let upgrade = match policy {
        H2UpgradePolicy::Upgrade => protocol != Protocol::Udp,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Default => {
            protocol.is_http() && mesh.h2_upgrade_policy == Some(MeshH2UpgradePolicy::Upgrade)
        }
    };
    let as_client = http.and_then(|h| h.use_client_protocol).unwrap_or(false);
    let as_client = as_client && protocol != Protocol::Udp;
    if as_client || (protocol.is_unsupported() && spoken.follows_clients) {
        Some(HttpVersion::OfClient)
    } else if protocol.is_http2() || upgrade {
        Some(HttpVersion::Two)
    } else {
        protocol.is_http().then_some(HttpVersion::One)
    }
}

fn http_options(cluster: &mut Cluster, policy: &Policy<'_>, spoken: Spoken, mesh: &MeshConfig) {
    let http = policy.connection_pool.and_then(|p| p.http.as_ref());
    let errors = policy.outlier_detection.and_then(error_codes);
    let version = http_version(policy, spoken, mesh);
    let carries_http = version.is_some() || spoken.protocol.is_unsupported();
    let names = names(policy, carries_http);
    let h2 = Http2ProtocolOptions {
        max_concurrent_streams: http
            .and_then(|h| h.max_concurrent_streams)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .map(|value| UInt32Value { value }),
        connection_keepalive: http.and_then(|h| h.http2_keep_alive.as_ref()).map(|k| {
            KeepaliveSettings {
                interval: k.interval.map(wire::duration),
                timeout: k.timeout.map(wire::duration),
                ..KeepaliveSettings::default()
            }
        }),
        ..Http2ProtocolOptions::default()
    };
    let upstream = match version {
        Some(HttpVersion::OfClient) => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(h2),
                ..UseDownstreamHttpConfig::default()
            })
        }
        Some(HttpVersion::Two) => explicit(
            explicit_http_config::ProtocolConfig::Http2ProtocolOptions(h2),
        ),
        _ if http.is_some() || errors.is_some() || names.is_some() => {
            let h1 = Http1ProtocolOptions::default();
            explicit(explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                h1,
            ))
        }
        _ => return,
    };
    let common = http.map(|h| CommonHttp {
        idle_timeout: h.idle_timeout.map(wire::duration),
        max_requests_per_connection: h
            .max_requests_per_connection
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .map(|value| UInt32Value { value }),
        ..CommonHttp::default()
    });
    let options = HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(upstream),
        upstream_http_protocol_options: names,
        outlier_detection: errors,
        ..HttpProtocolOptions::default()
    };
    cluster
        .typed_extension_protocol_options
        .insert(HTTP_OPTIONS.into(), pack_any(&options));
}

/// Where TLS names no server, each request's host is the name.
fn names(policy: &Policy<'_>, carries_http: bool) -> Option<UpstreamHttpProtocolOptions> {
    let tls = policy.tls?;
    let is_foreign = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    (is_foreign && carries_http && tls.sni.is_empty()).then(|| UpstreamHttpProtocolOptions {
        auto_sni: true,
        ..UpstreamHttpProtocolOptions::default()
    })
}

/// The statuses that count as failures, where a rule lists them.
fn error_codes(settings: &OutlierSettings) -> Option<HttpOutliers> {
    let codes = &settings.outlier_detection_http_error_codes;
    let is_one = |code: &u32| MatchPredicate {
        rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![HeaderMatcher {
                name: ":status".into(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact(code.to_string())),
                    ..StringMatcher::default()
                })),
                ..HeaderMatcher::default()
            }],
        })),
    };
    let mut rules: Vec<_> = codes.iter().map(is_one).collect();
    // Envoy wants two of a choice.
    let matcher = match rules.len() {
        0 => return None,
        1 => rules.remove(0),
        _ => MatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules })),
        },
    };
    Some(HttpOutliers {
        error_matcher: Some(matcher),
    })
}

fn explicit(protocol: explicit_http_config::ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(protocol),
    })
}

fn tcp_options(cluster: &mut Cluster, pool: Option<&ConnectionPoolSettings>, mesh: &MeshConfig) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let timeout = tcp.and_then(|tcp| tcp.connect_timeout);
    if let Some(timeout) = timeout.filter(|t| !t.is_zero()) {
        cluster.connect_timeout = Some(wire::duration(timeout));
    }
    let own = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref());
    if let Some(keepalive) = own.or(mesh.tcp_keepalive.as_ref()) {
        let whole = |d: lateen_api::Duration| {
            wire::number(u32::try_from(d.to_parts().0).unwrap_or(u32::MAX))
        };
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: keepalive.probes.and_then(wire::number),
                keepalive_time: keepalive.time.and_then(whole),
                keepalive_interval: keepalive.interval.and_then(whole),
            }),
            ..UpstreamConnectionOptions::default()
        });
    }
}

fn load_balancing(cluster: &mut Cluster, settings: &LoadBalancerSettings) {
    if let Some(hash) = &settings.consistent_hash {
        consistent_hash(cluster, hash);
        return;
    }
    let slow_start = slow_start(settings);
    match settings.simple {
        Some(SimpleLb::Random) => cluster.lb_policy = LbPolicy::Random.into(),
        Some(SimpleLb::RoundRobin) => {
            cluster.lb_policy = LbPolicy::RoundRobin.into();
            cluster.lb_config = slow_start.map(|slow_start_config| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow_start_config),
                })
            });
        }
        Some(SimpleLb::Passthrough) => {
            use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
            let original = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
            cluster.cluster_discovery_type = Some(original);
            cluster.lb_policy = LbPolicy::ClusterProvided.into();
            cluster.eds_cluster_config = None;
            cluster.load_assignment = None;
        }
        Some(SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest) | None => {
            cluster.lb_config = slow_start.map(|slow_start_config| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start_config),
                    ..LeastRequestLbConfig::default()
                })
            });
        }
    }
}

fn slow_start(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let warmup = settings.warmup.as_ref();
    let window = warmup
        .and_then(|w| w.duration)
        .or(settings.warmup_duration_secs)?;
    let aggression = warmup.and_then(|w| w.aggression);
    let percent = warmup.and_then(|w| w.minimum_percent);
    Some(SlowStartConfig {
        slow_start_window: Some(wire::duration(window)),
        aggression: aggression.map(|default_value| RuntimeDouble {
            default_value,
            runtime_key: "lateen.warmup.aggression".into(),
        }),
        min_weight_percent: Some(Percent {
            value: percent.unwrap_or(WARMUP_PERCENT),
        }),
    })
}

fn consistent_hash(cluster: &mut Cluster, hash: &ConsistentHashLb) {
    if let Some(maglev) = &hash.maglev {
        cluster.lb_policy = LbPolicy::Maglev.into();
        let table_size = maglev.table_size.filter(|size| *size > 0);
        cluster.lb_config = table_size.map(|value| {
            LbConfig::MaglevLbConfig(MaglevLbConfig {
                table_size: Some(UInt64Value { value }),
            })
        });
        return;
    }
    let ring = hash.ring_hash.as_ref().and_then(|r| r.minimum_ring_size);
    let value = ring.or(hash.minimum_ring_size).filter(|size| *size > 0);
    cluster.lb_policy = LbPolicy::RingHash.into();
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
        minimum_ring_size: Some(UInt64Value {
            value: value.unwrap_or(RING_SIZE),
        }),
        ..RingHashLbConfig::default()
    }));
}

fn outlier_detection(cluster: &mut Cluster, settings: &OutlierSettings) {
    let mut outlier = OutlierDetection {
        interval: settings.interval.map(wire::duration),
        base_ejection_time: settings.base_ejection_time.map(wire::duration),
        max_ejection_percent: settings
            .max_ejection_percent
            .and_then(|p| u32::try_from(p).ok())
            .filter(|p| *p > 0)
            .map(|value| UInt32Value { value }),
        // Ejection by success rate is not something that a rule can ask for.
        enforcing_success_rate: wire::number(0),
        ..OutlierDetection::default()
    };
    if let Some(errors) = settings.consecutive_5xx_errors {
        outlier.consecutive_5xx = wire::number(errors);
        outlier.enforcing_consecutive_5xx = wire::number(if errors > 0 { 100 } else { 0 });
    }
    if let Some(errors) = settings.consecutive_gateway_errors {
        outlier.consecutive_gateway_failure = wire::number(errors);
        outlier.enforcing_consecutive_gateway_failure =
            wire::number(if errors > 0 { 100 } else { 0 });
    }
    if settings.split_external_local_origin_errors == Some(true) {
        outlier.split_external_local_origin_errors = true;
        let failures = settings.consecutive_local_origin_failures.unwrap_or(0);
        if failures > 0 {
            outlier.consecutive_local_origin_failure = wire::number(failures);
            outlier.enforcing_consecutive_local_origin_failure = wire::number(100);
        }
        outlier.enforcing_local_origin_success_rate = wire::number(0);
    }
    cluster.outlier_detection = Some(outlier);
    cluster.common_lb_config = Some(CommonLbConfig {
        healthy_panic_threshold: Some(Percent {
            value: f64::from(settings.min_health_percent.unwrap_or(0).clamp(0, 100)),
        }),
        ..CommonLbConfig::default()
    });
}

/// Places get their shares, whatever the number of their endpoints.
pub(super) fn weigh_localities(cluster: &mut Cluster) {
    let common = cluster.common_lb_config.get_or_insert_default();
    common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
        LocalityWeightedLbConfig {},
    ));
}

/// Proxies keep in their zone what its hosts can take, or are told not to.
pub(super) fn know_zones(cluster: &mut Cluster, setting: &ZoneAwareLbSetting) {
    // It goes where the client was going.
    if cluster.lb_policy == i32::from(LbPolicy::ClusterProvided) {
        return;
    }
    let is_off = setting.enabled == Some(false);
    let common = cluster.common_lb_config.get_or_insert_default();
    common.locality_config_specifier = Some(LocalityConfigSpecifier::ZoneAwareLbConfig(
        ZoneAwareLbConfig {
            routing_enabled: is_off.then_some(Percent { value: 0.0 }),
            min_cluster_size: setting.min_cluster_size.map(|size| UInt64Value {
                value: u64::from(size),
            }),
            ..ZoneAwareLbConfig::default()
        },
    ));
}
