//! Sessions that stay with a host; where Envoy is at hand, through both.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::{Client, Echo, Seen, cluster, free_port, hcm, listener};
use crate::oracle::both;

const TYPE: &str = "type.googleapis.com/envoy.extensions";
/// So many requests in a row would hardly meet one of several hosts by chance.
const MANY: usize = 12;

fn state(by: &str, fields: Value) -> Value {
    let kind = match by {
        "cookie" => "CookieBasedSessionState",
        _ => "HeaderBasedSessionState",
    };
    let mut config = fields;
    config["@type"] = format!("{TYPE}.http.stateful_session.{by}.v3.{kind}").into();
    // Envoy finds it by this name.
    let name = format!("envoy.http.stateful_session.{by}");
    json!({ "name": name, "typed_config": config })
}

fn per_route(session: Value) -> Value {
    json!({ "envoy.filters.http.stateful_session": {
        "@type": format!("{TYPE}.filters.http.stateful_session.v3.StatefulSessionPerRoute"),
        "stateful_session": session } })
}

fn cookie(name: &str, ttl: &str, path: &str) -> Value {
    state(
        "cookie",
        json!({ "cookie": { "name": name, "ttl": ttl, "path": path } }),
    )
}

/// A listener with a route for each prefix, in this order, each with its sessions.
fn listeners(port: u16, routes: &[(&str, Value)]) -> Value {
    let route = |(prefix, session): &(&str, Value)| {
        json!({ "match": { "prefix": prefix }, "route": { "cluster": "up" },
            "typed_per_filter_config": per_route(session.clone()) })
    };
    let routes: Vec<Value> = routes.iter().map(route).collect();
    let mut manager = hcm(json!([{ "name": "all", "domains": ["*"], "routes": routes }]));
    let filter = json!({ "name": "envoy.filters.http.stateful_session", "typed_config": {
        "@type": format!("{TYPE}.filters.http.stateful_session.v3.StatefulSession") } });
    let filters = manager["http_filters"].as_array_mut().expect("filters");
    filters.insert(2, filter);
    json!([listener("main", port, "OUTBOUND", manager)])
}

/// The name and the value of a cookie that is set.
fn cookie_of(seen: &Seen) -> (String, String) {
    let set = seen.header("set-cookie");
    let pair = set.split(';').next().unwrap_or_default();
    let (name, value) = pair.split_once('=').unwrap_or_default();
    (name.to_owned(), value.trim_matches('"').to_owned())
}

/// The hosts that answer a client which brings this along.
async fn answering(client: &mut Client, path: &str, brings: (&str, &str)) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..MANY {
        let seen = client.get_with("up", path, &[brings]).await;
        assert_eq!(seen.status, 200, "{}", seen.text);
        // Whoever stays is told nothing new.
        assert_eq!(seen.header("set-cookie"), "");
        names.push(seen.header("x-backend").to_owned());
    }
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_keeps_a_client_with_its_host() {
    let mut hosts = Vec::new();
    for name in ["a", "b", "c", "d"] {
        hosts.push(Echo::start(name).await.0);
    }
    let routes = [
        (
            "/own",
            json!({ "session_state": cookie("s", "0s", "/own") }),
        ),
        ("/", json!({ "session_state": cookie("s", "60s", "/") })),
    ];
    both(
        |port| listeners(port, &routes),
        json!([cluster("up", &hosts)]),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            for path in ["/", "/own"] {
                let first = client.get("up", path).await;
                let set = first.header("set-cookie").to_owned();
                let (name, value) = cookie_of(&first);
                assert_eq!(name, "s", "{who:?}: {set}");
                assert_eq!(set.contains("; Max-Age=60"), path == "/", "{who:?}: {set}");
                assert!(set.contains(&format!("; Path={path}")), "{who:?}: {set}");
                assert!(set.ends_with("; HttpOnly"), "{who:?}: {set}");
                let brings = format!("x=y; s={value}");
                let names = answering(&mut client, path, ("cookie", &brings)).await;
                assert_eq!(names, [first.header("x-backend")], "{who:?}");
            }
            // A cookie is for its path alone.
            let other = client.get("up", "/owner").await;
            assert_eq!(other.header("set-cookie"), "", "{who:?}");
            // What is no address is none.
            let junk = client.get_with("up", "/", &[("cookie", "s=AAAA")]).await;
            assert_eq!(
                (junk.status, cookie_of(&junk).0.as_str()),
                (200, "s"),
                "{who:?}"
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_keeps_a_client_with_its_host() {
    let mut hosts = Vec::new();
    for name in ["a", "b", "c", "d"] {
        hosts.push(Echo::start(name).await.0);
    }
    let routes = [
        ("/off", json!({})),
        (
            "/",
            json!({ "session_state": state("header", json!({ "name": "X-Session" })) }),
        ),
    ];
    both(
        |port| listeners(port, &routes),
        json!([cluster("up", &hosts)]),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            let first = client.get("up", "/").await;
            let value = first.header("x-session").to_owned();
            assert!(!value.is_empty(), "{who:?}");
            let names = answering(&mut client, "/", ("x-session", &value)).await;
            assert_eq!(names, [first.header("x-backend")], "{who:?}");
            let off = client.get("up", "/off").await;
            assert_eq!(off.header("x-session"), "", "{who:?}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_is_replaced_unless_the_session_is_strict() {
    let (a, _) = Echo::start("a").await;
    let gone: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let strict = |more: Value| {
        let mut session = json!({ "session_state": state("header", json!({ "name": "x-session" })),
            "strict": true });
        if let Some(more) = more.as_object() {
            session
                .as_object_mut()
                .expect("fields")
                .extend(more.clone());
        }
        session
    };
    let routes = [
        ("/strict", strict(json!({}))),
        (
            "/told",
            strict(json!({ "status_on_strict_destination_not_found": 410 })),
        ),
        (
            "/",
            json!({ "session_state": state("header", json!({ "name": "x-session" })) }),
        ),
    ];
    use base64::Engine;
    let encode =
        |address: SocketAddr| base64::engine::general_purpose::STANDARD.encode(address.to_string());
    let (here, gone) = (encode(a), encode(gone));
    both(
        |port| listeners(port, &routes),
        json!([cluster("up", &[a])]),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            for (path, value, status, told) in [
                ("/", &gone, 200, here.as_str()),
                ("/", &here, 200, ""),
                ("/strict", &gone, 503, ""),
                ("/told", &gone, 410, ""),
                ("/strict", &here, 200, ""),
            ] {
                let seen = client.get_with("up", path, &[("x-session", value)]).await;
                let found = (seen.status, seen.header("x-session"));
                assert_eq!(found, (status, told), "{who:?} {path}");
            }
            // Who brings nothing begins a session, also a strict one.
            let seen = client.get("up", "/strict").await;
            assert_eq!(
                (seen.status, seen.header("x-session")),
                (200, &*here),
                "{who:?}"
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_told_as_well() {
    let dead: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let by_header = json!({ "session_state": state("header", json!({ "name": "x-session" })) });
    use base64::Engine;
    let value = base64::engine::general_purpose::STANDARD.encode(dead.to_string());
    both(
        |port| listeners(port, &[("/", by_header.clone())]),
        json!([cluster("up", &[dead])]),
        async |who, port| {
            let mut client = Client::connect(port, false).await;
            let seen = client.get("up", "/").await;
            let found = (seen.status, seen.header("x-session"));
            assert_eq!(found, (503, &*value), "{who:?}");
            // Who knows it is told nothing.
            let seen = client.get_with("up", "/", &[("x-session", &value)]).await;
            let found = (seen.status, seen.header("x-session"));
            assert_eq!(found, (503, ""), "{who:?}");
        },
    )
    .await;
}
