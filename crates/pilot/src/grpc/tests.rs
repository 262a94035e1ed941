use std::sync::Arc;

use lateen_core::Protocol;
use lateen_registry::{Resolution, World};
use lateen_xds::TypeUrl;
use lateen_xds::json;
use lateen_xds::server::{NameSet, Names};
use serde_json::{Value, json};

use crate::engine::{Engine, Vantage};
use crate::fixture::{assert_has, config, service, sidecar};
use crate::proxy::Dialect;
use crate::view::View;
use crate::{Proxy, Snapshot};

fn client(name: &str) -> Proxy {
    Proxy {
        dialect: Dialect::Grpc,
        ..sidecar(name)
    }
}

fn engine(yaml: &str) -> Engine {
    Engine::new(snapshot(yaml))
}

fn snapshot(yaml: &str) -> Arc<Snapshot> {
    let mut headless = service("headless", &[(9000, 9000, Protocol::Grpc)]);
    Arc::make_mut(&mut headless).resolution = Resolution::Passthrough;
    let services = [
        service("greeter", &[(7070, 17070, Protocol::Grpc)]),
        service("other.elsewhere", &[(7070, 17070, Protocol::Grpc)]),
        service("bytes", &[(9, 9, Protocol::Tcp)]),
        headless,
    ];
    let world = World {
        services: services.into_iter().map(|s| (s.id(), s)).collect(),
        ..World::default()
    };
    let config = Arc::new(config(yaml));
    Arc::new(Snapshot::new(1, Arc::new(world), config, "cluster.local"))
}

fn all(engine: &Engine, proxy: &Proxy, type_url: &TypeUrl) -> Vec<Value> {
    let names = NameSet::default();
    let served = engine.served(proxy);
    let all = served.resources(&engine.cache, type_url, Names::All(&names));
    let value = |body| json::any_to_value(&body).expect("known types");
    all.iter().map(|resource| value(resource.body())).collect()
}

#[track_caller]
fn named<'a>(all: &'a [Value], name: &str) -> &'a Value {
    let found = all.iter().find(|value| value["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not among {all:#?}"))
}

fn table(yaml: &str, name: &str) -> Option<Value> {
    let snapshot = snapshot(yaml);
    let vantage = Vantage::of_node(&client("greeter"));
    let table = View::new(&snapshot, &vantage).routes(name)?.generate();
    Some(json::to_value(&table).expect("known types"))
}

const GREETER: &str = "outbound|7070||greeter.default.svc.cluster.local";

#[test]
fn what_can_be_dialled() {
    let engine = engine("");
    let listeners = all(&engine, &client("x"), &TypeUrl::LISTENER);
    let names = listeners.iter().filter_map(|l| l["name"].as_str());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "greeter.default.svc.cluster.local:7070",
            "greeter.default.svc:7070",
            "greeter.default:7070",
            "greeter:7070",
            "other.elsewhere.svc.cluster.local:7070",
            "other.elsewhere.svc:7070",
            "other.elsewhere:7070",
        ]
    );
    let filter = |name: &str| json!({"name": name});
    assert_has(
        named(&listeners, "greeter:7070"),
        &json!({"api_listener": {"api_listener": {
            "rds": {"route_config_name": GREETER, "config_source": {"ads": {}}},
            "http_filters": [filter("envoy.filters.http.fault"), filter("envoy.filters.http.router")],
        }}}),
    );
}

#[test]
fn where_requests_go() {
    let rule = "
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [greeter]
  http:
  - match: [{headers: {user: {exact: a}}}]
    timeout: 2s
    corsPolicy: {allowOrigins: [{exact: x}]}
    fault: {abort: {httpStatus: 400, percentage: {value: 100}}}
    route: [{destination: {host: greeter, subset: v2}}]
  - route:
    - {destination: {host: greeter, subset: v1}, weight: 80}
    - {destination: {host: greeter, subset: v2}, weight: 20}
";
    let found = table(rule, GREETER).expect("a table");
    let host = &found["virtual_hosts"][0];
    let domains = host["domains"].as_array().expect("domains");
    for domain in [
        "greeter",
        "greeter:7070",
        "greeter.default.svc.cluster.local:7070",
    ] {
        assert!(domains.contains(&json!(domain)), "{domains:?}");
    }
    let cluster =
        |subset: &str| format!("outbound|7070|{subset}|greeter.default.svc.cluster.local");
    assert_has(
        host,
        &json!({"routes": [
            {"match": {"headers": [{"name": "user"}]},
             "route": {"cluster": cluster("v2"), "max_stream_duration": {"max_stream_duration": "2s"}},
             "typed_per_filter_config": {"envoy.filters.http.fault": {"abort": {"http_status": 400}}}},
            {"route": {"weighted_clusters": {"clusters": [
                {"name": cluster("v1"), "weight": 80}, {"name": cluster("v2"), "weight": 20}]}}},
        ]}),
    );
    let settings = host["routes"][0]["typed_per_filter_config"].as_object();
    assert_eq!(
        settings.map(|all| all.len()),
        Some(1),
        "gRPC has no filter for origins"
    );
    assert_eq!(host["routes"][0]["route"].get("timeout"), None);
    for none in [
        "outbound|9||bytes.default.svc.cluster.local",
        "7070",
        "outbound|1||x",
    ] {
        assert_eq!(table("", none), None, "{none}");
    }
}

#[test]
fn clusters() {
    let rule = "
kind: DestinationRule
metadata: {name: a}
spec:
  host: greeter
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    loadBalancer: {simple: LEAST_REQUEST}
  subsets:
  - {name: v1}
  - name: hashed
    trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: user, maglev: {tableSize: 65537}}}}
";
    let engine = engine(rule);
    let clusters = all(&engine, &client("x"), &TypeUrl::CLUSTER);
    assert_eq!(clusters.len(), 4, "{clusters:#?}");
    let provider = |name: &str| json!({"instance_name": "default", "certificate_name": name});
    let whole = named(&clusters, GREETER);
    assert_has(
        whole,
        &json!({
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"ads": {}}, "service_name": GREETER},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {"common_tls_context": {
                "tls_certificate_provider_instance": provider("default"),
                "combined_validation_context": {"default_validation_context":
                    {"ca_certificate_provider_instance": provider("ROOTCA")}},
            }}},
        }),
    );
    // Round robin is the first of its kind, and not every gRPC has another.
    for absent in [
        "lb_policy",
        "transport_socket_matches",
        "typed_extension_protocol_options",
    ] {
        assert_eq!(whole.get(absent), None);
    }
    let hashed = "outbound|7070|hashed|greeter.default.svc.cluster.local";
    assert_has(
        named(&clusters, hashed),
        &json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "65537"}}),
    );
    let other = named(
        &clusters,
        "outbound|7070||other.elsewhere.svc.cluster.local",
    );
    assert_eq!(other.get("transport_socket"), None);
}

#[test]
fn servers() {
    let listener = "xds.istio.io/grpc/lds/inbound/[::]:17070";
    let plain = engine("");
    let listeners = all(&plain, &client("greeter"), &TypeUrl::LISTENER);
    let found = named(&listeners, listener);
    assert_has(
        found,
        &json!({
            "address": {"socket_address": {"address": "::", "port_value": 17070}},
            "filter_chains": [{"filters": [{"typed_config": {
                "route_config": {"virtual_hosts": [{"domains": ["*"], "routes": [{"non_forwarding_action": {}}]}]},
                "http_filters": [{"name": "envoy.filters.http.router"}],
            }}]}],
        }),
    );
    assert_eq!(found["filter_chains"][0].get("transport_socket"), None);
    let strict =
        engine("kind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n");
    let listeners = all(&strict, &client("greeter"), &TypeUrl::LISTENER);
    assert_has(
        &named(&listeners, listener)["filter_chains"][0],
        &json!({"transport_socket": {"typed_config": {"require_client_certificate": true}}}),
    );
    assert!(
        all(&plain, &client("greeter"), &TypeUrl::CLUSTER)
            .iter()
            .all(|c| c["type"] == "EDS")
    );
}
