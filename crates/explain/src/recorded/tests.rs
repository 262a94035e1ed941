use lateen_registry::Documents;

use super::*;
use crate::{Outcome, Platform};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.1.1, selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.1.2, selector: {app: db}, ports: [{name: tcp, port: 3306}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec: {template: {metadata: {labels: {app: reviews, version: v1}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db-v1}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec: {template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: c}]}}}
";

/// A rule for mobile clients, and a time for all others.
const CHANGE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {user-agent: {prefix: Mobile}}}]
    directResponse: {status: 418}
  - match: [{uri: {prefix: /slow}}]
    timeout: 5s
    rewrite: {uri: /fast}
    route: [{destination: {host: reviews}}]
  - route: [{destination: {host: reviews}}]
";

fn text_line(path: &str, agent: &str) -> String {
    format!(
        "[2026-11-26T10:00:00.000Z] \"GET {path} HTTP/1.1\" 200 - via_upstream - \"-\" 0 358 3 2 \"-\" \
         \"{agent}\" \"6f1c\" \"reviews:9080\" \"10.244.0.1:9080\" \
         outbound|9080||reviews.default.svc.cluster.local 10.244.0.3:41000 10.96.1.1:9080 \
         10.244.0.3:52000 - default"
    )
}

fn platform(changes: &[Documents]) -> Platform {
    let shop = [Documents::file("shop.yaml", SHOP)];
    Platform::changed(&shop, changes, "cluster.local").expect("valid")
}

#[test]
fn both_formats_are_read() {
    let text = text_line("/reviews/0?a=b", "curl/8 (\"odd\")");
    let recorded = Recorded::parse(&text).expect("a request");
    let json = serde_json::json!({
        "start_time": "2026-11-26T10:00:00.000Z", "method": "GET", "path": "/reviews/0?a=b",
        "protocol": "HTTP/1.1", "response_code": 200, "authority": "reviews:9080",
        "upstream_cluster": "outbound|9080||reviews.default.svc.cluster.local",
        "downstream_local_address": "10.96.1.1:9080",
        "downstream_remote_address": "10.244.0.3:40001",
        "requested_server_name": null, "user_agent": "curl/8 (\"odd\")", "x_forwarded_for": null,
    });
    assert_eq!(Recorded::parse(&json.to_string()).as_ref(), Some(&recorded));
    assert_eq!(recorded.to_string(), "GET reviews:9080/reviews/0?a=b");
    assert_eq!(
        recorded.headers,
        [("user-agent".to_owned(), "curl/8 (\"odd\")".to_owned())]
    );
    let tcp = "[2026-11-26T10:00:00.000Z] \"- - -\" 0 - - - \"-\" 5 7 1 - \"-\" \"-\" \"-\" \"-\" \
               \"10.244.0.2:3306\" outbound|3306||db.default.svc.cluster.local 10.244.0.3:41000 \
               10.96.1.2:3306 10.244.0.3:52000 - -";
    let tcp = Recorded::parse(tcp).expect("a connection");
    assert!(!tcp.http && tcp.authority.is_empty());
    assert_eq!(tcp.to_string(), "tcp://10.96.1.2:3306");
    for line in [
        "",
        "info: started",
        "{}",
        "{\"method\": \"GET\"}",
        "[x \"- - -\" 0",
    ] {
        assert_eq!(Recorded::parse(line), None, "{line}");
    }
}

#[test]
fn only_what_would_change_is_told_and_counted() {
    let log = [
        text_line("/reviews/0", "Mobile 1"),
        text_line("/reviews/0", "Mobile 1"),
        text_line("/reviews/1", "Mobile 2"),
        text_line("/slow/1", "curl"),
        text_line("/slow/2", "curl"),
        text_line("/reviews/0", "curl"),
        "the proxy says something else".to_owned(),
    ];
    let recording = Recording::read(&log.join("\n"));
    assert_eq!((recording.n_requests(), recording.n_unread), (6, 1));
    assert_eq!(recording.notes().len(), 2);
    let (before, after) = (
        platform(&[]),
        platform(&[Documents::file("new.yaml", CHANGE)]),
    );
    let caller = before.caller("shop-v1").expect("a pod");
    let at = Replayer::new(&before, &caller).expect("served");
    let then = Replayer::new(&after, &caller).expect("served");
    let groups = changes(&recording, &at, &then);
    let told: Vec<_> = groups
        .iter()
        .map(|group| (group.requests, group.examples.len()))
        .collect();
    // Paths that a rewrite makes are one change.
    assert_eq!(told, [(3, 2), (2, 2)]);
    let outcome = groups[0].after.as_ref().map(|told| &told.outcome);
    assert_eq!(outcome, Some(&Outcome::Answer { status: 418 }));
    let Some(Outcome::Forward(to)) = groups[1].after.as_ref().map(|told| &told.outcome) else {
        panic!("{groups:#?}");
    };
    assert_eq!(to.timeout_ms, Some(5000));
    assert!(changes(&recording, &at, &at).is_empty());
    let all = decisions(&recording, &at);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].requests, 6);
}

#[test]
fn where_it_was_going_is_found_again() {
    let platform = platform(&[]);
    let shop = platform.caller("shop-v1").expect("a pod");
    let at = |log: &str, caller| {
        let recording = Recording::read(log);
        let replayer = Replayer::new(&platform, caller).expect("served");
        let told = decisions(&recording, &replayer);
        match &told[0].before.outcome {
            Outcome::Forward(to) => to.clusters[0].name.clone(),
            outcome => format!("{outcome:?}"),
        }
    };
    let line = text_line("/", "curl");
    let reviews = "outbound|9080||reviews.default.svc.cluster.local";
    assert_eq!(at(&line, &shop), reviews);
    // Addresses of another cluster: the authority tells which service it was.
    let elsewhere = line.replace("10.96.1.1:9080", "172.20.5.5:9080");
    assert_eq!(at(&elsewhere, &shop), reviews);
    let stranger = elsewhere.replace("\"reviews:9080\"", "\"stranger.example.com:9080\"");
    assert_eq!(at(&stranger, &shop), "PassthroughCluster");
    // What came to a workload comes to it again.
    let server = platform.caller("reviews-v1").expect("a pod");
    let inbound = line.replace(reviews, "inbound|9080||").replace(
        "52000 - default",
        "52000 outbound_.9080_._.reviews.default.svc.cluster.local default",
    );
    assert_eq!(at(&inbound, &server), "inbound|9080||");
}
