//! Zone-aware routing, beside real Envoy.

use serde_json::{Value, json};

use crate::common::{Client, Echo, hcm, listener, merge, socket};
use crate::oracle::{Who, both_in};

const REQUESTS: usize = 1_500;

/// One zone: its name, how many of the proxy's peers are there, and how many hosts.
type Zone = (&'static str, usize, usize);

fn assignment(zones: Vec<(&'static str, Vec<Value>)>) -> Value {
    let zones = zones.into_iter().map(|(zone, addresses)| {
        let hosts = addresses.into_iter();
        let hosts = hosts.map(|address| json!({ "endpoint": { "address": address } }));
        json!({
            "locality": { "region": "r", "zone": zone },
            "lb_endpoints": hosts.collect::<Vec<_>>(),
        })
    });
    json!(zones.collect::<Vec<_>>())
}

/// Checks where the requests of a proxy in zone `a` go, in percent, to a cluster with `more` settings.
async fn check(zones: &[Zone], more: Value, expect: &[(&str, usize)]) {
    check_among(zones, 0, more, expect).await;
}

/// The same where some peers of zone `b` are not well.
async fn check_among(zones: &[Zone], n_ill: usize, more: Value, expect: &[(&str, usize)]) {
    let (mut peers, mut hosts) = (Vec::new(), Vec::new());
    for (n, (zone, n_peers, n_hosts)) in zones.iter().enumerate() {
        let mut there = Vec::new();
        for _ in 0..*n_hosts {
            let (address, _) = Echo::start(zone).await;
            there.push(socket("127.0.0.1", address.port()));
        }
        let own = (0..*n_peers).map(|i| socket(&format!("192.0.2.{}", n * 16 + i + 1), 80));
        peers.push((*zone, own.collect()));
        hosts.push((*zone, there));
    }
    let cluster = |name: &str, endpoints: Value, more: &Value| {
        let mut cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": { "cluster_name": name, "endpoints": endpoints },
        });
        merge(&mut cluster, more);
        cluster
    };
    let mut peers = assignment(peers);
    for peer in peers[1]["lb_endpoints"].as_array_mut().expect("a list")[..n_ill].iter_mut() {
        peer["health_status"] = "UNHEALTHY".into();
    }
    let clusters = json!([
        cluster("own", peers, &json!({})),
        cluster("up", assignment(hosts), &more),
    ]);
    let around = json!({
        "node": { "locality": { "region": "r", "zone": "a" } },
        "cluster_manager": { "local_cluster_name": "own" },
    });
    let routes = json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }]);
    let listeners = |port| json!([listener("main", port, "OUTBOUND", hcm(routes.clone()))]);
    both_in(around, listeners, clusters, async |who: Who, port| {
        let mut client = Client::connect(port, false).await;
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..REQUESTS {
            let found = client.get("up", "/").await;
            let zone = match found.status {
                200 => found.header("x-backend").to_owned(),
                status => status.to_string(),
            };
            *seen.entry(zone).or_default() += 1;
        }
        let mut left = REQUESTS;
        for (zone, percent) in expect {
            let count = seen.get(*zone).copied().unwrap_or(0);
            let wanted = REQUESTS * percent / 100;
            assert!(
                count.abs_diff(wanted) <= REQUESTS / 20,
                "{who:?}: {zones:?} {seen:?}"
            );
            left -= count;
        }
        assert_eq!(left, 0, "{who:?}: {zones:?} {seen:?}");
    })
    .await;
}

fn zones(more: Value) -> Value {
    json!({ "common_lb_config": { "zone_aware_lb_config": more } })
}

/// The newer form, which has more settings.
fn extension(more: Value) -> Value {
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random",
        "locality_lb_config": { "zone_aware_lb_config": more },
    });
    let policy = json!({ "name": "random", "typed_config": config });
    json!({ "load_balancing_policy": { "policies": [{ "typed_extension_config": policy }] } })
}

#[tokio::test]
async fn as_much_stays_as_the_own_zone_can_take() {
    // Half of the peers and half of the hosts are here.
    check(&[("a", 2, 3), ("b", 2, 3)], json!({}), &[("a", 100)]).await;
    // Half of the peers, a quarter of the hosts.
    let least = || zones(json!({ "min_cluster_size": 1 }));
    let spill = [("a", 50), ("b", 50)];
    check(&[("a", 2, 1), ("b", 2, 3)], least(), &spill).await;
    // The rest goes where there is room: none of it to b.
    let zoned = [("a", 2, 1), ("b", 2, 2), ("c", 0, 1), ("d", 0, 0)];
    check(&zoned, least(), &[("a", 50), ("c", 50)]).await;
    // The only peer.
    check(&[("a", 1, 1), ("b", 0, 1)], least(), &spill).await;
    // Peers are elsewhere alone, or not known.
    let even = [("a", 25), ("b", 25), ("c", 50)];
    check(&[("a", 0, 1), ("b", 2, 1), ("c", 2, 2)], least(), &even).await;
    check(
        &[("a", 0, 1), ("b", 0, 3)],
        least(),
        &[("a", 25), ("b", 75)],
    )
    .await;
    // No host here.
    check(
        &[("a", 2, 0), ("b", 1, 2), ("c", 0, 2)],
        least(),
        &[("b", 25), ("c", 75)],
    )
    .await;
}

#[tokio::test]
async fn zones_count_where_they_are_to() {
    let even = [("a", 50), ("b", 50)];
    // Envoy's default are 6 hosts.
    check(&[("a", 2, 2), ("b", 2, 2)], json!({}), &even).await;
    let off = zones(json!({ "routing_enabled": { "value": 0.0 } }));
    check(&[("a", 2, 3), ("b", 2, 3)], off, &even).await;
    let half = zones(json!({ "routing_enabled": { "value": 50.0 } }));
    check(&[("a", 2, 3), ("b", 2, 3)], half, &[("a", 75), ("b", 25)]).await;
    // Too few peers are well.
    let strict = || zones(json!({ "min_cluster_size": 1, "fail_traffic_on_panic": true }));
    let zoned = [("a", 1, 1), ("b", 2, 1)];
    check_among(&zoned, 1, strict(), &[("a", 100)]).await;
    check_among(&zoned, 2, strict(), &[("503", 100)]).await;
    let lax = zones(json!({ "min_cluster_size": 1 }));
    check_among(&zoned, 2, lax.clone(), &even).await;
    let mut calm = lax;
    calm["common_lb_config"]["healthy_panic_threshold"] = json!({ "value": 0.0 });
    check_among(&zoned, 2, calm, &even).await;
    let forced =
        || extension(json!({ "min_cluster_size": 1, "force_local_zone": { "min_size": 2 } }));
    check(&[("a", 3, 2), ("b", 1, 6)], forced(), &[("a", 100)]).await;
    check(
        &[("a", 3, 1), ("b", 1, 1)],
        forced(),
        &[("a", 66), ("b", 34)],
    )
    .await;
    check(&[("a", 3, 2), ("b", 0, 6)], forced(), &[("a", 100)]).await;
}
