//! What the labels of a namespace keep its pods from, over real connections.

#[path = "apiserver/server.rs"]
mod server;

use http::Method;
use serde_json::{Value, json};
use server::{Server, send};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

fn pod(name: &str, spec: Value) -> String {
    let mut all = json!({"containers": [{"name": "c", "image": "x"}]});
    for (key, value) in spec.as_object().expect("a spec") {
        all[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": all}).to_string()
}

/// A server with namespace `shop`, labelled so, and the client of somebody who is `admin` in it.
async fn shop(directory: &std::path::Path, labels: Value) -> (Server, kube::Client) {
    let server = Server::start(directory).await;
    let admin = server.admin().await;
    let namespace = json!({"metadata": {"name": "shop", "labels": labels}}).to_string();
    let (code, _, body) = send(&admin, Method::POST, NAMESPACES, &namespace).await;
    assert_eq!(code, 201, "{body}");
    let binding = json!({"metadata": {"name": "ann"}, "subjects": [{"kind": "User", "name": "ann"}],
        "roleRef": {"kind": "ClusterRole", "name": "admin", "apiGroup": "rbac.authorization.k8s.io"}});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
    let (code, _, body) = send(&admin, Method::POST, path, &binding.to_string()).await;
    assert_eq!(code, 201, "{body}");
    let ann = server.client("ann", &[]).await;
    (server, ann)
}

#[tokio::test]
async fn tenants_pods_are_kept_off_the_machine() {
    let directory = tempfile::tempdir().expect("a directory");
    let labels =
        json!({"pod-security.kubernetes.io/enforce": "baseline", "lateen.io/host-users": "false"});
    let (server, ann) = shop(directory.path(), labels).await;
    let adds = |name: &str| json!([{"name": name, "image": "x", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}]);
    for (spec, expect) in [
        (json!({}), None),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            Some("violates PodSecurity \"baseline:latest\": hostPath volumes (volume \"v\")"),
        ),
        (
            json!({"hostNetwork": true, "hostPID": true}),
            Some(
                "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, hostPID=true)",
            ),
        ),
        (
            json!({"hostUsers": true}),
            Some(
                "the namespace is labelled lateen.io/host-users=false, so that spec.hostUsers must be false",
            ),
        ),
        (json!({"initContainers": adds("istio-init")}), None),
        (
            json!({"initContainers": adds("mine")}),
            Some(
                "violates PodSecurity \"baseline:latest\": non-default capabilities (container \"mine\" must not include \"NET_ADMIN\", \"NET_RAW\" in securityContext.capabilities.add)",
            ),
        ),
    ] {
        let (code, _, body) = send(&ann, Method::POST, PODS, &pod("one", spec.clone())).await;
        match expect {
            None => {
                assert_eq!(
                    (code, &body["spec"]["hostUsers"]),
                    (201, &false.into()),
                    "{body}"
                );
                let path = format!("{PODS}/one?gracePeriodSeconds=0");
                let (code, _, body) = send(&ann, Method::DELETE, &path, "").await;
                assert_eq!(code, 200, "{body}");
            }
            Some(why) => {
                let said = format!("pods \"one\" is forbidden: {why}");
                assert_eq!((code, &body["message"]), (403, &said.into()), "{spec}");
            }
        }
    }
    // Nor may they widen what they are allowed.
    let wider = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": null, "lateen.io/host-users": null}}});
    for path in ["/api/v1/namespaces/shop", "/api/v1/namespaces/shop/status"] {
        let (code, _, body) = send(&ann, Method::PATCH, path, &wider.to_string()).await;
        assert_eq!(code, 403, "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_narrows_a_namespace_is_told_of_its_pods_and_templates() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, ann) = shop(directory.path(), json!({})).await;
    let admin = server.admin().await;
    for name in ["one", "two"] {
        let wide = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        let (code, _, body) = send(&ann, Method::POST, PODS, &pod(name, wide)).await;
        assert_eq!(code, 201, "{body}");
    }
    let label = async |key: &str, value: &str| {
        let label =
            json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{key}"): value}}});
        let path = format!("{NAMESPACES}/shop");
        send(&admin, Method::PATCH, &path, &label.to_string()).await
    };
    let (code, _, body) = label("enforce", "strict").await;
    assert_eq!((code, &body["reason"]), (422, &"Invalid".into()));
    let wording = "Namespace \"shop\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    assert_eq!(body["message"], wording);
    let (code, warnings, _) = label("enforce", "baseline").await;
    assert_eq!(code, 200);
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"shop\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"one (and 1 other pod): hostPath volumes\"",
        ]
    );
    // What is there already may still be labelled and deleted.
    let labelled = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    let path = format!("{PODS}/one");
    let (code, _, body) = send(&ann, Method::PATCH, &path, &labelled).await;
    assert_eq!(code, 200, "{body}");

    label("warn", "restricted").await;
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": true,
            "containers": [{"name": "c", "image": "x"}]}}}});
    let (code, warnings, _) = send(&ann, Method::POST, DEPLOYMENTS, &deployment.to_string()).await;
    assert_eq!((code, warnings.len()), (201, 1), "{warnings:?}");
    let beginning = "299 - \"would violate PodSecurity \\\"restricted:latest\\\": host namespaces (hostNetwork=true), allowPrivilegeEscalation != false (container \\\"c\\\"";
    assert!(warnings[0].starts_with(beginning), "{}", warnings[0]);
    server.stop().await;
}
