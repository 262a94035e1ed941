//! What is left of a mesh behind a Sidecar.

use std::sync::Arc;

use lateen_core::{Labels, Protocol};
use lateen_registry::{Endpoint, EndpointKey, Resolution, World};
use lateen_xds::json;
use serde_json::{Value, json};

use super::super::View;
use super::outbound::external;
use super::vantage;
use crate::Snapshot;
use crate::engine::Vantage;
use crate::fixture::{self, DOMAIN, assert_has, ingress, service, sidecar};
use crate::key::Key;
use crate::proxy::Proxy;

/// Bookinfo and a service of another namespace.
fn snapshot(yaml: &str) -> Snapshot {
    let mut world: World = fixture::world();
    let other = service(
        "audit.other",
        &[(9080, 9080, Protocol::Http), (9999, 9999, Protocol::Tcp)],
    );
    world.services.insert(other.id(), other);
    let config = Arc::new(fixture::config(yaml));
    Snapshot::new(1, Arc::new(world), config, DOMAIN)
}

fn of_namespace(spec: &str) -> String {
    format!("---\nkind: Sidecar\nmetadata: {{name: default}}\nspec: {spec}\n")
}

fn rule(name: &str, host: &str, to: &str) -> String {
    format!(
        "---\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: {to}}}}}]}}]}}\n"
    )
}

/// Names of the services that the sidecar of `productpage` has clusters for.
#[track_caller]
fn clusters(yaml: &str, want: &[&str]) {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, &sidecar("productpage"));
    let view = View::new(&snapshot, &vantage);
    let found: Vec<_> = view
        .destinations()
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(found, want, "{yaml}");
    for service in snapshot.world.services.values() {
        let found = view.destination(&service.hostname).map(|s| s.name.as_str());
        let wanted = want.contains(&service.name.as_str());
        assert_eq!(found, wanted.then_some(service.name.as_str()), "{yaml}");
    }
}

/// The virtual hosts of a table, without the one for all others.
#[track_caller]
fn hosts(yaml: &str, table: &str, want: &[&str]) {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, &sidecar("productpage"));
    let table = View::new(&snapshot, &vantage)
        .routes(table)
        .expect("a table");
    let table = json::to_value(&table.generate()).expect("JSON");
    let hosts = table["virtual_hosts"].as_array().expect("hosts").iter();
    let names = hosts.filter_map(|host| host["name"].as_str()?.split(['.', ':']).next());
    let names: Vec<_> = names.filter(|name| !name.contains('_')).collect();
    assert_eq!(names, want, "{yaml}");
}

fn listeners(yaml: &str) -> Vec<Value> {
    let snapshot = snapshot(yaml);
    let vantage = vantage(&snapshot, &sidecar("productpage"));
    let json = |key| match key {
        Key::Listener(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        Key::VirtualOutbound(key) => Some(json::to_value(&key.generate()).expect("JSON")),
        _ => None,
    };
    let keys = View::new(&snapshot, &vantage).outbound_listeners();
    keys.into_iter().filter_map(json).collect()
}

#[test]
fn hosts_of_a_sidecar_and_what_their_rules_need() {
    let only = |hosts: &str| of_namespace(&format!("{{egress: [{{hosts: [{hosts}]}}]}}"));
    clusters(&only("\"other/*\""), &["audit"]);
    clusters(&only("\"~/*\""), &[]);
    clusters(
        &only("./reviews.default.svc.cluster.local, \"*/audit.other.svc.cluster.local\""),
        &["audit", "reviews"],
    );
    let reviews = only("./reviews.default.svc.cluster.local");
    // Where its rule leads is needed too; the rule of another host is not seen.
    let rules = rule("a", "reviews", "ratings") + &rule("b", "details", "pair");
    clusters(&(reviews.clone() + &rules), &["ratings", "reviews"]);
    hosts(&(reviews.clone() + &rules), "9080", &["reviews"]);
    // A Sidecar that says nothing of egress keeps nothing out.
    hosts(
        &of_namespace("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"),
        "9080",
        &[
            "audit",
            "details",
            "pair",
            "productpage",
            "ratings",
            "reviews",
        ],
    );
    // The root namespace's default is for all, and `./` is whoever it holds for.
    let root = "---\nkind: Sidecar\nmetadata: {name: default, namespace: istio-system}\n\
                spec: {egress: [{hosts: [\"./*\"]}]}\n";
    hosts(
        root,
        "9080",
        &["details", "pair", "productpage", "ratings", "reviews"],
    );
}

#[test]
fn a_listener_of_a_port_has_hosts_of_its_own() {
    let yaml = of_namespace(
        "{egress: [\
         {port: {number: 9080, protocol: HTTP, name: h}, hosts: [./reviews.default.svc.cluster.local]}, \
         {port: {number: 3307, protocol: TCP, name: d}, bind: 127.0.0.1, captureMode: NONE, \
          hosts: [./db.default.svc.cluster.local]}, \
         {hosts: [\"./pair.default.svc.cluster.local\", \"other/*\"]}]}",
    );
    hosts(&yaml, "9080", &["reviews"]);
    hosts(&yaml, "9090", &["pair"]);
    clusters(&yaml, &["audit", "db", "pair", "reviews"]);
    let found = listeners(&yaml);
    let db = format!("outbound|3306||db.default.svc.{DOMAIN}");
    let names: Vec<_> = found
        .iter()
        .map(|l| l["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "virtualOutbound",
            "0.0.0.0_9080",
            "0.0.0.0_9090",
            "0.0.0.0_9999",
            "127.0.0.1_3307"
        ]
    );
    assert_has(
        &found[4],
        &json!({"bind_to_port": true, "filter_chains": [{"filters": [{"typed_config": {"cluster": db}}]}]}),
    );
    // Without one for the rest, other ports have nothing.
    let yaml = of_namespace(
        "{egress: [{port: {number: 9080, protocol: HTTP, name: h}, hosts: [\"other/*\"]}]}",
    );
    assert_eq!(listeners(&yaml).len(), 2);
    hosts(&yaml, "9090", &[]);
}

#[test]
fn traffic_to_others_by_sidecar() {
    let rest = |yaml: &str| {
        let found = listeners(yaml);
        let chains = found[0]["filter_chains"].as_array().expect("chains");
        chains[1]["filters"][0]["typed_config"]["cluster"].clone()
    };
    assert_eq!(rest(""), "PassthroughCluster");
    let block = of_namespace("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    assert_eq!(rest(&block), "BlackHoleCluster");
    let proxy = of_namespace(
        "{egress: [{hosts: [\"./reviews.default.svc.cluster.local\"]}], \
         outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: db, subset: x}}}",
    );
    assert_eq!(
        rest(&proxy),
        format!("outbound|3306|x|db.default.svc.{DOMAIN}")
    );
    clusters(&proxy, &["db", "reviews"]);
}

#[test]
fn what_comes_in_by_sidecar() {
    let yaml = of_namespace(
        "{inboundConnectionPool: {tcp: {maxConnections: 9}}, ingress: [\
         {port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: \"127.0.0.1:8000\", \
          connectionPool: {http: {http2MaxRequests: 4}}}, \
         {port: {number: 81, protocol: TCP, name: b}, defaultEndpoint: \"0.0.0.0:8001\"}, \
         {port: {number: 82, protocol: TCP, name: c}, bind: 127.0.0.1, captureMode: NONE}, \
         {port: {number: 83, protocol: HTTP, name: d}, \
          tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}]}",
    ) + "---\nkind: PeerAuthentication\nmetadata: {name: p}\n\
         spec: {selector: {matchLabels: {app: productpage}}, portLevelMtls: {\"83\": {mode: DISABLE}}}\n";
    let snapshot = snapshot(&yaml);
    let full = Vantage::of_node(&sidecar("productpage"));
    let view = View::new(&snapshot, &full);
    let clusters: Vec<Value> = view
        .inbound_clusters()
        .into_iter()
        .map(|key| match key {
            Key::InboundCluster(key) => json::to_value(&key.generate()).expect("JSON"),
            other => panic!("{other:?}"),
        })
        .collect();
    let limit = |n: u32| json!({"thresholds": [{"max_connections": n}]});
    assert_has(
        &Value::Array(clusters),
        &json!([
            {"name": "InboundPassthroughCluster", "circuit_breakers": limit(9)},
            {"name": "inbound|80||", "type": "STATIC",
             "circuit_breakers": {"thresholds": [{"max_requests": 4, "max_connections": u32::MAX}]},
             "load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address":
                 {"socket_address": {"address": "127.0.0.1", "port_value": 8000}}}}]}]}},
            {"name": "inbound|81||", "type": "ORIGINAL_DST", "circuit_breakers": limit(9),
             "original_dst_lb_config": {"upstream_port_override": 8001}},
            {"name": "inbound|82||", "type": "ORIGINAL_DST"},
            {"name": "inbound|83||"},
        ]),
    );
    let listeners: Vec<Value> = view
        .inbound_listeners()
        .into_iter()
        .map(|key| match key {
            Key::VirtualInbound(key) => key.generate(),
            Key::Bound(key) => key.generate(),
            other => panic!("{other:?}"),
        })
        .map(|listener| json::to_value(&listener).expect("JSON"))
        .collect();
    let names: Vec<_> = listeners.iter().map(|l| l["name"].as_str()).collect();
    assert_eq!(names, [Some("virtualInbound"), Some("127.0.0.1_82")]);
    let chains = |port: u16| {
        let chains = listeners[0]["filter_chains"].as_array().expect("chains");
        let of_port = move |c: &&Value| c["filter_chain_match"]["destination_port"] == port;
        chains.iter().filter(of_port).collect::<Vec<_>>()
    };
    assert_eq!(
        (chains(80).len(), chains(82).len(), chains(9080).len()),
        (2, 0, 0)
    );
    let [own] = chains(83)[..] else {
        panic!("{:?}", chains(83));
    };
    let certificate = &own["transport_socket"]["typed_config"]["common_tls_context"];
    assert_eq!(
        certificate["tls_certificates"][0]["private_key"]["filename"],
        "/k"
    );
}

#[test]
fn proxies_under_one_sidecar_share_what_they_see() {
    let yaml = "---\nkind: Sidecar\nmetadata: {name: some}\n\
         spec: {workloadSelector: {labels: {tier: front}}, egress: [{hosts: [\"./*\"]}]}\n";
    let snapshot = snapshot(yaml);
    let of = |name: &str, tier: &str| {
        let mut proxy = sidecar(name);
        proxy.labels.0.insert("tier".into(), tier.into());
        vantage(&snapshot, &proxy)
    };
    assert_eq!(of("a", "front"), of("b", "front"));
    assert_ne!(of("a", "front"), of("a", "back"));
    assert_eq!(of("a", "back"), of("b", "other"));
}

/// TLS of what comes in, in a mesh.
fn inbound_tls(mesh: Value) -> Vec<Value> {
    let mut config = fixture::config("");
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    let snapshot = Snapshot::new(1, Arc::new(fixture::world()), Arc::new(config), DOMAIN);
    let full = Vantage::of_node(&sidecar("productpage"));
    let key = View::new(&snapshot, &full).virtual_inbound();
    let listener = json::to_value(&key.generate()).expect("JSON");
    let chains = listener["filter_chains"].as_array().expect("chains");
    let contexts = chains
        .iter()
        .map(|chain| &chain["transport_socket"]["typed_config"]["common_tls_context"]);
    contexts.filter(|tls| !tls.is_null()).cloned().collect()
}

#[test]
fn clients_are_of_the_trust_domains_of_the_mesh() {
    let sans = |mesh: Value| {
        let contexts = inbound_tls(mesh);
        // Ports of services, and all others.
        assert!(contexts.len() > 2);
        let of = |tls: &Value| {
            tls["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
                .clone()
        };
        let all: Vec<_> = contexts.iter().map(of).collect();
        assert!(all.iter().all(|sans| *sans == all[0]), "{all:?}");
        all[0].clone()
    };
    let of = |prefix: &str| json!({"san_type": "URI", "matcher": {"prefix": prefix}});
    assert_eq!(sans(json!({})), json!([of("spiffe://cluster.local/")]));
    let moving = json!({"trustDomain": "corp", "trustDomainAliases": ["cluster.local", "corp"]});
    assert_eq!(
        sans(moving),
        json!([of("spiffe://corp/"), of("spiffe://cluster.local/")])
    );
}

#[test]
fn tls_of_the_mesh_has_the_limits_that_it_sets() {
    let context = |mesh: Value| {
        let contexts = inbound_tls(mesh).into_iter();
        let params = contexts.map(|tls| tls["tls_params"].clone());
        params.collect::<Vec<_>>()
    };
    let limited = context(json!({"meshMTLS": {
        "minProtocolVersion": "TLSV1_3", "ecdhCurves": ["P-256"]
    }}));
    // Ports of services, and all others.
    assert!(limited.len() > 2);
    for params in limited {
        assert_has(
            &params,
            &json!({"tls_minimum_protocol_version": "TLSv1_3", "ecdh_curves": ["P-256"]}),
        );
    }
    for params in context(json!({})) {
        assert_has(
            &params,
            &json!({"tls_minimum_protocol_version": "TLSv1_2", "ecdh_curves": null}),
        );
    }
}

#[test]
fn limits_of_a_rule_hold_for_what_comes_in() {
    let rule = "---\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: pair, trafficPolicy: \
                {connectionPool: {tcp: {maxConnections: 7}, http: {http2MaxRequests: 3, \
                h2UpgradePolicy: UPGRADE}}, portLevelSettings: [{port: {number: 9090}, \
                connectionPool: {tcp: {maxConnections: 8}}}]}}\n";
    let sidecar_s = of_namespace(
        "{inboundConnectionPool: {tcp: {maxConnections: 9}}, egress: [{hosts: [\"*/*\"]}]}",
    );
    let limits = |yaml: &str| -> Vec<(String, Value)> {
        let snapshot = snapshot(yaml);
        let full = Vantage::of_node(&sidecar("pair"));
        let clusters = View::new(&snapshot, &full).inbound_clusters().into_iter();
        let made = clusters.map(|key| match key {
            Key::InboundCluster(key) => json::to_value(&key.generate()).expect("JSON"),
            other => panic!("{other:?}"),
        });
        let limit = |cluster: Value| {
            // What clients do among themselves is not what the application speaks.
            let options = cluster["typed_extension_protocol_options"].to_string();
            let upgrade = "\"explicit_http_config\":{\"http2_protocol_options\"";
            assert!(!options.contains(upgrade), "{cluster:#}");
            let name = cluster["name"].as_str().expect("a name").to_owned();
            let limits = &cluster["circuit_breakers"]["thresholds"][0]["max_connections"];
            (name, limits.clone())
        };
        made.map(limit).collect()
    };
    let want = |own: [u32; 3]| -> Vec<(String, Value)> {
        let names = [
            "InboundPassthroughCluster",
            "inbound|9080||",
            "inbound|9090||",
        ];
        names
            .iter()
            .zip(own)
            .map(|(name, n)| ((*name).to_owned(), json!(n)))
            .collect()
    };
    assert_eq!(limits(rule), want([u32::MAX, 7, 8]));
    assert_eq!(limits(&format!("{rule}{sidecar_s}")), want([9, 9, 9]));
    assert_eq!(limits(""), want([u32::MAX; 3]));
}

/// The names of the hosts of a table and their domains with a port or of one label.
fn asked_for(snapshot: &Snapshot, table: &str) -> Vec<(String, Vec<String>)> {
    let vantage = vantage(snapshot, &sidecar("productpage"));
    let table = View::new(snapshot, &vantage).routes(table);
    let table = json::to_value(&table.expect("a table").generate()).expect("JSON");
    // Absent is no.
    assert_eq!(table["ignore_port_in_host_matching"], Value::Null);
    let hosts = table["virtual_hosts"].as_array().expect("hosts").iter();
    let domains = |host: &Value| {
        let all = host["domains"].as_array().expect("domains").iter();
        let all = all.filter_map(Value::as_str).map(str::to_owned);
        all.filter(|domain| !domain.contains('.')).collect()
    };
    hosts
        .map(|host| {
            (
                host["name"].as_str().expect("a name").to_owned(),
                domains(host),
            )
        })
        .collect()
}

#[test]
fn clients_of_a_proxy_name_the_host_and_the_port() {
    let yaml = of_namespace(
        "{egress: [\
         {port: {number: 15080, protocol: HTTP_PROXY, name: p}, bind: 127.0.0.1, captureMode: NONE, \
          hosts: [./reviews.default.svc.cluster.local, ./pair.default.svc.cluster.local]}, \
         {port: {number: 0, protocol: HTTP, name: u}, bind: \"unix:///run/out\", \
          hosts: [./ratings.default.svc.cluster.local]}, \
         {port: {number: 0, protocol: TCP, name: t}, bind: \"unix://@db\", \
          hosts: [./db.default.svc.cluster.local]}]}",
    );
    let of = |name: &str, port: u16| {
        let host = format!("{name}.default.svc.cluster.local:{port}");
        (host, vec![format!("{name}:{port}")])
    };
    let others = ("allow_any".to_owned(), vec!["*".to_owned()]);
    let snapshot = snapshot(&yaml);
    let both = [
        of("pair", 9080),
        of("pair", 9090),
        of("reviews", 9080),
        others.clone(),
    ];
    assert_eq!(asked_for(&snapshot, "15080"), both);
    let at_path = [of("ratings", 9080), others];
    assert_eq!(asked_for(&snapshot, "unix:///run/out"), at_path);
    let found = listeners(&yaml);
    let named = |name: &str| {
        let found = found.iter().find(|listener| listener["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {found:#?}"))
    };
    let table = |listener: &Value| {
        listener["filter_chains"][0]["filters"][0]["typed_config"]["rds"]["route_config_name"]
            .clone()
    };
    assert_eq!(table(named("127.0.0.1_15080")), "15080");
    let out = named("unix:///run/out_0");
    assert_eq!(table(out), "unix:///run/out");
    assert_has(
        out,
        &json!({"address": {"pipe": {"path": "/run/out"}}, "bind_to_port": true}),
    );
    assert_has(
        named("unix://@db_0"),
        &json!({"address": {"pipe": {"path": "@db"}}, "filter_chains": [{"filters": [{"typed_config":
            {"cluster": "outbound|3306||db.default.svc.cluster.local"}}]}]}),
    );
}

#[test]
fn the_proxy_of_the_mesh() {
    let mut config = fixture::config(&rule("shop", "shop.example.com", "reviews"));
    let mesh = json!({"proxyHttpPort": 15002});
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
    let with_web = {
        let mut world: World = fixture::world();
        let web = service("web", &[(80, 8080, Protocol::Http)]);
        world.services.insert(web.id(), web);
        Snapshot::new(1, Arc::new(world), Arc::new(config), DOMAIN)
    };
    let found = asked_for(&with_web, "http_proxy");
    let web = found.iter().find(|(name, _)| name.starts_with("web."));
    let domains = ["web:80", "web"].map(str::to_owned);
    assert_eq!(web.map(|(_, domains)| &domains[..]), Some(&domains[..]));
    assert!(found.iter().any(|(name, _)| name == "shop.example.com:80"));
    assert!(
        !found.iter().any(|(name, _)| name.starts_with("db.")),
        "bytes"
    );
    let vantage = vantage(&with_web, &sidecar("productpage"));
    let view = View::new(&with_web, &vantage);
    let keys = view.outbound_listeners();
    let names: Vec<_> = keys.iter().filter_map(Key::listener_name).collect();
    assert!(
        names.iter().any(|name| name == "127.0.0.1_15002"),
        "{names:?}"
    );
    let service = with_web.world.services.values().find(|of| of.name == "web");
    let places = view.places(service.expect("it is there"));
    assert!(places.contains(&(
        "http_proxy".to_owned(),
        "web.default.svc.cluster.local:80".to_owned()
    )));
}

#[test]
fn a_proxy_looks_up_hosts_by_name() {
    let wild = external("*.example.com", 80, Protocol::Http, Resolution::DynamicDns);
    let looks_up = |yaml: &str, named: bool| {
        let mut config = fixture::config(yaml);
        let mesh = json!({"proxyHttpPort": 15002});
        config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
        let mut world: World = fixture::world();
        if named {
            world.services.insert(wild.id(), Arc::new(wild.clone()));
        }
        let snapshot = Snapshot::new(1, Arc::new(world), Arc::new(config), DOMAIN);
        let vantage = vantage(&snapshot, &sidecar("productpage"));
        let keys = View::new(&snapshot, &vantage).outbound_listeners();
        let by_name = keys.iter().filter_map(|key| match key {
            Key::Listener(key) if key.by_name && key.binds => Some(key.port),
            _ => None,
        });
        by_name.collect::<Vec<_>>()
    };
    assert_eq!(looks_up("", true), [15002]);
    assert!(looks_up("", false).is_empty());
    let own = of_namespace(
        "{egress: [{port: {number: 15080, protocol: HTTP_PROXY, name: p}, bind: 127.0.0.1, \
         captureMode: NONE, hosts: [\"./*\"]}, {hosts: [\"./*\"]}]}",
    );
    assert_eq!(looks_up(&own, true), [15002, 15080]);
}

#[test]
fn an_application_at_a_socket_in_the_file_system() {
    let yaml = of_namespace(
        "{ingress: [{port: {number: 9080, protocol: HTTP, name: a}, \
         defaultEndpoint: \"unix:///run/app\"}]}",
    );
    let snapshot = snapshot(&yaml);
    let workload = Vantage::of_node(&sidecar("productpage"));
    let keys = View::new(&snapshot, &workload).inbound_clusters();
    let made = keys.into_iter().find_map(|key| match key {
        Key::InboundCluster(key) if key.port == Some(9080) => Some(key.generate()),
        _ => None,
    });
    let cluster = json::to_value(&made.expect("a cluster")).expect("JSON");
    let endpoint = json!({"endpoint": {"address": {"pipe": {"path": "/run/app"}}}});
    assert_has(
        &cluster,
        &json!({"load_assignment": {"endpoints": [{"lb_endpoints": [endpoint]}]}}),
    );
}

#[test]
fn endpoints_at_sockets_are_for_sidecars_of_their_namespace() {
    let mut world: World = fixture::world();
    let app = service("app", &[(80, 80, Protocol::Grpc)]);
    let endpoint = Endpoint {
        address: "unix:///run/app".into(),
        ..fixture::endpoint(Labels::new())
    };
    let key = EndpointKey::new(app.id(), &app.ports[0].name);
    world.endpoints.insert(key, [endpoint].into());
    world.services.insert(app.id(), app);
    let snapshot = Snapshot::new(1, Arc::new(world), Arc::default(), DOMAIN);
    let stranger = Proxy {
        namespace: "other".into(),
        ..sidecar("productpage")
    };
    for (proxy, is_theirs) in [
        (sidecar("productpage"), true),
        (stranger, false),
        (ingress(), false),
    ] {
        let vantage = vantage(&snapshot, &proxy);
        let key =
            View::new(&snapshot, &vantage).endpoints("outbound|80||app.default.svc.cluster.local");
        let made = key.expect("a cluster").generate();
        assert_eq!(!made.endpoints.is_empty(), is_theirs, "{}", proxy.namespace);
    }
    let router = Proxy {
        namespace: "default".into(),
        ..ingress()
    };
    let vantage = vantage(&snapshot, &router);
    let key =
        View::new(&snapshot, &vantage).endpoints("outbound|80||app.default.svc.cluster.local");
    assert!(key.expect("a cluster").generate().endpoints.is_empty());
}

#[test]
fn nothing_is_at_the_agents_sockets() {
    let yaml = of_namespace(
        "{ingress: [{port: {number: 9080, protocol: HTTP, name: a}, \
         defaultEndpoint: \"unix:///var/run/secrets/workload-spiffe-uds/socket\"}], \
         egress: [{port: {number: 0, protocol: HTTP, name: u}, bind: \"unix:///etc/istio/proxy/XDS\", \
         hosts: [\"./*\"]}]}",
    );
    let found = listeners(&yaml);
    let is_at_path = |listener: &Value| !listener["address"]["pipe"].is_null();
    assert!(!found.iter().any(is_at_path), "{found:#?}");
    let snapshot = snapshot(&yaml);
    let workload = Vantage::of_node(&sidecar("productpage"));
    let keys = View::new(&snapshot, &workload).inbound_clusters();
    let made = keys.into_iter().find_map(|key| match key {
        Key::InboundCluster(key) if key.port == Some(9080) => Some(key.generate()),
        _ => None,
    });
    assert_eq!(made.expect("a cluster").load_assignment, None);
}
