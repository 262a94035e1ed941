use serde_json::json;

use super::*;
use crate::{
    apply::Applier,
    discovery::platform::{self, apply, condition, until},
};

/// Long enough for another look and what would be written by it.
const SETTLED: Duration = Duration::from_secs(4);

fn codes(status: &Value) -> Vec<String> {
    let messages = status["validationMessages"].as_array();
    let code = |message: &Value| {
        message["type"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    messages.into_iter().flatten().map(code).collect()
}

/// Of kinds that proxies are sent, and of one that only analysis knows.
#[tokio::test]
async fn objects_are_told_what_analysis_finds_until_it_is_mended() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    platform::define_kinds(&client).await;
    let telling = platform::Telling::start(&client, true).await;

    let rule = &kinds::DESTINATION_RULE;
    let policy = &kinds::AUTHORIZATION_POLICY;
    apply(&client, rule, "one", json!({"host": "reviews"})).await;
    let selected = json!({"selector": {"matchLabels": {"app": "reviews"}}});
    apply(&client, policy, "one", selected).await;
    let is_told = |said: &'static [&str]| move |status: &Value| codes(status) == said;
    let status = until(&client, rule, "one", is_told(&["IST0174"])).await;
    let message = &status["validationMessages"][0];
    assert_eq!(message["type"]["name"], "UnknownDestinationRuleHost");
    assert_eq!(message["level"], "WARNING");
    let page = "https://istio.io/latest/docs/reference/config/analysis/ist0174/";
    assert_eq!(message["documentationUrl"], page);
    assert_eq!(condition(&status, "Reconciled")["status"], "True");
    assert_eq!(condition(&status, "PassedAnalysis")["status"], "True");
    // Nothing enforces policies yet, which is told as well.
    until(&client, policy, "one", is_told(&["IST0106", "IST0127"])).await;

    // What is told is nothing new: nothing follows from it.
    tokio::time::sleep(SETTLED).await;
    let n_written = telling.writer.counters().written();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(telling.writer.counters().written(), n_written);

    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 9080}]},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "reviews", "namespace": "default", "labels": {"app": "reviews", "sidecar.istio.io/inject": "true"}},
        "spec": {"containers": [{"name": "reviews", "image": "reviews"}]},
    });
    let mut applier = Applier::new(client.clone());
    applier.apply_all(&[service, pod]).await.expect("applied");
    let status = until(&client, rule, "one", is_told(&[])).await;
    assert_eq!(condition(&status, "Reconciled")["status"], "True");
    until(&client, policy, "one", is_told(&["IST0106"])).await;
}

/// Without analysis nobody would ever take away what it has said of kinds that only it speaks of.
#[tokio::test]
async fn what_was_told_is_taken_back_when_nobody_looks_any_more() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    platform::define_kinds(&client).await;
    let policy = &kinds::AUTHORIZATION_POLICY;
    let selected = json!({"selector": {"matchLabels": {"app": "reviews"}}});
    apply(&client, policy, "one", selected).await;
    let says = |is_told: bool| move |status: &Value| codes(status).is_empty() != is_told;
    let telling = platform::Telling::start(&client, true).await;
    until(&client, policy, "one", says(true)).await;
    drop(telling);
    let _telling = platform::Telling::start(&client, false).await;
    until(&client, policy, "one", says(false)).await;
}

fn object(text: &str, was_told: bool) -> Arc<Held> {
    let value: Value = serde_yaml_ng::from_str(text).expect("a document");
    let [kind, namespace, name] = [
        &value["kind"],
        &value["metadata"]["namespace"],
        &value["metadata"]["name"],
    ]
    .map(|text| text.as_str().unwrap_or_default().to_owned());
    let version = value["apiVersion"].as_str().unwrap_or_default();
    let kind = kinds::find(version, &kind);
    Arc::new(Held {
        object: kind.map(|kind| ObjectRef::new(kind.id(), &namespace, &name)),
        generation: 1,
        was_told,
        written: lateen_registry::Written::stored(value),
    })
}

fn rule(namespace: &str) -> Arc<Held> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: one, namespace: {namespace}}}\nspec: {{host: nowhere}}\n"
    );
    object(&text, false)
}

fn namespace(name: &str, label: &str) -> Arc<Held> {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{mesh: '{label}'}}}}\n"
    );
    object(&text, false)
}

/// The watch may be behind with the status that has the message.
#[test]
fn what_was_told_is_remembered_until_it_is_seen() {
    let settings = Settings::default();
    let before = told(&[rule("a")], &settings, &Told::new());
    let of = ObjectRef::new("DestinationRule", "a", "one");
    assert_eq!(before[&of].messages.len(), 1);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: nowhere, namespace: a}\n\
                   spec: {ports: [{name: http, port: 80}]}\n";
    let mended = [rule("a"), object(service, false)];
    let after = told(&mended, &settings, &before);
    assert_eq!(after.get(&of).map(|told| told.messages.len()), Some(0));
    // Nobody is told of what is gone.
    assert!(told(&[], &settings, &before).is_empty());
}

#[test]
fn only_namespaces_that_the_mesh_selects_are_looked_at() {
    let settings = |mesh: Value| Settings {
        mesh,
        ..Settings::default()
    };
    let all = [
        namespace("a", "yes"),
        namespace("b", "no"),
        rule("a"),
        rule("b"),
        rule("istio-system"),
    ];
    let namespaces = |mesh: Value| -> Vec<String> {
        let told = told(&all, &settings(mesh), &Told::new());
        let of_rules = told.keys().filter(|of| of.kind == "DestinationRule");
        of_rules.map(|of| of.namespace.to_string()).collect()
    };
    assert_eq!(namespaces(Value::Null), ["a", "b", "istio-system"]);
    let selected = json!({"discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]});
    assert_eq!(namespaces(selected), ["a", "istio-system"]);
}

#[tokio::test]
async fn secrets_are_not_kept() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    let secret = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": "default"},
            "stringData": {"cert": "of a server", "key": "hidden", "release": "hidden"}})
    };
    let all = [
        secret("own", "Opaque"),
        secret("release", "helm.sh/release.v1"),
    ];
    let mut applier = Applier::new(client.clone());
    applier.apply_all(&all).await.expect("applied");
    let objects = Objects::follow(&client, "istio-system");
    objects.known().await;
    let all = objects.all();
    let secrets = all.iter().map(|held| &held.written.value);
    let secrets: Vec<_> = secrets.filter(|value| value["kind"] == "Secret").collect();
    let names: Vec<_> = secrets
        .iter()
        .map(|secret| &secret["metadata"]["name"])
        .filter(|name| **name == "own" || **name == "release")
        .collect();
    assert_eq!(names, ["own"]);
    let own = secrets
        .iter()
        .find(|secret| secret["metadata"]["name"] == "own");
    let data = own.expect("just found")["data"].as_object().expect("a map");
    assert_eq!(data.len(), 3);
    assert!(data.values().all(|value| value == ""), "{data:?}");
}

#[test]
fn messages_go_to_objects_of_the_mesh() {
    let message = |group: &str, kind: &str| Message {
        code: lateen_galley::analyze::Code::ReferencedResourceNotFound,
        text: String::new(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: "a".to_owned(),
        name: "b".to_owned(),
        field: String::new(),
        reference: None,
    };
    let of = |group: &str, kind: &str| object_of(&message(group, kind));
    let gateway = ObjectRef::new("Gateway", "a", "b");
    assert_eq!(of("networking.istio.io", "Gateway"), Some(gateway));
    // Of the same kind by its bare name, and another one's to tell.
    assert_eq!(of("gateway.networking.k8s.io", "Gateway"), None);
    assert_eq!(of("", "Pod"), None);
}
