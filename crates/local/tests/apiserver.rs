//! The API server as the `kube` crate sees it, over TLS on loopback.

#[path = "apiserver/hook.rs"]
mod hook;
#[path = "apiserver/server.rs"]
mod server;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::json;
use server::{Server, code, config_map};

#[tokio::test]
async fn objects_live_through_their_verbs() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    let taken = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect_err("taken");
    assert_eq!(code(taken), (409, "configmaps \"a\" already exists".into()));

    let mut stale = made.clone();
    let mut fresh = made;
    fresh
        .data
        .get_or_insert_default()
        .insert("key".into(), "2".into());
    let fresh = maps
        .replace("a", &PostParams::default(), &fresh)
        .await
        .expect("replaced");
    stale.data = None;
    let conflict = maps
        .replace("a", &PostParams::default(), &stale)
        .await
        .expect_err("stale");
    assert_eq!(code(conflict).0, 409);

    let patch = Patch::Merge(json!({"data": {"other": "3"}}));
    let patched = maps
        .patch("a", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(
        patched.data.as_ref().map(std::collections::BTreeMap::len),
        Some(2)
    );
    assert_ne!(patched.resource_version(), fresh.resource_version());

    maps.create(&PostParams::default(), &config_map("b", "9"))
        .await
        .expect("created");
    let listed = maps
        .list(&ListParams::default().labels("v in (9)"))
        .await
        .expect("listed");
    assert_eq!(
        listed
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["b"]
    );
    let page = maps
        .list(&ListParams::default().limit(1))
        .await
        .expect("listed");
    let token = page.metadata.continue_.expect("more");
    let rest = maps
        .list(&ListParams::default().limit(1).continue_token(&token))
        .await
        .expect("listed");
    assert_eq!(
        (page.items[0].name_any(), rest.items[0].name_any()),
        ("a".into(), "b".into())
    );

    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_eq!(
        code(maps.get("a").await.expect_err("gone")),
        (404, "configmaps \"a\" not found".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_watch_sees_every_change_of_what_it_selects() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    let start = maps
        .list(&ListParams::default())
        .await
        .expect("listed")
        .metadata
        .resource_version
        .expect("set");
    let watch = maps
        .watch(&WatchParams::default().labels("v=1"), &start)
        .await
        .expect("watching");
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    maps.create(&PostParams::default(), &config_map("b", "2"))
        .await
        .expect("created");
    let away = Patch::Merge(json!({"metadata": {"labels": {"v": "2"}}}));
    maps.patch("a", &PatchParams::default(), &away)
        .await
        .expect("patched");
    let seen: Vec<String> = watch
        .take(2)
        .map_ok(|event| match event {
            WatchEvent::Added(map) => format!("added {}", map.name_any()),
            WatchEvent::Deleted(map) => format!("deleted {}", map.name_any()),
            other => format!("{other:?}"),
        })
        .try_collect()
        .await
        .expect("events");
    assert_eq!(seen, ["added a", "deleted a"]);
    server.stop().await;
}

#[tokio::test]
async fn pods_end_gracefully_and_finalizers_hold() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let client = server.admin().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}}))
    .expect("a pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");
    pods.delete("p", &DeleteParams::default())
        .await
        .expect("deleted");
    let ending = pods.get("p").await.expect("still there");
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0))
        .await
        .expect("deleted");
    assert_eq!(code(pods.get("p").await.expect_err("gone")).0, 404);

    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut held = config_map("held", "1");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held)
        .await
        .expect("created");
    maps.delete("held", &DeleteParams::default())
        .await
        .expect("accepted");
    assert!(
        maps.get("held")
            .await
            .expect("held")
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release)
        .await
        .expect("released");
    assert_eq!(code(maps.get("held").await.expect_err("gone")).0, 404);
    server.stop().await;
}

#[tokio::test]
async fn callers_are_known_and_tenants_stay_in_their_namespace() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    for name in ["team", "istio-system"] {
        let namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("created");
    }
    let binding = serde_json::from_value(json!({"metadata": {"name": "tenant"},
        "roleRef": {"kind": "ClusterRole", "name": "edit", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "User", "name": "tenant"}]}))
    .expect("a binding");
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        Api::namespaced(admin.clone(), "team");
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("created");

    let tenant = server.client("tenant", &["tenants"]).await;
    let own: Api<ConfigMap> = Api::namespaced(tenant.clone(), "team");
    own.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("allowed");
    let foreign: Api<ConfigMap> = Api::namespaced(tenant, "istio-system");
    let refused = foreign
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect_err("forbidden");
    let wording = "configmaps is forbidden: User \"tenant\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"istio-system\"";
    assert_eq!(code(refused), (403, wording.into()));

    let mut anonymous = kube::Config::new(server.url.parse().expect("a URL"));
    anonymous.accept_invalid_certs = true;
    let anonymous: Api<ConfigMap> =
        Api::namespaced(Client::try_from(anonymous).expect("a client"), "team");
    let refused = anonymous.list(&ListParams::default()).await;
    let (number, message) = code(refused.expect_err("who?"));
    assert_eq!(number, 401);
    assert!(
        message.contains("neither a client certificate nor a bearer token"),
        "{message}"
    );
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_bound_and_reviewed() {
    use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let admin = server.admin().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "app"}})).expect("an account");
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("created");
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": ["istio-ca"]}})).expect("a request");
    let issued = accounts
        .create_token_request("app", &PostParams::default(), &request)
        .await
        .expect("issued");
    let token = issued.status.expect("a status").token.expect("a token");

    let reviews: Api<TokenReview> = Api::all(admin);
    let review = async |token: &str, audience: &str| {
        let review =
            serde_json::from_value(json!({"spec": {"token": token, "audiences": [audience]}}))
                .expect("a review");
        reviews
            .create(&PostParams::default(), &review)
            .await
            .expect("reviewed")
            .status
            .expect("a status")
    };
    let good = review(&token, "istio-ca").await;
    assert_eq!(good.authenticated, Some(true));
    assert_eq!(
        good.user.and_then(|user| user.username).as_deref(),
        Some("system:serviceaccount:default:app")
    );
    assert_ne!(review(&token, "other").await.authenticated, Some(true));
    let mut forged = token.clone();
    forged.replace_range(token.len() - 8..token.len() - 4, "AAAA");
    assert_ne!(review(&forged, "istio-ca").await.authenticated, Some(true));
    accounts
        .delete("app", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_ne!(review(&token, "istio-ca").await.authenticated, Some(true));
    server.stop().await;
}

#[tokio::test]
async fn custom_resources_follow_their_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let client = server.admin().await;
    let definition = serde_json::from_value(json!({"metadata": {"name": "boats.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["sails"], "properties": {
                    "sails": {"type": "integer", "minimum": 1}, "rig": {"type": "string", "default": "lateen"}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}))
    .expect("a definition");
    let definitions: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("example.com", "v1", "Boat"),
        "boats",
    );
    let boats: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    let boat =
        |spec| DynamicObject::new("dhow", &kind).data(json!({"spec": spec, "status": {"x": 1}}));
    let refused = boats
        .create(&PostParams::default(), &boat(json!({"sails": 0})))
        .await
        .expect_err("invalid");
    let wording = "Boat.example.com \"dhow\" is invalid: spec.sails: Invalid value: 0: spec.sails in body should be greater than or equal to 1";
    assert_eq!(code(refused), (422, wording.into()));
    let made = boats
        .create(
            &PostParams::default(),
            &boat(json!({"sails": 2, "oars": 4})),
        )
        .await
        .expect("created");
    assert_eq!(made.data, json!({"spec": {"sails": 2, "rig": "lateen"}}));
    assert_eq!(made.metadata.generation, Some(1));
    let status = Patch::Merge(json!({"status": {"afloat": true}, "spec": {"sails": 9}}));
    let patched = boats
        .patch_status("dhow", &PatchParams::default(), &status)
        .await
        .expect("patched");
    assert_eq!(
        (
            &patched.data["status"]["afloat"],
            &patched.data["spec"]["sails"]
        ),
        (&json!(true), &json!(2))
    );
    assert_eq!(patched.metadata.generation, Some(1));
    server.stop().await;
}

#[tokio::test]
async fn services_get_addresses_that_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let services: Api<Service> = Api::namespaced(server.admin().await, "default");
    let service = serde_json::from_value(json!({"metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}))
    .expect("a service");
    let made = services
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let spec = made.spec.clone().expect("a spec");
    let port = spec.ports.expect("ports")[0].clone();
    assert!(
        port.node_port
            .is_some_and(|port| (30_000..=32_767).contains(&port))
    );
    assert!(spec.cluster_ip.is_some());
    server.stop().await;

    let server = Server::start(directory.path()).await;
    let services: Api<Service> = Api::namespaced(server.admin().await, "default");
    assert_eq!(services.get("web").await.expect("kept"), made);
    tokio::time::timeout(Duration::from_secs(5), server.stop())
        .await
        .expect("stops");
}

/// A webhook on loopback that labels config maps, and refuses those named "bad".
async fn webhook() -> (String, String) {
    hook::serve(|request| {
        let patch = r#"[{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}]"#;
        let mut response = json!({"uid": request["uid"], "allowed": request["name"] != "bad",
            "status": {"message": "it is bad"}});
        if request["operation"] == "CREATE" {
            hook::add_patch(&mut response, patch);
        }
        response
    })
    .await
}

#[tokio::test]
async fn webhooks_change_and_refuse() {
    use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path()).await;
    let client = server.admin().await;
    let (url, bundle) = webhook().await;
    let configuration = |url: &str, policy: &str| {
        serde_json::from_value(json!({"metadata": {"name": "hook"}, "webhooks": [{
            "name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": bundle}, "failurePolicy": policy,
            "objectSelector": {"matchExpressions": [{"key": "v", "operator": "Exists"}]},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}]}))
        .expect("a configuration")
    };
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    hooks
        .create(&PostParams::default(), &configuration(&url, "Fail"))
        .await
        .expect("created");
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let made = maps
        .create(&PostParams::default(), &config_map("good", "1"))
        .await
        .expect("created");
    assert_eq!(made.labels().get("seen").map(String::as_str), Some("yes"));
    let refused = maps
        .create(&PostParams::default(), &config_map("bad", "1"))
        .await
        .expect_err("refused");
    let wording = "admission webhook \"hook.example.com\" denied the request: it is bad";
    assert_eq!(code(refused), (403, wording.into()));

    for (policy, expect) in [("Fail", Some(500)), ("Ignore", None)] {
        hooks
            .delete("hook", &DeleteParams::default())
            .await
            .expect("deleted");
        let away = configuration("https://localhost:1/", policy);
        hooks
            .create(&PostParams::default(), &away)
            .await
            .expect("created");
        let result = maps
            .create(&PostParams::default(), &config_map("away", "1"))
            .await;
        assert_eq!(result.err().map(|error| code(error).0), expect, "{policy}");
    }
    server.stop().await;
}
