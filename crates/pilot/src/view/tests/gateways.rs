//! Listeners and route tables of gateways.

use std::sync::Arc;

use lateen_core::Protocol;
use serde_json::{Value, json};

use super::outbound::clusters;
use super::{View, gateway_listeners, table, vantage};
use crate::fixture::{self, assert_has, ingress, sidecar, snapshot};
use crate::key::Key;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// A Gateway of `default` with these servers.
fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers: [{servers}]\n"
    )
}

/// A VirtualService that is bound to gateway `gw`.
fn bound(name: &str, hosts: &str, rules: &str) -> String {
    bound_to("gw", name, hosts, rules)
}

fn bound_to(gateway: &str, name: &str, hosts: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  gateways: [{gateway}]\n  hosts: [{hosts}]\n  {rules}\n"
    )
}

fn http_to(service: &str) -> String {
    format!("http: [{{route: [{{destination: {{host: {service}}}}}]}}]")
}

fn server(port: u16, protocol: &str, hosts: &str) -> String {
    format!("{{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, hosts: [{hosts}]}}")
}

fn tls_server(port: u16, protocol: &str, hosts: &str, tls: &str) -> String {
    format!(
        "{{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, hosts: [{hosts}], tls: {tls}}}"
    )
}

/// Hosts of a table, each with the clusters that its routes lead to.
fn hosts(table: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let clusters = |host: &Value| {
        let routes = host["routes"].as_array().cloned().unwrap_or_default();
        routes
            .iter()
            .map(|r| text(&r["route"]["cluster"]))
            .collect()
    };
    let hosts = table["virtual_hosts"].as_array().expect("hosts");
    hosts
        .iter()
        .map(|h| (text(&h["name"]), clusters(h)))
        .collect()
}

#[track_caller]
fn check_hosts(yaml: &str, name: &str, want: &[(&str, &[&str])]) {
    let cluster = |service: &&str| format!("outbound|9080||{service}.default.svc.cluster.local");
    let want: Vec<(String, Vec<String>)> = want
        .iter()
        .map(|(host, to)| ((*host).to_owned(), to.iter().map(cluster).collect()))
        .collect();
    assert_eq!(hosts(&table(yaml, &ingress(), name)), want);
}

#[test]
fn a_port_listens_where_the_service_leads() {
    let yaml =
        gateway("gw", &server(80, "HTTP", "\"*\"")) + &gateway("b", &server(31400, "HTTP", "a"));
    let listeners = gateway_listeners(&yaml, &ingress());
    let manager = |table: &str| {
        json!([{"filters": [{"typed_config": {
            "rds": {"route_config_name": table},
            "use_remote_address": true,
            "forward_client_cert_details": "SANITIZE_SET",
            "normalize_path": true,
            "stream_idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "websocket"}]
        }}]}])
    };
    assert_has(
        &Value::Array(listeners),
        &json!([
            {"name": "0.0.0.0_8080", "filter_chains": manager("http.8080")},
            {"name": "0.0.0.0_31400", "filter_chains": manager("http.31400")},
        ]),
    );
    assert!(
        gateway_listeners(&yaml, &{
            let mut other = ingress();
            other.labels.0.remove("istio");
            other
        })
        .is_empty()
    );
}

#[test]
fn ports_of_two_kinds_go_to_the_older_gateway() {
    let tcp = "tcp: [{route: [{destination: {host: db}}]}]";
    let yaml = gateway("first", &server(9000, "HTTP", "\"*\""))
        + &gateway("gw", &server(9000, "TCP", "\"*\""))
        + &bound("a", "\"*\"", tcp);
    let listeners = gateway_listeners(&yaml, &ingress());
    let chains = json!([{"filters": [{"name": "envoy.filters.network.http_connection_manager"}]}]);
    assert_has(
        &Value::Array(listeners),
        &json!([{"filter_chains": chains}]),
    );
}

#[test]
fn hosts_are_what_server_and_rule_have_in_common() {
    let check = |served: &str, named: &str, want: &[&str]| {
        let yaml =
            gateway("gw", &server(80, "HTTP", served)) + &bound("a", named, &http_to("reviews"));
        let found = hosts(&table(&yaml, &ingress(), "http.8080"));
        let found: Vec<_> = found.into_iter().map(|(host, _)| host).collect();
        assert_eq!(found, want, "{served} {named}");
    };
    check("\"*\"", "\"*\"", &["*:80"]);
    check("\"*\"", "a.com, b.com", &["a.com:80", "b.com:80"]);
    check("a.com", "\"*\"", &["a.com:80"]);
    check("\"*.com\"", "a.com, b.org", &["a.com:80"]);
    check("default/a.com", "a.com", &["a.com:80"]);
    check("./a.com", "a.com", &["a.com:80"]);
    check("other/a.com", "a.com", &["blackhole:80"]);
    check("\"*/a.com\"", "a.com", &["a.com:80"]);
    check("a.com", "b.com", &["blackhole:80"]);
}

#[test]
fn only_rules_bound_to_the_gateway_count() {
    for (name, want) in [
        ("gw", "*:80"),
        ("default/gw", "*:80"),
        ("other/gw", "blackhole:80"),
        ("mesh", "blackhole:80"),
    ] {
        let yaml = gateway("gw", &server(80, "HTTP", "\"*\""))
            + &bound_to(name, "a", "\"*\"", &http_to("reviews"));
        let found = hosts(&table(&yaml, &ingress(), "http.8080"));
        assert_eq!(found[0].0, want, "{name}");
    }
}

#[test]
fn an_unknown_host_is_not_found() {
    let yaml = gateway("gw", &server(80, "HTTP", "\"*\""));
    let found = table(&yaml, &ingress(), "http.8080");
    let nothing = json!({"domains": ["*"], "routes": [{"direct_response": {"status": 404}}]});
    assert_has(&found, &json!({"virtual_hosts": [nothing]}));
}

#[test]
fn rules_of_one_host_add_up_and_the_older_comes_first() {
    let path = |path: &str, service: &str| {
        format!(
            "http: [{{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: {service}}}}}]}}]"
        )
    };
    let yaml = gateway("gw", &server(80, "HTTP", "\"*\""))
        + &bound("a", "a.com", &path("/x", "reviews"))
        + &bound("b", "a.com", &path("/x/y", "ratings"));
    check_hosts(&yaml, "http.8080", &[("a.com:80", &["reviews", "ratings"])]);
}

/// The older rule takes everything that no other one names; it does not hide the younger one.
#[test]
fn a_rule_for_everything_comes_last() {
    let path = "http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: ratings}}]}]";
    let yaml = gateway("gw", &server(80, "HTTP", "\"*\""))
        + &bound("a", "a.com", &http_to("reviews"))
        + &bound("b", "a.com", path)
        + &bound("c", "a.com", &http_to("details"));
    check_hosts(&yaml, "http.8080", &[("a.com:80", &["ratings", "reviews"])]);
}

#[test]
fn https_redirect() {
    let yaml = gateway(
        "gw",
        &tls_server(80, "HTTP", "a.com", "{httpsRedirect: true}"),
    ) + &bound("a", "a.com", &http_to("reviews"));
    let found = table(&yaml, &ingress(), "http.8080");
    assert_has(&found, &json!({"virtual_hosts": [{"require_tls": "ALL"}]}));
}

#[test]
fn https_servers_have_a_chain_and_a_table_each() {
    let yaml = gateway(
        "gw",
        &[
            tls_server(443, "HTTPS", "a.com", "{mode: SIMPLE, credentialName: a}"),
            tls_server(443, "HTTPS", "b.com", "{mode: MUTUAL, credentialName: b}")
                .replace("p443", "more"),
        ]
        .join(", "),
    ) + &bound("a", "\"*\"", &http_to("reviews"));
    let chain = |host: &str, table: &str, context: Value| {
        json!({
            "filter_chain_match": {"server_names": [host], "transport_protocol": "tls"},
            "filters": [{"typed_config": {"rds": {"route_config_name": table}}}],
            "transport_socket": {"typed_config": context}
        })
    };
    let secret = |name: &str| json!({"name": name, "sds_config": {"ads": {}}});
    let simple = json!({
        "require_client_certificate": false,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [secret("kubernetes://a")],
            "combined_validation_context": null
        }
    });
    let mutual = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret("kubernetes://b")],
            "combined_validation_context": {
                "validation_context_sds_secret_config": secret("kubernetes://b-cacert")
            }
        }
    });
    assert_has(
        &Value::Array(gateway_listeners(&yaml, &ingress())),
        &json!([{
            "name": "0.0.0.0_8443",
            "listener_filters": [{"name": "envoy.filters.listener.tls_inspector"}],
            "filter_chains": [
                chain("a.com", "https.443.p443.gw.default", simple),
                chain("b.com", "https.443.more.gw.default", mutual),
            ]
        }]),
    );
    check_hosts(
        &yaml,
        "https.443.p443.gw.default",
        &[("a.com:443", &["reviews"])],
    );
    check_hosts(
        &yaml,
        "https.443.more.gw.default",
        &[("b.com:443", &["reviews"])],
    );
}

#[test]
fn optional_client_certificates() {
    let tls = "{mode: OPTIONAL_MUTUAL, credentialName: a}";
    let yaml = gateway("gw", &tls_server(443, "HTTPS", "a.com", tls));
    let context = json!({
        "require_client_certificate": false,
        "common_tls_context": {"combined_validation_context": {
            "validation_context_sds_secret_config": {"name": "kubernetes://a-cacert"}
        }}
    });
    let chain = json!({"transport_socket": {"typed_config": context}});
    let listeners = gateway_listeners(&yaml, &ingress());
    assert_has(
        &Value::Array(listeners),
        &json!([{"filter_chains": [chain]}]),
    );
}

#[test]
fn tls_that_is_passed_on() {
    let rules = "tls: [{match: [{port: 443, sniHosts: [a.com, c.org]}], route: [{destination: {host: reviews}}]}]";
    let yaml = gateway(
        "gw",
        &tls_server(443, "TLS", "\"*.com\"", "{mode: PASSTHROUGH}"),
    ) + &bound("a", "a.com, c.org", rules);
    let chain = json!({
        "filter_chain_match": {"server_names": ["a.com"], "transport_protocol": "tls"},
        "transport_socket": null,
        "filters": [{"typed_config": {
            "cluster": "outbound|9080||reviews.default.svc.cluster.local"
        }}]
    });
    let listeners = gateway_listeners(&yaml, &ingress());
    assert_has(
        &Value::Array(listeners),
        &json!([{"filter_chains": [chain]}]),
    );
}

/// Envoy refuses a listener in which a server name occurs twice.
#[test]
fn a_server_name_belongs_to_the_older_server() {
    let yaml = gateway(
        "gw",
        &[
            tls_server(
                443,
                "HTTPS",
                "a.com, b.com",
                "{mode: SIMPLE, credentialName: a}",
            ),
            tls_server(
                443,
                "HTTPS",
                "b.com, c.com",
                "{mode: SIMPLE, credentialName: b}",
            ),
            tls_server(443, "HTTPS", "b.com", "{mode: SIMPLE, credentialName: c}"),
        ]
        .join(", "),
    );
    let names = |names: Value| json!({"filter_chain_match": {"server_names": names}});
    let chains = [names(json!(["a.com", "b.com"])), names(json!(["c.com"]))];
    let listeners = gateway_listeners(&yaml, &ingress());
    assert_has(
        &Value::Array(listeners),
        &json!([{"filter_chains": chains}]),
    );
}

#[test]
fn bytes_with_shares() {
    let rules = "tcp: [{match: [{port: 9000}], route: [{destination: {host: db}, weight: 80}, \
                 {destination: {host: db, subset: v2}, weight: 20}]}]";
    let yaml = gateway("gw", &server(9000, "TCP", "\"*\"")) + &bound("a", "\"*\"", rules);
    let host = "db.default.svc.cluster.local";
    let clusters = json!([
        {"name": format!("outbound|3306||{host}"), "weight": 80},
        {"name": format!("outbound|3306|v2|{host}"), "weight": 20},
    ]);
    let chain = json!({"filters": [{
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {"weighted_clusters": {"clusters": clusters}}
    }]});
    let listeners = gateway_listeners(&yaml, &ingress());
    assert_has(
        &Value::Array(listeners),
        &json!([{"name": "0.0.0.0_9000", "filter_chains": [chain]}]),
    );
}

#[test]
fn sidecars_take_no_part() {
    let yaml =
        gateway("gw", &server(80, "HTTP", "\"*\"")) + &bound("a", "reviews", &http_to("ratings"));
    let found = table(&yaml, &sidecar("productpage"), "9080");
    let found = hosts(&found);
    let reviews = "reviews.default.svc.cluster.local";
    let own = (
        format!("{reviews}:9080"),
        vec![format!("outbound|9080||{reviews}")],
    );
    assert!(found.contains(&own), "{found:?}");
}

#[test]
fn a_gateway_is_named_in_several_ways() {
    let yaml = gateway("gw", &server(80, "HTTP", "\"*\""));
    for name in [
        "gw",
        "./gw",
        "default/gw",
        "gw.default",
        "gw.default.svc.cluster.local",
    ] {
        let yaml = yaml.clone() + &bound_to(name, "a", "a.com", &http_to("reviews"));
        check_hosts(&yaml, "http.8080", &[("a.com:80", &["reviews"])]);
    }
}

#[test]
fn clients_of_a_gateway_are_not_the_workloads_that_a_rule_asks_for() {
    let rule = |of: &str| {
        format!(
            "http: [{{match: [{of}], route: [{{destination: {{host: ratings}}}}]}}, \
             {{route: [{{destination: {{host: reviews}}}}]}}]"
        )
    };
    let check = |of: &str, want: &[&str]| {
        let yaml = gateway("gw", &server(80, "HTTP", "\"*\"")) + &bound("a", "a.com", &rule(of));
        check_hosts(&yaml, "http.8080", &[("a.com:80", want)]);
    };
    check("{sourceLabels: {app: productpage}}", &["reviews"]);
    check("{sourceNamespace: default}", &["reviews"]);
    check(
        "{uri: {prefix: /a}, sourceLabels: {istio: ingressgateway}}",
        &["ratings", "reviews"],
    );
}

#[test]
fn tls_without_a_mode_is_passed_through() {
    let yaml = gateway("gw", &tls_server(443, "TLS", "a.com", "{}"))
        + &bound(
            "a",
            "a.com",
            "tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: db}}]}]",
        );
    let listeners = gateway_listeners(&yaml, &ingress());
    let chain = &listeners[0]["filter_chains"][0];
    assert!(chain["transport_socket"].is_null(), "{chain:#}");
    assert_has(
        chain,
        &json!({"filter_chain_match": {"server_names": ["a.com"]}}),
    );
}

/// The only listener of a gateway with this server and these rules.
fn listener(server: &str, rules: &str) -> Value {
    let yaml = gateway("gw", server) + &bound("a", "a.com", rules);
    let mut found = gateway_listeners(&yaml, &ingress());
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn each_tcp_rule_within_tls_has_a_chain() {
    let rules = "tcp: [{match: [{destinationSubnets: [10.1.0.0/16]}, {sourceSubnet: 10.2.0.0/16}], \
                 route: [{destination: {host: db}}]}, {route: [{destination: {host: reviews}}]}]";
    let server = tls_server(443, "TLS", "a.com", "{mode: SIMPLE, credentialName: a}");
    let chain = |more: Value, cluster: &str| {
        let mut matches = json!({"server_names": ["a.com"], "transport_protocol": "tls"});
        matches
            .as_object_mut()
            .expect("set")
            .extend(more.as_object().expect("set").clone());
        json!({
            "filter_chain_match": matches,
            "filters": [{"typed_config": {"cluster": cluster}}],
            "transport_socket": {"name": "envoy.transport_sockets.tls"},
        })
    };
    let range = |address: &str| json!([{"address_prefix": address, "prefix_len": 16}]);
    let db = "outbound|3306||db.default.svc.cluster.local";
    assert_has(
        &listener(&server, rules),
        &json!({"filter_chains": [
            chain(json!({"prefix_ranges": range("10.1.0.0")}), db),
            chain(json!({"source_prefix_ranges": range("10.2.0.0")}), db),
            chain(json!({}), "outbound|9080||reviews.default.svc.cluster.local"),
        ]}),
    );
}

#[test]
fn certificates_of_several_kinds_of_keys() {
    let context = |tls: &str| {
        let server = tls_server(443, "HTTPS", "a.com", tls);
        let found = listener(&server, &http_to("reviews"));
        found["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"].clone()
    };
    assert_has(
        &context("{mode: MUTUAL, credentialNames: [rsa, ec], ecdhCurves: [X25519]}"),
        &json!({
            "tls_params": {"ecdh_curves": ["X25519"]},
            "tls_certificate_sds_secret_configs": [{"name": "kubernetes://rsa"}, {"name": "kubernetes://ec"}],
            "combined_validation_context": {
                "validation_context_sds_secret_config": {"name": "kubernetes://rsa-cacert"}
            }
        }),
    );
    assert_has(
        &context("{mode: MUTUAL, credentialName: a, caCertCredentialName: clients}"),
        &json!({"combined_validation_context": {
            "validation_context_sds_secret_config": {"name": "kubernetes://clients-cacert"}
        }}),
    );
    assert_has(
        &context(
            "{mode: MUTUAL, caCertificates: /roots, tlsCertificates: [{serverCertificate: /a, \
             privateKey: /b}, {serverCertificate: /c, privateKey: /d}]}",
        ),
        &json!({
            "tls_certificates": [{"private_key": {"filename": "/b"}}, {"private_key": {"filename": "/d"}}],
            "validation_context": {"trusted_ca": {"filename": "/roots"}}
        }),
    );
    let lists = json!({"crl": {"filename": "/lists"}});
    assert_has(
        &context(
            "{mode: MUTUAL, caCertificates: /roots, caCrl: /lists, serverCertificate: /a, privateKey: /b}",
        ),
        &json!({"validation_context": lists}),
    );
    assert_has(
        &context("{mode: OPTIONAL_MUTUAL, credentialName: a, caCrl: /lists}"),
        &json!({"combined_validation_context": {"default_validation_context": lists}}),
    );
}

#[test]
fn an_address_of_its_own_is_in_the_name_of_the_table() {
    let server = server(80, "HTTP", "\"*\"").replace("hosts:", "bind: 10.0.0.5, hosts:");
    let yaml = gateway("gw", &server) + &bound("a", "a.com", &http_to("reviews"));
    let found = gateway_listeners(&yaml, &ingress());
    let manager = json!([{"typed_config": {"rds": {"route_config_name": "http.8080.10.0.0.5"}}}]);
    assert_has(
        &Value::Array(found),
        &json!([{"name": "10.0.0.5_8080", "filter_chains": [{"filters": manager}]}]),
    );
    check_hosts(&yaml, "http.8080.10.0.0.5", &[("a.com:80", &["reviews"])]);
}

#[test]
fn what_is_before_a_gateway() {
    use lateen_api::mesh::{ForwardClientCertDetails, GatewayTopology, ProxyProtocolConfiguration};
    let yaml = gateway("gw", &server(80, "HTTP", "\"*\""));
    let mut proxy = ingress();
    proxy.topology = Some(GatewayTopology {
        num_trusted_proxies: 2,
        forward_client_cert_details: ForwardClientCertDetails::AppendForward,
        proxy_protocol: Some(ProxyProtocolConfiguration {}),
    });
    let found = gateway_listeners(&yaml, &proxy);
    assert_has(
        &found[0]["filter_chains"][0]["filters"][0]["typed_config"],
        &json!({"xff_num_trusted_hops": 2, "forward_client_cert_details": "APPEND_FORWARD"}),
    );
    assert_has(
        &found[0]["listener_filters"],
        &json!([{"name": "envoy.filters.listener.proxy_protocol"}]),
    );
}

#[test]
fn what_is_passed_on_by_its_server_name() {
    let rule = "---\nkind: DestinationRule\nmetadata: {name: r}\n\
                spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}\n";
    let server = tls_server(
        15443,
        "TLS",
        "\"./reviews.default.svc.cluster.local\", \"other/*.local\"",
        "{mode: AUTO_PASSTHROUGH}",
    );
    let yaml = gateway("gw", &server) + rule;
    let name =
        |subset: &str| format!("outbound_.9080_.{subset}_.reviews.default.svc.cluster.local");
    let chain = |subset: &str| {
        json!({
            "filter_chain_match": {
                "server_names": [name(subset)],
                "application_protocols":
                    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
            },
            "transport_socket": null,
            "filters": [{"typed_config": {"cluster": name(subset)}}],
        })
    };
    assert_has(
        &Value::Array(gateway_listeners(&yaml, &ingress())),
        &json!([{"name": "0.0.0.0_15443", "filter_chains": [chain(""), chain("v1")]}]),
    );
    let snapshot = snapshot(&yaml);
    let vantage = vantage(&snapshot, &ingress());
    let view = View::new(&snapshot, &vantage);
    let mut passing = Vec::new();
    for service in view.destinations() {
        for key in view.clusters_to(service) {
            let Key::Cluster(key) = key else {
                panic!("{key:?}");
            };
            let cluster = key.generate();
            if cluster.name.starts_with("outbound_.") {
                // The client's TLS ends at the server, not here.
                assert!(
                    cluster.transport_socket.is_none()
                        && cluster.transport_socket_matches.is_empty()
                );
                passing.push(cluster.name);
            }
        }
    }
    assert_eq!(passing, [name(""), name("v1")]);
    assert!(view.endpoints(&name("v1")).is_some_and(|key| key.mesh_only));
}

#[test]
fn listeners_of_the_gateway_api_are_for_the_proxies_behind_their_services() {
    let yaml = |service: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
             metadata: {{name: gw, annotations: {{internal.istio.io/gateway-service: {service}}}}}\n\
             spec: {{servers: [{}]}}\n",
            server(80, "HTTP", "\"*/*\"")
        )
    };
    let own = "other.default.svc.cluster.local,istio-ingressgateway.istio-system.svc.cluster.local";
    let listeners = gateway_listeners(&yaml(&format!("\"{own}\"")), &ingress());
    assert_has(&Value::Array(listeners), &json!([{"name": "0.0.0.0_8080"}]));
    let other = yaml("other.default.svc.cluster.local");
    assert!(gateway_listeners(&other, &ingress()).is_empty());
}

#[test]
fn prefixes_of_the_gateway_api_end_where_an_element_does() {
    let rules = "http: [{match: [{uri: {prefix: /a}}, {uri: {prefix: /b/}}], route: [{destination: {host: reviews}}]}]";
    let of = |annotations: &str| {
        let rule =
            bound("a", "a.com", rules).replace("{name: a}", &format!("{{name: a{annotations}}}"));
        let yaml = gateway("gw", &server(80, "HTTP", "\"*\"")) + &rule;
        table(&yaml, &ingress(), "http.8080")["virtual_hosts"][0]["routes"].clone()
    };
    assert_has(
        &of(", annotations: {internal.istio.io/route-semantics: gateway}"),
        &json!([{"match": {"path_separated_prefix": "/a"}}, {"match": {"prefix": "/b/"}}]),
    );
    assert_has(
        &of(""),
        &json!([{"match": {"prefix": "/a"}}, {"match": {"prefix": "/b/"}}]),
    );
}

#[test]
fn certificates_of_the_gateway_api_keep_their_names() {
    let tls = "{mode: SIMPLE, credentialName: \"kubernetes-gateway://other/cert\"}";
    let yaml = gateway("gw", &tls_server(443, "HTTPS", "a.com", tls))
        + &bound("a", "a.com", &http_to("reviews"));
    let listeners = Value::Array(gateway_listeners(&yaml, &ingress()));
    assert_has(
        &listeners[0]["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"],
        &json!({"tls_certificate_sds_secret_configs": [{"name": "kubernetes-gateway://other/cert"}]}),
    );
}

#[test]
fn what_a_backend_tls_policy_became_holds_for_gateways_beside_other_rules() {
    let rule = |name: &str, annotations: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n"
        )
    };
    let tls = "internal.istio.io/backend-tls: p";
    let yaml = rule("all", "", "host: \"*.local\", subsets: [{name: v1}]")
        + &rule(
            "p",
            tls,
            "host: reviews.default.svc.cluster.local, exportTo: [\"*\"], subsets: [{name: tls, trafficPolicy: \
             {tls: {mode: SIMPLE, sni: a.com, subjectAltNames: [a.com, \"spiffe://x/y\"], \
             credentialName: \"kubernetes-roots://ConfigMap/default/roots\"}}}]",
        );
    let names = |proxy: &Proxy| -> Vec<String> {
        let found = clusters(fixture::world(), &yaml, proxy);
        let names = found.iter().filter_map(|c| c["name"].as_str());
        let subset = |name: &str| name.split('|').nth(2).unwrap_or_default().to_owned();
        let mut all: Vec<_> = names
            .filter(|n| n.contains("reviews"))
            .map(subset)
            .collect();
        all.sort();
        all
    };
    assert_eq!(names(&ingress()), ["", "tls", "v1"]);
    assert_eq!(names(&sidecar("productpage")), ["", "v1"]);
    let found = clusters(fixture::world(), &yaml, &ingress());
    let name = "outbound|9080|tls|reviews.default.svc.cluster.local";
    let found = found
        .iter()
        .find(|c| c["name"] == name)
        .expect("the subset");
    assert_has(
        &found["transport_socket"]["typed_config"],
        &json!({
            "sni": "a.com",
            "common_tls_context": {"combined_validation_context": {
                "validation_context_sds_secret_config":
                    {"name": "kubernetes-roots://ConfigMap/default/roots"},
                "default_validation_context": {"match_typed_subject_alt_names": [
                    {"san_type": "DNS", "matcher": {"exact": "a.com"}},
                    {"san_type": "URI", "matcher": {"exact": "spiffe://x/y"}},
                ]},
            }},
        }),
    );
}

#[test]
fn a_gateway_shows_its_certificate_to_backends_with_a_policy() {
    let rule = |name: &str, annotations: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{host: reviews.default.svc.cluster.local, \
             exportTo: [\"*\"], subsets: [{{name: {name}, trafficPolicy: {{tls: {{mode: SIMPLE, sni: a.com, \
             credentialName: c}}}}}}]}}\n"
        )
    };
    let gateway = |name: &str, service: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, annotations: \
             {{internal.istio.io/gateway-service: {service}.istio-system.svc.cluster.local, \
             internal.istio.io/client-certificate: \"kubernetes-gateway://default/{name}\"}}}}\n\
             spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [\"*/*\"]}}]}}\n"
        )
    };
    let yaml = rule("plain", "")
        + &rule("tls", "internal.istio.io/backend-tls: p")
        + &gateway("other", "somebody")
        + &gateway("own", "istio-ingressgateway");
    let shown = |subset: &str| {
        let found = clusters(fixture::world(), &yaml, &ingress());
        let name = format!("outbound|9080|{subset}|reviews.default.svc.cluster.local");
        let found = found
            .into_iter()
            .find(|c| c["name"] == *name)
            .expect("a cluster");
        let tls = &found["transport_socket"]["typed_config"]["common_tls_context"];
        tls["tls_certificate_sds_secret_configs"][0]["name"].clone()
    };
    assert_eq!(shown("tls"), "kubernetes-gateway://default/own");
    assert_eq!(shown("plain"), Value::Null);
}

/// What galley makes of HTTPS listeners of the Gateway API at one port, each with a route for its host
/// and for these.
fn tls_listeners(listeners: &[(&str, &str, &[&str])]) -> String {
    let listener = |(name, host, routed): &(&str, &str, &[&str])| {
        let tls = "{mode: SIMPLE, credentialName: c}";
        let server = tls_server(443, "HTTPS", &format!("\"*/{host}\""), tls);
        let gateway =
            gateway(name, &server).replace("selector: {istio: ingressgateway}", "selector: {}");
        let annotation = "{internal.istio.io/gateway-service: istio-ingressgateway.istio-system.svc.cluster.local}";
        let meta = format!("{{name: {name}}}");
        let gateway = gateway.replace(
            &meta,
            &format!("{{name: {name}, annotations: {annotation}}}"),
        );
        let routes = routed.iter().enumerate().map(|(n, host)| {
            let host = format!("\"{host}\"");
            bound_to(name, &format!("{name}-{n}"), &host, &http_to("reviews"))
        });
        gateway + &routes.collect::<String>()
    };
    listeners.iter().map(listener).collect()
}

#[test]
fn requests_that_came_to_another_listener_of_the_api_are_sent_away() {
    let yaml = tls_listeners(&[
        ("all", "*", &["a.com", "b.com"]),
        ("b", "b.com", &["b.com"]),
        ("wide", "*.w.com", &["*.w.com", "one.w.com", "two.w.com"]),
        ("two", "two.w.com", &[]),
    ]);
    let answers = |listener: &str| -> Vec<(String, u64)> {
        let name = format!("https.443.p443.{listener}.default");
        let table = table(&yaml, &ingress(), &name);
        let hosts = table["virtual_hosts"].as_array().expect("hosts");
        let answer = |host: &Value| {
            let status = host["routes"][0]["direct_response"]["status"].as_u64();
            let domain = host["domains"][0].as_str().expect("a domain");
            (domain.to_owned(), status.unwrap_or(200))
        };
        let mut all: Vec<_> = hosts.iter().map(answer).collect();
        all.sort();
        all
    };
    let check = |listener: &str, want: &[(&str, u64)]| {
        let want = want.iter();
        let want = want.map(|(host, status)| ((*host).to_owned(), *status));
        assert_eq!(answers(listener), want.collect::<Vec<_>>(), "{listener}");
    };
    check(
        "all",
        &[
            ("*", 404),
            ("*.w.com", 421),
            ("a.com", 200),
            ("b.com", 421),
            ("two.w.com", 421),
        ],
    );
    check(
        "b",
        &[
            ("*", 421),
            ("*.w.com", 421),
            ("b.com", 200),
            ("two.w.com", 421),
        ],
    );
    check(
        "wide",
        &[
            ("*", 421),
            ("*.w.com", 200),
            ("b.com", 421),
            ("one.w.com", 200),
            ("two.w.com", 421),
        ],
    );
    check(
        "two",
        &[
            ("*", 421),
            ("*.w.com", 421),
            ("b.com", 421),
            ("two.w.com", 404),
        ],
    );
    // Istio's own Gateways have no such answer.
    let own = yaml
        .replace("internal.istio.io/gateway-service", "other")
        .replace("selector: {}", "selector: {istio: ingressgateway}");
    let table = table(&own, &ingress(), "https.443.p443.b.default");
    assert!(
        !table.to_string().contains("\"direct_response\""),
        "{table:#}"
    );
}

#[test]
fn ports_that_do_not_say_what_they_are_are_spoken_to_in_http1() {
    let mut world = fixture::world();
    let service = fixture::service("any", &[(70, 70, Protocol::Unsupported)]);
    world.services.insert(service.id(), service.clone());
    let world = Arc::new(world);
    let follows = |proxy: &Proxy, yaml: &str| {
        let config = Arc::new(fixture::config(yaml));
        let snapshot = Snapshot::new(1, world.clone(), config, fixture::DOMAIN);
        let vantage = vantage(&snapshot, proxy);
        let keys = View::new(&snapshot, &vantage).clusters_to(&service);
        let [Key::Cluster(key)] = &keys[..] else {
            panic!("{keys:?}")
        };
        let cluster = lateen_xds::json::to_value(&key.generate()).expect("JSON");
        cluster
            .to_string()
            .contains("use_downstream_protocol_config")
    };
    assert!(!follows(&ingress(), ""));
    assert!(follows(&sidecar("reviews"), ""));
    let rule = "kind: DestinationRule\nmetadata: {name: r, namespace: default}\nspec: {host: any, \
                trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}}\n";
    assert!(follows(&ingress(), rule));
}
