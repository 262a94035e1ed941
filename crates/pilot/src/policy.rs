//! Which part of which DestinationRule holds for a port and a subset.

use lateen_api::mesh::MeshConfig;
use lateen_api::networking::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings,
    OutlierDetection, ProxyProtocol, RetryBudget, Subset, TrafficPolicy, TunnelSettings,
};

use crate::shared::Shared;

/// A DestinationRule as an input of a generator.
pub(crate) type Rule = Shared<lateen_api::Object<DestinationRule>>;

/// The settings that hold, each from the narrowest scope that has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    pub(crate) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(crate) connection_pool: Option<&'a ConnectionPoolSettings>,
    pub(crate) outlier_detection: Option<&'a OutlierDetection>,
    pub(crate) tls: Option<&'a ClientTlsSettings>,
    pub(crate) retry_budget: Option<&'a RetryBudget>,
    pub(crate) tunnel: Option<&'a TunnelSettings>,
    pub(crate) proxy_protocol: Option<&'a ProxyProtocol>,
}

impl<'a> Policy<'a> {
    /// What the rules say about a port of a host, and about a subset of it (`""` for none).
    pub(crate) fn of(rules: &'a [Rule], port: u16, subset: &str) -> Self {
        let mut policy = Policy::default();
        let mut first = rules.iter().filter_map(|r| r.spec.traffic_policy.as_ref());
        if let Some(whole) = first.next() {
            policy.narrow(whole, port);
        }
        let subset = find_subset(rules, subset);
        if let Some(part) = subset.and_then(|s| s.traffic_policy.as_ref()) {
            policy.narrow(part, port);
        }
        policy
    }

    /// What the mesh has for blocks that no rule sets. A block that is set counts as it is: what it
    /// leaves open is not the mesh's.
    pub(crate) fn or_of(mut self, mesh: &'a MeshConfig) -> Self {
        if let Some(all) = &mesh.default_traffic_policy {
            self.connection_pool = self.connection_pool.or(all.connection_pool.as_ref());
            self.outlier_detection = self.outlier_detection.or(all.outlier_detection.as_ref());
        }
        self
    }

    /// A port's settings replace all of the wider ones that a port can have, also those that they
    /// leave unset.
    fn narrow(&mut self, by: &'a TrafficPolicy, port: u16) {
        self.load_balancer = by.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = by.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = by.outlier_detection.as_ref().or(self.outlier_detection);
        self.tls = by.tls.as_ref().or(self.tls);
        self.retry_budget = by.retry_budget.as_ref().or(self.retry_budget);
        self.tunnel = by.tunnel.as_ref().or(self.tunnel);
        self.proxy_protocol = by.proxy_protocol.as_ref().or(self.proxy_protocol);
        let for_port = by.port_level_settings.iter().find(|settings| {
            let number = settings.port.as_ref().map(|p| p.number);
            number == Some(u32::from(port))
        });
        if let Some(settings) = for_port {
            self.load_balancer = settings.load_balancer.as_ref();
            self.connection_pool = settings.connection_pool.as_ref();
            self.outlier_detection = settings.outlier_detection.as_ref();
            self.tls = settings.tls.as_ref();
        }
    }
}

/// All subsets of a host, those of the older rule first; a name counts once.
pub(crate) fn subsets(rules: &[Rule]) -> impl Iterator<Item = &Subset> {
    let all = || rules.iter().flat_map(|rule| &rule.spec.subsets);
    all()
        .enumerate()
        .filter(move |(i, subset)| !all().take(*i).any(|earlier| earlier.name == subset.name))
        .map(|(_, subset)| subset)
}

/// The subset of a name; `None` for the empty name.
pub(crate) fn find_subset<'a>(rules: &'a [Rule], name: &str) -> Option<&'a Subset> {
    subsets(rules).find(|subset| !name.is_empty() && subset.name == name)
}

/// Whether a rule asks for consistent hashing anywhere, which routes must know.
pub(crate) fn uses_hash(rule: &DestinationRule) -> bool {
    let hashes = |lb: &Option<LoadBalancerSettings>| {
        lb.as_ref().is_some_and(|lb| lb.consistent_hash.is_some())
    };
    policies(rule).any(|policy| {
        let ports = &policy.port_level_settings;
        hashes(&policy.load_balancer) || ports.iter().any(|port| hashes(&port.load_balancer))
    })
}

/// Whether a rule for some workloads alone names a credential of theirs.
pub(crate) fn is_credential_for_some(rule: &DestinationRule) -> bool {
    let names = |tls: &Option<ClientTlsSettings>| {
        tls.as_ref()
            .is_some_and(|tls| !tls.credential_name.is_empty())
    };
    rule.workload_selector.is_some()
        && policies(rule).any(|policy| {
            let ports = &policy.port_level_settings;
            names(&policy.tls) || ports.iter().any(|port| names(&port.tls))
        })
}

/// The policy of a rule and those of its subsets.
fn policies(rule: &DestinationRule) -> impl Iterator<Item = &TrafficPolicy> {
    let of_subsets = rule
        .subsets
        .iter()
        .filter_map(|s| s.traffic_policy.as_ref());
    rule.traffic_policy.iter().chain(of_subsets)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lateen_api::Object;
    use lateen_api::networking::SimpleLb;
    use serde_json::{Value, json};

    use super::*;

    fn rule(spec: Value) -> Rule {
        let object = json!({"metadata": {"name": "r", "namespace": "n"}, "spec": spec});
        Shared(Arc::new(Object::from_value(&object).expect("a rule")))
    }

    #[test]
    fn the_narrowest_scope_wins() {
        let rules = [rule(json!({
            "host": "h",
            "trafficPolicy": {
                "loadBalancer": {"simple": "RANDOM"},
                "tls": {"mode": "ISTIO_MUTUAL"},
                "portLevelSettings": [
                    {"port": {"number": 81}, "loadBalancer": {"simple": "ROUND_ROBIN"}}
                ]
            },
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"},
                 "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}}
            ]
        }))];
        let check = |port, subset, lb, tls| {
            let policy = Policy::of(&rules, port, subset);
            let found = policy.load_balancer.and_then(|l| l.simple);
            assert_eq!(
                (found, policy.tls.is_some()),
                (Some(lb), tls),
                "{port} {subset}"
            );
        };
        check(80, "", SimpleLb::Random, true);
        check(81, "", SimpleLb::RoundRobin, false);
        check(80, "v1", SimpleLb::LeastRequest, true);
        check(81, "v1", SimpleLb::LeastRequest, false);
        check(80, "unknown", SimpleLb::Random, true);
    }

    #[test]
    fn the_mesh_fills_blocks_that_no_rule_has() {
        let mesh: MeshConfig = serde_json::from_value(json!({"defaultTrafficPolicy": {
            "connectionPool": {"tcp": {"maxConnections": 7}},
            "outlierDetection": {"consecutive5xxErrors": 3}
        }}))
        .expect("a mesh");
        let rules = [rule(json!({"host": "h", "trafficPolicy": {
            "connectionPool": {"http": {"maxRetries": 1}},
            "retryBudget": {"minRetryConcurrency": 9},
            "portLevelSettings": [{"port": {"number": 81}, "tls": {"mode": "DISABLE"}}]
        }}))];
        for (rules, port, most) in [
            (&rules[..0], 80, Some(7)),
            (&rules, 80, None),
            (&rules, 81, Some(7)),
        ] {
            let policy = Policy::of(rules, port, "").or_of(&mesh);
            let pool = policy.connection_pool.expect("a pool");
            let found = pool.tcp.as_ref().and_then(|tcp| tcp.max_connections);
            assert_eq!(found, most, "{port} with {} rules", rules.len());
            assert!(policy.outlier_detection.is_some());
            // Ports have no budget of their own.
            assert_eq!(policy.retry_budget.is_some(), !rules.is_empty());
        }
    }

    #[test]
    fn subsets_of_several_rules_are_merged() {
        let subset = |v: &str| rule(json!({"host": "h", "subsets": [{"name": v}, {"name": "x"}]}));
        let rules = [subset("v1"), subset("v2")];
        let names: Vec<_> = subsets(&rules).map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["v1", "x", "v2"]);
    }
}
