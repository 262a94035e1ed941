use serde_json::json;

use super::*;

fn context() -> Context {
    // The sender may go: what was published stays.
    let (_, params) = watch::channel(Arc::new(Params::new("proxyv2")));
    Context {
        params,
        counters: Arc::default(),
    }
}

fn review(pod: Value) -> Review {
    let request = json!({"request": {"uid": "u", "namespace": "default", "object": pod}});
    serde_json::from_value(request).expect("review")
}

fn reviews_pod() -> Value {
    json!({
        "metadata": {
            "generateName": "reviews-v1-abc-",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "abc"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-abc", "controller": true}],
        },
        "spec": {"containers": [{"name": "reviews", "image": "reviews"}]},
    })
}

#[tokio::test]
async fn patches_lead_to_the_injected_pod() {
    let context = context();
    let mut pod = reviews_pod();
    let Json(answer) = inject_with(
        State(context.clone()),
        Path("cluster/c1/net/n1/foo/a--slash--b".into()),
        Json(review(pod.clone())),
    )
    .await
    .expect("answer");
    let response = &answer["response"];
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = STANDARD
        .decode(response["patch"].as_str().expect("patch"))
        .expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("patch");
    json_patch::patch(&mut pod, &patch).expect("applies");
    let containers: Vec<_> = items(&pod["spec"], "containers")
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(containers, ["reviews", "istio-proxy"]);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "istio-init");
    assert_eq!(
        pod["metadata"]["labels"]["security.istio.io/tlsMode"],
        "istio"
    );
    let env = |name: &str| {
        let all = items(&pod["spec"]["containers"][1], "env");
        all.iter()
            .find(|v| v["name"] == name)
            .map(|v| v["value"].clone())
            .unwrap_or_default()
    };
    assert_eq!(env("ISTIO_META_CLUSTER_ID"), "c1");
    assert_eq!(env("ISTIO_META_NETWORK"), "n1");
    assert_eq!(env("FOO"), "a/b");
    assert_eq!(env("ISTIO_META_WORKLOAD_NAME"), "reviews-v1");
    assert_eq!(
        env("ISTIO_META_OWNER"),
        "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1"
    );
    // What is injected comes out the same.
    let Json(again) = inject_with(
        State(context.clone()),
        Path("cluster/c1/net/n1/foo/a--slash--b".into()),
        Json(review(pod)),
    )
    .await
    .expect("answer");
    assert!(again["response"].get("patch").is_none());
    let metrics = context.counters.render();
    assert!(
        metrics.contains("sidecar_injection_success_total 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("sidecar_injection_skip_total 0"),
        "{metrics}"
    );
}

#[test]
fn a_workload_has_the_name_that_its_author_knows() {
    let check = |kind: &str, name: &str, label: &str, want: [&str; 2]| {
        let pod = json!({"metadata": {
            "labels": {label: "abc"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": kind, "name": name, "controller": true}],
        }});
        let owner = owner(&pod, "default");
        assert_eq!([owner.name.as_str(), &owner.uri()], want);
    };
    let tick = "kubernetes://apis/batch/v1/namespaces/default/cronjobs/tick";
    check("Job", "tick-29681234", "app", ["tick", tick]);
    let once = "kubernetes://apis/batch/v1/namespaces/default/jobs/once";
    check("Job", "once", "app", ["once", once]);
    let rollout = "kubernetes://apis/argoproj.io/v1alpha1/namespaces/default/rollouts/a";
    let hash = "rollouts-pod-template-hash";
    check("ReplicaSet", "a-abc", hash, ["a", rollout]);
}

#[tokio::test]
async fn a_pod_as_large_as_the_api_server_takes_is_read() {
    use tower::ServiceExt;

    let mut pod = reviews_pod();
    pod["metadata"]["annotations"] = json!({"large": "x".repeat(3 << 20)});
    let review = json!({"request": {"uid": "u", "namespace": "default", "object": pod}});
    let Context { params, counters } = context();
    let request = axum::http::Request::post("/inject")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(review.to_string()))
        .expect("a request");
    let answer = router(params, counters).oneshot(request).await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_template_is_refused() {
    let mut pod = reviews_pod();
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "waypoint"});
    let Json(answer) = inject(State(context()), Json(review(pod)))
        .await
        .expect("answer");
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"]
        .as_str()
        .expect("message");
    assert!(message.contains("waypoint"), "{message}");
}

#[tokio::test]
async fn a_review_without_request_is_an_error() {
    let empty = Review { request: None };
    assert_eq!(
        inject(State(context()), Json(empty))
            .await
            .map(|_| ())
            .expect_err("refused")
            .0,
        400
    );
}
