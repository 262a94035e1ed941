//! Each field of an HTTP rule.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{View, routes, table, vantage};
use crate::Snapshot;
use crate::fixture::{DOMAIN, assert_has, config, sidecar, world};

const HOST: &str = "reviews.default.svc.cluster.local:9080";
const V1: &str = "outbound|9080|v1|reviews.default.svc.cluster.local";

/// A VirtualService for `reviews` with these rules.
fn rules(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\n\
         spec:\n  hosts: [reviews]\n  http: {http}\n"
    )
}

#[track_caller]
fn check(http: &str, want: Value) {
    let found = routes(&rules(http), &sidecar("productpage"), "9080", HOST);
    assert_has(&found, &want);
}

/// A rule with this match that goes to v1.
fn matching(of: &str) -> String {
    format!("[{{match: [{of}], route: [{{destination: {{host: reviews, subset: v1}}}}]}}]")
}

/// A rule that goes to v1, with more fields.
fn to_v1(more: &str) -> String {
    format!("[{{route: [{{destination: {{host: reviews, subset: v1}}}}], {more}}}]")
}

#[test]
fn conditions() {
    for (of, want) in [
        ("{uri: {exact: /a}}", json!({"path": "/a"})),
        ("{uri: {prefix: /a}}", json!({"prefix": "/a"})),
        (
            "{uri: {regex: \"/a/[0-9]+\"}}",
            json!({"safe_regex": {"regex": "/a/[0-9]+"}}),
        ),
        (
            "{uri: {exact: /a}, ignoreUriCase: true}",
            json!({"path": "/a", "case_sensitive": false}),
        ),
        (
            "{method: {exact: GET}}",
            json!({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}),
        ),
        (
            "{scheme: {exact: https}, authority: {prefix: a.}}",
            json!({"headers": [
                {"name": ":scheme", "string_match": {"exact": "https"}},
                {"name": ":authority", "string_match": {"prefix": "a."}},
            ]}),
        ),
        (
            "{headers: {cookie: {regex: \".*x.*\"}}}",
            json!({"headers": [{"name": "cookie", "string_match": {"safe_regex": {"regex": ".*x.*"}}}]}),
        ),
        (
            "{headers: {a: {}}}",
            json!({"headers": [{"name": "a", "present_match": true}]}),
        ),
        (
            "{withoutHeaders: {a: {exact: b}}}",
            json!({"headers": [{"name": "a", "string_match": {"exact": "b"}, "invert_match": true}]}),
        ),
        (
            "{withoutHeaders: {a: {}}}",
            json!({"headers": [{"name": "a", "present_match": true, "invert_match": true}]}),
        ),
        (
            "{queryParams: {q: {exact: \"1\"}}}",
            json!({"query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]}),
        ),
    ] {
        check(
            &matching(of),
            json!([{"match": want, "route": {"cluster": V1}}]),
        );
    }
}

#[test]
fn what_this_proxy_cannot_meet_is_left_out() {
    for (of, n_routes) in [
        ("{sourceLabels: {app: productpage}}", 1),
        ("{sourceLabels: {app: details}}", 0),
        ("{sourceNamespace: default}", 1),
        ("{sourceNamespace: other}", 0),
        ("{port: 9080}", 1),
        ("{port: 80}", 0),
        ("{gateways: [mesh]}", 1),
        ("{gateways: [some/gateway]}", 0),
    ] {
        let yaml = rules(&matching(of));
        let found = table(&yaml, &sidecar("productpage"), "9080");
        let hosts = found["virtual_hosts"].as_array().expect("hosts");
        let host = hosts.iter().find(|h| h["name"] == HOST).expect("the host");
        let routes = host["routes"].as_array().map_or(0, Vec::len);
        assert_eq!(routes, n_routes, "{of}");
    }
}

#[test]
fn nothing_follows_a_rule_for_everything() {
    let two = "[{match: [{uri: {prefix: /}}], route: [{destination: {host: reviews, subset: v1}}]}, \
               {route: [{destination: {host: reviews, subset: v2}}]}]";
    check(two, json!([{"route": {"cluster": V1}}]));
}

#[test]
fn destinations() {
    for (destination, want) in [
        (
            "{host: ratings}",
            "outbound|9080||ratings.default.svc.cluster.local",
        ),
        ("{host: db}", "outbound|3306||db.default.svc.cluster.local"),
        (
            "{host: pair}",
            "outbound|9080||pair.default.svc.cluster.local",
        ),
        (
            "{host: pair, port: {number: 9090}}",
            "outbound|9090||pair.default.svc.cluster.local",
        ),
        ("{host: a.example.com}", "outbound|9080||a.example.com"),
    ] {
        let rule = format!("[{{route: [{{destination: {destination}}}]}}]");
        check(&rule, json!([{"route": {"cluster": want}}]));
    }
}

#[test]
fn weights_and_changes_per_destination() {
    let rule = "[{route: [\
        {destination: {host: reviews, subset: v1}, weight: 3, headers: {\
            request: {set: {host: other, x: one}, remove: [z]}}},\
        {destination: {host: reviews, subset: v2}, weight: 1},\
        {destination: {host: reviews, subset: v3}, weight: 0}]}]";
    check(
        rule,
        json!([{"route": {"weighted_clusters": {"clusters": [
            {
                "name": V1, "weight": 3, "host_rewrite_literal": "other",
                "request_headers_to_add": [{"header": {"key": "x", "value": "one"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
                "request_headers_to_remove": ["z"]
            },
            {"weight": 1},
        ]}}}]),
    );
}

#[test]
fn answers_without_an_upstream() {
    for (rule, want) in [
        (
            "[{redirect: {uri: /new, authority: a.example.com, redirectCode: 302, scheme: https}}]",
            json!({"redirect": {"path_redirect": "/new", "host_redirect": "a.example.com",
                "response_code": "FOUND", "scheme_redirect": "https"}}),
        ),
        (
            "[{redirect: {derivePort: FROM_REQUEST_PORT}}]",
            json!({"redirect": {"port_redirect": 9080}}),
        ),
        (
            "[{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b, port: 81}}]",
            json!({"redirect": {"prefix_rewrite": "/b", "port_redirect": 81}}),
        ),
        (
            "[{directResponse: {status: 503, body: {string: away}}}]",
            json!({"direct_response": {"status": 503, "body": {"inline_string": "away"}}}),
        ),
    ] {
        check(rule, json!([want]));
    }
}

#[test]
fn rewrites() {
    let with = |of: &str, rewrite: &str| {
        format!(
            "[{{match: [{{uri: {of}}}], rewrite: {rewrite}, \
             route: [{{destination: {{host: reviews, subset: v1}}}}]}}]"
        )
    };
    for (rule, want) in [
        (
            with("{prefix: /a}", "{uri: /b, authority: c}"),
            json!({"prefix_rewrite": "/b", "host_rewrite_literal": "c"}),
        ),
        (
            with("{exact: /a}", "{uri: /b}"),
            json!({"prefix_rewrite": "/b"}),
        ),
        (
            with(
                "{prefix: /a}",
                "{uriRegexRewrite: {match: \"^/a/(.*)\", rewrite: '/\\1'}}",
            ),
            json!({"regex_rewrite": {"pattern": {"regex": "^/a/(.*)"}, "substitution": "/\\1"}}),
        ),
        (
            to_v1("headers: {request: {set: {\":authority\": d}}}"),
            json!({"host_rewrite_literal": "d"}),
        ),
    ] {
        check(&rule, json!([{"route": want}]));
    }
}

#[test]
fn time_limits_and_retries() {
    let standard = json!({
        "num_retries": 2,
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "host_selection_retry_max_attempts": "5",
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}]
    });
    for (more, want) in [
        (
            "name: a",
            json!({"timeout": "0s", "retry_policy": standard}),
        ),
        // With a limit of streams, Envoy would not look at the timeout.
        (
            "timeout: 0.5s",
            json!({"timeout": "0.500s", "max_grpc_timeout": "0.500s", "max_stream_duration": null}),
        ),
        ("retries: {attempts: 0}", json!({"retry_policy": null})),
        (
            "retries: {attempts: 3, perTryTimeout: 2s, retryOn: \"5xx,429\", backoff: 1s}",
            json!({"retry_policy": {
                "num_retries": 3,
                "per_try_timeout": "2s",
                "retry_on": "5xx,retriable-status-codes",
                "retriable_status_codes": [429],
                "retry_back_off": {"base_interval": "1s"}
            }}),
        ),
    ] {
        check(&to_v1(more), json!([{"route": want}]));
    }
}

#[test]
fn header_changes() {
    check(
        &to_v1(
            "headers: {request: {add: {a: b}, remove: [c, host]}, \
             response: {set: {d: e}, remove: [f]}}",
        ),
        json!([{
            "request_headers_to_add": [{"header": {"key": "a", "value": "b"}}],
            "request_headers_to_remove": ["c"],
            "response_headers_to_add": [{"header": {"key": "d", "value": "e"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
            "response_headers_to_remove": ["f"]
        }]),
    );
}

#[test]
fn copies() {
    let share = |numerator: u32| json!({"default_value": {"numerator": numerator, "denominator": "MILLION"}});
    let v2 = "outbound|9080|v2|reviews.default.svc.cluster.local";
    for (more, want) in [
        (
            "mirror: {host: reviews, subset: v2}",
            json!([{"cluster": v2, "runtime_fraction": share(1_000_000)}]),
        ),
        (
            "mirror: {host: reviews, subset: v2}, mirrorPercentage: {value: 0.5}",
            json!([{"cluster": v2, "runtime_fraction": share(5_000)}]),
        ),
        (
            "mirrors: [{destination: {host: reviews, subset: v2}, percentage: {value: 20}}]",
            json!([{"cluster": v2, "runtime_fraction": share(200_000)}]),
        ),
        (
            "mirror: {host: reviews, subset: v2}, mirrorPercentage: {value: 0}",
            Value::Null,
        ),
    ] {
        check(
            &to_v1(more),
            json!([{"route": {"request_mirror_policies": want}}]),
        );
    }
}

#[test]
fn sessions_that_stay_with_a_host() {
    let session = |by: &str| {
        let annotations = format!("[null, {{\"name\": \"s\", \"by\": {by}}}]");
        let meta = "metadata: {name: reviews}";
        let noted = format!(
            "metadata: {{name: reviews, annotations: {{internal.istio.io/sessions: '{annotations}'}}}}"
        );
        let yaml = rules(
            "[{match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews}}]}, \
             {route: [{destination: {host: reviews}}]}]",
        );
        let yaml = yaml.replace(meta, &noted);
        routes(&yaml, &sidecar("productpage"), "9080", HOST)
    };
    let of = |kind: &str, state: Value| {
        let base = "type.googleapis.com/envoy.extensions";
        let mut config = state;
        config["@type"] = format!("{base}.http.stateful_session.{kind}").into();
        json!([{}, {"typed_per_filter_config": {"envoy.filters.http.stateful_session": {
            "@type": format!("{base}.filters.http.stateful_session.v3.StatefulSessionPerRoute"),
            "stateful_session": {"session_state": {"typed_config": config}}
        }}}])
    };
    let cookie = of(
        "cookie.v3.CookieBasedSessionState",
        json!({"cookie": {"name": "s", "ttl": "90s", "path": "/"}}),
    );
    let found = session("{\"Cookie\": 90}");
    assert_has(&found, &cookie);
    assert!(
        found[0].get("typed_per_filter_config").is_none(),
        "{found:#}"
    );
    let header = of("header.v3.HeaderBasedSessionState", json!({"name": "s"}));
    assert_has(&session("\"Header\""), &header);
}

#[test]
fn faults_and_cross_origin_rules() {
    check(
        &to_v1("fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.1}}}"),
        json!([{"typed_per_filter_config": {"envoy.filters.http.fault": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": {"grpc_status": 14, "percentage": {"numerator": 1000, "denominator": "MILLION"}}
        }}}]),
    );
    check(
        &to_v1(
            "corsPolicy: {allowOrigins: [{exact: \"https://a\"}], allowMethods: [GET, PUT], \
             maxAge: 24h, allowCredentials: true}",
        ),
        json!([{"typed_per_filter_config": {"envoy.filters.http.cors": {
            "allow_origin_string_match": [{"exact": "https://a"}],
            "allow_methods": "GET,PUT",
            "max_age": "86400",
            "allow_credentials": true
        }}}]),
    );
}

/// A retry must be able to go to the host that the hash names.
#[test]
fn hashing_keeps_retries_at_their_host() {
    let hashed = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
        metadata: {name: reviews}\nspec:\n  host: reviews\n  trafficPolicy: {loadBalancer: \
        {consistentHash: {httpHeaderName: x-user}}}\n  subsets: [{name: v1, labels: {version: v1}}]\n";
    let want = json!([{"route": {
        "hash_policy": [{"header": {"header_name": "x-user"}}],
        "retry_policy": {"num_retries": 2, "retry_host_predicate": null}
    }}]);
    for rule in [String::new(), rules(&to_v1("name: a"))] {
        let yaml = format!("{hashed}---\n{rule}");
        assert_has(&routes(&yaml, &sidecar("productpage"), "9080", HOST), &want);
    }
}

#[test]
fn a_fault_without_a_share_is_for_nobody() {
    let none = json!({"numerator": null, "denominator": "MILLION"});
    for (fault, want) in [
        (
            "{abort: {httpStatus: 500}}",
            json!({"abort": {"percentage": none}}),
        ),
        (
            "{delay: {fixedDelay: 1s}}",
            json!({"delay": {"percentage": none}}),
        ),
        (
            "{delay: {fixedDelay: 1s, percent: 30}}",
            json!({"delay": {"percentage": {"numerator": 300_000}}}),
        ),
    ] {
        let want = json!({"envoy.filters.http.fault": want});
        check(
            &to_v1(&format!("fault: {fault}")),
            json!([{"typed_per_filter_config": want}]),
        );
    }
}

#[test]
fn the_authority_may_also_be_added() {
    for (changes, want) in [
        ("{add: {host: a.com}}", "a.com"),
        (
            "{add: {Host: a.com}, set: {\":authority\": b.com}}",
            "b.com",
        ),
    ] {
        check(
            &to_v1(&format!("headers: {{request: {changes}}}")),
            json!([{"route": {"host_rewrite_literal": want}}]),
        );
    }
}

#[test]
fn a_rule_that_leads_nowhere_does_not_spoil_the_table() {
    let two = "[{match: [{uri: {prefix: /a}}], delegate: {name: a}}, \
               {route: [{destination: {host: reviews, subset: v1}}]}]";
    check(two, json!([{"route": {"cluster": V1}}]));
}

#[test]
fn a_delegate_has_the_routes_of_its_root() {
    let root = rules("[{match: [{uri: {prefix: /a}}], delegate: {name: more}, timeout: 1s}]");
    let delegate = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {name: more}\nspec:\n  http: [{match: [{uri: {prefix: /a/b}}], \
         route: [{destination: {host: reviews, subset: v1}}]}]\n";
    let both = |more: &str| format!("{root}---\n{delegate}{more}");
    let found = routes(&both(""), &sidecar("productpage"), "9080", HOST);
    let want = json!([{"match": {"prefix": "/a/b"}, "route": {"cluster": V1, "timeout": "1s"}}]);
    assert_has(&found, &want);
    // A delegate that the root may not see is none.
    let hidden = both("  exportTo: [elsewhere]\n");
    let found = routes(&hidden, &sidecar("productpage"), "9080", HOST);
    assert_ne!(found[0]["route"]["cluster"], V1, "{found:#}");
}

#[test]
fn the_mesh_may_have_retries_of_its_own() {
    let mut config = config(&rules(
        "[{match: [{uri: {prefix: /a}}], \
         route: [{destination: {host: reviews, subset: v1}}]}, \
         {retries: {attempts: 4}, route: [{destination: {host: reviews, subset: v1}}]}]",
    ));
    let mesh = json!({"defaultHttpRetryPolicy": {"attempts": 7, "retryOn": "503"}});
    config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh configuration"));
    let snapshot = Snapshot::new(1, Arc::new(world()), Arc::new(config), DOMAIN);
    let vantage = vantage(&snapshot, &sidecar("productpage"));
    let view = View::new(&snapshot, &vantage);
    let table = view.routes("9080").expect("a table");
    let table = lateen_xds::json::to_value(&table.generate()).expect("the message's JSON");
    let hosts = table["virtual_hosts"].as_array().expect("hosts");
    let retries = |host: &str, route: usize| {
        let found = hosts
            .iter()
            .find(|found| found["name"] == host)
            .expect(host);
        found["routes"][route]["route"]["retry_policy"]["num_retries"].clone()
    };
    assert_eq!(retries(HOST, 0), 7);
    assert_eq!(retries(HOST, 1), 4);
    assert_eq!(retries("details.default.svc.cluster.local:9080", 0), 7);
}
