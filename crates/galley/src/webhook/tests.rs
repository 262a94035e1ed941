use lateen_api::Object;

use super::*;

fn context() -> Context {
    let gateway = json!({
        "metadata": {"name": "held", "namespace": "default"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
        ]},
    });
    let set = ConfigSet {
        gateways: vec![Arc::new(Object::from_value(&gateway).expect("gateway"))],
        ..ConfigSet::default()
    };
    // The sender may go: what was published stays.
    let (_, config) = watch::channel(Arc::new(set));
    Context {
        config,
        counters: Arc::default(),
    }
}

fn gateway(protocol: &str, selector: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "new"},
        "spec": {"selector": selector, "servers": [
            {"port": {"number": 80, "name": "p", "protocol": protocol}, "hosts": ["*"]},
        ]},
    })
}

fn virtual_service(gateway: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "bookinfo"},
        "spec": {"hosts": ["*"], "gateways": [gateway],
            "http": [{"route": [{"destination": {"host": "productpage"}}]}]},
    })
}

#[tokio::test]
async fn an_object_as_large_as_the_api_server_takes_is_read() {
    use tower::ServiceExt;

    let mut object = virtual_service("default/held");
    object["metadata"]["annotations"] = json!({"large": "x".repeat(3 << 20)});
    let review = json!({"request": {"uid": "u", "namespace": "default", "object": object}});
    let Context { config, counters } = context();
    let request = axum::http::Request::post("/validate")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(review.to_string()))
        .expect("a request");
    let answer = router(config, counters).oneshot(request).await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
}

#[test]
fn a_port_in_use_is_refused() {
    let selector = json!({"istio": "ingressgateway"});
    let verdict = judge(&context(), gateway("TCP", selector.clone()), "default");
    assert_eq!(
        verdict.faults[0].to_string(),
        "spec.servers[0].port: port 80 is in use by Gateway default/held for HTTP; \
         choose another port, the same kind of protocol, or another selector"
    );
    assert!(
        judge(&context(), gateway("HTTP", selector), "default")
            .faults
            .is_empty()
    );
    let other = json!({"istio": "egressgateway"});
    assert!(
        judge(&context(), gateway("TCP", other), "default")
            .faults
            .is_empty()
    );
}

#[test]
fn an_unknown_gateway_is_a_warning() {
    let verdict = judge(&context(), virtual_service("absent"), "default");
    assert!(verdict.faults.is_empty());
    assert!(
        verdict.warnings[0].contains("no Gateway default/absent"),
        "{:?}",
        verdict.warnings
    );
    assert!(
        judge(&context(), virtual_service("held"), "default")
            .warnings
            .is_empty()
    );
    assert!(
        judge(&context(), virtual_service("default/held"), "other")
            .warnings
            .is_empty()
    );
    assert_eq!(
        judge(&context(), virtual_service("held"), "other")
            .warnings
            .len(),
        1
    );
}

#[test]
fn what_is_not_in_force_is_said() {
    let object = |api: &str, kind: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
    let policy = object(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        json!({"rules": [{}]}),
    );
    let verdict = judge(&context(), policy, "default");
    assert_eq!(
        verdict.faults[0].reason,
        "AuthorizationPolicy is not supported"
    );
    let telemetry = object("telemetry.istio.io/v1", "Telemetry", json!({}));
    let verdict = judge(&context(), telemetry, "default");
    assert!(
        verdict.faults.is_empty() && verdict.warnings.len() == 1,
        "{verdict:?}"
    );
}

#[tokio::test]
async fn answers_a_review() {
    let context = context();
    let counters = context.counters.clone();
    let mut broken = virtual_service("held");
    broken["spec"]["http"][0]["route"] = json!([]);
    for (object, allowed) in [(virtual_service("held"), true), (broken, false)] {
        let review = json!({"request": {
            "uid": "u1", "operation": "CREATE", "namespace": "default", "object": object,
        }});
        let review = serde_json::from_value(review).expect("review");
        let Json(answer) = super::review(State(context.clone()), Json(review))
            .await
            .expect("answer");
        assert_eq!(answer["response"]["uid"], "u1");
        assert_eq!(answer["response"]["allowed"], allowed);
        if !allowed {
            let message = answer["response"]["status"]["message"]
                .as_str()
                .expect("message");
            assert!(message.contains("spec.http[0]"), "{message}");
        }
    }
    assert_eq!((counters.passed(), counters.failed()), (1, 1));
    assert!(counters.render().contains("galley_validation_failed 1"));
}
