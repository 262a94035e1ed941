//! Resources that have each listed message at least once, and are accepted.

use serde_json::{Value, json};

/// All of them.
pub(super) fn all() -> Vec<Value> {
    let mut all = vec![assignment(), certificate(), roots()];
    all.extend(clusters());
    all.extend(listeners());
    all.extend(routes());
    all
}

fn any(kind: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    fields
}

fn address() -> Value {
    json!({ "socket_address": { "address": "10.0.0.2", "port_value": 80 } })
}

fn assignment() -> Value {
    let metadata = json!({ "filter_metadata": { "istio": { "workload": "a;b;c;d;e" } } });
    let endpoint = json!({ "address": address(), "hostname": "host" });
    let endpoints = json!([
        { "endpoint": endpoint, "health_status": "HEALTHY", "metadata": metadata,
          "load_balancing_weight": 3 },
        { "endpoint": { "address": { "pipe": { "path": "/socket" } } } },
    ]);
    let locality = json!({ "region": "r", "zone": "z", "sub_zone": "s" });
    any(
        "config.endpoint.v3.ClusterLoadAssignment",
        json!({ "cluster_name": "c", "endpoints": [
            { "locality": locality, "lb_endpoints": endpoints, "load_balancing_weight": 2,
              "priority": 1 },
        ]}),
    )
}

fn inline(text: &str) -> Value {
    json!({ "inline_string": text })
}

fn secret(fields: Value) -> Value {
    any("extensions.transport_sockets.tls.v3.Secret", fields)
}

fn certificate() -> Value {
    let pair = json!({ "certificate_chain": inline("chain"), "private_key": inline("key") });
    secret(json!({ "name": "s", "tls_certificate": pair }))
}

fn roots() -> Value {
    secret(json!({ "name": "s", "validation_context": { "trusted_ca": inline("roots") } }))
}

fn sds(name: &str) -> Value {
    json!({ "name": name, "sds_config": { "ads": {}, "resource_api_version": "V3" } })
}

/// What both sides' contexts have in common, in three forms.
fn contexts() -> [Value; 3] {
    let exact = json!({ "exact": "name" });
    let sans = json!([{ "san_type": "URI", "matcher": exact }]);
    let validation = json!({ "trusted_ca": inline("roots"), "match_typed_subject_alt_names": sans,
        "match_subject_alt_names": [exact], "crl": inline("list"),
        "verify_certificate_hash": ["07".repeat(32)],
        "verify_certificate_spki": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] });
    [
        json!({
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3", "cipher_suites": ["A"],
                "ecdh_curves": ["B"] },
            "tls_certificates": [
                { "certificate_chain": inline("chain"), "private_key": inline("key") },
            ],
            "validation_context": validation,
            "alpn_protocols": ["h2"],
        }),
        json!({
            "tls_certificate_sds_secret_configs": [sds("default")],
            "validation_context_sds_secret_config": sds("ROOTCA"),
        }),
        json!({
            "tls_certificate_sds_secret_configs": [sds("default")],
            "combined_validation_context": {
                "default_validation_context": validation,
                "validation_context_sds_secret_config": sds("ROOTCA"),
            },
        }),
    ]
}

fn tls(side: &str, fields: Value) -> Value {
    let context = any(
        &format!("extensions.transport_sockets.tls.v3.{side}TlsContext"),
        fields,
    );
    json!({ "name": "tls", "typed_config": context })
}

fn raw() -> [Value; 2] {
    let empty = any(
        "extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    [
        json!({ "name": "raw", "typed_config": empty }),
        json!({ "name": "envoy.transport_sockets.raw_buffer" }),
    ]
}

fn cluster(fields: Value) -> Value {
    let mut cluster = any(
        "config.cluster.v3.Cluster",
        json!({ "name": "c", "connect_timeout": "3s" }),
    );
    for (key, value) in fields.as_object().into_iter().flatten() {
        cluster[key] = value.clone();
    }
    cluster
}

fn clusters() -> Vec<Value> {
    let mut load = assignment();
    load.as_object_mut().expect("fields").remove("@type");
    // A path has no name to look up.
    let mut named = load.clone();
    let endpoints = named["endpoints"][0]["lb_endpoints"].as_array_mut();
    endpoints.expect("endpoints").truncate(1);
    let metadata = json!({ "filter_metadata": { "istio": { "services": [
        { "host": "h", "name": "n", "namespace": "s" } ] } } });
    let pings = json!({ "interval": "5s", "timeout": "3s" });
    let http2 = json!({ "max_concurrent_streams": 3, "connection_keepalive": pings });
    let start = json!({ "slow_start_window": "9s", "min_weight_percent": { "value": 20 },
        "aggression": { "default_value": 2, "runtime_key": "k" } });
    let mut all = vec![
        cluster(json!({
            "type": "EDS",
            "eds_cluster_config": { "service_name": "e", "eds_config": { "ads": {} } },
            "lb_policy": "ROUND_ROBIN",
            "round_robin_lb_config": { "slow_start_config": start },
            "circuit_breakers": { "thresholds": [
                { "max_connections": 1, "max_pending_requests": 2, "max_requests": 3,
                  "max_retries": 4, "retry_budget": { "budget_percent": { "value": 30 },
                      "min_retry_concurrency": 5 } },
                { "priority": "HIGH", "max_connections": 7 },
            ]},
            "outlier_detection": { "consecutive_5xx": 3, "base_ejection_time": "9s",
                "max_ejection_percent": 30, "enforcing_consecutive_5xx": 100,
                "consecutive_gateway_failure": 4, "enforcing_consecutive_gateway_failure": 100,
                "split_external_local_origin_errors": true,
                "consecutive_local_origin_failure": 6,
                "enforcing_consecutive_local_origin_failure": 100, "max_ejection_time": "99s" },
            "upstream_bind_config": {
                "source_address": { "address": "10.0.0.9" },
                "extra_source_addresses": [{ "address": { "address": "::6" } }],
            },
            "metadata": metadata,
            "common_lb_config": { "healthy_panic_threshold": { "value": 20 },
                "locality_weighted_lb_config": {} },
            "upstream_connection_options": { "tcp_keepalive": { "keepalive_probes": 4,
                "keepalive_time": 5, "keepalive_interval": 6 } },
        })),
        cluster(json!({ "type": "STATIC", "load_assignment": load.clone(),
            "http2_protocol_options": http2,
            "common_http_protocol_options": { "idle_timeout": "4s",
                "max_requests_per_connection": 5 } })),
        cluster(
            json!({ "type": "STRICT_DNS", "load_assignment": named, "dns_refresh_rate": "9s",
            "dns_lookup_family": "V4_ONLY", "max_requests_per_connection": 4 }),
        ),
        cluster(
            json!({ "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": { "use_http_header": true, "http_header_name": "h",
                "upstream_port_override": 80 } }),
        ),
        cluster(
            json!({ "lb_policy": "LEAST_REQUEST", "least_request_lb_config": {
            "choice_count": 3, "slow_start_config": start } }),
        ),
        cluster(json!({ "lb_policy": "RING_HASH", "ring_hash_lb_config": {
            "minimum_ring_size": 3, "maximum_ring_size": 9 } })),
        cluster(json!({ "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": any(
                "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                json!({ "dns_cache_config": { "name": "n", "dns_lookup_family": "V4_ONLY",
                    "dns_refresh_rate": "9s", "host_ttl": "99s", "max_hosts": 5 } })) } })),
        cluster(json!({ "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": any(
                "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                json!({ "dns_cache_config": { "name": "n" } })) },
            "upstream_http_protocol_options": { "auto_sni": true, "auto_san_validation": true },
            "transport_socket": tls("Upstream", json!({ "sni": "s", "common_tls_context": {} })) })),
        cluster(json!({ "lb_policy": "MAGLEV", "maglev_lb_config": { "table_size": 5 } })),
    ];
    let socket = |spec: &Value| {
        cluster(
            json!({ "transport_socket": spec, "transport_socket_matches": [
            { "name": "m", "match": { "a": "b" }, "transport_socket": spec } ] }),
        )
    };
    all.extend(raw().iter().map(socket));
    let [plain, _] = raw();
    let proxied = any(
        "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        json!({ "config": { "version": "V2" }, "transport_socket": plain }),
    );
    all.push(socket(&json!({ "name": "p", "typed_config": proxied })));
    let upstream = |common: Value, sni: &str| {
        let fields = json!({ "common_tls_context": common, "sni": sni });
        socket(&tls("Upstream", fields))
    };
    all.extend(contexts().map(|common| upstream(common, "name")));
    all.extend(contexts().map(|common| upstream(common, "")));
    all.extend(http_options(&http2));
    all.extend(extensions(&start));
    all
}

fn http_options(http2: &Value) -> Vec<Value> {
    let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let with = |fields: Value| {
        let options = any(&kind["envoy.".len()..], fields);
        cluster(json!({ "typed_extension_protocol_options": { kind: options } }))
    };
    let common = json!({ "idle_timeout": "7s", "max_requests_per_connection": 3 });
    let status = |exact: &str| {
        let headers = json!([{ "name": ":status", "exact_match": exact }]);
        json!({ "http_response_headers_match": { "headers": headers } })
    };
    let not = json!({ "not_match": status("404") });
    let both_rules = json!({ "and_match": { "rules": [not, { "any_match": true }] } });
    let errors = json!({ "or_match": { "rules": [status("429"), both_rules] } });
    let both = json!({ "http_protocol_options": {}, "http2_protocol_options": http2 });
    vec![
        with(json!({ "common_http_protocol_options": common,
            "explicit_http_config": { "http2_protocol_options": http2 } })),
        with(
            json!({ "explicit_http_config": { "http_protocol_options": {} },
            "outlier_detection": { "error_matcher": errors } }),
        ),
        with(json!({ "use_downstream_protocol_config": both })),
        {
            let names = json!({ "auto_sni": true, "auto_san_validation": true });
            let mut secured = with(json!({ "auto_config": both,
                "upstream_http_protocol_options": names }));
            secured["transport_socket"] = tls("Upstream", json!({ "common_tls_context": {} }));
            secured
        },
        with(json!({ "auto_config": both })),
    ]
}

fn extensions(start: &Value) -> Vec<Value> {
    let with = |kind: &str, fields: Value| {
        let config = any(
            &format!("extensions.load_balancing_policies.{kind}"),
            fields,
        );
        let item = json!({ "typed_extension_config": { "name": "n", "typed_config": config } });
        cluster(json!({ "load_balancing_policy": { "policies": [item] } }))
    };
    let localities = json!({ "locality_weighted_lb_config": {} });
    vec![
        with(
            "round_robin.v3.RoundRobin",
            json!({ "slow_start_config": start,
            "locality_lb_config": localities }),
        ),
        with(
            "least_request.v3.LeastRequest",
            json!({ "choice_count": 4,
            "slow_start_config": start, "locality_lb_config": localities }),
        ),
        with(
            "random.v3.Random",
            json!({ "locality_lb_config": localities }),
        ),
        with(
            "random.v3.Random",
            json!({ "locality_lb_config": { "zone_aware_lb_config": {
                "routing_enabled": { "value": 50 }, "min_cluster_size": 2,
                "fail_traffic_on_panic": true, "force_local_zone": { "min_size": 2 },
                "locality_basis": "HEALTHY_HOSTS_WEIGHT" } } }),
        ),
        with(
            "random.v3.Random",
            json!({ "locality_lb_config": { "zone_aware_lb_config": {
                "force_locality_direct_routing": true } } }),
        ),
        cluster(
            json!({ "type": "STATIC", "common_lb_config": { "zone_aware_lb_config": {
            "routing_enabled": { "value": 50 }, "min_cluster_size": 2,
            "fail_traffic_on_panic": true } } }),
        ),
        with(
            "ring_hash.v3.RingHash",
            json!({ "minimum_ring_size": 4, "maximum_ring_size": 9,
            "locality_weighted_lb_config": {} }),
        ),
        with(
            "maglev.v3.Maglev",
            json!({ "table_size": 5, "locality_weighted_lb_config": {} }),
        ),
    ]
}

fn logs() -> Value {
    let log = |kind: &str, fields: Value| {
        let config = any(
            &format!("extensions.access_loggers.{kind}AccessLog"),
            fields,
        );
        json!({ "name": "l", "typed_config": config,
            "filter": { "response_flag_filter": { } } })
    };
    json!([
        log(
            "file.v3.File",
            json!({ "path": "/dev/null",
            "log_format": { "text_format_source": inline("%PROTOCOL%") } })
        ),
        log(
            "stream.v3.Stdout",
            json!({ "log_format": { "json_format": { "a": "b" } } })
        ),
    ])
}

fn listener(chain: Value) -> Value {
    let filter = |kind: &str| any(&format!("extensions.filters.listener.{kind}"), json!({}));
    let mut default = chain.clone();
    default["name"] = "default".into();
    any(
        "config.listener.v3.Listener",
        json!({
            "name": "l",
            "address": address(),
            "additional_addresses": [{ "address": address() }],
            "traffic_direction": "INBOUND",
            "bind_to_port": true,
            "deprecated_v1": { "bind_to_port": true },
            "listener_filters_timeout": "2s",
            "listener_filters": [
                { "name": "o", "typed_config": filter("original_dst.v3.OriginalDst") },
                { "name": "p", "typed_config": filter("proxy_protocol.v3.ProxyProtocol") },
                { "name": "envoy.filters.listener.tls_inspector" },
                { "name": "t", "typed_config": filter("tls_inspector.v3.TlsInspector") },
                { "name": "h", "typed_config": filter("http_inspector.v3.HttpInspector") },
            ],
            "access_log": logs(),
            "filter_chains": [chain],
            "default_filter_chain": default,
        }),
    )
}

fn network(kind: &str, fields: Value) -> Value {
    let config = any(&format!("extensions.filters.network.{kind}"), fields);
    json!([{ "name": "f", "typed_config": config }])
}

/// Listeners of datagrams, which have one filter and no chains.
fn datagrams() -> Vec<Value> {
    let udp = |fields: Value| {
        let config = any("extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", fields);
        any(
            "config.listener.v3.Listener",
            json!({ "name": "d",
                "address": { "socket_address": {
                    "protocol": "UDP", "address": "10.0.0.2", "port_value": 53 } },
                "udp_listener_config": {
                    "downstream_socket_config": { "max_rx_datagram_size": 4000 } },
                "listener_filters": [{ "name": "udp", "typed_config": config }] }),
        )
    };
    let size = json!({ "max_rx_datagram_size": 5000, "prefer_gro": false });
    vec![
        udp(
            json!({ "stat_prefix": "p", "cluster": "c", "access_log": logs(),
            "idle_timeout": "4s", "hash_policies": [{ "source_ip": true }],
            "upstream_socket_config": size, "access_log_options": {} }),
        ),
        udp(
            json!({ "stat_prefix": "p", "matcher": { "on_no_match": { "action": {
            "name": "route", "typed_config": any(
                "extensions.filters.udp.udp_proxy.v3.Route", json!({ "cluster": "c" })) } } },
            "hash_policies": [{ "key": "k" }] }),
        ),
    ]
}

fn listeners() -> Vec<Value> {
    let range = json!([{ "address_prefix": "10.0.0.0", "prefix_len": 8 }]);
    let matched = json!({ "destination_port": 80, "prefix_ranges": range,
        "server_names": ["a"], "transport_protocol": "tls", "application_protocols": ["h2"],
        "source_type": "EXTERNAL", "source_prefix_ranges": range, "source_ports": [1] });
    let tcp = |fields: Value| network("tcp_proxy.v3.TcpProxy", fields);
    let mut all = vec![
        listener(
            json!({ "name": "a", "filter_chain_match": matched, "filters": tcp(json!({
            "cluster": "c", "access_log": logs(), "max_connect_attempts": 3,
            "idle_timeout": "4s", "max_downstream_connection_duration": "9s",
            "tunneling_config": { "hostname": "h:1", "use_post": true, "post_path": "/p",
                "headers_to_add": option() },
            "hash_policy": [{ "source_ip": {} }] })),
            "transport_socket_connect_timeout": "4s" }),
        ),
        listener(
            json!({ "name": "b", "filters": tcp(json!({ "weighted_clusters": {
            "clusters": [{ "name": "a", "weight": 1 }, { "name": "b", "weight": 2 }] } })) }),
        ),
    ];
    let mut names = network(
        "sni_dynamic_forward_proxy.v3.FilterConfig",
        json!({ "dns_cache_config": { "name": "n" }, "port_value": 443 }),
    );
    let to = tcp(json!({ "cluster": "c" }));
    names.as_array_mut().expect("a list").push(to[0].clone());
    all.push(listener(json!({ "name": "n", "filters": names })));
    all.extend(datagrams());
    // The older way to ask for a PROXY header.
    let mut older = listener(
        json!({ "name": "u", "filters": tcp(json!({ "cluster": "c" })),
        "use_proxy_proto": true }),
    );
    older["listener_filters"] = json!([]);
    all.push(older);
    let plain = |socket: Value| {
        let filters = tcp(json!({ "cluster": "c" }));
        listener(json!({ "name": "s", "transport_socket": socket, "filters": filters }))
    };
    all.extend(raw().map(plain));
    all.extend(contexts().map(|common| {
        let fields = json!({ "common_tls_context": common, "require_client_certificate": true });
        plain(tls("Downstream", fields))
    }));
    let manager =
        |fields: Value| network("http_connection_manager.v3.HttpConnectionManager", fields);
    let mut table = routes().remove(0);
    table.as_object_mut().expect("fields").remove("@type");
    all.push(listener(json!({ "name": "h", "filters": manager(json!({
        "codec_type": "HTTP1", "stat_prefix": "p",
        "rds": { "route_config_name": "r", "config_source": { "ads": {} } },
        "http_filters": filters(), "server_name": "s", "access_log": logs(),
        "local_reply_config": {
            "mappers": reply_filters(),
            "body_format": { "text_format": "%PROTOCOL%" } },
        "use_remote_address": true, "generate_request_id": false,
        "http2_protocol_options": { "max_concurrent_streams": 4 },
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": { "subject": true, "cert": true, "chain": true,
            "dns": true, "uri": true },
        "upgrade_configs": [{ "upgrade_type": "websocket", "enabled": true }],
        "stream_idle_timeout": "4s", "max_request_headers_kb": 9, "normalize_path": true,
        "common_http_protocol_options": { "idle_timeout": "4s", "max_headers_count": 9,
            "max_connection_duration": "8s", "max_requests_per_connection": 7 },
        "request_headers_timeout": "6s" })) })));
    all.push(listener(json!({ "name": "i", "filters": manager(json!({
        "route_config": table, "http_filters": [{ "name": "envoy.filters.http.router" }] })) })));
    all
}

/// A mapper of local replies for each kind of filter.
fn reply_filters() -> Value {
    let compared = json!({ "comparison": { "value": { "default_value": 500 } } });
    let status = json!({ "status_code_filter": compared });
    let all = [
        json!({ "runtime_filter": { "percent_sampled": { "numerator": 5 } } }),
        status.clone(),
        json!({ "duration_filter": compared }),
        json!({ "and_filter": { "filters": [status] } }),
        json!({ "or_filter": { "filters": [status] } }),
        json!({ "header_filter": { "header": { "name": "h", "exact_match": "v" } } }),
        json!({ "response_flag_filter": { "flags": ["NR"] } }),
    ];
    let mapper = |filter| json!({ "filter": filter, "body_format_override": { "text_format": "%PROTOCOL%" } });
    all.into_iter().map(mapper).collect()
}

fn filters() -> Value {
    let filter = |kind: &str, fields: Value| {
        let config = any(&format!("extensions.filters.http.{kind}"), fields);
        json!({ "name": "f", "typed_config": config })
    };
    json!([
        filter("fault.v3.HTTPFault", fault()),
        filter("cors.v3.Cors", json!({})),
        filter("dynamic_forward_proxy.v3.FilterConfig",
            json!({ "dns_cache_config": { "name": "n" } })),
        filter("stateful_session.v3.StatefulSession", session("header", json!({ "name": "h" }))),
        { "name": "g", "is_optional": true },
        filter("router.v3.Router", json!({})),
    ])
}

fn session(by: &str, fields: Value) -> Value {
    let kind = match by {
        "cookie" => "CookieBasedSessionState",
        _ => "HeaderBasedSessionState",
    };
    let state = any(
        &format!("extensions.http.stateful_session.{by}.v3.{kind}"),
        fields,
    );
    json!({ "session_state": { "name": by, "typed_config": state }, "strict": true,
        "stat_prefix": "p", "status_on_strict_destination_not_found": 410 })
}

fn share() -> Value {
    json!({ "numerator": 5, "denominator": "TEN_THOUSAND" })
}

fn fault() -> Value {
    json!({
        "delay": { "fixed_delay": "3s", "percentage": share() },
        "abort": { "http_status": 503, "percentage": share() },
        "upstream_cluster": "c", "headers": [{ "name": "h", "exact_match": "v" }],
        "max_active_faults": 4,
    })
}

fn option() -> Value {
    json!([{ "header": { "key": "k", "value": "v" }, "append": true,
        "append_action": "APPEND_IF_EXISTS_OR_ADD" }])
}

fn sharing() -> Value {
    json!({ "allow_origin_string_match": [{ "exact": "o" }], "allow_methods": "m",
        "allow_headers": "h", "expose_headers": "e", "max_age": "1", "allow_credentials": true,
        "filter_enabled": { "default_value": share() }, "forward_not_matching_preflights": true })
}

fn with_headers(mut fields: Value) -> Value {
    for which in ["request", "response"] {
        fields[format!("{which}_headers_to_add")] = option();
        fields[format!("{which}_headers_to_remove")] = json!(["r"]);
    }
    fields
}

fn retry() -> Value {
    let previous = any(
        "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        json!({ "update_frequency": 3 }),
    );
    json!({ "retry_on": "5xx", "num_retries": 3, "per_try_timeout": "2s",
        "retry_priority": { "name": "x.previous_priorities", "typed_config": previous },
        "retry_host_predicate": [{ "name": "omit" }], "host_selection_retry_max_attempts": 4,
        "retriable_status_codes": [503],
        "retry_back_off": { "base_interval": "1s", "max_interval": "3s" },
        "retriable_headers": [{ "name": "h" }], "per_try_idle_timeout": "1s",
        "retriable_request_headers": [{ "name": "r" }] })
}

fn routes() -> Vec<Value> {
    let rewrite = json!({ "pattern": { "regex": "a" }, "substitution": "b" });
    let headers = json!([
        { "name": "h", "exact_match": "v" },
        { "name": "h", "safe_regex_match": { "regex": "v" } },
        { "name": "h", "string_match": { "safe_regex": { "regex": "a" } } },
    ]);
    let query = json!([{ "name": "q", "string_match": { "exact": "v" } }]);
    let runtime = json!({ "default_value": share(), "runtime_key": "k" });
    let weights = json!({ "clusters": [
        with_headers(json!({ "name": "a", "weight": 1, "host_rewrite_literal": "h" })),
        { "name": "b", "weight": 3 },
    ]});
    let cookie = json!({ "name": "c", "ttl": "3s", "path": "/",
        "attributes": [{ "name": "a", "value": "b" }] });
    let per_filter = |kind: &str, fields: Value| json!({ "f": any(&format!("extensions.filters.http.{kind}"), fields) });
    let mirrors = json!([{ "cluster": "m", "runtime_fraction": runtime }]);
    let forward = json!({ "cluster": "c", "prefix_rewrite": "/p", "host_rewrite_literal": "h",
        "timeout": "4s", "priority": "HIGH", "retry_policy": retry(), "cors": sharing(), "max_grpc_timeout": "5s",
        "idle_timeout": "6s", "request_mirror_policies": mirrors,
        "upgrade_configs": [{ "upgrade_type": "websocket", "enabled": true }],
        "hash_policy": [{ "header": { "header_name": "h" } }, { "cookie": cookie },
            { "query_parameter": { "name": "q" } }] });
    let list = json!([
        with_headers(json!({ "name": "one", "route": forward, "match": { "prefix": "/a",
            "case_sensitive": true, "headers": headers, "query_parameters": query,
            "runtime_fraction": runtime },
            "typed_per_filter_config": per_filter("fault.v3.HTTPFault", fault()) })),
        { "match": { "safe_regex": { "regex": "/x" } }, "route": {
            "weighted_clusters": weights, "regex_rewrite": rewrite,
            "host_rewrite_path_regex": rewrite,
            "max_stream_duration": { "grpc_timeout_header_max": "7s" } },
            "typed_per_filter_config": per_filter("cors.v3.CorsPolicy", sharing()) },
        { "match": { "path": "/s" }, "route": { "cluster": "c" },
            "typed_per_filter_config": per_filter("stateful_session.v3.StatefulSessionPerRoute",
                json!({ "stateful_session": session("cookie", json!({ "cookie": cookie })) })) },
        { "match": { "path": "/o" }, "route": { "cluster": "c" },
            "typed_per_filter_config": per_filter("stateful_session.v3.StatefulSessionPerRoute",
                json!({ "disabled": true })) },
        { "match": { "path": "/r" }, "redirect": { "host_redirect": "h", "port_redirect": 80,
            "response_code": "FOUND", "https_redirect": true, "regex_rewrite": rewrite } },
        { "match": { "path": "/d" }, "direct_response": { "status": 200,
            "body": inline("text") } },
    ]);
    let host = with_headers(json!({ "name": "h", "domains": ["*"], "routes": list,
        "require_tls": "NONE", "cors": sharing(), "retry_policy": retry(),
        "include_request_attempt_count": true,
        "typed_per_filter_config": per_filter("fault.v3.HTTPFault", fault()) }));
    let mut plain = host.clone();
    plain
        .as_object_mut()
        .expect("fields")
        .remove("typed_per_filter_config");
    plain["routes"] = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "c" } }]);
    [host, plain]
        .map(|host| {
            any(
                "config.route.v3.RouteConfiguration",
                with_headers(json!({ "name": "r", "virtual_hosts": [host] })),
            )
        })
        .to_vec()
}
