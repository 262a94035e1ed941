//! Against the API server of the local platform: its rules for definitions and subresources count.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use super::*;
use crate::discovery::platform::{self, apply, condition, until};

#[tokio::test]
async fn objects_are_told_where_they_are_and_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    let destination = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 9080}]},
    });
    platform::define_kinds(&client).await;
    let mut applier = crate::apply::Applier::new(client.clone());
    applier.apply_all(&[destination]).await.expect("a service");
    let telling = platform::Telling::start(&client, false).await;
    let (registry, writer) = (&telling.registry, &telling.writer);

    let service = &kinds::VIRTUAL_SERVICE;
    let route = json!([{"route": [{"destination": {"host": "reviews"}}]}]);
    let hosts = |hosts: &[&str]| json!({"hosts": hosts, "http": route});
    apply(&client, service, "older", hosts(&["reviews"])).await;
    let is_there = |status: &Value| condition(status, "Reconciled")["status"] == "True";
    let status = until(&client, service, "older", is_there).await;
    assert_eq!(status["observedGeneration"], 1, "{status}");
    assert_eq!(condition(&status, "Reconciled")["observedGeneration"], 1);
    assert_eq!(condition(&status, "PassedAnalysis")["status"], "True");

    // Made in the same second, so the name decides which is the older one.
    apply(
        &client,
        service,
        "younger",
        hosts(&["reviews.default.svc.cluster.local"]),
    )
    .await;
    for (name, other) in [("older", "younger"), ("younger", "older")] {
        let is_told = |status: &Value| condition(status, "Conflicted")["status"] == "True";
        let status = until(&client, service, name, is_told).await;
        let message = condition(&status, "Conflicted")["message"].to_string();
        assert!(message.contains(&format!("default/{other}")), "{message}");
        assert_eq!(condition(&status, "PassedAnalysis")["reason"], "Conflict");
    }

    // What is not valid, and got past the webhook, is told so; its last valid form is in force.
    apply(&client, service, "younger", hosts(&["*.*"])).await;
    let is_told = |status: &Value| condition(status, "Reconciled")["reason"] == "Invalid";
    let status = until(&client, service, "younger", is_told).await;
    assert_eq!(status["observedGeneration"], 2, "{status}");
    assert_eq!(status["validationMessages"][0]["type"]["code"], "IST0106");

    apply(&client, service, "younger", hosts(&["ratings"])).await;
    for name in ["younger", "older"] {
        let is_well = |status: &Value| {
            is_there(status)
                && condition(status, "Conflicted").is_null()
                && condition(status, "PassedAnalysis")["status"] == "True"
        };
        let status = until(&client, service, name, is_well).await;
        assert_eq!(status.get("validationMessages"), None, "{status}");
    }

    // A status says nothing new to the registry: nothing follows from it.
    let n_written = writer.counters().written();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(writer.counters().written(), n_written);

    // Every kind's status can be written.
    let rule = json!({"host": "reviews"});
    let entry = json!({"hosts": ["a.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"});
    let server =
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    for (kind, spec) in [
        (&kinds::DESTINATION_RULE, rule),
        (&kinds::SERVICE_ENTRY, entry),
        (
            &kinds::GATEWAY,
            json!({"selector": {"a": "b"}, "servers": [server]}),
        ),
        (&kinds::WORKLOAD_ENTRY, json!({"address": "10.0.0.1"})),
        (&kinds::SIDECAR, json!({"egress": [{"hosts": ["./*"]}]})),
        (
            &kinds::PEER_AUTHENTICATION,
            json!({"mtls": {"mode": "STRICT"}}),
        ),
    ] {
        apply(&client, kind, "one", spec).await;
        until(&client, kind, "one", is_there).await;
    }

    // A host without an address is given one, in the status of its entry as well as in the world.
    let has_addresses = |status: &Value| status["addresses"].is_array();
    let status = until(&client, &kinds::SERVICE_ENTRY, "one", has_addresses).await;
    let world = registry.world().borrow().clone();
    let given = world.named("a.example").next().expect("a service");
    let given = given.allocated.iter();
    let want: Vec<_> = given
        .map(|ip| json!({"value": format!("{ip}"), "host": "a.example"}))
        .collect();
    assert_eq!((want.len(), &status["addresses"]), (2, &Value::from(want)));
    // With one of its own it needs none.
    let own = json!({
        "hosts": ["a.example"], "addresses": ["10.9.9.9"], "resolution": "DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    });
    apply(&client, &kinds::SERVICE_ENTRY, "one", own).await;
    until(&client, &kinds::SERVICE_ENTRY, "one", |status| {
        status["addresses"].is_null()
    })
    .await;
}

/// A pod of a control plane, behind the Service of its revision.
fn replica(service: &str, name: &str, address: &str) -> [Value; 3] {
    let meta = |name: &str| json!({"name": name, "namespace": "istio-system", "labels": {"app": "istiod"}});
    let mut slice = meta(name);
    slice["labels"]["kubernetes.io/service-name"] = service.into();
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta(service),
            "spec": {"ports": [{"name": "grpc-xds", "port": 15010}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice,
            "addressType": "IPv4", "ports": [{"name": "grpc-xds", "port": 15010}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": name, "namespace": "istio-system"}}],
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": meta(name),
            "spec": {"containers": [{"name": "discovery", "image": "pilot"}]},
        }),
    ]
}

/// A control plane that starts knows what it has published to nobody before it knows of the one beside
/// it, which has all the proxies.
#[tokio::test]
async fn who_is_found_later_is_asked_too() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    platform::define_kinds(&client).await;
    let _telling = platform::Telling::start(&client, false).await;
    let service = &kinds::VIRTUAL_SERVICE;
    let spec = json!({"hosts": ["a.example"], "http": [{"directResponse": {"status": 200}}]});
    apply(&client, service, "one", spec).await;
    let says = |text: &'static str| {
        move |status: &Value| {
            let message = condition(status, "Reconciled")["message"].as_str();
            message.unwrap_or_default().contains(text)
        }
    };
    until(&client, service, "one", says("0 of 0 proxies")).await;

    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
    let own = replica("istiod", "istiod-a", "192.0.2.1");
    let other = replica("istiod", "istiod-b", "192.0.2.2");
    let all: Vec<_> = [namespace].into_iter().chain(own).chain(other).collect();
    let mut applier = crate::apply::Applier::new(client.clone());
    applier.apply_all(&all).await.expect("replicas");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "istio-system");
    let at = json!({"status": {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}});
    let (at, params) = (Patch::Merge(at), PatchParams::default());
    let patched = pods.patch_status("istiod-a", &params, &at);
    patched.await.expect("it is there");
    // By its address, since no pod says that it has it.
    until(&client, service, "one", says("not known of 192.0.2.2 (")).await;
}
