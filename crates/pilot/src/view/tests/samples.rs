//! The public samples that the tour of Bookinfo applies.

use serde_json::{Value, json};

use super::{gateway_listeners, routes, table};
use crate::fixture::{assert_has, ingress, sample, sidecar};

fn cluster(subset: &str, name: &str) -> String {
    format!("outbound|9080|{subset}|{name}.default.svc.cluster.local")
}

fn jason() -> Value {
    json!({"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]})
}

#[track_caller]
fn check(file: &str, service: &str, want: Value) {
    let Some(yaml) = sample(file) else { return };
    let host = format!("{service}.default.svc.cluster.local:9080");
    let found = routes(&yaml, &sidecar("productpage"), "9080", &host);
    assert_has(&found, &want);
}

#[test]
fn everything_to_v1() {
    for service in ["productpage", "details", "reviews", "ratings"] {
        check(
            "virtual-service-all-v1.yaml",
            service,
            json!([{
                "match": {"prefix": "/"},
                "metadata": {"filter_metadata": {"istio": {
                    "config": format!(
                        "/apis/networking.istio.io/v1/namespaces/default/virtual-service/{service}"
                    )
                }}},
                "route": {"cluster": cluster("v1", service), "timeout": "0s"}
            }]),
        );
    }
}

#[test]
fn shares_of_requests() {
    check(
        "virtual-service-reviews-90-10.yaml",
        "reviews",
        json!([{"route": {"weighted_clusters": {"clusters": [
            {"name": cluster("v1", "reviews"), "weight": 90},
            {"name": cluster("v2", "reviews"), "weight": 10},
        ]}}}]),
    );
}

#[test]
fn one_user_gets_another_version() {
    check(
        "virtual-service-reviews-test-v2.yaml",
        "reviews",
        json!([
            {"match": jason(), "route": {"cluster": cluster("v2", "reviews")}},
            {"match": {"prefix": "/"}, "route": {"cluster": cluster("v1", "reviews")}},
        ]),
    );
}

#[test]
fn faults_for_one_user() {
    let all = json!({"numerator": 1_000_000, "denominator": "MILLION"});
    let delay = json!({"delay": {"fixed_delay": "7s", "percentage": all}});
    let abort = json!({"abort": {"http_status": 500, "percentage": all}});
    for (file, fault) in [
        ("virtual-service-ratings-test-delay.yaml", delay),
        ("virtual-service-ratings-test-abort.yaml", abort),
    ] {
        let v1 = json!({"cluster": cluster("v1", "ratings")});
        check(
            file,
            "ratings",
            json!([
                {
                    "match": jason(),
                    "typed_per_filter_config": {"envoy.filters.http.fault": fault},
                    "route": v1
                },
                {"match": {"prefix": "/"}, "typed_per_filter_config": null, "route": v1},
            ]),
        );
    }
}

#[test]
fn the_gateway() {
    let Some(yaml) = sample("bookinfo-gateway.yaml") else {
        return;
    };
    let listeners = gateway_listeners(&yaml, &ingress());
    let names: Vec<_> = listeners.iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["0.0.0.0_8080"]);

    let found = table(&yaml, &ingress(), "http.8080");
    let to = json!({"cluster": cluster("", "productpage"), "timeout": "0s"});
    let paths = [
        json!({"path": "/productpage"}),
        json!({"prefix": "/static"}),
        json!({"path": "/login"}),
        json!({"path": "/logout"}),
        json!({"prefix": "/api/v1/products"}),
    ];
    let routes = paths.map(|path| json!({"match": path, "route": to}));
    assert_has(
        &found,
        &json!({
            "ignore_port_in_host_matching": true,
            "virtual_hosts": [{"name": "*:8080", "domains": ["*"], "routes": routes}]
        }),
    );
}
