use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use lateen_core::{Locality, Protocol};
use lateen_galley::ConfigSet;
use lateen_registry::{Endpoint, EndpointKey, Workload, World};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::{Anonymous, Options, fixture};

const NODE: &str = "istio-proxy/sidecar~10.244.0.9~productpage-1.default~default.svc.cluster.local";

/// Bookinfo's reviews with a pod in a zone and one outside of any, as in the demonstration.
fn world() -> World {
    let mut world = fixture::world();
    let service = fixture::service("reviews", &[(9080, 9080, Protocol::Http)]);
    let key = EndpointKey::new(service.id(), &service.ports[0].name);
    let endpoint = |address: &str, version: &str, region: &str, zone: &str| Endpoint {
        address: address.into(),
        port: 9080,
        labels: [("app", "reviews"), ("version", version)]
            .into_iter()
            .collect(),
        service_account: String::new(),
        namespace: "default".into(),
        workload_name: "reviews".into(),
        locality: Locality {
            region: region.into(),
            zone: zone.into(),
            ..Locality::default()
        },
        mtls: false,
        weight: 1,
        ready: true,
        network: String::new(),
        node: Default::default(),
    };
    let endpoints = [
        endpoint("10.16.1.4", "v1", "us-west1", "us-west1-a"),
        endpoint("192.170.228.84", "v2", "", ""),
    ];
    world.endpoints.insert(key, Arc::from(endpoints));
    let ip = "10.244.0.9".parse().expect("an address");
    let workload = Workload {
        name: "productpage-1".into(),
        namespace: "default".into(),
        ips: vec![ip],
        labels: [("app", "productpage")].into_iter().collect(),
        locality: Locality {
            region: "here".into(),
            zone: "near".into(),
            ..Locality::default()
        },
        annotations: BTreeMap::new(),
        service_account: String::new(),
        node: Default::default(),
        ports: BTreeMap::new(),
        owner: None,
        mtls: false,
        ready: true,
    };
    world.workloads_by_ip.insert(ip, Arc::new(workload));
    world
}

struct Plane {
    router: Router,
    _inputs: (watch::Sender<Arc<World>>, watch::Sender<Arc<ConfigSet>>),
}

impl Plane {
    fn new(yaml: &str) -> Plane {
        let (world_tx, world) = watch::channel(Arc::new(world()));
        let (config_tx, config) = watch::channel(Arc::new(fixture::config(yaml)));
        let discovery = Discovery::new(world, config, Options::default());
        Plane {
            router: discovery.rest_v1_router(Anonymous),
            _inputs: (world_tx, config_tx),
        }
    }

    async fn send(&self, method: &str, path: &str) -> (u16, String) {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = path.parse().expect("a path");
        let local: SocketAddr = ([127, 0, 0, 1], 1).into();
        request.extensions_mut().insert(ConnectInfo(local));
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer");
        let code = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        (
            code,
            String::from_utf8_lossy(&body.expect("a body")).into_owned(),
        )
    }

    async fn json(&self, path: &str) -> Value {
        let (code, text) = self.send("GET", path).await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[tokio::test]
async fn endpoints_are_written_as_the_reference_does() {
    let plane = Plane::new("");
    let path = "/v1/registration/reviews.default.svc.cluster.local%7Cp9080";
    let (code, text) = plane.send("GET", path).await;
    assert_eq!(code, 200);
    let expect = r#"{
  "hosts": [
   {
    "ip_address": "10.16.1.4",
    "port": 9080,
    "tags": {
     "az": "us-west1/us-west1-a"
    }
   },
   {
    "ip_address": "192.170.228.84",
    "port": 9080
   }
  ]
 }"#;
    assert_eq!(text, expect);
    let labelled = plane
        .json(&format!("{path}%7Capp=reviews,version=v2"))
        .await;
    assert_eq!(labelled["hosts"][0]["ip_address"], "192.170.228.84");
    assert_eq!(labelled["hosts"].as_array().map(Vec::len), Some(1));
    let unknown = plane.json("/v1/registration/nobody").await;
    assert_eq!(unknown, json!({"hosts": []}));
    let all = plane.json("/v1/registration").await;
    let keys: Vec<_> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["service-key"])
        .collect();
    assert!(keys.contains(&&json!("reviews.default.svc.cluster.local|p9080")));
    let mut sorted = keys.clone();
    sorted.sort_by_key(|key| key.to_string());
    assert_eq!(keys, sorted);
}

const RULES: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {maxConnections: 7, connectTimeout: 1s}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 2s}
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /reviews}, headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v1}}]
    timeout: 2s
  - route: [{destination: {host: reviews, subset: v1}, weight: 30}, {destination: {host: reviews}, weight: 70}]
";

#[tokio::test]
async fn clusters_and_routes_are_those_of_the_node() {
    let plane = Plane::new(RULES);
    let clusters = plane.json(&format!("/v1/clusters/{NODE}")).await;
    let clusters = clusters["clusters"].as_array().expect("a list").clone();
    let find = |name: &str| clusters.iter().find(|one| one["name"] == name).cloned();
    let host = "reviews.default.svc.cluster.local|p9080";
    let cluster = find(&format!("out.{host}")).expect("it is there");
    assert_eq!(cluster["service_name"], host);
    assert_eq!(cluster["connect_timeout_ms"], 1000);
    assert_eq!(
        (&cluster["type"], &cluster["lb_type"]),
        (&json!("sds"), &json!("round_robin"))
    );
    assert_eq!(cluster["circuit_breakers"]["default"]["max_connections"], 7);
    assert_eq!(cluster["outlier_detection"]["consecutive_5xx"], 3);
    assert_eq!(cluster["outlier_detection"]["interval_ms"], 2000);
    assert!(find(&format!("out.{host}|version=v1")).is_some());
    assert!(find("in.9080").is_some(), "the application has one too");

    let table = plane.json(&format!("/v1/routes/:9080/{NODE}")).await;
    let hosts = table["virtual_hosts"].as_array().expect("a list");
    let name = "reviews.default.svc.cluster.local:9080";
    let reviews = hosts
        .iter()
        .find(|one| one["name"] == name)
        .expect("it is there");
    let first = &reviews["routes"][0];
    assert_eq!(
        (&first["prefix"], &first["timeout_ms"]),
        (&json!("/reviews"), &json!(2000))
    );
    assert_eq!(
        first["headers"],
        json!([{"name": "end-user", "value": "jason"}])
    );
    assert_eq!(first["cluster"], format!("out.{host}|version=v1"));
    let weights = &reviews["routes"][1]["weighted_clusters"]["clusters"];
    assert_eq!(
        weights[0],
        json!({"name": format!("out.{host}|version=v1"), "weight": 30})
    );
    assert_eq!(weights[1]["name"], format!("out.{host}"));

    let listeners = plane.json(&format!("/v1/listeners/{NODE}")).await;
    let listeners = listeners["listeners"].as_array().expect("a list").clone();
    let http = listeners
        .iter()
        .find(|one| one["address"] == "tcp://0.0.0.0:9080")
        .expect("it is there");
    assert_eq!(
        http["filters"][0]["config"]["rds"]["route_config_name"],
        "9080"
    );
}

#[tokio::test]
async fn bad_nodes_and_counts() {
    let plane = Plane::new("");
    for path in [
        "/v1/clusters/istio-proxy/x",
        "/v1/az/istio-proxy/x",
        "/v1/routes/80/c/x",
    ] {
        assert_eq!(plane.send("GET", path).await.0, 404, "{path}");
    }
    let path = format!("/v1/listeners/{NODE}");
    for _ in 0..3 {
        plane.json(&path).await;
    }
    let stats = plane.json("/cache_stats").await;
    assert_eq!(stats["cache_stats"][&*path], json!({"hit": 2, "miss": 1}));
    assert_eq!(plane.send("POST", "/cache_stats_delete").await.0, 200);
    assert_eq!(plane.json("/cache_stats").await, json!({"cache_stats": {}}));
    let zone = plane.send("GET", &format!("/v1/az/{NODE}")).await;
    assert_eq!(zone, (200, "here/near".to_owned()));
}
