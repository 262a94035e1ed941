//! Rules for connections and datagrams, who says how TLS ends, and why VirtualServices have no say.

use lateen_registry::Documents;

use super::{Platform, SHOP, ask};
use crate::{Behind, Explanation, Served, explain};

const DB: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{name: tcp, port: 3306}, {name: tls, port: 443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db-v1}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}}
";

fn platform(texts: &[&str]) -> Platform {
    let files = texts.iter().enumerate();
    let files = files.map(|(n, text)| Documents::file(format!("f{n}.yaml"), (*text).to_owned()));
    let files: Vec<_> = files.collect();
    Platform::read(&files, "cluster.local").expect("valid")
}

/// Asserts that an explanation has all these lines.
#[track_caller]
fn has(told: &Explanation, want: &[&str]) {
    let text = told.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in want {
        assert!(lines.contains(line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn rules_for_connections_are_told_by_their_fields() {
    let rules = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db}
spec:
  hosts: [db, a.example.com, b.example.com]
  tls:
  - match:
    - {port: 443, sniHosts: [a.example.com]}
    - {port: 443, sniHosts: [b.example.com]}
    route: [{destination: {host: shop, port: {number: 80}}, weight: 0}, {destination: {host: db, port: {number: 443}}, weight: 1}]
  tcp:
  - match: [{port: 1}, {sourceLabels: {app: other}}, {destinationSubnets: [192.0.2.0/24]}]
    route: [{destination: {host: shop, port: {number: 80}}}]
  - match: [{port: 3306}]
    route: [{destination: {host: db, port: {number: 3306}}}]
  - route: [{destination: {host: db, port: {number: 443}}}]
";
    let platform = platform(&[SHOP, DB, rules]);
    let told = ask(&platform, "shop-v1", "tcp://db:3306", None);
    let object = "VirtualService default/db";
    has(
        &told,
        &[
            &format!("from {object} spec.tcp[1].match[0] (f2.yaml:15)"),
            &format!("led to by {object} spec.tcp[1].route[0] (f2.yaml:16)"),
            &format!(
                "not spec.tcp[0].match[0].port: wants 1, the request goes to port 3306 ({object}, f2.yaml:13)"
            ),
            &format!(
                "not spec.tcp[0].match[1].sourceLabels[app]: wants \"other\", the client has \"shop\" ({object}, f2.yaml:13)"
            ),
            &format!(
                "not spec.tcp[2]: rules before it take all that it asks for ({object}, f2.yaml:17)"
            ),
        ],
    );
    let text = told.to_string();
    let subnets = "spec.tcp[0].match[2].destinationSubnets: ";
    assert!(text.contains(subnets), "{text}");
    // What is no request has neither a timeout nor a status.
    assert!(!text.contains("timeout") && !text.contains("503"), "{text}");

    let caller = platform.caller("shop-v1").expect("a pod");
    let mut call = platform
        .call(&caller, "GET", "https://db:443/")
        .expect("a call");
    let crate::Security::Tls { server_name, .. } = &mut call.security else {
        panic!("{call:?}");
    };
    *server_name = Some("b.example.com".to_owned());
    let offline = platform.offline(&caller);
    let behind = Behind {
        offline: Some(&offline),
        places: Some(&platform.places),
    };
    let served = Served::offline(&offline).expect("served");
    let told = explain(&served, &call, behind);
    has(
        &told,
        &[
            &format!("from {object} spec.tls[0].match[1] (f2.yaml:10)"),
            // The first destination gets nothing.
            &format!("led to by {object} spec.tls[0].route[1] (f2.yaml:11)"),
        ],
    );
    let text = told.to_string();
    let names = "spec.tls[0].match[0].sniHosts: ";
    assert!(text.contains(names), "{text}");
}

#[test]
fn policies_of_mutual_tls_are_told_by_their_fields() {
    let policies = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  portLevelMtls:
    3306: {mode: DISABLE}
";
    let platform = platform(&[SHOP, DB, policies]);
    let inbound = |name: &str, url: &str| {
        let caller = platform.caller(name).expect("a pod");
        let offline = platform.offline(&caller);
        let served = Served::offline(&offline).expect("served");
        let call = platform.call_to(&caller, "GET", url).expect("a call");
        let behind = Behind {
            offline: Some(&offline),
            places: Some(&platform.places),
        };
        explain(&served, &call, behind)
    };
    let strict =
        "mutual TLS STRICT by PeerAuthentication istio-system/all spec.mtls.mode (f2.yaml:5)";
    has(&inbound("shop-v1", "http://shop:80/"), &[strict]);
    let off = "mutual TLS DISABLE by PeerAuthentication default/db spec.portLevelMtls[3306].mode (f2.yaml:13)";
    has(&inbound("db-v1", "tcp://db:3306"), &[off]);
    // Clients are told why they speak plain text.
    has(&ask(&platform, "shop-v1", "tcp://db:3306", None), &[off]);
    let told = ask(&platform, "db-v1", "http://shop/", None).to_string();
    assert!(!told.contains("PeerAuthentication"), "{told}");
}

#[test]
fn virtual_services_without_a_say_are_told_why() {
    let of = |name: &str, namespace: &str, more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, \
             namespace: {namespace}, creationTimestamp: 2026-01-0{}T00:00:00Z}}\nspec: {{{more}, http: \
             [{{directResponse: {{status: 204}}}}]}}\n",
            1 + name.len()
        )
    };
    let host = "hosts: [shop.default.svc.cluster.local]";
    let rules = [
        of("a", "default", host),
        of("bb", "default", host),
        of("ccc", "away", &format!("{host}, exportTo: [.]")),
        of("dddd", "default", &format!("{host}, gateways: [edge]")),
        of("eeeee", "default", "hosts: ['*.cluster.local']"),
        of("ffffff", "away", host),
    ]
    .concat();
    let sidecar = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own}
spec: {egress: [{hosts: [./*]}]}
";
    let platform = platform(&[SHOP, &rules, sidecar]);
    let told = ask(&platform, "shop-v1", "http://shop/", None);
    has(
        &told,
        &[
            "not spec.hosts[0]: VirtualService default/a is older (VirtualService default/bb, f1.yaml:10)",
            "not spec.exportTo: it is not exported to namespace default (VirtualService away/ccc, f1.yaml:15)",
            "not spec.gateways: it is for edge, this is mesh (VirtualService default/dddd, f1.yaml:20)",
            "not spec.hosts[0]: VirtualService default/a names shop.default.svc.cluster.local itself (VirtualService default/eeeee, f1.yaml:25)",
            "not spec.hosts[0] and spec.egress: the workload's Sidecar does not let it through (VirtualService away/ffffff, f1.yaml:30) (Sidecar default/own, f2.yaml:5)",
        ],
    );
    let route = told.route.as_ref().expect("a route");
    assert_eq!(route.from[0].object, "VirtualService default/a");
}

#[test]
fn a_gateway_without_a_host_says_what_it_is_not_for() {
    let texts = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec: {hosts: [shop.example.com], gateways: [other], http: [{directResponse: {status: 204}}]}
---
apiVersion: v1
kind: Service
metadata: {name: gw}
spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gw}
spec: {template: {metadata: {labels: {istio: ingressgateway}}, spec: {containers: [{name: c}]}}}
";
    let platform = platform(&[SHOP, texts]);
    let told = ask(&platform, "gw", "http://shop.example.com/", None);
    has(
        &told,
        &[
            "not spec.gateways: it is for other, this is default/edge (VirtualService default/shop, f1.yaml:10)",
        ],
    );
}

const DNS: &str = "
apiVersion: v1
kind: Service
metadata: {name: dns}
spec: {selector: {app: dns}, ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dns-v1}
spec: {template: {metadata: {labels: {app: dns}}, spec: {containers: [{name: c}]}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: istio
  listeners:
  - {name: other, port: 54, protocol: UDP}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: dns}
spec:
  parentRefs: [{name: edge, sectionName: dns}]
  rules: [{backendRefs: [{name: gone, port: 53, weight: 1}, {name: dns, port: 53, weight: 3}]}]
";

#[test]
fn datagrams_are_told_by_their_route() {
    let platform = platform(&[DNS]);
    let told = ask(&platform, "edge-istio", "udp://edge:53", None);
    has(
        &told,
        &[
            "from Gateway default/edge spec.listeners[1] (f0.yaml:19)",
            "from UDPRoute default/dns spec.rules[0] (f0.yaml:26)",
            "cluster     outbound|53|~udp|dns.default.svc.cluster.local, 75 %",
            "led to by UDPRoute default/dns spec.rules[0].backendRefs[1] (f0.yaml:26)",
            "led to by UDPRoute default/dns spec.rules[0].backendRefs[0] (f0.yaml:26)",
            "no endpoints: dropped",
        ],
    );
    let told = ask(&platform, "edge-istio", "udp://edge:54", None);
    has(&told, &["outcome     dropped: no rule leads it anywhere"]);
    let told = ask(&platform, "edge-istio", "udp://edge:55", None);
    has(&told, &["outcome     no listener takes it"]);
    // Sidecars carry none.
    let told = ask(&platform, "dns-v1", "udp://dns:53", None);
    has(&told, &["outcome     no listener takes it"]);
}

#[test]
fn an_ingress_without_its_backend_says_so() {
    let texts = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /gone, pathType: Exact, backend: {service: {name: gone, port: {number: 80}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: http}}}}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {template: {metadata: {labels: {istio: ingressgateway}}, spec: {containers: [{name: c}]}}}
";
    let platform = platform(&[SHOP, texts]);
    let gateway = "istio-ingressgateway";
    let object = "Ingress default/shop";
    let told = ask(&platform, gateway, "http://shop.example.com/gone", None);
    let path = "spec.rules[0].http.paths[0]";
    has(
        &told,
        &[
            &format!("from {object} {path} (f1.yaml:10)"),
            &format!("answer by {object} {path}.backend (f1.yaml:10)"),
            "outcome     503, by the proxy itself",
        ],
    );
    assert_eq!(
        platform.notes,
        [format!(
            "{object}: {path}.backend.service.name: there is no Service default/gone; requests are \
             answered with 503"
        )]
    );
    let told = ask(&platform, gateway, "http://shop.example.com/", None);
    let path = "spec.rules[0].http.paths[1]";
    has(
        &told,
        &[
            &format!("from {object} {path} (f1.yaml:11)"),
            &format!("led to by {object} {path}.backend (f1.yaml:11)"),
        ],
    );
}

#[test]
fn sessions_are_told() {
    let texts = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: shop, port: 80}]
    sessionPersistence: {sessionName: s, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
";
    let platform = platform(&[SHOP, texts]);
    let told = ask(&platform, "edge-istio", "http://edge/", None);
    has(
        &told,
        &["session     with one host by cookie s, for 3600 s"],
    );
}
