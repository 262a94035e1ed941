use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;
use crate::Schema;

/// What is written is what was read, and the schema knows every field of it.
#[track_caller]
fn round_trip<T: DeserializeOwned + Serialize + Schema>(document: &Value) {
    let read: T = serde_json::from_value(document.clone()).expect("readable");
    let written = serde_json::to_value(&read).expect("writable");
    assert_eq!(&written, document);
    known(document, &T::schema(), "");
}

#[track_caller]
fn known(value: &Value, schema: &Value, at: &str) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let part = schema["properties"]
                    .get(key)
                    .or_else(|| schema.get("additionalProperties"));
                let part = part.unwrap_or_else(|| panic!("{at}.{key} is not in the schema"));
                known(value, part, &format!("{at}.{key}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                known(item, &schema["items"], at);
            }
        }
        _ => {}
    }
}

fn parents() -> Value {
    json!([
        {"name": "edge", "namespace": "infra", "sectionName": "https", "port": 443},
        {"group": "", "kind": "Service", "name": "reviews"},
    ])
}

#[test]
fn http_routes() {
    round_trip::<HttpRoute>(&json!({
        "parentRefs": parents(),
        "hostnames": ["a.example.com"],
        "rules": [{
            "name": "first",
            "matches": [{
                "path": {"type": "Exact", "value": "/a"},
                "headers": [{"name": "x", "value": "y"}],
                "queryParams": [{"type": "RegularExpression", "name": "q", "value": "[a-z]"}],
                "method": "GET",
            }],
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}], "remove": ["e"]}},
                {"type": "RequestMirror", "requestMirror": {
                    "backendRef": {"name": "copy", "port": 80}, "fraction": {"numerator": 1, "denominator": 3}}},
                {"type": "URLRewrite", "urlRewrite": {
                    "hostname": "b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
                {"type": "CORS", "cors": {"allowOrigins": ["*"], "allowMethods": ["GET"], "maxAge": 5}},
            ],
            "backendRefs": [{"name": "a", "namespace": "b", "port": 80, "weight": 0, "filters": [
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["a"]}}]}],
            "timeouts": {"request": "10s", "backendRequest": "2s"},
            "retry": {"codes": [503], "attempts": 2, "backoff": "100ms"},
            "sessionPersistence": {"sessionName": "s", "type": "Cookie",
                "absoluteTimeout": "1h", "cookieConfig": {"lifetimeType": "Permanent"}},
        }, {
            "filters": [{"type": "RequestRedirect", "requestRedirect": {
                "scheme": "https", "hostname": "c", "port": 443, "statusCode": 301}}],
        }],
    }));
}

#[test]
fn other_routes() {
    round_trip::<GrpcRoute>(&json!({
        "parentRefs": parents(),
        "rules": [{
            "matches": [{"method": {"service": "a.B", "method": "C"}, "headers": [{"name": "x", "value": "y"}]}],
            "backendRefs": [{"name": "a", "port": 80}],
        }],
    }));
    let rules = json!([{"backendRefs": [{"name": "a", "port": 80, "weight": 1}]}]);
    round_trip::<TlsRoute>(
        &json!({"parentRefs": parents(), "hostnames": ["a.example.com"], "rules": rules}),
    );
    round_trip::<TcpRoute>(&json!({"parentRefs": parents(), "rules": rules}));
    round_trip::<UdpRoute>(&json!({"parentRefs": parents(), "rules": rules}));
}

#[test]
fn gateways() {
    let listeners = json!([{
        "name": "https", "hostname": "*.example.com", "port": 443, "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": "cert"}], "options": {"a": "b"}},
        "allowedRoutes": {"kinds": [{"kind": "HTTPRoute"}], "namespaces": {"from": "Selector", "selector": {
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]}}},
    }]);
    round_trip::<GatewayClass>(&json!({"controllerName": "istio.io/gateway-controller"}));
    round_trip::<Gateway>(&json!({
        "gatewayClassName": "istio",
        "listeners": listeners,
        "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        "infrastructure": {"labels": {"a": "b"}},
        "allowedListeners": {"namespaces": {"from": "All"}},
        "tls": {"backend": {"clientCertificateRef": {"name": "own"}}, "frontend": {"default": {"validation": {
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "roots"}],
            "mode": "AllowInsecureFallback"}}}},
    }));
    round_trip::<ListenerSet>(&json!({"parentRef": {"name": "edge"}, "listeners": listeners}));
    round_trip::<GatewayStatus>(&json!({
        "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "listeners": [{"name": "https", "attachedRoutes": 2, "supportedKinds": [{"kind": "HTTPRoute"}]}],
    }));
}

#[test]
fn policies() {
    round_trip::<ReferenceGrant>(&json!({
        "from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "a"}],
        "to": [{"group": "", "kind": "Service", "name": "b"}],
    }));
    round_trip::<BackendTlsPolicy>(&json!({
        "targetRefs": [{"group": "", "kind": "Service", "name": "a", "sectionName": "https"}],
        "validation": {"wellKnownCACertificates": "System", "hostname": "a.example.com",
            "subjectAltNames": [{"type": "URI", "uri": "spiffe://a/b"}]},
    }));
    round_trip::<PolicyStatus>(&json!({"ancestors": [
        {"ancestorRef": {"name": "edge"}, "controllerName": "istio.io/gateway-controller"}]}));
}
