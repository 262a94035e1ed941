//! Shares of hosts by zone, where the proxy knows its peers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// A quarter of the shop is in zone a, and half of the callers.
const ZONES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-a}
spec:
  template:
    metadata: {labels: {app: shop, istio-locality: r.a}}
    spec: {containers: [{name: c}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-b}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: shop, istio-locality: r.b}}
    spec: {containers: [{name: c}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec: {host: shop, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {minClusterSize: 1}}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  labels: {app: web, istio-locality: r.a}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: "1", controller: true}]
  annotations: {ANNOTATION}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  labels: {app: web, istio-locality: r.b}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: "1", controller: true}]
spec: {containers: [{name: c}]}
"#;

const MESH: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultConfig: {proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: "true"}}'}
"#;

const OWN: &str =
    r#"proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: "true"}}'"#;

/// The share of the first workload's hosts, in percent.
fn share(told: &Explanation, own: impl Fn(&crate::answer::Host) -> bool) -> f64 {
    let Outcome::Forward(to) = &told.outcome else {
        panic!("{told}");
    };
    let hosts = to.clusters[0].hosts.iter();
    hosts
        .filter(|host| own(host))
        .map(|host| host.percent)
        .sum()
}

fn in_files(mesh: &str, annotation: &str) -> f64 {
    let objects = ZONES.replace("ANNOTATION", annotation);
    let files = [
        Documents::file("objects.yaml", &objects),
        Documents::file("mesh.yaml", mesh),
    ];
    let platform = Platform::read(&files, "cluster.local").expect("valid");
    let told = ask(&platform, "web-0", "http://shop/", None);
    share(&told, |host| host.workload.starts_with("shop-a"))
}

#[test]
fn shares_are_those_of_the_callers_zone() {
    let found: BTreeMap<&str, f64> = [
        ("by the mesh", in_files(MESH, "")),
        ("by the workload", in_files("", OWN)),
        ("not at all", in_files("", "")),
    ]
    .into();
    for (how, share) in &found {
        let expect = if *how == "not at all" { 25.0 } else { 50.0 };
        assert!((share - expect).abs() < 5.0, "{found:?}");
    }
}

/// What a running proxy has, as its dump says it.
#[test]
fn shares_of_a_running_proxy_are_those_of_its_zone() {
    let endpoints = |name: &str, zones: [(&str, u8); 2]| {
        let zones = zones.map(|(zone, count)| {
            let hosts = (0..count).map(|n| {
                let at = json!({ "address": format!("10.0.{}.{n}", zone.len()), "port_value": 80 });
                json!({ "endpoint": { "address": { "socket_address": at } } })
            });
            json!({ "locality": { "region": "r", "zone": zone },
                "lb_endpoints": hosts.collect::<Vec<_>>() })
        });
        json!({ "endpoint_config": {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": name, "endpoints": zones } })
    };
    let packed = |kind: &str, mut fields: Value| {
        fields["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
        fields
    };
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "shop" } });
    let manager = packed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({ "stat_prefix": "a", "route_config": { "name": "r", "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": [route] }] },
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }] }),
    );
    let listener = packed(
        "config.listener.v3.Listener",
        json!({ "name": "l", "traffic_direction": "OUTBOUND",
            "address": { "socket_address": { "address": "0.0.0.0", "port_value": 80 } },
            "filter_chains": [{ "filters": [{ "name": "h", "typed_config": manager }] }] }),
    );
    let cluster = packed(
        "config.cluster.v3.Cluster",
        json!({ "name": "shop", "type": "EDS",
            "eds_cluster_config": { "eds_config": { "ads": {} } },
            "common_lb_config": { "zone_aware_lb_config": { "min_cluster_size": "1" } } }),
    );
    let dump = |zone: &str| {
        let node = json!({ "id": "a", "locality": { "region": "r", "zone": zone } });
        json!({ "configs": [
            { "bootstrap": { "node": node } },
            { "dynamic_listeners": [{ "active_state": { "listener": listener } }] },
            { "dynamic_active_clusters": [{ "cluster": cluster }] },
            { "dynamic_endpoint_configs": [
                endpoints("shop", [("a", 1), ("bb", 3)]),
                endpoints("local_cluster", [("a", 2), ("bb", 2)])] },
        ] })
    };
    // Zone b can take all that its callers send.
    for (zone, expect) in [("a", 50.0), ("bb", 0.0), ("elsewhere", 25.0)] {
        let served = Served::from_dump(&dump(zone)).expect("served");
        let to = Some([192, 0, 2, 9].into());
        let call = served
            .call("GET", "http://shop.example/", to)
            .expect("a call");
        let behind = Behind {
            offline: None,
            places: None,
        };
        let told = explain(&served, &call, behind);
        let found = share(&told, |host| host.address.starts_with("10.0.1."));
        assert!((found - expect).abs() < 5.0, "{zone}: {found}");
    }
}
