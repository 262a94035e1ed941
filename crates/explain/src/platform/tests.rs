mod rules;
mod zones;

use lateen_registry::Documents;

use super::*;
use crate::{Behind, Explanation, Outcome, Served, explain};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec: {template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: c}]}}}
";

const EDGE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: istio
  listeners:
  - {name: other, port: 81, protocol: HTTP}
  - {name: http, port: 80, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge, sectionName: http}]
  rules:
  - matches: [{path: {value: /a}}, {headers: [{name: x, value: \"1\"}]}]
    backendRefs: [{name: gone, port: 80, weight: 0}, {name: shop, port: 80}]
";

fn ask(platform: &Platform, from: &str, url: &str, header: Option<&str>) -> Explanation {
    let caller = platform.caller(from).expect("a pod");
    let offline = platform.offline(&caller);
    let served = Served::offline(&offline).expect("served");
    let mut call = platform.call(&caller, "GET", url).expect("a call");
    let header = header.map(|value| ("x".to_owned(), value.to_owned()));
    call.headers.extend(header);
    let behind = Behind {
        offline: Some(&offline),
        places: Some(&platform.places),
    };
    explain(&served, &call, behind)
}

#[test]
fn routes_of_the_gateway_api_are_told_by_their_fields() {
    let files = [
        Documents::file("shop.yaml", SHOP),
        Documents::file("edge.yaml", EDGE),
    ];
    let platform = Platform::read(&files, "cluster.local").expect("valid");
    // The mesh makes the pod and the Service of the Gateway.
    let told = ask(&platform, "edge-istio", "http://edge/", Some("1"));
    let chain = told.chain.as_ref().expect("a chain");
    let servers: Vec<String> = chain.from.iter().map(ToString::to_string).collect();
    assert_eq!(
        servers,
        ["Gateway default/edge spec.listeners[1] (edge.yaml:9)"]
    );
    let route = told.route.as_ref().expect("a route");
    let from: Vec<String> = route.from.iter().map(ToString::to_string).collect();
    let object = "HTTPRoute default/shop";
    assert_eq!(
        from,
        [format!("{object} spec.rules[0].matches[1] (edge.yaml:17)")]
    );
    let path = &route.others[0];
    assert_eq!(path.from[0].field, "spec.rules[0].matches[0].path");
    let wants = "wants prefix \"/a\" that ends there or with a slash, the request has \"/\"";
    assert_eq!(path.why, wants);
    let Outcome::Forward(to) = &told.outcome else {
        panic!("{told}");
    };
    // The first has no share.
    let destination = to.clusters[0].destination.as_ref().map(ToString::to_string);
    let want = format!("{object} spec.rules[0].backendRefs[1] (edge.yaml:18)");
    assert_eq!(destination, Some(want));
    assert_eq!(
        platform.notes,
        [
            "HTTPRoute default/shop: not ResolvedRefs: BackendNotFound: backend Service gone not found"
        ]
    );
}

#[test]
fn what_is_stored_and_invalid_is_left_out_and_named() {
    let bad = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec: {hosts: [shop], http: [{route: []}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: good}
spec: {hosts: [shop], http: [{directResponse: {status: 204}}]}
";
    let files = [Documents::file("shop.yaml", SHOP), Documents::stored(bad)];
    let platform = Platform::read(&files, "cluster.local").expect("stored");
    let [note] = platform.notes.as_slice() else {
        panic!("{:#?}", platform.notes);
    };
    let is = "VirtualService default/bad is not valid and left out: spec.http[0]";
    assert!(note.starts_with(is), "{note}");
    let told = ask(&platform, "shop-v1", "http://shop/", None);
    assert_eq!(told.outcome, Outcome::Answer { status: 204 });
    let from = &told.route.as_ref().expect("a route").from[0];
    assert_eq!(
        (from.place.as_str(), from.field.as_str()),
        ("", "spec.http[0]")
    );
    let files = [
        Documents::file("shop.yaml", SHOP),
        Documents::file("bad.yaml", bad),
    ];
    let faults = Platform::read(&files, "cluster.local")
        .err()
        .expect("a fault");
    assert!(
        faults[0].starts_with("bad.yaml:5: spec.http[0]"),
        "{faults:?}"
    );
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let text = EDGE.replace("port: 81", "port: [81]");
    let files = [Documents::file("edge.yaml", text)];
    let faults = Platform::read(&files, "cluster.local")
        .err()
        .expect("a fault");
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("edge.yaml:5: spec: "), "{faults:?}");
}

/// A pod of the name, whatever else begins with it, and however many dots are in it.
#[test]
fn pods_are_found_by_their_whole_names() {
    let pod = |name: &str, namespace: &str, ip: u8| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{containers: [{{name: c}}]}}
status: {{podIP: 10.244.0.{ip}, phase: Running}}
---
"
        )
    };
    let all = [
        pod("reviews-v2", "default", 1),
        pod("db.shop", "default", 2),
        pod("db", "shop.default", 3),
        pod("db", "shop", 4),
    ];
    let platform = Platform::read(&[Documents::file("f.yaml", all.concat())], "cluster.local");
    let platform = platform.expect("valid documents");
    let told = |found: Option<Caller>| found.map(|of| of.address().to_string());
    for (name, namespace, expect) in [
        ("reviews", "default", None),
        ("reviews-v2", "default", Some("10.244.0.1")),
        ("db.shop", "default", Some("10.244.0.2")),
        ("db", "shop", Some("10.244.0.4")),
        ("db", "default", None),
    ] {
        let found = told(platform.pod(name, namespace));
        assert_eq!(found.as_deref(), expect, "{name} {namespace}");
    }
    for (name, expect) in [
        ("reviews", Some("10.244.0.1")),
        ("db.shop", Some("10.244.0.4")),
        ("db.shop.default", Some("10.244.0.2")),
        ("nobody", None),
    ] {
        assert_eq!(told(platform.caller(name)).as_deref(), expect, "{name}");
    }
}
