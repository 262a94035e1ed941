//! Listeners of datagrams: all go to one cluster, or each client's to one of several by their shares.

use lateen_api::Duration;
use lateen_xds::pack_any;
use lateen_xds::types::core::{
    Address, RuntimeFractionalPercent, UdpSocketConfig, address::Address as Kind, socket_address,
};
use lateen_xds::types::kind::{FractionalPercent, fractional_percent::DenominatorType};
use lateen_xds::types::listener::{ListenerFilter, UdpListenerConfig};
use lateen_xds::types::matching::inputs::SourcePortInput;
use lateen_xds::types::matching::matcher::matcher_list::predicate::{
    MatchType, SinglePredicate, single_predicate::Matcher as Test,
};
use lateen_xds::types::matching::matcher::matcher_list::{FieldMatcher, Predicate};
use lateen_xds::types::matching::matcher::{MatcherList, MatcherType, OnMatch, on_match};
use lateen_xds::types::matching::{Matcher, RuntimeFraction, TypedExtensionConfig};
use lateen_xds::types::udp::udp_proxy_config::{
    HashPolicy, RouteSpecifier, hash_policy::PolicySpecifier,
};
use lateen_xds::types::udp::{Route, UdpProxyConfig};
use lateen_xds::types::wkt::UInt64Value;

use super::filters::access_log;
use super::{Logging, Written};
use crate::wire;

const UDP_PROXY: &str = "envoy.filters.udp_listener.udp_proxy";
/// The largest that Envoy can be told of, in bytes. Its default would drop what does not fit the usual
/// network, such as long answers of DNS.
const LARGEST: u64 = 65_535;
/// Nobody sets it: Envoy wants a name for what an operator could override.
const RUNTIME_KEY: &str = "lateen.datagram_share";

/// Where datagrams go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct DatagramRule {
    /// Clusters with their shares; without any, datagrams are dropped.
    pub(crate) clusters: Vec<(String, u32)>,
    /// How long a session lives without a datagram.
    pub(crate) idle: Option<Duration>,
    /// Clusters that hash do so by the client's address.
    pub(crate) by_source: bool,
    pub(crate) written: Written,
}

/// The address of a listener, for datagrams.
pub(super) fn for_datagrams(mut address: Address) -> Address {
    if let Some(Kind::SocketAddress(socket)) = &mut address.address {
        socket.protocol = socket_address::Protocol::Udp.into();
    }
    address
}

/// What a listener says of the datagrams that it takes.
pub(super) fn config() -> UdpListenerConfig {
    UdpListenerConfig {
        downstream_socket_config: Some(UdpSocketConfig {
            max_rx_datagram_size: Some(UInt64Value { value: LARGEST }),
            ..UdpSocketConfig::default()
        }),
        ..UdpListenerConfig::default()
    }
}

/// The filter of a listener of that name.
pub(super) fn proxy(name: &str, rule: &DatagramRule, logging: &Logging) -> ListenerFilter {
    let by_source = HashPolicy {
        policy_specifier: Some(PolicySpecifier::SourceIp(true)),
    };
    let config = UdpProxyConfig {
        stat_prefix: name.to_owned(),
        route_specifier: Some(RouteSpecifier::Matcher(by_shares(&rule.clusters))),
        idle_timeout: rule.idle.map(wire::duration),
        hash_policies: rule.by_source.then_some(by_source).into_iter().collect(),
        access_log: access_log(logging),
        ..UdpProxyConfig::default()
    };
    wire::listener_filter(UDP_PROXY, pack_any(&config))
}

/// Each cluster gets its share of what those before it have left, the last one the rest. A client's
/// port decides, since all its datagrams have to go the same way.
fn by_shares(clusters: &[(String, u32)]) -> Matcher {
    let Some(((last, _), others)) = clusters.split_last() else {
        return Matcher::default();
    };
    let mut left: u64 = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut matchers = Vec::new();
    for (n, (cluster, weight)) in others.iter().enumerate() {
        let weight = u64::from(*weight);
        let millionths = (weight * 1_000_000).checked_div(left).unwrap_or(0);
        left -= weight;
        matchers.push(FieldMatcher {
            predicate: Some(share(
                u32::try_from(millionths).unwrap_or(u32::MAX),
                n as u64,
            )),
            on_match: Some(to(cluster)),
        });
    }
    let list = MatcherType::MatcherList(MatcherList { matchers });
    Matcher {
        matcher_type: (!others.is_empty()).then_some(list),
        on_no_match: Some(Box::new(to(last))),
    }
}

/// A share of all client ports, another one for each `seed`.
fn share(millionths: u32, seed: u64) -> Predicate {
    let fraction = FractionalPercent {
        numerator: millionths,
        denominator: DenominatorType::Million.into(),
    };
    let fraction = RuntimeFraction {
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(fraction),
            runtime_key: RUNTIME_KEY.into(),
        }),
        seed,
    };
    let single = SinglePredicate {
        input: Some(extension(
            "envoy.matching.inputs.source_port",
            pack_any(&SourcePortInput {}),
        )),
        matcher: Some(Test::CustomMatch(extension(
            "envoy.matching.matchers.runtime_fraction",
            pack_any(&fraction),
        ))),
    };
    Predicate {
        match_type: Some(MatchType::SinglePredicate(single)),
    }
}

fn to(cluster: &str) -> OnMatch {
    let route = Route {
        cluster: cluster.to_owned(),
    };
    let action = extension("route", pack_any(&route));
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(action)),
        ..OnMatch::default()
    }
}

fn extension(name: &str, config: lateen_xds::Any) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(config),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lateen_xds::types::listener::Listener;

    use super::*;

    /// What `decode` makes of it, which the data plane runs.
    fn chosen(weights: &[u32], port: u16) -> Option<String> {
        let clusters = weights.iter().enumerate();
        let rule = DatagramRule {
            clusters: clusters.map(|(n, w)| (n.to_string(), *w)).collect(),
            ..DatagramRule::default()
        };
        let logging = Logging::of(&lateen_api::mesh::MeshConfig::default());
        let listener = Listener {
            name: "l".into(),
            address: Some(for_datagrams(wire::socket_address("0.0.0.0", 53))),
            listener_filters: vec![proxy("l", &rule, &logging)],
            udp_listener_config: Some(config()),
            ..Listener::default()
        };
        let spec = lateen_decode::listener(&listener).expect("it is read");
        let udp = spec.udp.expect("a listener of datagrams");
        assert_eq!((udp.max_request, udp.max_response), (65_535, 65_535));
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        udp.routes.choose(at(port), at(53)).map(ToString::to_string)
    }

    #[test]
    fn each_cluster_gets_its_share() {
        let count = |weights: &[u32], cluster: &str| {
            let of = |port: &u16| chosen(weights, *port).is_some_and(|found| found == cluster);
            (20_000..24_000).filter(of).count()
        };
        assert_eq!(chosen(&[], 1), None);
        assert_eq!(count(&[7], "0"), 4000);
        for (cluster, want) in [("0", 1000), ("1", 1000), ("2", 2000)] {
            let n = count(&[1, 1, 2], cluster);
            assert!(n.abs_diff(want) < 200, "{cluster}: {n}");
        }
        // What has all leaves nothing.
        assert_eq!(count(&[5, 0, 0], "0"), 4000);
    }
}
