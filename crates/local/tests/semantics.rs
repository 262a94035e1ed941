//! What the API server promises beyond single requests: concurrency, rights, webhooks, definitions.

#![allow(clippy::panic, reason = "tests fail by panics")]

#[path = "apiserver/hook.rs"]
mod hook;
#[path = "apiserver/server.rs"]
mod server;

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use server::{Server, code, config_map};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

#[tokio::test]
async fn a_watch_from_another_life_begins_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    // Whoever remembers a cluster that was here before would otherwise wait, and miss all that happens.
    let watch = maps
        .watch(&WatchParams::default(), "1000000")
        .await
        .expect("watching");
    match watch.boxed().next().await {
        Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test]
async fn an_update_that_names_no_revision_always_wins() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    let post = PostParams::default();
    maps.create(&post, &config_map("a", "0"))
        .await
        .expect("created");
    // A race by its nature: each round is one more chance for two writes to meet.
    for round in 0..20 {
        let write = async |n: u32| {
            maps.replace("a", &post, &config_map("a", &format!("{round}-{n}")))
                .await
        };
        let (one, two, three, four) = tokio::join!(write(1), write(2), write(3), write(4));
        for result in [one, two, three, four] {
            result.expect("replaced whatever was there");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let client = server.admin().await;
    let definition: CustomResourceDefinition =
        object(json!({"metadata": {"name": "boats.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}}));
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("example.com", "v1", "Boat"),
        "boats",
    );
    let boats: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    let post = PostParams::default();
    definitions
        .create(&post, &definition)
        .await
        .expect("defined");
    let boat = DynamicObject::new("dhow", &kind);
    boats.create(&post, &boat).await.expect("created");
    let delete = DeleteParams::default();
    definitions
        .delete("boats.example.com", &delete)
        .await
        .expect("deleted");
    definitions
        .create(&post, &definition)
        .await
        .expect("defined again");
    let left = boats
        .list(&ListParams::default())
        .await
        .expect("listed")
        .items;
    assert_eq!(
        left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        [""; 0]
    );
    server.stop().await;
}

#[tokio::test]
async fn webhooks_that_ask_for_it_see_what_later_ones_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let client = server.admin().await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut webhooks = Vec::new();
    for (name, policy) in [("a", "IfNeeded"), ("b", "Never"), ("c", "IfNeeded")] {
        let calls = Arc::clone(&calls);
        let (url, bundle) = hook::serve(move |request| {
            calls.lock().expect("no panic").push(name);
            let mut response = json!({"uid": request["uid"], "allowed": true});
            let patch = format!(
                "[{{\"op\": \"add\", \"path\": \"/metadata/labels/{name}\", \"value\": \"x\"}}]"
            );
            hook::add_patch(&mut response, &patch);
            response
        })
        .await;
        webhooks.push(json!({
            "name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": bundle}, "reinvocationPolicy": policy,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}));
    }
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let post = PostParams::default();
    let configuration = object(json!({"metadata": {"name": "hooks"}, "webhooks": webhooks}));
    hooks.create(&post, &configuration).await.expect("created");
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let made = maps
        .create(&post, &config_map("m", "1"))
        .await
        .expect("created");
    assert_eq!(made.labels().len(), 4);
    assert_eq!(*calls.lock().expect("no panic"), ["a", "b", "c", "a"]);
    server.stop().await;
}

async fn tenant(server: &Server, role: &str) -> Client {
    let bindings: Api<RoleBinding> = Api::namespaced(server.admin().await, "default");
    let binding = json!({"metadata": {"name": "tenant"}, "subjects": [{"kind": "User", "name": "tenant"}],
        "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}});
    let made = bindings
        .create(&PostParams::default(), &object(binding))
        .await;
    made.expect("bound");
    server.client("tenant", &[]).await
}

#[tokio::test]
async fn nobody_gives_rights_that_they_do_not_have() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let tenant = tenant(&server, "admin").await;
    let bindings: Api<RoleBinding> = Api::namespaced(tenant.clone(), "default");
    let post = PostParams::default();
    let bind = async |name: &str, role: &str| {
        let binding = object(
            json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": "friend"}],
            "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}}),
        );
        bindings.create(&post, &binding).await.map_err(code)
    };
    bind("viewer", "view").await.expect("less than one's own");
    let (number, message) = bind("master", "cluster-admin")
        .await
        .expect_err("more than one's own");
    assert_eq!(number, 403);
    assert!(
        message.contains("is attempting to grant RBAC permissions not currently held"),
        "{message}"
    );

    let roles: Api<Role> = Api::namespaced(tenant.clone(), "default");
    let role = async |name: &str, resource: &str| {
        let rule = json!({"apiGroups": [""], "resources": [resource], "verbs": ["create"]});
        let role = object(json!({"metadata": {"name": name}, "rules": [rule]}));
        roles.create(&post, &role).await.map_err(code)
    };
    role("pods", "pods").await.expect("one's own");
    assert_eq!(
        role("nodes", "nodes").await.expect_err("not one's own").0,
        403
    );

    // Nor through the back door of a status, or to another place.
    let namespaces: Api<Namespace> = Api::all(tenant);
    let labels =
        kube::api::Patch::Merge(json!({"metadata": {"labels": {"istio-injection": "enabled"}}}));
    let answer = namespaces
        .patch_status("default", &Default::default(), &labels)
        .await;
    assert_eq!(code(answer.expect_err("forbidden")).0, 403);
    server.stop().await;
}

#[tokio::test]
async fn some_things_cannot_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    for name in ["default", "kube-system", "kube-public"] {
        let answer = namespaces.delete(name, &DeleteParams::default()).await;
        assert_eq!(code(answer.expect_err("forbidden")).0, 403, "{name}");
    }
    // With such a key the store could not be read again.
    let roles: Api<ClusterRole> = Api::all(admin);
    let role = object(json!({"metadata": {"name": "a\u{0}b"}}));
    let answer = roles.create(&PostParams::default(), &role).await;
    assert_eq!(code(answer.expect_err("invalid")).0, 422);
    server.stop().await;
}
