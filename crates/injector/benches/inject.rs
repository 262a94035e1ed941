//! What the webhook's work on one pod costs, with the review's JSON on both sides and the patch:
//! `cargo bench -p lateen-injector`.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use divan::{Bencher, black_box};
use lateen_injector::{Counters, InjectorConfig, Params, router};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};
use tower::ServiceExt;

fn main() {
    divan::main();
}

/// Two containers with probes, and what a platform adds to each.
fn pod(templates: &str) -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/application:1.2.3",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": (0..20).map(|n| json!({"name": format!("V{n}"), "value": "text"})).collect::<Vec<_>>(),
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"tcpSocket": {"port": 8080}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "reviews-v1-abc-", "namespace": "default",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "abc"},
            "annotations": {"inject.istio.io/templates": templates},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-abc", "controller": true}],
        },
        "spec": {
            "containers": [container("one"), container("two")],
            "volumes": [{"name": "token", "projected": {"sources": []}}],
        },
    })
}

const OWN: &str = "templates: {own: 'spec: {containers: [{name: istio-proxy, env: [{name: TEAM, value: {{ annotation .ObjectMeta `team` \"none\" | quote }}}]}]}'}";

#[divan::bench(args = ["sidecar", "gateway", "grpc-agent", "sidecar,own"])]
fn webhook(bencher: Bencher<'_, '_>, templates: &str) {
    let runtime = Runtime::new().expect("threads");
    let config = InjectorConfig::parse(OWN, "{}").expect("a configuration");
    let params = Params::default().with_config(config.into());
    let (_params_tx, params_rx) = watch::channel(Arc::new(params));
    let router = router(params_rx, Arc::new(Counters::default()));
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "namespace": "default", "object": pod(templates)}});
    let review = review.to_string();
    bencher.bench_local(|| {
        let request = Request::post("/inject").header("content-type", "application/json");
        let request = request.body(Body::from(review.clone())).expect("a request");
        let response = runtime.block_on(router.clone().oneshot(request));
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        black_box(response)
    });
}
