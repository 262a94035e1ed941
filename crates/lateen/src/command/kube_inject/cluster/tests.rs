use std::convert::Infallible;

use clap::Parser;
use hyper::{Request, Response, body::Bytes};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    inject: KubeInject,
}

fn flags(more: &[&str]) -> KubeInject {
    let all = ["kube-inject", "-f", "-"].iter().chain(more);
    Cli::try_parse_from(all).expect("flags").inject
}

fn list(items: &Value) -> (u16, Value) {
    (200, json!({"metadata": {}, "items": items}))
}

fn config(name: &str, namespace: &str, made: &str, more: &Value) -> Value {
    let mut object = json!({
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": made},
        "spec": {"concurrency": 2},
    });
    for (key, value) in more.as_object().expect("fields") {
        object[key] = value.clone();
    }
    object
}

/// A cluster with nodes of two versions, whose revision `canary` says something of native sidecars, and
/// where ProxyConfigs are to be seen in two namespaces alone.
async fn serve(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    const CONFIGS: &str = "/apis/networking.istio.io/v1beta1/namespaces";
    let node = |name: &str, version: &str| {
        json!({"metadata": {"name": name}, "status": {"nodeInfo": {
            "kubeletVersion": version, "architecture": "", "bootID": "", "kernelVersion": "",
            "containerRuntimeVersion": "", "kubeProxyVersion": "", "machineID": "",
            "operatingSystem": "", "osImage": "", "systemUUID": "",
        }}})
    };
    let path = request.uri().path();
    let (status, body) = match path {
        "/api/v1/nodes" => list(&json!([node("new", "v1.33.0"), node("old", "v1.32.0")])),
        "/apis/apps/v1/namespaces/istio-system/deployments/istiod-canary" => {
            let env = json!([{"name": "ENABLE_NATIVE_SIDECARS", "value": "True"}]);
            let pod = json!({"containers": [{"name": "other"}, {"name": "discovery", "env": env}]});
            let spec = json!({"selector": {}, "template": {"spec": pod}});
            (
                200,
                json!({"metadata": {"name": "istiod-canary"}, "spec": spec}),
            )
        }
        path if path == format!("{CONFIGS}/istio-system/proxyconfigs") => list(&json!([
            config("young", "istio-system", "2024-01-02T00:00:00Z", &json!({})),
            config("old", "istio-system", "2024-01-01T00:00:00Z", &json!({})),
            config(
                "wrong",
                "istio-system",
                "2024-01-01T00:00:00Z",
                &json!({"spec": {"concurrency": "x"}})
            ),
        ])),
        path if path == format!("{CONFIGS}/shop/proxyconfigs") => {
            let of = |revision: &str| {
                json!({"metadata": {
                    "name": revision, "namespace": "shop", "labels": {"istio.io/rev": revision},
                    "creationTimestamp": "2024-01-03T00:00:00Z",
                }})
            };
            list(&json!([
                config("", "", "", &of("canary")),
                config("", "", "", &of("prod"))
            ]))
        }
        _ => {
            let code = if path.contains("deployments") {
                404
            } else {
                403
            };
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": ""});
            (code, status)
        }
    };
    let body = Body::from(Bytes::from(body.to_string()));
    let response = Response::builder().status(status).body(body);
    Ok(response.expect("a response"))
}

fn cluster() -> Cluster {
    Cluster {
        client: Client::new(tower::service_fn(serve), "default"),
        namespace: "istio-system".to_owned(),
        must_answer: true,
    }
}

#[tokio::test]
async fn native_sidecars_are_where_the_control_plane_has_them() {
    let of_canary = cluster().natives(&flags(&["-r", "canary"])).await;
    let nodes = BTreeMap::new();
    assert_eq!(of_canary, Natives { all: true, nodes });
    // Its Deployment is elsewhere, so that the nodes say it.
    let of_default = cluster().natives(&flags(&[])).await;
    let nodes = [("new".to_owned(), true), ("old".to_owned(), false)].into();
    assert_eq!(of_default, Natives { all: false, nodes });
}

#[tokio::test]
async fn proxy_configs_are_those_of_the_control_plane() {
    let names = |found: Vec<Arc<Object<ProxyConfig>>>| -> Vec<String> {
        found
            .iter()
            .map(|object| object.meta.name.clone())
            .collect()
    };
    let of_canary = cluster()
        .proxy_configs("shop", &flags(&["-r", "canary"]))
        .await;
    assert_eq!(names(of_canary), ["old", "young", "canary"]);
    let of_default = cluster().proxy_configs("istio-system", &flags(&[])).await;
    assert_eq!(names(of_default), ["old", "young"]);
}
