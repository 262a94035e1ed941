//! What each step says of objects as a cluster has them.

use serde_json::{Value, json};

use super::*;

fn parse<K: serde::de::DeserializeOwned>(objects: Value) -> Vec<K> {
    serde_json::from_value(objects).expect("objects")
}

#[test]
fn pods_run_or_are_done() {
    let pods = parse(json!([
        {"metadata": {"name": "good"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}},
        {"metadata": {"name": "done"}, "status": {"phase": "Succeeded",
            "conditions": [{"type": "Ready", "status": "False"}]}},
        {"metadata": {"name": "pulling"}, "status": {"phase": "Pending", "containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no command"}}}]}},
        {"metadata": {"name": "slow"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "False", "message": "not yet"}]}},
        {"metadata": {"name": "new"}, "status": {"phase": "Pending"}},
    ]));
    let warnings = Warnings::of(parse(json!([
        {"metadata": {"name": "e1"}, "type": "Warning", "message": "older",
         "lastTimestamp": "2026-01-01T00:00:00Z", "involvedObject": {"kind": "Pod", "name": "slow"}},
        {"metadata": {"name": "e2"}, "type": "Warning", "message": "probe failed",
         "lastTimestamp": "2026-01-01T00:00:01Z", "involvedObject": {"kind": "Pod", "name": "slow"}},
        {"metadata": {"name": "e3"}, "type": "Normal", "message": "fine",
         "lastTimestamp": "2026-01-01T00:00:02Z", "involvedObject": {"kind": "Pod", "name": "slow"}},
    ])));
    let said = running(&pods, &warnings, "istio-system").lines(2);
    for part in [
        "pod pulling waits: ImagePullBackOff in container c no command\n     next: kubectl describe pod pulling -n istio-system",
        "pod slow runs and is not ready: not yet: probe failed\n",
        "pod new is Pending\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("good") && !said.contains("done"), "{said}");
    // What should be there is another question.
    assert!(!running(&[], &warnings, "istio-system").failed());
}

#[test]
fn a_ready_pod_stands_behind_every_service() {
    let services = parse(json!([
        {"metadata": {"name": "istiod"}, "spec": {"selector": {"app": "istiod"}}},
        {"metadata": {"name": "idle"}, "spec": {"selector": {"app": "idle"}}},
        {"metadata": {"name": "elsewhere"}, "spec": {"type": "ExternalName", "externalName": "x"}},
    ]));
    let slice = |service: &str, ready: bool| {
        json!({"metadata": {"name": service, "labels": {SERVICE_NAME: service}}, "addressType": "IPv4",
               "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
    };
    let slices = parse(json!([slice("istiod", true), slice("idle", false)]));
    let said = served(&services, &slices, "istio-system").lines(3);
    assert_eq!(
        said,
        "✘ 3. Services: no ready pod stands behind service idle\n     next: kubectl describe service idle -n istio-system\n"
    );
    let slices = parse(json!([slice("istiod", true), slice("idle", true)]));
    let said = served(&services, &slices, "istio-system").lines(3);
    assert!(
        said.starts_with("✔ 3. Services: a ready pod stands behind each of the 2"),
        "{said}"
    );
}

#[test]
fn a_gateway_has_an_address_of_the_pool() {
    let gateway = |ip: Option<&str>| {
        let ingress = ip.map(|ip| json!([{ "ip": ip }]));
        parse::<Service>(json!([
            {"metadata": {"name": "istiod"}, "spec": {"type": "ClusterIP"}},
            {"metadata": {"name": "ingress"}, "spec": {"type": "LoadBalancer"},
             "status": {"loadBalancer": {"ingress": ingress}}},
        ]))
    };
    let warnings = Warnings::of(parse(json!([
        {"metadata": {"name": "e"}, "type": "Warning", "message": "no address is free",
         "involvedObject": {"kind": "Service", "name": "ingress"}},
    ])));
    let check = |ip: Option<&str>, range: Option<&str>, expect: &str| {
        let said = reached(&gateway(ip), range, &warnings, "istio-system").lines(4);
        assert!(said.contains(expect), "{said}");
    };
    let range = Some("10.10.99.140-10.10.99.150");
    check(
        None,
        range,
        "✘ 4. Gateway addresses: service ingress has no external address: no address is free",
    );
    check(
        Some("10.10.99.151"),
        range,
        "✘ 4. Gateway addresses: service ingress has 10.10.99.151, which is not of",
    );
    check(
        Some("10.10.99.150"),
        range,
        "✔ 4. Gateway addresses: ingress has 10.10.99.150",
    );
    check(
        Some("203.0.113.9"),
        None,
        "✔ 4. Gateway addresses: ingress has 203.0.113.9",
    );
}
