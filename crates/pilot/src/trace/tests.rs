use std::sync::Arc;

use super::*;
use crate::fixture::{config, ingress, sidecar, world};
use crate::proxy::Proxy;

const HOST: &str = "reviews.default.svc.cluster.local:9080";

fn offline(yaml: &str, proxy: &Proxy) -> Offline {
    Offline::new(
        Arc::new(world()),
        Arc::new(config(yaml)),
        "cluster.local",
        proxy,
    )
}

fn told(origin: Option<Origin>) -> String {
    origin.map_or_else(String::new, |of| format!("{} {}", of.object, of.field))
}

/// What becomes of each rule, with the innermost of its origins.
fn fates(traces: &[RuleTrace]) -> Vec<String> {
    let one = |trace: &RuleTrace| {
        let at = told(trace.origins().pop());
        match &trace.fate {
            RuleFate::Route(_) => at,
            RuleFate::Elsewhere { field, why } => {
                format!("{} {why}", told(trace.elsewhere(field)))
            }
            RuleFate::Nowhere => format!("{at} nowhere"),
            RuleFate::Behind => format!("{at} behind"),
        }
    };
    traces.iter().map(one).collect()
}

#[test]
fn every_rule_is_told_with_its_field() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /a}}, {port: 80}, {sourceLabels: {app: other}}]
    timeout: 3s
    route: [{destination: {host: reviews, subset: v1}, weight: 0}, {destination: {host: reviews}, weight: 1}]
  - match: [{sourceNamespace: away}, {gateways: [mesh, g], uri: {exact: /b}, headers: {X-A: {exact: b}}}]
    route: [{destination: {host: reviews}}]
  - {}
  - route: [{destination: {host: reviews}}]
  - redirect: {uri: /never}
";
    let traces = offline(yaml, &sidecar("productpage")).trace_routes("9080", HOST);
    let object = "VirtualService default/r";
    let want = [
        format!("{object} spec.http[0].match[0]"),
        format!("{object} spec.http[0].match[1].port wants 80, the request goes to port 9080"),
        format!(
            "{object} spec.http[0].match[2].sourceLabels[app] wants \"other\", the client has \"productpage\""
        ),
        format!(
            "{object} spec.http[1].match[0].sourceNamespace wants \"away\", the client is in \"default\""
        ),
        format!("{object} spec.http[1].match[1]"),
        format!("{object} spec.http[2] nowhere"),
        format!("{object} spec.http[3]"),
        format!("{object} spec.http[4] behind"),
    ];
    assert_eq!(fates(&traces), want);
    let first = &traces[0];
    let timeout = first.setting(Setting::Timeout);
    assert_eq!(told(timeout), format!("{object} spec.http[0].timeout"));
    assert_eq!(first.setting(Setting::Retries), None);
    // The first destination gets nothing.
    let destination = first.destination(0);
    assert_eq!(told(destination), format!("{object} spec.http[0].route[1]"));
    assert_eq!(first.destination(1), None);
    let header = Condition::Header {
        name: "x-a",
        inverted: false,
    };
    let header = traces[4].condition(header);
    let want = format!("{object} spec.http[1].match[1].headers[x-a]");
    assert_eq!(told(header), want);
    let query = traces[4].condition(Condition::Query("q"));
    assert_eq!(query, None, "nothing asks for it");
}

#[test]
fn delegates_are_told_beside_their_roots() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {x-a: {exact: b}}}, {uri: {prefix: /shop}}]
    timeout: 3s
    retries: {attempts: 1}
    delegate: {name: shop, namespace: away}
  - route: [{destination: {host: reviews}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: away}
spec:
  http:
  - match: [{uri: {prefix: /other}}, {uri: {prefix: /shop/cart}}]
    timeout: 1s
    route: [{destination: {host: reviews.default.svc.cluster.local}}]
";
    let traces = offline(yaml, &sidecar("productpage")).trace_routes("9080", HOST);
    let pairs: Vec<Vec<String>> = traces
        .iter()
        .map(|trace| trace.origins().into_iter().map(|of| of.field).collect())
        .collect();
    // The root's prefix and the delegate's other one never hold together.
    let pair = |root: usize, own: usize| {
        vec![
            format!("spec.http[0].match[{root}]"),
            format!("spec.http[0].match[{own}]"),
        ]
    };
    let last = vec!["spec.http[1]".to_owned()];
    assert_eq!(pairs, [pair(0, 0), pair(0, 1), pair(1, 1), last]);
    let of = &traces[0];
    let (root, shop) = ("VirtualService default/root", "VirtualService away/shop");
    let header = Condition::Header {
        name: "x-a",
        inverted: false,
    };
    for (found, want) in [
        (
            of.condition(header),
            format!("{root} spec.http[0].match[0].headers[x-a]"),
        ),
        (
            of.condition(Condition::Path),
            format!("{shop} spec.http[0].match[0].uri"),
        ),
        (
            of.setting(Setting::Timeout),
            format!("{shop} spec.http[0].timeout"),
        ),
        (
            of.setting(Setting::Retries),
            format!("{root} spec.http[0].retries"),
        ),
        (of.destination(0), format!("{shop} spec.http[0].route[0]")),
    ] {
        assert_eq!(told(found), want);
    }
}

#[test]
fn retries_of_the_mesh_are_the_meshs() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}
";
    let mut config = config(yaml);
    let mesh = serde_json::json!({"defaultHttpRetryPolicy": {"attempts": 7}});
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    let proxy = sidecar("productpage");
    let offline = Offline::new(Arc::new(world()), Arc::new(config), "cluster.local", &proxy);
    let traces = offline.trace_routes("9080", HOST);
    let retries = told(traces[0].setting(Setting::Retries));
    assert_eq!(retries, "ConfigMap istio-system/istio data.mesh");
}

#[test]
fn policies_of_the_mesh_are_the_meshs() {
    let mut config = config("");
    let mesh = serde_json::json!({"defaultTrafficPolicy": {"connectionPool": {"tcp": {}}}});
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    let proxy = sidecar("productpage");
    let offline = Offline::new(Arc::new(world()), Arc::new(config), "cluster.local", &proxy);
    let cluster = offline.trace_cluster("outbound|9080||reviews.default.svc.cluster.local");
    let cluster = cluster.expect("it is known");
    let pool = cluster
        .settings
        .iter()
        .map(|(_, origin)| told(Some(origin.clone())));
    let field = "data.mesh.defaultTrafficPolicy.connectionPool";
    assert_eq!(
        pool.collect::<Vec<_>>(),
        [format!("ConfigMap istio-system/istio {field}")]
    );
}

#[test]
fn clusters_are_told_with_the_blocks_that_hold() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    tls: {mode: ISTIO_MUTUAL}
    retryBudget: {minRetryConcurrency: 1}
    portLevelSettings: [{port: {number: 1}, tls: {mode: DISABLE}}, {port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]
  subsets:
  - {name: v0, labels: {version: v0}}
  - {name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hidden, namespace: istio-system}
spec: {host: reviews.default.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec: {egress: [{hosts: [\"other/*\"]}, {port: {number: 9080, protocol: HTTP, name: h}, hosts: [\"other/*\", \"./reviews.default.svc.cluster.local\"]}]}
";
    let offline = offline(yaml, &sidecar("productpage"));
    let check = |subset: &str, want: &[(&str, &str)]| {
        let name = format!("outbound|9080|{subset}|reviews.default.svc.cluster.local");
        let trace = offline.trace_cluster(&name).expect("a service");
        let settings = trace.settings.iter();
        let found: Vec<_> = settings
            .map(|(what, of)| (*what, of.field.as_str()))
            .collect();
        assert_eq!(found, want);
        trace
    };
    let port = "spec.trafficPolicy.portLevelSettings[1].loadBalancer";
    let budget = ("retryBudget", "spec.trafficPolicy.retryBudget");
    // What a port does not set is not that of the whole.
    let whole = check("", &[("loadBalancer", port), budget]);
    let rule = ObjectRef::new("DestinationRule", "default", "r");
    assert_eq!(whole.rules, [(rule, "the client's namespace")]);
    assert_eq!(told(whole.service), "Service default/reviews spec.ports[0]");
    assert_eq!(
        told(whole.seen_by),
        "Sidecar default/s spec.egress[1].hosts[1]"
    );
    assert_eq!(whole.subset, None);
    let tls = ("tls", "spec.subsets[1].trafficPolicy.tls");
    let v1 = check("v1", &[tls, ("loadBalancer", port), budget]);
    assert_eq!(told(v1.subset), "DestinationRule default/r spec.subsets[1]");
    let sidecar = offline.trace_sidecar();
    assert_eq!(sidecar, Some(ObjectRef::new("Sidecar", "default", "s")));
    assert!(offline.trace_cluster("PassthroughCluster").is_none());
}

#[test]
fn servers_of_gateways_are_told_by_their_places() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 31400, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}
  - {port: {number: 80, name: http2, protocol: HTTP}, hosts: [b.example.com]}
";
    let offline = offline(yaml, &ingress());
    let routes = offline.listeners();
    assert!(!routes.is_empty());
    let table = ServersOf::Table("http.8080");
    for (port, table, host, want) in [
        (31400, ServersOf::Connections, None, vec!["spec.servers[0]"]),
        (31400, ServersOf::Datagrams, None, vec![]),
        (
            8080,
            table,
            None,
            vec!["spec.servers[1]", "spec.servers[2]"],
        ),
        (8080, table, Some("b.example.com"), vec!["spec.servers[2]"]),
        (8080, ServersOf::Table("http.9999"), None, vec![]),
    ] {
        let found = offline.trace_servers(port, table, host);
        let fields: Vec<_> = found.iter().map(|of| of.field.as_str()).collect();
        assert_eq!(fields, want, "{port}");
    }
}

#[test]
fn a_port_is_told_with_the_sidecar_that_ends_its_tls() {
    let yaml = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  workloadSelector: {labels: {app: productpage}}
  ingress:
  - {port: {number: 1, protocol: HTTP, name: a}, defaultEndpoint: 127.0.0.1:1}
  - port: {number: 9080, protocol: HTTPS, name: b}
    defaultEndpoint: 127.0.0.1:9080
    tls: {mode: SIMPLE, privateKey: k, serverCertificate: c}
";
    let told = |proxy: &Proxy, port: u16| -> Vec<String> {
        let found = offline(yaml, proxy).trace_inbound_tls(port).into_iter();
        found
            .map(|(how, of)| format!("{how}: {} {}", of.object, of.field))
            .collect()
    };
    let policy = "mutual TLS DISABLE: PeerAuthentication default/plain spec.mtls.mode";
    let own = "TLS: Sidecar default/s spec.ingress[1].tls";
    assert_eq!(told(&sidecar("productpage"), 9080), [policy, own]);
    assert_eq!(told(&sidecar("productpage"), 1), [policy]);
    assert_eq!(told(&sidecar("reviews"), 9080), [policy], "it is another's");
}
