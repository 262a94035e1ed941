//! Against the API server of the local platform: its rules for definitions and subresources count.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lateen_core::{Hostname, ServiceId};
use lateen_galley::Galley;
use lateen_local::apiserver::{ApiServer, Config, pki::Pki};
use lateen_registry::{EndpointKey, StatusPace};

use super::*;

async fn server(directory: &std::path::Path) -> Client {
    lateen_tls::install_provider();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let pki = Arc::new(Pki::load_or_create(&directory.join("pki")).expect("keys"));
    let text = pki.admin_kubeconfig("test", &url).expect("a kubeconfig");
    let server = ApiServer::new(Config {
        store: directory.to_owned(),
        listeners: vec![listener],
        pki: Some(pki),
        logs: None,
        dialer: None,
        executor: None,
    });
    tokio::spawn(
        server
            .await
            .expect("it starts")
            .serve(std::future::pending()),
    );
    let file = Kubeconfig::from_yaml(&text).expect("parses");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options);
    Client::try_from(config.await.expect("resolves")).expect("a client")
}

fn api(client: &Client, kind: &kinds::Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &lateen_registry::resource(kind))
}

async fn apply(client: &Client, kind: &kinds::Kind, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    });
    let params = PatchParams::apply("test").force();
    let patch = Patch::Apply(object);
    let applied = api(client, kind).patch(name, &params, &patch).await;
    applied.expect("it is taken");
}

/// Waits until an object's status is as wanted.
async fn until(
    client: &Client,
    kind: &kinds::Kind,
    name: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    for _ in 0..600 {
        let object = api(client, kind).get(name).await.expect("it is there");
        last = object.data["status"].clone();
        if is_wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} has {last}");
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}

#[tokio::test]
async fn objects_are_told_where_they_are_and_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = server(directory.path()).await;
    let manifests =
        lateen_install::manifests(&lateen_install::Installation::default()).expect("manifests");
    let definitions = manifests
        .into_iter()
        .filter(|m| m["kind"] == "CustomResourceDefinition");
    let mut applier = crate::apply::Applier::new(client.clone());
    let definitions: Vec<_> = definitions.collect();
    applier.apply_all(&definitions).await.expect("definitions");
    let destination = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 9080}]},
    });
    applier.apply_all(&[destination]).await.expect("a service");

    let registry = Registry::kubernetes(client.clone(), lateen_registry::Options::default());
    let around = lateen_galley::Surroundings {
        world: registry.world(),
        credentials: Arc::new(lateen_galley::NoCredentials),
        domain: "cluster.local".into(),
    };
    let galley = Galley::start(registry.config(), around);
    galley.synced(&registry).await;
    let options = lateen_pilot::Options::default();
    let discovery = Discovery::new(registry.world(), galley.config(), options);
    let (_leads, leading) = watch::channel(true);
    let writer = StatusWriter::start(&client, &leading, StatusPace::default());
    let istiod = Hostname::service("istiod", "istio-system", "cluster.local");
    let service = EndpointKey::new(ServiceId::new("istio-system", istiod), "grpc-xds");
    let host = "istiod.istio-system.svc".to_owned();
    let replicas = Replicas::new(service, host, "istiod-a".to_owned(), Arc::default());
    let statuses = Statuses::new(&registry, &discovery, writer.clone(), leading, replicas);
    tokio::spawn(statuses.run());
    tokio::spawn(Addresses::new(&registry, writer.clone()).run());

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
