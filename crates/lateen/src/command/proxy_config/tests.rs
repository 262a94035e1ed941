//! Tables from a small dump, in the shape that Envoy writes; what our proxy writes differs in nothing
//! but what it leaves out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::dump::{Dump, EXTENSIONS};
use super::{bootstrap, cluster, ecds, eds, endpoint, listener, origin, route, secret};
use crate::table::Table;

/// Made with openssl: serial number 0x1234abcd, valid from 2026-01-01 to 2027-01-01.
const ROOT: &str = include_str!("testdata/root.pem");

pub(super) fn dump() -> Dump {
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
    let dump = json!({"configs": [
        {"@type": kind("Bootstrap"), "bootstrap": {"node": {
            "metadata": {"ISTIO_VERSION": "1.29.0", "ISTIO_PROXY_SHA": "abc"},
            "user_agent_build_version": {
                "version": {"major_number": 1, "minor_number": 40},
                "metadata": {"build.label": "dev", "revision.status": "Clean",
                    "build.type": "RELEASE", "ssl.version": "BoringSSL"}}}}},
        {"@type": kind("Clusters"),
         "static_clusters": [{"cluster": {"name": "xds-grpc", "type": "STATIC"}}],
         "dynamic_active_clusters": [
            {"cluster": {"name": "outbound|9080|v2|reviews.default.svc.cluster.local", "type": "EDS",
                "metadata": {"filter_metadata": {"istio": {"config":
                    "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"}}}}},
            {"cluster": {"name": "outbound|9080||reviews.default.svc.cluster.local", "type": "EDS"}},
            {"cluster": {"name": "outbound|9080||ratings.default.svc.cluster.local", "type": "EDS"}},
            {"cluster": {"name": "inbound|9080||", "type": "ORIGINAL_DST"}},
            {"cluster": {"name": "dfp", "cluster_type": {"name": "envoy.clusters.dynamic_forward_proxy"}}}]},
        {"@type": kind("Listeners"), "dynamic_listeners": listeners()},
        {"@type": kind("Routes"), "dynamic_route_configs": routes()},
        {"@type": kind("Secrets"), "dynamic_active_secrets": [
            {"name": "ROOTCA", "secret": {"name": "ROOTCA", "validation_context":
                {"trusted_ca": {"inline_string": ROOT}}}}],
         "dynamic_warming_secrets": [{"name": "kubernetes://late", "secret": {}}]},
        {"@type": kind("Ecds"), "ecds_filters": [{"ecds_filter": {"name": "wasm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"}}}]},
        {"@type": kind("Endpoints"), "dynamic_endpoint_configs": [{"endpoint_config": {
            "cluster_name": "outbound|9080||ratings.default.svc.cluster.local",
            "endpoints": [{"locality": {"region": "r", "zone": "z"}, "lb_endpoints": [
                {"health_status": "HEALTHY", "endpoint": {"address": {"socket_address":
                    {"address": "10.244.0.5", "port_value": 9080}}}},
                {"health_status": "DRAINING", "endpoint": {"address": {"socket_address":
                    {"address": "fd00::5", "port_value": 9080}}}}]}]}}]},
    ]});
    Dump::read(&dump.to_string()).unwrap()
}

fn filter(kind: &str, rest: Value) -> Value {
    let mut filter = json!({"typed_config": rest});
    filter["typed_config"]["@type"] = format!("type.googleapis.com/x.{kind}").into();
    filter
}

fn listeners() -> Value {
    let listener = |name: &str, port: u16, rest: Value| {
        let mut listener = json!({"name": name, "address": {"socket_address":
            {"address": "0.0.0.0", "port_value": port}}});
        for (key, value) in rest.as_object().unwrap() {
            listener[key] = value.clone();
        }
        json!({"name": name, "active_state": {"listener": listener}})
    };
    let http = |rest: Value| filter("HttpConnectionManager", rest);
    let tcp = |cluster: &str| filter("TcpProxy", json!({"cluster": cluster}));
    let host = |domains: Value, routes: Value| json!({"route_config": {"virtual_hosts": [{"domains": domains, "routes": routes}]}});
    json!([
        listener(
            "virtualInbound",
            15006,
            json!({"filter_chains": [
            {"name": "blackhole", "filter_chain_match": {"destination_port": 15006},
             "filters": [tcp("BlackHoleCluster")]},
            {"name": "tls", "filter_chain_match": {"transport_protocol": "tls",
                "application_protocols": ["istio-peer-exchange", "istio"],
                "prefix_ranges": [{"address_prefix": "0.0.0.0", "prefix_len": 0}]},
             "filters": [tcp("InboundPassthroughCluster")]},
            {"name": "app", "filter_chain_match": {"destination_port": 9080,
                "transport_protocol": "raw_buffer", "application_protocols": ["spdy"]},
             "filters": [http(host(json!(["*"]), json!([{"match": {"prefix": "/"},
                "route": {"cluster": "inbound|9080||"}}])))]}]})
        ),
        listener(
            "virtualOutbound",
            15001,
            json!({"default_filter_chain":
            {"name": "all", "filters": [tcp("PassthroughCluster")]}})
        ),
        listener(
            "0.0.0.0_9080",
            9080,
            json!({
            "additional_addresses": [{"address": {"socket_address": {"address": "::", "port_value": 9080}}}],
            "default_filter_chain": {"filters": [
                http(json!({"rds": {"route_config_name": "9080"}}))]}})
        ),
        listener(
            "ready",
            15021,
            json!({"filter_chains": [{"filter_chain_match":
            {"server_names": ["a", "b"]}, "filters": [http(host(json!(["x", "y"]),
            json!([{"match": {"path": "/ready"}}, {"match": {"safe_regex": {"regex": "a+"}}}])))]}]})
        ),
        listener(
            "shares",
            9000,
            json!({"default_filter_chain": {"filters": [filter("TcpProxy",
            json!({"weighted_clusters": {"clusters": [{"name": "a", "weight": 9},
                {"name": "b", "weight": 1}]}}))]}})
        ),
        listener(
            "dns",
            53,
            json!({"listener_filters": [filter("UdpProxyConfig", json!({}))]})
        ),
    ])
}

fn routes() -> Value {
    let config = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews";
    json!([
        {"route_config": {"name": "inbound|9080||", "virtual_hosts": [
            {"name": "inbound|http|9080", "domains": ["*"], "routes": [{"match": {"prefix": "/"}}]}]}},
        {"route_config": {"name": "9080", "virtual_hosts": [
            {"name": "reviews.default.svc.cluster.local:9080",
             "domains": ["reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local.", "reviews", "reviews:9080",
                "reviews.default.svc", "reviews.default", "10.96.0.7", "[fd00::7]", "[fd00::7]:9080"],
             "routes": [
                {"match": {"path": "/login", "headers": [{}]},
                 "metadata": {"filter_metadata": {"istio": {"config": config}}}},
                {"match": {"path_separated_prefix": "/api"}}]},
            {"name": "allow_any", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]}]}},
        {"route_config": {"name": "80", "virtual_hosts": [
            {"name": "none", "domains": ["x.example"], "routes": []}]}},
    ])
}

/// The cells of each row, which are never divided by less than the padding.
fn cells(table: &Table) -> Vec<String> {
    let text = table.to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[test]
fn clusters() {
    let table = |filter: cluster::Filter, port| {
        let dump = dump();
        cells(&cluster::table(
            &cluster::select(&dump, &filter, port),
            false,
        ))
    };
    assert_eq!(
        table(cluster::Filter::default(), None),
        [
            "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE",
            "9080 - inbound ORIGINAL_DST",
            "dfp - - - envoy.clusters.dynamic_forward_proxy",
            "ratings.default.svc.cluster.local 9080 - outbound EDS",
            "reviews.default.svc.cluster.local 9080 - outbound EDS",
            "reviews.default.svc.cluster.local 9080 v2 outbound EDS reviews.default",
            "xds-grpc - - - STATIC",
        ]
    );
    let filter = |fqdn: &str, subset: &str, direction: &str| cluster::Filter {
        fqdn: Some(fqdn.to_owned()).filter(|it| !it.is_empty()),
        subset: Some(subset.to_owned()).filter(|it| !it.is_empty()),
        direction: Some(direction.to_owned()).filter(|it| !it.is_empty()),
    };
    for (fqdn, subset, direction, port, expect) in [
        ("reviews", "", "", None, 2),
        ("reviews", "v", "", None, 1),
        ("", "", "inbound", None, 1),
        ("", "", "outbound", Some(9080), 3),
        ("", "", "", Some(1), 0),
        ("nothing", "", "", None, 0),
    ] {
        let rows = table(filter(fqdn, subset, direction), port).len() - 1;
        assert_eq!(rows, expect, "{fqdn} {subset} {direction} {port:?}");
    }
}

#[test]
fn cells_are_as_far_apart_as_istioctl_has_them() {
    let dump = dump();
    let clusters = cluster::select(&dump, &cluster::Filter::default(), None);
    let clusters = cluster::table(&clusters, false).to_string();
    let row = clusters.lines().nth(1).unwrap_or_default();
    assert_eq!(
        row,
        "                                      9080     -          inbound       ORIGINAL_DST                             "
    );
    let listeners = listener::select(&dump, &listener::Filter::default(), Some(15001));
    assert_eq!(
        listener::table(&listeners).to_string(),
        "ADDRESSES PORT  MATCH DESTINATION\n0.0.0.0   15001 ALL   PassthroughCluster\n"
    );
}

#[test]
fn listeners_and_where_they_lead() {
    let dump = dump();
    let all = listener::select(&dump, &listener::Filter::default(), None);
    assert_eq!(
        cells(&listener::table(&all)),
        [
            "ADDRESSES PORT MATCH DESTINATION",
            "0.0.0.0 53 ALL UDP",
            "0.0.0.0 9000 ALL Clusters: a (9), b (1)",
            "0.0.0.0,:: 9080 ALL Route: 9080",
            "0.0.0.0 15001 ALL PassthroughCluster",
            "0.0.0.0 15006 Addr: *:15006 Non-HTTP/Non-TCP",
            "0.0.0.0 15006 Trans: tls; App: TCP TLS; Addr: 0.0.0.0/0 InboundPassthroughCluster",
            "0.0.0.0 15006 Trans: raw_buffer; App: spdy; Addr: *:9080 Cluster: inbound|9080||",
            "0.0.0.0 15021 SNI: a,b Inline Route: x/y /ready, regex a+",
        ]
    );
    for (kind, address, expect) in [
        (Some("http"), None, vec![9080, 15021]),
        (Some("HTTP+TCP"), None, vec![15006]),
        (Some("TCP"), None, vec![9000, 15001]),
        (None, Some("::"), vec![9080]),
        (None, Some("1.2.3.4"), vec![]),
    ] {
        let filter = listener::Filter {
            kind: kind.map(str::to_owned),
            address: address.map(str::to_owned),
        };
        let ports: Vec<_> = listener::select(&dump, &filter, None)
            .iter()
            .map(|one| {
                one["address"]["socket_address"]["port_value"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert_eq!(ports, expect, "{kind:?} {address:?}");
    }
}

#[test]
fn routes_and_their_rules() {
    let dump = dump();
    let table = |name: Option<&str>| {
        let name = name.map(str::to_owned);
        cells(&route::table(&route::select(
            &dump,
            &route::Filter { name },
        )))
    };
    assert_eq!(
        table(None),
        [
            "NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE",
            "80 none x.example /* 404",
            "9080 reviews.default.svc.cluster.local:9080 reviews, reviews.default + 2 more... \
             /login + 1 header reviews.default",
            "9080 reviews.default.svc.cluster.local:9080 reviews, reviews.default + 2 more... /api*",
            "inbound|9080|| inbound|http|9080 * /*",
        ]
    );
    assert_eq!(table(Some("80")).len(), 2);
    let counted = route::counted(&route::select(&dump, &route::Filter::default()));
    assert_eq!(
        cells(&counted),
        ["NAME VIRTUAL HOSTS", "80 1", "9080 2", "inbound|9080|| 1"]
    );
}

#[test]
fn endpoints_as_they_were_sent() {
    let table = |filter: endpoint::Filter| {
        let all = eds::select(&dump(), &filter);
        cells(&eds::table(&all.iter().collect::<Vec<_>>()))
    };
    let cluster = "outbound|9080||ratings.default.svc.cluster.local";
    assert_eq!(
        table(endpoint::Filter::default()),
        [
            "NAME STATUS LOCALITY CLUSTER".to_owned(),
            format!("10.244.0.5:9080 HEALTHY r/z {cluster}"),
            format!("[fd00::5]:9080 DRAINING r/z {cluster}"),
        ]
    );
    let draining = endpoint::Filter {
        status: Some("draining".to_owned()),
        ..endpoint::Filter::default()
    };
    assert_eq!(table(draining).len(), 2);
}

/// What the admin page of hosts says.
pub(super) fn hosts() -> Value {
    let host = |address: Value, health: Value| json!({"address": address, "health_status": health});
    let at = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    json!({"cluster_statuses": [
        {"name": "b", "host_statuses": [
            host(at("10.0.0.2", 80), json!({"eds_health_status": "UNHEALTHY"})),
            host(at("10.0.0.1", 80), json!({"eds_health_status": "HEALTHY", "failed_outlier_check": true}))]},
        {"name": "a", "host_statuses": [host(json!({"pipe": {"path": "/run/x"}}), json!({}))]},
        {"name": "none"},
    ]})
}

#[test]
fn endpoints_as_they_are() {
    let answer = hosts();
    let table = |filter: endpoint::Filter| {
        let all = endpoint::select(&answer, &filter);
        cells(&endpoint::table(&all.iter().collect::<Vec<_>>()))
    };
    assert_eq!(
        table(endpoint::Filter::default()),
        [
            "ENDPOINT STATUS OUTLIER CHECK CLUSTER",
            "unix:///run/x HEALTHY OK a",
            "10.0.0.1:80 HEALTHY FAILED b",
            "10.0.0.2:80 UNHEALTHY OK b",
        ]
    );
    let filter = |cluster: &str, status: &str, port| endpoint::Filter {
        cluster: Some(cluster.to_owned()).filter(|it| !it.is_empty()),
        status: Some(status.to_owned()).filter(|it| !it.is_empty()),
        port,
        address: None,
    };
    assert_eq!(table(filter("b", "healthy", None)).len(), 2);
    assert_eq!(table(filter("", "", Some(80))).len(), 3);
    assert_eq!(table(filter("none", "", None)).len(), 1);
}

#[test]
fn certificates_and_how_long_they_are_valid() {
    let at = |seconds: u64| -> SystemTime { UNIX_EPOCH + Duration::from_secs(seconds) };
    let valid = 1_780_000_000;
    for (seconds, expect) in [
        (valid, "true"),
        (valid + 60_000_000, "false"),
        (valid - 60_000_000, "false"),
    ] {
        assert_eq!(
            cells(&secret::table(&dump(), at(seconds))),
            [
                "RESOURCE NAME TYPE STATUS VALID CERT SERIAL NUMBER NOT AFTER NOT BEFORE"
                    .to_owned(),
                "kubernetes://late WARMING false".to_owned(),
                format!(
                    "ROOTCA CA ACTIVE {expect} 1234abcd 2027-01-01T00:00:00Z 2026-01-01T00:00:00Z"
                ),
            ]
        );
    }
    assert_eq!(secret::roots(&dump()).len(), 1);
}

#[test]
fn versions_and_extensions() {
    let dump = dump();
    assert_eq!(
        bootstrap::versions(bootstrap::of(&dump).unwrap()).to_string(),
        "Istio Version:       1.29.0\nIstio Proxy Version: abc\n\
         Envoy Version:       1.40.0-dev/Clean/RELEASE/BoringSSL\n"
    );
    assert_eq!(
        cells(&ecds::table(&dump.resources(EXTENSIONS))),
        [
            "ECDS NAME TYPE",
            "wasm envoy.extensions.filters.http.wasm.v3.Wasm"
        ]
    );
}

#[test]
fn the_rule_is_named() {
    let cluster = json!({"metadata": {"filter_metadata": {"istio": {"config":
        "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"}}}});
    assert_eq!(origin(&cluster), "reviews.default");
    assert_eq!(origin(&json!({})), "");
}
