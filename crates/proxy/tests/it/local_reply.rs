//! Answers of the proxy's own that are changed; where Envoy is at hand, by both.

use serde_json::{Value, json};

use crate::common::{Client, Echo, cluster, free_port, hcm, listener};
use crate::oracle::{Who, both};

fn status(op: &str, code: u32) -> Value {
    json!({ "status_code_filter": { "comparison": { "op": op,
        "value": { "default_value": code, "runtime_key": "none" } } } })
}

fn header(name: &str) -> Value {
    json!({ "header_filter": { "header": { "name": name, "present_match": true } } })
}

fn flag(flags: &[&str]) -> Value {
    json!({ "response_flag_filter": { "flags": flags } })
}

fn lasted(op: &str, millis: u64) -> Value {
    json!({ "duration_filter": { "comparison": { "op": op,
        "value": { "default_value": millis, "runtime_key": "none" } } } })
}

/// Longer than any request of the test, in milliseconds.
const NEVER: u64 = 3_600_000;
/// How long a request is held up, in milliseconds.
const DELAY: u64 = 50;

fn share(numerator: u32) -> Value {
    json!({ "runtime_filter": { "runtime_key": "none",
        "percent_sampled": { "numerator": numerator } } })
}

fn text(of: &str) -> Value {
    json!({ "inline_string": of })
}

fn replies() -> Value {
    let added = |value: &str| {
        json!([{ "header": { "key": "x-mapped", "value": value },
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" }])
    };
    json!({
        "mappers": [
            // Never.
            { "filter": share(0), "status_code": 599 },
            { "filter": lasted("GE", NEVER), "status_code": 599 },
            // What a fault has held up.
            { "filter": { "and_filter": { "filters": [
                flag(&["DI", "DR", "UDO"]), lasted("GE", DELAY), lasted("LE", NEVER), share(100)] } },
              "status_code": 598, "headers_to_add": added("late") },
            { "filter": { "and_filter": { "filters": [flag(&["NR"]), header("x-json")] } },
              "body": text("no such page"),
              "body_format_override": { "json_format": {
                "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
                "text": "%LOCAL_REPLY_BODY%", "path": "%REQ(:PATH)%", "none": "%REQ(x-none)%" } } },
            { "filter": flag(&["NR"]), "status_code": 410, "body": text("gone for good"),
              "headers_to_add": added("%RESPONSE_FLAGS%") },
            { "filter": { "or_filter": { "filters": [flag(&["UF"]), flag(&["UH"])] } },
              "status_code": 502,
              "body_format_override": { "content_type": "text/html",
                "text_format": "<b>%RESPONSE_CODE%</b> %REQ(x-none)%" } },
            { "filter": { "and_filter": { "filters": [status("GE", 400), status("LE", 418)] } },
              "status_code": 499, "headers_to_add": added("teapot") },
            { "filter": status("EQ", 301), "headers_to_add": added("moved") },
        ],
        "body_format": { "text_format": "%LOCAL_REPLY_BODY%:%RESPONSE_CODE%" },
    })
}

fn listeners(port: u16) -> Value {
    let added = json!([{ "header": { "key": "x-mapped", "value": "route" } }]);
    let routes = json!([
        { "match": { "path": "/ok" }, "route": { "cluster": "up" } },
        { "match": { "path": "/dead" }, "route": { "cluster": "dead" } },
        { "match": { "path": "/empty" }, "route": { "cluster": "empty" } },
        { "match": { "path": "/teapot" }, "response_headers_to_add": added,
          "direct_response": { "status": 418, "body": text("short and stout") } },
        { "match": { "path": "/fine" },
          "direct_response": { "status": 200, "body": text("fine") } },
        { "match": { "path": "/silent" }, "direct_response": { "status": 204 } },
        { "match": { "path": "/moved" }, "redirect": { "path_redirect": "/ok" } },
        { "match": { "path": "/late" }, "route": { "cluster": "up" },
          "typed_per_filter_config": { "envoy.filters.http.fault": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": { "fixed_delay": format!("{}s", DELAY as f64 / 1000.0), "percentage": { "numerator": 100 } },
            "abort": { "http_status": 503, "percentage": { "numerator": 100 } } } } },
    ]);
    let mut manager = hcm(json!([{ "name": "all", "domains": ["*"], "routes": routes }]));
    manager["local_reply_config"] = replies();
    json!([listener("main", port, "OUTBOUND", manager)])
}

async fn check(who: Who, port: u16) {
    let mut client = Client::connect(port, false).await;
    let mut seen = async |path: &str, headers: &[(&str, &str)]| {
        let seen = client.get_with("x", path, headers).await;
        let of = |name: &str| seen.header(name).to_owned();
        (
            seen.status,
            seen.text.clone(),
            of("content-type"),
            of("x-mapped"),
        )
    };
    let want = |status: u16, text: &str, kind: &str, mapped: &str| {
        (status, text.to_owned(), kind.to_owned(), mapped.to_owned())
    };
    for (path, headers, expect) in [
        (
            "/none",
            &[][..],
            want(410, "gone for good:410", "text/plain", "NR"),
        ),
        (
            "/none?a=1",
            &[("x-json", "1")],
            want(
                404,
                "{\"code\":404,\"flags\":\"NR\",\"none\":null,\"path\":\"/none?a=1\",\
                 \"text\":\"no such page\"}\n",
                "application/json",
                "",
            ),
        ),
        ("/dead", &[], want(502, "<b>502</b> -", "text/html", "")),
        ("/empty", &[], want(502, "<b>502</b> -", "text/html", "")),
        (
            "/teapot",
            &[],
            want(499, "short and stout:499", "text/plain", "teapot"),
        ),
        ("/fine", &[], want(200, "fine:200", "text/plain", "")),
        ("/moved", &[], want(301, ":301", "text/plain", "moved")),
        (
            "/late",
            &[],
            want(598, "fault filter abort:598", "text/plain", "late"),
        ),
    ] {
        assert_eq!(
            seen(path, headers).await,
            expect,
            "{who:?} {path} {headers:?}"
        );
    }
    // What a server answers is the server's.
    let answer = seen("/ok", &[]).await;
    assert_eq!((answer.0, answer.3.as_str()), (200, ""), "{who:?}");
    // A status that has no body has none. Envoy writes one behind it, so that the connection is spoilt.
    let mut client = Client::connect(port, false).await;
    let silent = client.get("x", "/silent").await;
    let found = (silent.status, silent.header("content-type"));
    assert_eq!(found, (204, "text/plain"), "{who:?}");
    // A client of gRPC is told in its own terms.
    let grpc = [("content-type", "application/grpc")];
    let mut client = Client::connect(port, false).await;
    let seen = client.get_with("x", "/none", &grpc).await;
    let of = |name: &str| seen.header(name);
    assert_eq!(
        (
            seen.status,
            of("grpc-status"),
            of("grpc-message"),
            of("x-mapped")
        ),
        (200, "2", "gone for good:410", "NR"),
        "{who:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_mapped() {
    let (up, _up) = Echo::start("up").await;
    let dead = ([127, 0, 0, 1], free_port()).into();
    let clusters = json!([
        cluster("up", &[up]),
        cluster("dead", &[dead]),
        cluster("empty", &[])
    ]);
    both(listeners, clusters, check).await;
}

/// Answers of routes that say themselves what they are.
fn typed(port: u16, replies: &Value) -> Value {
    let named = |value: &str, action: &str| json!([{ "header": { "key": "content-type", "value": value }, "append_action": action }]);
    let overwrite = "OVERWRITE_IF_EXISTS_OR_ADD";
    let answer = |path: &str, status: u16, body: Value| json!({ "match": { "path": path }, "direct_response": { "status": status, "body": body } });
    let with = |mut route: Value, headers: Value| {
        route["response_headers_to_add"] = headers;
        route
    };
    let json = || text("{\"a\":1}");
    let routes = json!([
        with(
            answer("/json", 200, json()),
            named("application/json", overwrite)
        ),
        with(
            answer("/absent", 200, json()),
            named("application/json", "ADD_IF_ABSENT")
        ),
        with(
            answer("/append", 200, json()),
            named("application/json", "APPEND_IF_EXISTS_OR_ADD")
        ),
        // One byte, which is no text.
        with(
            answer("/bytes", 200, json!({ "inline_bytes": "/w==" })),
            named("image/x", overwrite)
        ),
        with(
            answer("/nothing", 200, text("")),
            named("application/json", overwrite)
        ),
        with(
            answer("/replaced", 430, json()),
            named("application/json", overwrite)
        ),
        with(
            answer("/retyped", 431, json()),
            named("application/json", overwrite)
        ),
        with(
            answer("/emptied", 432, json()),
            named("application/json", overwrite)
        ),
        with(
            answer("/stamped", 433, json()),
            named("application/json", overwrite)
        ),
    ]);
    let mut manager = hcm(json!([{ "name": "all", "domains": ["*"], "routes": routes }]));
    manager["local_reply_config"] = replies.clone();
    json!([listener("main", port, "OUTBOUND", manager)])
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_their_type_and_bytes() {
    let mapper = |code: u32, more: Value| {
        let mut mapper = json!({ "filter": status("EQ", code) });
        crate::common::merge(&mut mapper, &more);
        mapper
    };
    let retyped = json!([{ "header": { "key": "content-type", "value": "text/html" },
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" }]);
    let mappers = json!([
        mapper(430, json!({ "body": text("gone") })),
        mapper(
            431,
            json!({ "body": text("gone"), "headers_to_add": retyped })
        ),
        mapper(432, json!({ "body": text("") })),
        mapper(433, json!({ "status_code": 434 })),
    ]);
    let json = "application/json";
    let kept = [
        ("/json", 200, "{\"a\":1}", json),
        ("/absent", 200, "{\"a\":1}", json),
        ("/append", 200, "{\"a\":1}", json),
        ("/bytes", 200, "\u{fffd}", "image/x"),
        ("/nothing", 200, "", ""),
    ];
    let mapped = [
        ("/replaced", 430, "gone", "text/plain"),
        ("/retyped", 431, "gone", "text/html"),
        ("/emptied", 432, "", ""),
        ("/stamped", 434, "{\"a\":1}", json),
    ];
    for replies in [Value::Null, json!({}), json!({ "mappers": mappers })] {
        let expect = match replies.get("mappers") {
            Some(_) => [&kept[..], &mapped].concat(),
            None => kept.to_vec(),
        };
        let listeners = |port| typed(port, &replies);
        both(listeners, json!([]), async |who, port| {
            let mut client = Client::connect(port, false).await;
            for (path, status, text, kind) in &expect {
                let seen = client.get("x", path).await;
                let found = (seen.status, seen.text.as_str(), seen.header("content-type"));
                assert_eq!(found, (*status, *text, *kind), "{who:?} {path} {replies}");
                let length = match *path {
                    "/bytes" => "1".to_owned(),
                    _ => text.len().to_string(),
                };
                assert_eq!(seen.header("content-length"), length, "{who:?} {path}");
                let kinds = seen
                    .headers
                    .iter()
                    .filter(|(name, _)| *name == "content-type");
                assert_eq!(
                    kinds.count(),
                    usize::from(!kind.is_empty()),
                    "{who:?} {path}"
                );
            }
        })
        .await;
    }
}
