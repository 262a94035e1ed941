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
