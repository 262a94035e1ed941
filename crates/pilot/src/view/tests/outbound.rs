//! Listeners and clusters of a sidecar towards services of all kinds.

use std::sync::Arc;

use lateen_core::{Hostname, Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Resolution, Service, World};
use lateen_xds::json;
use serde_json::{Value, json};

use super::super::View;
use super::vantage;
use crate::Snapshot;
use crate::fixture::{self, DOMAIN, assert_has, ingress, service, sidecar};
use crate::key::Key;
use crate::proxy::Proxy;

/// A service outside the mesh, as a ServiceEntry makes it.
pub(super) fn external(
    host: &str,
    port: u16,
    protocol: Protocol,
    resolution: Resolution,
) -> Service {
    Service {
        hostname: Hostname::new(host),
        resolution,
        external: true,
        selector: Labels::new(),
        ..Service::clone(&service("entry", &[(port, port, protocol)]))
    }
}

fn endpoint(address: &str, port: u16, mtls: bool) -> Endpoint {
    Endpoint {
        address: address.into(),
        port,
        labels: [("app", "x")].into_iter().collect(),
        service_account: "x".into(),
        namespace: "default".into(),
        workload_name: String::new(),
        locality: Default::default(),
        mtls,
        weight: 1,
        ready: true,
        network: String::new(),
        node: Default::default(),
    }
}

/// A world of one service and the endpoints of its first port.
fn world(service: Service, endpoints: &[Endpoint]) -> World {
    let key = EndpointKey::new(service.id(), &service.ports[0].name);
    let mut world = World::default();
    world.endpoints.insert(key, endpoints.into());
    world.services.insert(service.id(), Arc::new(service));
    world
}

fn resources(world: World, yaml: &str, proxy: &Proxy, clusters: bool) -> Vec<Value> {
    let config = Arc::new(fixture::config(yaml));
    let snapshot = Snapshot::new(1, Arc::new(world), config, DOMAIN);
    let vantage = vantage(&snapshot, proxy);
    let view = View::new(&snapshot, &vantage);
    let keys = if clusters {
        let services = view.services().into_iter();
        services
            .flat_map(|service| view.clusters_to(service))
            .collect()
    } else {
        view.outbound_listeners()
    };
    let json = |key| match key {
        Key::Cluster(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        Key::Listener(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        _ => None,
    };
    keys.into_iter().filter_map(json).collect()
}

pub(super) fn clusters(world: World, yaml: &str, proxy: &Proxy) -> Vec<Value> {
    resources(world, yaml, proxy, true)
}

fn listeners(world: World, yaml: &str) -> Vec<Value> {
    resources(world, yaml, &sidecar("productpage"), false)
}

/// Whether a cluster speaks mutual TLS to whatever address it is given.
fn always_tls(cluster: &Value) -> bool {
    !cluster["transport_socket"].is_null()
}

#[test]
fn a_headless_service_is_spoken_to_in_mutual_tls_where_all_its_pods_take_it() {
    let headless = || Service {
        resolution: Resolution::Passthrough,
        ..Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]))
    };
    let off = "kind: PeerAuthentication\nmetadata: {name: plain}\nspec: {mtls: {mode: DISABLE}}\n";
    for (endpoints, yaml, expect) in [
        (&[true, true][..], "", true),
        (&[true, false], "", false),
        (&[], "", false),
        (&[true], off, false),
    ] {
        let endpoints: Vec<_> = (1u8..)
            .zip(endpoints)
            .map(|(n, mtls)| endpoint(&format!("10.0.0.{n}"), 3306, *mtls))
            .collect();
        let found = clusters(world(headless(), &endpoints), yaml, &sidecar("a"));
        assert_eq!(found[0]["type"], "ORIGINAL_DST");
        assert_eq!(always_tls(&found[0]), expect, "{endpoints:?} {yaml}");
    }
}

#[test]
fn clusters_by_name_have_what_envoy_asks_of_them() {
    let at = |n: usize| -> Vec<Endpoint> {
        let hosts = ["a.example.com", "b.example.com"];
        hosts[..n].iter().map(|h| endpoint(h, 443, false)).collect()
    };
    for (resolution, n_given, expect) in [
        (Resolution::Dns, 0, None),
        (Resolution::Dns, 2, Some(2)),
        // One name, no more and no less.
        (Resolution::DnsRoundRobin, 0, None),
        (Resolution::DnsRoundRobin, 2, Some(1)),
    ] {
        let service = external("x.example.com", 443, Protocol::Tls, resolution);
        let found = clusters(world(service, &at(n_given)), "", &sidecar("a"));
        let n_endpoints = |c: &Value| {
            let places = c["load_assignment"]["endpoints"].as_array();
            let places = places.into_iter().flatten();
            places
                .map(|p| p["lb_endpoints"].as_array().map_or(0, Vec::len))
                .sum::<usize>()
        };
        let found = found.first().map(n_endpoints);
        assert_eq!(found, expect, "{resolution:?} of {n_given}");
    }
}

#[test]
fn other_connections_to_a_shared_port_go_where_they_were_going() {
    let tls = external("a.example.com", 443, Protocol::Tls, Resolution::Dns);
    let found = listeners(world(tls, &[]), "");
    let passthrough = json!({"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]});
    assert_has(
        &Value::Array(found),
        &json!([{
            "name": "0.0.0.0_443",
            "filter_chains": [{"filter_chain_match": {"server_names": ["a.example.com"]}}],
            "default_filter_chain": passthrough,
        }]),
    );
    // What takes every connection leaves none over.
    let tcp = external("db.example.com", 5000, Protocol::Tcp, Resolution::Dns);
    assert!(listeners(world(tcp, &[]), "")[0]["default_filter_chain"].is_null());
}

#[test]
fn a_range_of_addresses_takes_its_own_connections_only() {
    let range = Service {
        address_ranges: vec!["10.1.0.0/16".parse().expect("a range")],
        ..external("db.example.com", 5000, Protocol::Tcp, Resolution::None)
    };
    let found = listeners(world(range, &[]), "");
    let ranges = json!([{"address_prefix": "10.1.0.0", "prefix_len": 16}]);
    assert_has(
        &Value::Array(found),
        &json!([{
            "name": "0.0.0.0_5000",
            "filter_chains": [{"filter_chain_match": {"prefix_ranges": ranges}}],
            "default_filter_chain": {"filters": [{}]},
        }]),
    );
}

#[test]
fn connections_are_shared_out_also_without_weights() {
    let rule = |routes: &str| {
        format!(
            "kind: VirtualService\nmetadata: {{name: a}}\n\
             spec: {{hosts: [db], tcp: [{{route: [{routes}]}}]}}\n"
        )
    };
    let check = |routes: &str, want: Value| {
        let db = Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]));
        let found = listeners(world(db, &[]), &rule(routes));
        let filter = &found[0]["filter_chains"][0]["filters"][0]["typed_config"];
        assert_has(filter, &want);
    };
    let cluster = |subset: &str| format!("outbound|3306|{subset}|db.default.svc.{DOMAIN}");
    check(
        "{destination: {host: db, subset: v1}}, {destination: {host: db, subset: v2}}",
        json!({"weighted_clusters": {"clusters": [
            {"name": cluster("v1"), "weight": 1}, {"name": cluster("v2"), "weight": 1}
        ]}}),
    );
    // Nowhere to go is no rule.
    check("", json!({"cluster": cluster("")}));
}

#[test]
fn rules_of_the_root_namespace_come_last_also_for_its_own_gateway() {
    let rule = |name: &str, namespace: &str, host: &str, subset: &str, more: &str| {
        format!(
            "---\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{host: \"{host}\", subsets: [{{name: {subset}, labels: {{v: a}}}}]{more}}}\n"
        )
    };
    let all = rule("all", "istio-system", "*.local", "root", "");
    let own = rule("own", "default", "reviews", "service", "");
    let private = ", exportTo: [\".\"]";
    let private = rule("private", "istio-system", "*.local", "private", private);
    let subsets = |yaml: &str, proxy: &Proxy| {
        let reviews = Service::clone(&service("reviews", &[(9080, 9080, Protocol::Http)]));
        let found = clusters(world(reviews, &[]), yaml, proxy);
        let names = found.iter().filter_map(|c| c["name"].as_str());
        let subset = |name: &str| name.split('|').nth(2).unwrap_or_default().to_owned();
        names
            .map(subset)
            .filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(subsets(&(all.clone() + &own), &ingress()), ["service"]);
    assert_eq!(subsets(&all, &ingress()), ["root"]);
    assert_eq!(subsets(&(private.clone() + &own), &ingress()), ["private"]);
    assert_eq!(subsets(&(private + &own), &sidecar("a")), ["service"]);
}

#[test]
fn tcp_connections_live_as_long_as_their_destinations_rule_says() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {name: db}\nspec:\n  host: db\n  trafficPolicy:\n    connectionPool: \
         {tcp: {idleTimeout: 5s, maxConnectionDuration: 1h}}\n";
    let found = listeners(crate::fixture::world(), rule);
    let listener = found.iter().find(|found| found["name"] == "0.0.0.0_3306");
    let chains = &listener.expect("the port's listener")["filter_chains"];
    let config = &chains[0]["filters"][0]["typed_config"];
    assert_eq!(config["idle_timeout"], "5s", "{chains:#}");
    assert_eq!(config["max_downstream_connection_duration"], "3600s");
}

#[test]
fn a_cluster_that_is_gone_has_no_endpoints_rather_than_none_at_all() {
    let api = service("api", &[(80, 8080, Protocol::Http)]);
    let yaml = "kind: DestinationRule\nmetadata: {name: api}\n\
                spec: {host: api, subsets: [{name: v1, labels: {version: v1}}]}\n";
    let snapshot = Snapshot::new(
        1,
        Arc::new(world(Service::clone(&api), &[])),
        Arc::new(fixture::config(yaml)),
        DOMAIN,
    );
    let vantage = vantage(&snapshot, &sidecar("client"));
    let view = View::new(&snapshot, &vantage);
    let there = |name: &str| view.endpoints(name).is_some();
    let host = &api.hostname;
    assert!(there(&format!("outbound|80||{host}")));
    assert!(there(&format!("outbound|80|v1|{host}")));
    for gone in [
        format!("outbound|80|v2|{host}"),
        format!("outbound|81||{host}"),
        "outbound|80||other.default.svc.cluster.local".to_owned(),
    ] {
        assert!(!there(&gone), "{gone}");
    }
}

/// The cluster of a service's port in a mesh with these settings.
fn in_mesh(mesh: Value, protocol: Protocol, yaml: &str) -> Value {
    let mut config = fixture::config(yaml);
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    let db = Service::clone(&service("db", &[(3306, 3306, protocol)]));
    let snapshot = Snapshot::new(1, Arc::new(world(db, &[])), Arc::new(config), DOMAIN);
    let vantage = vantage(&snapshot, &sidecar("a"));
    let view = View::new(&snapshot, &vantage);
    let keys = view
        .services()
        .into_iter()
        .flat_map(|service| view.clusters_to(service));
    let mut found = keys.map(|key| match key {
        Key::Cluster(key) => json::to_value(&key.generate()).expect("JSON"),
        other => panic!("{other:?}"),
    });
    found.next().expect("a cluster")
}

/// A server that goes by what was agreed on would read one version of HTTP as another.
#[test]
fn tls_offers_the_version_of_http_that_is_spoken() {
    let offers = |protocol, policy: &str| {
        let rule = format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: db, trafficPolicy: \
             {{tls: {{mode: ISTIO_MUTUAL}}, connectionPool: {{http: {{{policy}}}}}}}}}\n"
        );
        let found = in_mesh(json!({}), protocol, &rule);
        let tls = &found["transport_socket"]["typed_config"]["common_tls_context"];
        tls["alpn_protocols"].clone()
    };
    let h1 = json!(["istio-http/1.1", "istio", "http/1.1"]);
    let h2 = json!(["istio-h2", "istio", "h2"]);
    assert_eq!(offers(Protocol::Http, ""), h1);
    assert_eq!(offers(Protocol::Http2, ""), h2);
    let upgrade = "h2UpgradePolicy: UPGRADE";
    assert_eq!(offers(Protocol::Http, upgrade), h2);
    // Its name says nothing of what is in the TLS, but the rule does.
    assert_eq!(offers(Protocol::Https, ""), json!(["istio"]));
    assert_eq!(offers(Protocol::Https, upgrade), h2);
    // Which one it will be is not known yet.
    let as_client = offers(Protocol::Http, "useClientProtocol: true");
    assert_eq!(as_client, json!(["istio"]));
    assert_eq!(offers(Protocol::Tcp, ""), json!(["istio"]));
}

#[test]
fn hosts_that_clients_name() {
    let wild = external("*.example.com", 443, Protocol::Tls, Resolution::DynamicDns);
    let found = clusters(world(wild.clone(), &[]), "", &sidecar("a"));
    let kind = json!({"name": "envoy.clusters.dynamic_forward_proxy"});
    assert_has(
        &found[0],
        &json!({"name": "outbound|443||*.example.com", "cluster_type": kind,
            "upstream_http_protocol_options": {}}),
    );
    let state = "envoy.filters.network.set_filter_state";
    let name = "envoy.filters.network.sni_dynamic_forward_proxy";
    let found = listeners(world(wild, &[]), "");
    assert_has(
        &found[0]["filter_chains"][0],
        &json!({
            "filter_chain_match": {"server_names": ["*.example.com"]},
            "filters": [{"name": state}, {"name": name, "typed_config": {"port_value": 443}},
                {"typed_config": {"cluster": "outbound|443||*.example.com"}}],
        }),
    );
    let names = |found: &[Value]| {
        let text = found.iter().map(Value::to_string).collect::<String>();
        text.contains("envoy.filters.http.dynamic_forward_proxy")
    };
    let wild = external("*.example.com", 80, Protocol::Http, Resolution::DynamicDns);
    assert!(names(&listeners(world(wild, &[]), "")));
    let fixed = external("a.example.com", 80, Protocol::Http, Resolution::Dns);
    assert!(!names(&listeners(world(fixed.clone(), &[]), "")));
    // Unknown hosts by name: in HTTP, and in TLS at its port.
    let rule = "kind: Sidecar\nmetadata: {name: s}\nspec: {outboundTrafficPolicy: \
                {mode: ALLOW_ANY_DYNAMIC_DNS}}\n";
    let found = listeners(world(fixed, &[]), rule);
    assert!(names(&found));
    let tls = found
        .iter()
        .find(|l| l["name"] == "0.0.0.0_443")
        .expect("a listener");
    assert_has(
        tls,
        &json!({
            "filter_chains": [{"filters": [{"name": state}, {"name": name},
                {"typed_config": {"cluster": "AllowAnyDynamicDNSCluster"}}]}],
            "default_filter_chain": {"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]},
        }),
    );
}

#[test]
fn a_rule_says_how_connections_begin() {
    let rule = |policy: &str| {
        format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\n\
             spec: {{host: db, trafficPolicy: {policy}}}\n"
        )
    };
    let socket = |version: &str, inner: &str| {
        json!({"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": {
            "config": {"version": version},
            "transport_socket": {"name": inner},
        }})
    };
    let (raw, tls) = (
        "envoy.transport_sockets.raw_buffer",
        "envoy.transport_sockets.tls",
    );
    // Mutual TLS or none, by the endpoint.
    let found = in_mesh(
        json!({}),
        Protocol::Tcp,
        &rule("{proxyProtocol: {version: V2}}"),
    );
    assert_has(
        &found["transport_socket_matches"],
        &json!([{"transport_socket": socket("V2", tls)}, {"transport_socket": socket("V2", raw)}]),
    );
    let policy = "{proxyProtocol: {version: V1}, tls: {mode: DISABLE}}";
    let found = in_mesh(json!({}), Protocol::Tcp, &rule(policy));
    // The first version is the default, which JSON leaves out.
    let text = json!({"config": {}, "transport_socket": {"name": raw}});
    assert_has(&found["transport_socket"]["typed_config"], &text);
}

#[test]
fn a_rule_leads_through_a_tunnel() {
    let tunnel = |more: &str| {
        let yaml = format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: db, trafficPolicy: \
             {{tunnel: {{{more}targetHost: far.example, targetPort: 443}}}}}}\n"
        );
        let db = Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]));
        let found = resources(world(db, &[]), &yaml, &sidecar("a"), false);
        let all = found.iter().map(Value::to_string).collect::<String>();
        let post = all.contains("\"use_post\":true");
        (all.contains("\"hostname\":\"far.example:443\""), post)
    };
    assert_eq!(tunnel(""), (true, false));
    assert_eq!(tunnel("protocol: POST, "), (true, true));
}

#[test]
fn settings_of_the_mesh_hold_for_all_clusters() {
    let baseline = json!({
        "defaultTrafficPolicy": {
            "connectionPool": {"tcp": {"maxConnections": 11}},
            "outlierDetection": {"consecutive5xxErrors": 4, "outlierDetectionHttpErrorCodes": [429, 500]}
        },
        "tcpKeepalive": {"probes": 9},
        "h2UpgradePolicy": "UPGRADE",
    });
    let found = in_mesh(baseline.clone(), Protocol::Http, "");
    assert_has(
        &found,
        &json!({
            "circuit_breakers": {"thresholds": [{"max_connections": 11}]},
            "outlier_detection": {"consecutive_5xx": 4},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 9}},
        }),
    );
    let protocols = |found: &Value| {
        let options = &found["typed_extension_protocol_options"];
        options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].clone()
    };
    assert!(protocols(&found)["explicit_http_config"]["http2_protocol_options"].is_object());
    let is = |code: &str| {
        let headers = json!([{"name": ":status", "string_match": {"exact": code}}]);
        json!({"http_response_headers_match": {"headers": headers}})
    };
    let errors = json!({"or_match": {"rules": [is("429"), is("500")]}});
    assert_eq!(
        protocols(&found)["outlier_detection"]["error_matcher"],
        errors
    );
    let rule = "kind: DestinationRule\nmetadata: {name: r}\nspec: {host: db, trafficPolicy: \
                {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}, \
                retryBudget: {percent: {value: 5}}}}\n";
    let found = in_mesh(baseline, Protocol::Http, rule);
    assert!(protocols(&found)["explicit_http_config"]["http_protocol_options"].is_object());
    assert_has(
        &found["circuit_breakers"]["thresholds"][0],
        &json!({
            "max_connections": u32::MAX,
            "retry_budget": {"budget_percent": {"value": 5.0}, "min_retry_concurrency": 3},
        }),
    );
    assert_eq!(
        in_mesh(json!({}), Protocol::Redis, "")["lb_policy"],
        "MAGLEV"
    );
}

#[test]
fn tls_without_a_name_asks_for_the_host_of_each_request() {
    let asks = |protocol: Protocol, tls: &str| {
        let rule = format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: db, trafficPolicy: {{tls: {{{tls}}}}}}}\n"
        );
        let found = in_mesh(json!({}), protocol, &rule);
        let options = &found["typed_extension_protocol_options"];
        let options = &options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        options["upstream_http_protocol_options"]["auto_sni"] == true
    };
    assert!(asks(Protocol::Http, "mode: SIMPLE"));
    assert!(!asks(Protocol::Http, "mode: SIMPLE, sni: a.test"));
    assert!(!asks(Protocol::Http, "mode: ISTIO_MUTUAL"));
    assert!(!asks(Protocol::Tcp, "mode: SIMPLE"), "no requests");
    let rule = "kind: DestinationRule\nmetadata: {name: r}\nspec: {host: db, trafficPolicy: {\
                tls: {mode: SIMPLE}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}\n";
    let found = in_mesh(json!({}), Protocol::Https, rule);
    assert!(found.to_string().contains("auto_sni"), "{found:#}");
}

#[test]
fn servers_may_be_compared_with_lists_of_what_was_revoked() {
    let context = |tls: &str| {
        let rule = format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: db, workloadSelector: {{}}, \
             trafficPolicy: {{tls: {{{tls}}}}}}}\n"
        );
        let found = in_mesh(json!({}), Protocol::Http, &rule);
        found["transport_socket"]["typed_config"]["common_tls_context"].clone()
    };
    let lists = json!({"crl": {"filename": "/lists"}});
    assert_has(
        &context("mode: SIMPLE, caCertificates: /roots, caCrl: /lists"),
        &json!({"validation_context": lists}),
    );
    assert_has(
        &context("mode: SIMPLE, credentialName: c, caCrl: /lists"),
        &json!({"combined_validation_context": {"default_validation_context": lists}}),
    );
}

/// A sidecar would wait for a credential that is for gateways.
#[test]
fn sidecars_have_credentials_by_rules_that_select_them() {
    let has_tls = |selector: &str| {
        let rule = format!(
            "kind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: db, {selector} \
             trafficPolicy: {{tls: {{mode: SIMPLE, credentialName: c}}}}}}\n"
        );
        !in_mesh(json!({}), Protocol::Http, &rule)["transport_socket"].is_null()
    };
    assert!(has_tls("workloadSelector: {},"));
    assert!(!has_tls("workloadSelector: {matchLabels: {app: other}},"));
    assert!(!has_tls(""));
}

#[test]
fn a_service_may_prefer_near_endpoints() {
    use lateen_registry::TrafficDistribution;
    let at = |address: &str, zone: &str, node: &str| Endpoint {
        locality: format!("r/{zone}").parse().expect("a locality"),
        node: node.into(),
        ..endpoint(address, 9080, true)
    };
    let endpoints = [
        at("10.0.0.1", "a", "n1"),
        at("10.0.0.2", "a", "n2"),
        at("10.0.0.3", "b", "n3"),
    ];
    let check = |distribution, want: &[u32]| {
        let service = Service {
            distribution,
            ..Service::clone(&service("near", &[(9080, 9080, Protocol::Http)]))
        };
        let name = format!("outbound|9080||{}", service.hostname);
        let config = Arc::default();
        let snapshot = Snapshot::new(1, Arc::new(world(service, &endpoints)), config, DOMAIN);
        let mut full = crate::engine::Vantage::of_node(&sidecar("a"));
        full.locality = "r/a".parse().expect("a locality");
        full.node = "n1".into();
        let from = full.outbound(&snapshot);
        let key = View::new(&snapshot, &from).endpoints(&name).expect("a key");
        let mut found: Vec<_> = key
            .generate()
            .endpoints
            .iter()
            .flat_map(|place| vec![place.priority; place.lb_endpoints.len()])
            .collect();
        found.sort_unstable();
        assert_eq!(found, want, "{distribution:?}");
    };
    check(None, &[0, 0, 0]);
    check(Some(TrafficDistribution::SameZone), &[0, 0, 1]);
    check(Some(TrafficDistribution::SameNode), &[0, 1, 2]);
}

#[test]
fn connections_by_their_source() {
    let rule = "kind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [db], tcp: [\
         {match: [{sourceSubnet: 10.3.0.0/16}], route: [{destination: {host: db, subset: v1}}]}]}\n";
    let db = Service::clone(&service("db", &[(3306, 3306, Protocol::Tcp)]));
    let found = listeners(world(db, &[]), rule);
    let cluster = |subset: &str| {
        let name = format!("outbound|3306|{subset}|db.default.svc.{DOMAIN}");
        json!([{"typed_config": {"cluster": name}}])
    };
    let ranges = json!([{"address_prefix": "10.3.0.0", "prefix_len": 16}]);
    assert_has(
        &found[0]["filter_chains"],
        &json!([
            {"filter_chain_match": {"source_prefix_ranges": ranges}, "filters": cluster("v1")},
            {"filter_chain_match": null, "filters": cluster("")},
        ]),
    );
}

#[test]
fn paths_are_made_uniform_as_the_mesh_says() {
    let check = |paths: &str, want: Value| {
        let mut config = fixture::config("");
        let mesh = json!({"pathNormalization": {"normalization": paths}});
        config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
        let web = Service::clone(&service("web", &[(80, 80, Protocol::Http)]));
        let snapshot = Snapshot::new(1, Arc::new(world(web, &[])), Arc::new(config), DOMAIN);
        let vantage = vantage(&snapshot, &sidecar("a"));
        let keys = View::new(&snapshot, &vantage).outbound_listeners();
        let listener = keys.into_iter().find_map(|key| match key {
            Key::Listener(key) => Some(json::to_value(&key.generate()).expect("JSON")),
            _ => None,
        });
        let listener = listener.expect("the port's listener");
        assert_has(
            &listener["filter_chains"][0]["filters"][0]["typed_config"],
            &want,
        );
    };
    check("BASE", json!({"normalize_path": true}));
    check("NONE", json!({"normalize_path": false}));
    check(
        "MERGE_SLASHES",
        json!({"normalize_path": true, "merge_slashes": true}),
    );
}

#[test]
fn hosts_on_one_port_are_told_apart_by_the_addresses_they_were_given() {
    let given = |host: &str, address: &str| Service {
        allocated: vec![address.parse().expect("an address")],
        ..external(host, 9000, Protocol::Tcp, Resolution::ClientSide)
    };
    let mut all = world(given("a.example.com", "240.240.0.1"), &[]);
    let b = given("b.example.com", "240.240.0.2");
    all.services.insert(b.id(), Arc::new(b));
    let listeners_of = |captures: bool| {
        let mut proxy = sidecar("productpage");
        if captures {
            let capture = [("DNS_CAPTURE".to_owned(), "true".to_owned())];
            proxy.metadata = Arc::new(capture.into());
        }
        let found = resources(all.clone(), "", &proxy, false).into_iter();
        let to = |listener: &Value| {
            let filters = listener["filter_chains"][0]["filters"].as_array();
            let last = filters.and_then(|f| f.last()).expect("a filter").clone();
            last["typed_config"]["cluster"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let each = |l: Value| (l["name"].as_str().expect("a name").to_owned(), to(&l));
        found.map(each).collect::<Vec<_>>()
    };
    let [a, b] = ["a", "b"].map(|name| format!("outbound|9000||{name}.example.com"));
    assert_eq!(
        listeners_of(true),
        [
            ("240.240.0.1_9000".into(), a.clone()),
            ("240.240.0.2_9000".into(), b)
        ]
    );
    // Whose application asks other servers for names never gets there.
    assert_eq!(listeners_of(false), [("0.0.0.0_9000".into(), a)]);
}
