//! Listeners and clusters in Envoy's form, for Envoy and for our proxy alike: what Istio gives to a
//! sidecar, less the filters that Envoy alone does not have.

use serde_json::{Value, json};

use crate::identity::{SERVER, TRUST_DOMAIN};
use crate::ports::{BACKEND_H1, BACKEND_H2, BACKEND_TCP, Ports};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// Where certificates come from: the part of a `common_tls_context` that differs.
pub(crate) type Certificates<'a> = &'a dyn Fn(Value) -> Value;

/// Listeners of a sidecar in front of the backend.
pub(crate) fn inbound(ports: Ports, certificates: Certificates<'_>) -> (Vec<Value>, Vec<Value>) {
    let mut tls = listener(
        "inbound-tls",
        ports.tls(),
        "INBOUND",
        http("inbound", &table("h1")),
    );
    tls["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": tls_context(
                certificates(json!([san("prefix", &format!("spiffe://{TRUST_DOMAIN}/"))])),
                &["h2", "http/1.1"],
            ),
        },
    });
    let listeners = vec![
        listener(
            "inbound-h1",
            ports.h1(),
            "INBOUND",
            http("inbound", &table("h1")),
        ),
        listener(
            "inbound-h2",
            ports.h2(),
            "INBOUND",
            http("inbound", &table("h2")),
        ),
        tls,
        listener("inbound-tcp", ports.tcp(), "INBOUND", tcp()),
    ];
    let mut h2 = cluster("inbound|9001||", BACKEND_H2);
    h2["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    let clusters = vec![
        cluster("inbound|9000||", BACKEND_H1),
        h2,
        cluster("inbound|9002||", BACKEND_TCP),
    ];
    (listeners, clusters)
}

/// The listener of a sidecar beside the client, whose calls go to `server` with mutual TLS.
pub(crate) fn outbound(
    ports: Ports,
    server: Ports,
    certificates: Certificates<'_>,
    alpn: &[&str],
) -> (Vec<Value>, Vec<Value>) {
    let name = "outbound|8080||items.default.svc.cluster.local";
    let manager = http(
        "outbound",
        &routes("items.default.svc.cluster.local:8080", name),
    );
    let mut cluster = cluster(name, server.tls());
    cluster["metadata"] = json!({ "filter_metadata": { "istio": { "services": [
        { "host": "items.default.svc.cluster.local", "name": "items", "namespace": "default" },
    ] } } });
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = json!({
        "filter_metadata": { "istio": { "workload": "items-v1;default;items;v1;Kubernetes" } },
    });
    let expected = format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{SERVER}");
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "outbound_.8080_._.items.default.svc.cluster.local",
            "common_tls_context": tls_context(certificates(json!([san("exact", &expected)])), alpn),
        },
    });
    let listener = listener("outbound", ports.outbound(), "OUTBOUND", manager);
    (vec![listener], vec![cluster])
}

/// The listener of a sidecar that sends everything on to the recorder.
pub(crate) fn plain(ports: Ports) -> (Vec<Value>, Vec<Value>) {
    let (port, name) = (ports.recorder(), "inbound|http");
    let routes = json!({
        "name": name,
        "validate_clusters": false,
        "virtual_hosts": [{
            "name": name,
            "domains": ["*"],
            "routes": [{
                "match": { "prefix": "/" },
                "route": { "cluster": "inbound|plain||", "timeout": "0s" },
                "decorator": { "operation": "items.default.svc.cluster.local:8080/*" },
            }],
        }],
    });
    let mut manager = http("inbound", &routes);
    // Everybody else takes it; what is compared is how it is read.
    manager["http_protocol_options"] = json!({ "accept_http_10": true });
    // How long Envoy lets a refused client read on.
    manager["delayed_close_timeout"] = json!("0.1s");
    let listener = listener("inbound-plain", ports.h1(), "INBOUND", manager);
    (vec![listener], vec![cluster("inbound|plain||", port)])
}

fn san(kind: &str, text: &str) -> Value {
    json!({ "san_type": "URI", "matcher": { kind: text } })
}

fn tls_context(mut certificates: Value, alpn: &[&str]) -> Value {
    certificates["alpn_protocols"] = json!(alpn);
    certificates["tls_params"] = json!({
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
    });
    certificates
}

fn table(protocol: &str) -> Value {
    let port = if protocol == "h1" {
        BACKEND_H1
    } else {
        BACKEND_H2
    };
    routes(
        &format!("inbound|http|{port}"),
        &format!("inbound|{port}||"),
    )
}

/// Six routes; the requests of the load take the fifth.
fn routes(name: &str, cluster: &str) -> Value {
    let tenant = |value: &str| json!([{ "name": "x-tenant", "string_match": { "exact": value } }]);
    let to = json!({ "cluster": cluster, "timeout": "0s" });
    let nothing = json!({ "status": 404 });
    json!({
        "name": name,
        "validate_clusters": false,
        "virtual_hosts": [{
            "name": name,
            "domains": ["*"],
            "routes": [
                { "match": { "path": "/healthz" }, "direct_response": nothing },
                { "match": { "prefix": "/admin" }, "direct_response": nothing },
                { "match": { "safe_regex": { "regex": "/v[0-9]+/users/.*" } },
                  "direct_response": nothing },
                { "match": { "prefix": "/api/v1", "headers": tenant("red") },
                  "direct_response": nothing },
                { "match": { "prefix": "/api/v1", "headers": tenant("blue") }, "route": to,
                  "decorator": { "operation": "items.default.svc.cluster.local:8080/*" } },
                { "match": { "prefix": "/" }, "direct_response": nothing },
            ],
        }],
    })
}

fn http(side: &str, routes: &Value) -> Value {
    let filter = |name: &str, kind: &str| {
        json!({
            "name": format!("envoy.filters.http.{name}"),
            "typed_config": { "@type": format!("{TYPE}.filters.http.{name}.v3.{kind}") },
        })
    };
    let mut statistics = filter("grpc_stats", "FilterConfig");
    statistics["typed_config"]["emit_filter_state"] = json!(true);
    json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": side,
        "server_name": "istio-envoy",
        "use_remote_address": true,
        "generate_request_id": true,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": { "idle_timeout": "3600s" },
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "forward_client_cert_details": if side == "inbound" { "APPEND_FORWARD" } else { "SANITIZE" },
        "set_current_client_cert_details": { "subject": true, "dns": true, "uri": true },
        "route_config": routes,
        "http_filters": [
            statistics,
            filter("fault", "HTTPFault"),
            filter("cors", "Cors"),
            filter("router", "Router"),
        ],
    })
}

fn tcp() -> Value {
    json!({
        "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "inbound|9002||",
        "cluster": "inbound|9002||",
    })
}

fn listener(name: &str, port: u16, direction: &str, filter: Value) -> Value {
    json!({
        "name": name,
        "address": address(port),
        "traffic_direction": direction,
        "filter_chains": [{ "filters": [{ "name": "main", "typed_config": filter }] }],
    })
}

fn cluster(name: &str, port: u16) -> Value {
    let limit = u32::MAX;
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": { "thresholds": [{
            "max_connections": limit, "max_pending_requests": limit,
            "max_requests": limit, "max_retries": limit,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
    })
}

pub(crate) fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
