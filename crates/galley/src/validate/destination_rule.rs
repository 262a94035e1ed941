//! DestinationRule: subsets and traffic policies.

use lateen_api::{
    Object, labels,
    networking::{
        ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb,
        DestinationRule, LoadBalancerSettings, LocalityFailover, LocalityLbSetting,
        OutlierDetection, PortTrafficPolicy, TrafficPolicy, WarmupConfiguration,
        ZoneAwareLbSetting,
    },
};

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<DestinationRule>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    if spec.host.is_empty() {
        faults.add(&root.field("host"), "Required value", "name the service");
    } else {
        common::host(&spec.host, &root.field("host"), faults);
    }
    policy(
        spec.traffic_policy.as_ref(),
        &root.field("trafficPolicy"),
        faults,
    );
    let list = root.field("subsets");
    for (n, subset) in spec.subsets.iter().enumerate() {
        let at = list.index(n);
        if subset.name.is_empty() {
            faults.add(&at.field("name"), "Required value", "name the subset");
        } else if !subset.name.split('.').all(common::is_label) {
            let reason = format!("{:?} is not a subset's name", subset.name);
            faults.add(&at.field("name"), reason, "use letters, digits and dashes");
        }
        if spec.subsets[..n]
            .iter()
            .any(|other| other.name == subset.name)
        {
            faults.add(
                &at.field("name"),
                format!("Duplicate value: {:?}", subset.name),
                "rename one",
            );
        }
        if subset.labels.is_empty() && subset.traffic_policy.is_none() {
            faults.add(
                &at.field("labels"),
                "a subset without labels and trafficPolicy is the whole service",
                "add the labels that its pods have",
            );
        }
        common::labels(&subset.labels, &at.field("labels"), faults);
        policy(
            subset.traffic_policy.as_ref(),
            &at.field("trafficPolicy"),
            faults,
        );
    }
    common::export_to(&spec.export_to, &root.field("exportTo"), faults);
    if let Some(selector) = &spec.workload_selector {
        let at = root.field("workloadSelector");
        common::selector(&selector.match_labels, &at.field("matchLabels"), faults);
    }
}

fn policy(policy: Option<&TrafficPolicy>, at: &Path<'_>, faults: &mut Faults) {
    let Some(policy) = policy else { return };
    if *policy == TrafficPolicy::default() {
        faults.add(at, "trafficPolicy is empty", "set something, or remove it");
    }
    let blocks = PortTrafficPolicy {
        port: None,
        load_balancer: policy.load_balancer.clone(),
        connection_pool: policy.connection_pool.clone(),
        outlier_detection: policy.outlier_detection.clone(),
        tls: policy.tls.clone(),
    };
    check_blocks(&blocks, at, faults);
    let list = at.field("portLevelSettings");
    for (n, settings) in policy.port_level_settings.iter().enumerate() {
        let at = list.index(n);
        match &settings.port {
            None => faults.add(
                &at.field("port"),
                "Required value",
                "name the port by its number",
            ),
            Some(port) => common::port(port.number, &at.field("port").field("number"), faults),
        }
        check_blocks(settings, &at, faults);
    }
    if let Some(tunnel) = &policy.tunnel {
        let at = at.field("tunnel");
        if !matches!(
            tunnel.protocol.to_ascii_uppercase().as_str(),
            "" | "CONNECT" | "POST"
        ) {
            let reason = format!("Unsupported value: {:?}", tunnel.protocol);
            faults.add(&at.field("protocol"), reason, "use CONNECT or POST");
        }
        common::destination_host(&tunnel.target_host, &at.field("targetHost"), faults);
        common::port(tunnel.target_port, &at.field("targetPort"), faults);
    }
}

fn check_blocks(blocks: &PortTrafficPolicy, at: &Path<'_>, faults: &mut Faults) {
    if let Some(balancer) = &blocks.load_balancer {
        check_balancer(balancer, &at.field("loadBalancer"), faults);
    }
    if let Some(pool) = &blocks.connection_pool {
        check_pool(pool, &at.field("connectionPool"), faults);
    }
    if let Some(outlier) = &blocks.outlier_detection {
        check_outlier(outlier, &at.field("outlierDetection"), faults);
    }
    if let Some(tls) = &blocks.tls {
        check_tls(tls, &at.field("tls"), faults);
    }
}

fn check_balancer(balancer: &LoadBalancerSettings, at: &Path<'_>, faults: &mut Faults) {
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        faults.add(
            at,
            "loadBalancer cannot have simple and consistentHash together",
            "keep one",
        );
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        faults.add(
            at,
            "loadBalancer cannot have localityLbSetting and zoneAwareLbSetting together",
            "keep one",
        );
    }
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(hash, &at.field("consistentHash"), faults);
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        check_locality(locality, &at.field("localityLbSetting"), faults);
    }
    if let Some(zones) = &balancer.zone_aware_lb_setting {
        check_zones(zones, &at.field("zoneAwareLbSetting"), faults);
    }
    if let Some(warmup) = &balancer.warmup {
        check_warmup(warmup, &at.field("warmup"), faults);
    }
}

fn check_warmup(warmup: &WarmupConfiguration, at: &Path<'_>, faults: &mut Faults) {
    let duration = at.field("duration");
    match warmup.duration {
        None => faults.add(
            &duration,
            "Required value",
            "say how long new endpoints warm up",
        ),
        Some(_) => common::positive(warmup.duration, &duration, faults),
    }
    if let Some(percent) = warmup.minimum_percent
        && !(0.0..=100.0).contains(&percent)
    {
        faults.add(
            &at.field("minimumPercent"),
            format!("Invalid value: {percent}"),
            "write 0 to 100",
        );
    }
    if let Some(aggression) = warmup.aggression
        && (aggression.is_nan() || aggression < 1.0)
    {
        faults.add(
            &at.field("aggression"),
            format!("Invalid value: {aggression}"),
            "write 1 or more",
        );
    }
}

fn check_hash(hash: &ConsistentHashLb, at: &Path<'_>, faults: &mut Faults) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|set| **set).count() != 1 {
        faults.add(
            at,
            "consistentHash needs exactly one key",
            "set one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName",
        );
    }
    if let Some(name) = &hash.http_header_name {
        common::header_name(name, &at.field("httpHeaderName"), faults);
    }
    if let Some(cookie) = &hash.http_cookie {
        let at = at.field("httpCookie");
        if cookie.name.is_empty() {
            faults.add(&at.field("name"), "Required value", "name the cookie");
        }
        common::not_negative(cookie.ttl, &at.field("ttl"), faults);
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        faults.add(
            at,
            "consistentHash cannot have ringHash and maglev together",
            "keep one",
        );
    }
}

fn check_locality(setting: &LocalityLbSetting, at: &Path<'_>, faults: &mut Faults) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        faults.add(
            at,
            "distribute and failover cannot be set together",
            "keep one",
        );
    }
    let list = at.field("distribute");
    for (n, distribute) in setting.distribute.iter().enumerate() {
        let total: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        if total != 100 {
            let reason = format!("the shares add up to {total}");
            faults.add(
                &list.index(n).field("to"),
                reason,
                "make them add up to 100",
            );
        }
    }
    check_failover(&setting.failover, &at.field("failover"), faults);
}

fn check_failover(all: &[LocalityFailover], list: &Path<'_>, faults: &mut Faults) {
    for (n, failover) in all.iter().enumerate() {
        if failover.from == failover.to {
            let reason = "from and to are the same region";
            faults.add(&list.index(n), reason, "name another region");
        }
    }
}

/// Zones are the proxy's own business: what users say is about regions and about other labels.
fn check_zones(setting: &ZoneAwareLbSetting, at: &Path<'_>, faults: &mut Faults) {
    let list = at.field("failoverPriority");
    for (n, label) in setting.failover_priority.iter().enumerate() {
        let name = label.split('=').next().unwrap_or_default();
        if [labels::REGION, labels::ZONE, labels::SUBZONE].contains(&name) {
            faults.add(
                &list.index(n),
                format!("must not use topology label {name:?}"),
                "leave it out: regions and zones count by themselves",
            );
        }
    }
    let list = at.field("failover");
    check_failover(&setting.failover, &list, faults);
    for (n, failover) in setting.failover.iter().enumerate() {
        for (field, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['/', '*']) {
                let reason = format!("{region:?} is no region");
                faults.add(
                    &list.index(n).field(field),
                    reason,
                    "name one region, without zones and wildcards",
                );
            }
        }
    }
}

pub(super) fn check_pool(pool: &ConnectionPoolSettings, at: &Path<'_>, faults: &mut Faults) {
    let (tcp_at, http_at) = (at.field("tcp"), at.field("http"));
    if pool.tcp.is_none() && pool.http.is_none() {
        faults.add(at, "connectionPool is empty", "set tcp or http");
    }
    let mut count = |value: Option<i32>, at: Path<'_>| {
        if value.is_some_and(|n| n < 0) {
            faults.add(&at, "must not be negative", "write zero or more");
        }
    };
    if let Some(tcp) = &pool.tcp {
        count(tcp.max_connections, tcp_at.field("maxConnections"));
    }
    if let Some(http) = &pool.http {
        count(
            http.http1_max_pending_requests,
            http_at.field("http1MaxPendingRequests"),
        );
        count(http.http2_max_requests, http_at.field("http2MaxRequests"));
        count(
            http.max_requests_per_connection,
            http_at.field("maxRequestsPerConnection"),
        );
        count(http.max_retries, http_at.field("maxRetries"));
        count(
            http.max_concurrent_streams,
            http_at.field("maxConcurrentStreams"),
        );
    }
    if let Some(tcp) = &pool.tcp {
        common::positive(tcp.connect_timeout, &tcp_at.field("connectTimeout"), faults);
        common::positive(
            tcp.max_connection_duration,
            &tcp_at.field("maxConnectionDuration"),
            faults,
        );
    }
    if let Some(http) = &pool.http {
        let upgrades = http.h2_upgrade_policy == lateen_api::networking::H2UpgradePolicy::Upgrade;
        if upgrades && http.use_client_protocol == Some(true) {
            faults.add(
                &http_at,
                "h2UpgradePolicy UPGRADE and useClientProtocol contradict",
                "keep one",
            );
        }
        common::not_negative(http.idle_timeout, &http_at.field("idleTimeout"), faults);
    }
}

fn check_outlier(outlier: &OutlierDetection, at: &Path<'_>, faults: &mut Faults) {
    common::positive(outlier.interval, &at.field("interval"), faults);
    common::positive(
        outlier.base_ejection_time,
        &at.field("baseEjectionTime"),
        faults,
    );
    for (name, value) in [
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ] {
        if let Some(value) = value {
            common::percent(f64::from(value), &at.field(name), faults);
        }
    }
    let split = outlier.split_external_local_origin_errors == Some(true);
    if outlier
        .consecutive_local_origin_failures
        .is_some_and(|n| n > 0)
        && !split
    {
        faults.add(
            &at.field("consecutiveLocalOriginFailures"),
            "has no effect without splitExternalLocalOriginErrors",
            "set splitExternalLocalOriginErrors to true",
        );
    }
}

/// Lists of revoked certificates are for servers that are verified by roots of the rule.
fn check_revocation(tls: &ClientTlsSettings, at: &Path<'_>, faults: &mut Faults) {
    let (reason, help) = match tls.mode {
        ClientTlsMode::IstioMutual => (
            "cannot be set with ISTIO_MUTUAL",
            "remove it, or use MUTUAL",
        ),
        ClientTlsMode::Disable => ("DISABLE is no TLS", "remove it"),
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            let has_roots = !tls.ca_certificates.is_empty() || !tls.credential_name.is_empty();
            if has_roots && tls.insecure_skip_verify != Some(true) {
                return;
            }
            (
                "no server is verified",
                "set caCertificates or credentialName, or remove it",
            )
        }
    };
    faults.add(&at.field("caCrl"), reason, help);
}

fn check_tls(tls: &ClientTlsSettings, at: &Path<'_>, faults: &mut Faults) {
    let files = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
    ];
    let given = |name: &str| {
        files
            .iter()
            .any(|(n, value)| *n == name && !value.is_empty())
    };
    if !tls.ca_crl.is_empty() {
        check_revocation(tls, at, faults);
    }
    match tls.mode {
        ClientTlsMode::Mutual if tls.credential_name.is_empty() => {
            for name in ["clientCertificate", "privateKey"] {
                if !given(name) {
                    faults.add(
                        &at.field(name),
                        "Required value",
                        "MUTUAL needs it, or credentialName",
                    );
                }
            }
        }
        ClientTlsMode::Mutual | ClientTlsMode::Simple if !tls.credential_name.is_empty() => {
            for (name, value) in files {
                if !value.is_empty() {
                    let reason = format!("cannot be set together with credentialName ({value:?})");
                    faults.add(&at.field(name), reason, "keep one");
                }
            }
        }
        ClientTlsMode::IstioMutual => {
            for (name, value) in files {
                if !value.is_empty() {
                    faults.add(
                        &at.field(name),
                        "cannot be set with ISTIO_MUTUAL",
                        "remove it, or use MUTUAL",
                    );
                }
            }
            if !tls.credential_name.is_empty() {
                faults.add(
                    &at.field("credentialName"),
                    "cannot be set with ISTIO_MUTUAL",
                    "remove it",
                );
            }
        }
        _ => {}
    }
}
