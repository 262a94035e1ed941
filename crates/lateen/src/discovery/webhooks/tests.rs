use std::{convert::Infallible, sync::Mutex, time::Instant};

use hyper::{Request, Response, body::Bytes};
use k8s_openapi::api::admissionregistration::v1::ServiceReference;
use kube::client::Body;

use super::*;
use crate::discovery::platform;

fn config(namespace: &str, bundle: Option<&str>) -> WebhookClientConfig {
    WebhookClientConfig {
        ca_bundle: bundle.map(|text| ByteString(text.as_bytes().to_vec())),
        service: Some(ServiceReference {
            name: "istiod".to_owned(),
            namespace: namespace.to_owned(),
            ..ServiceReference::default()
        }),
        url: None,
    }
}

#[test]
fn only_stale_webhooks_of_ours_are_patched() {
    let service = Service {
        name: "istiod".to_owned(),
        namespace: "istio-system".to_owned(),
    };
    let wanted = Wanted {
        service: &service,
        bundle: ByteString(b"root".to_vec()),
    };
    let right = config("istio-system", Some("root"));
    let stale = config("istio-system", Some("old"));
    let foreign = config("elsewhere", None);
    let patched = |hooks: &[(&WebhookClientConfig, bool)]| {
        let hooks = hooks.iter().map(|(client, is_open)| Hook {
            name: "a",
            client,
            is_open: *is_open,
        });
        match wanted.patch(hooks) {
            Some(Patch::Strategic(value)) => value["webhooks"].clone(),
            _ => Value::Null,
        }
    };
    assert_eq!(
        patched(&[(&right, false), (&foreign, true)]),
        Value::Null,
        "somebody else's may be open"
    );
    let bundle = json!({"caBundle": "cm9vdA=="});
    assert_eq!(
        patched(&[(&right, false), (&stale, false)]),
        json!([{"name": "a", "clientConfig": bundle}])
    );
    assert_eq!(
        patched(&[(&right, true)]),
        json!([{"name": "a", "clientConfig": bundle, "failurePolicy": "Fail"}])
    );
}

/// Webhook configurations of both kinds: ours, that of a tag that leads here, and somebody else's.
fn configurations() -> Vec<Value> {
    let hook = |name: &str, service: &str| {
        json!([{
            "name": name,
            "clientConfig": {"service": {"name": service, "namespace": "istio-system", "path": "/x"}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
        }])
    };
    let of = |kind: &str, name: &str, service: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name},
            "webhooks": hook("a.example.com", service),
        })
    };
    vec![
        of("Mutating", "istio-sidecar-injector", "istiod"),
        of("Mutating", "istio-revision-tag-default", "istiod"),
        of("Mutating", "foreign", "other"),
        of("Validating", "istio-validator-istio-system", "istiod"),
        of("Validating", "istiod-default-validator", "istiod"),
        of("Validating", "foreign", "other"),
    ]
}

/// Webhooks that judge objects, and let pass what nobody has judged.
async fn open(client: &Client) -> Vec<String> {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let all = all.list(&ListParams::default()).await.expect("a list");
    let is_open = |config: &ValidatingWebhookConfiguration| {
        let mut hooks = config.webhooks.iter().flatten();
        hooks.any(|hook| hook.failure_policy.as_deref() == Some("Ignore"))
    };
    let open = all.into_iter().filter(is_open);
    open.map(|config| config.name_any()).collect()
}

/// What each webhook trusts, by the kind and name of its configuration.
async fn trusted(client: &Client) -> Vec<(String, String)> {
    let text = |config: &WebhookClientConfig| match &config.ca_bundle {
        Some(bundle) => String::from_utf8_lossy(&bundle.0).into_owned(),
        None => String::new(),
    };
    let mut all = Vec::new();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for config in mutating.list(&ListParams::default()).await.expect("a list") {
        let hooks = config.webhooks.as_deref().expect("webhooks");
        all.push((
            format!("m {}", config.name_any()),
            text(&hooks[0].client_config),
        ));
    }
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for config in validating
        .list(&ListParams::default())
        .await
        .expect("a list")
    {
        let hooks = config.webhooks.as_deref().expect("webhooks");
        all.push((
            format!("v {}", config.name_any()),
            text(&hooks[0].client_config),
        ));
    }
    all
}

#[tokio::test]
async fn a_rotated_root_ends_in_every_webhook_of_ours() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    let mut applier = crate::apply::Applier::new(client.clone());
    applier.apply_all(&configurations()).await.expect("applied");
    let service = Service {
        name: "istiod".to_owned(),
        namespace: "istio-system".to_owned(),
    };
    let (roots_tx, roots) = watch::channel(Arc::from(""));
    let keeping = tokio::spawn(keep_trusted(client.clone(), service, roots));
    for root in ["first root", "second root"] {
        roots_tx.send(Arc::from(root)).expect("it watches");
        let mut last = Vec::new();
        // Well within the time after which all are looked at again.
        let limit = Instant::now() + RECHECK / 2;
        while Instant::now() < limit {
            last = trusted(&client).await;
            let is_right = |(name, bundle): &(String, String)| match name.ends_with("foreign") {
                true => bundle.is_empty(),
                false => bundle == root,
            };
            if last.iter().all(is_right) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let n_right = last.iter().filter(|(_, bundle)| bundle == root).count();
        assert_eq!((last.len(), n_right), (6, 4), "{last:?}");
        assert_eq!(open(&client).await, ["foreign"]);
    }
    keeping.abort();
}

#[tokio::test]
async fn what_is_applied_again_is_closed_at_once() {
    let directory = tempfile::tempdir().expect("a folder");
    let client = platform::server(directory.path()).await;
    let mut applier = crate::apply::Applier::new(client.clone());
    applier.apply_all(&configurations()).await.expect("applied");
    let service = Service {
        name: "istiod".to_owned(),
        namespace: "istio-system".to_owned(),
    };
    let (_roots_tx, roots) = watch::channel(Arc::from("root"));
    let keeping = tokio::spawn(keep_trusted(client.clone(), service, roots));
    for time in ["the first", "the second", "the third"] {
        // Well within the time after which all are looked at again.
        let limit = Instant::now() + RECHECK / 2;
        while open(&client).await != ["foreign"] {
            assert!(Instant::now() < limit, "{time} time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        applier.apply_all(&configurations()).await.expect("applied");
    }
    // It was open each time: with nobody to close it, it stays so.
    keeping.abort();
    assert!(keeping.await.is_err_and(|end| end.is_cancelled()));
    applier.apply_all(&configurations()).await.expect("applied");
    assert_eq!(open(&client).await.len(), 3);
}

/// An API server that does not let the control plane do everything; it notes what was patched.
fn strict(patched: &Arc<Mutex<Vec<String>>>) -> Client {
    let patched = patched.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let (base, last) = path.rsplit_once('/').expect("a path");
        let forbidden = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": "Forbidden", "code": 403, "message": "not for you"});
        let (status, body) = match (request.method().as_str(), last) {
            ("GET", "validatingwebhookconfigurations") => {
                let items: Vec<Value> = configurations()
                    .into_iter()
                    .filter(|object| object["kind"] == "ValidatingWebhookConfiguration")
                    .collect();
                let list =
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
                (200, list)
            }
            ("PATCH", name) if name != "istio-validator-istio-system" => {
                let name = format!("{} {name}", base.rsplit('/').next().unwrap_or_default());
                patched.lock().expect("whole").push(name);
                (200, json!({"metadata": {"name": last}}))
            }
            _ => (403, forbidden),
        };
        let body = Body::from(Bytes::from(body.to_string()));
        let response = Response::builder().status(status).body(body);
        async move { Ok::<_, Infallible>(response.expect("a response")) }
    });
    Client::new(service, "istio-system")
}

#[tokio::test]
async fn one_that_cannot_be_patched_keeps_nobody_from_the_others() {
    let patched = Arc::new(Mutex::new(Vec::new()));
    let service = Service {
        name: "istiod".to_owned(),
        namespace: "istio-system".to_owned(),
    };
    let faults = patch_all(&strict(&patched), &service, "root").await;
    let of_others = "validatingwebhookconfigurations istiod-default-validator";
    assert_eq!(*patched.lock().expect("whole"), [of_others]);
    let named = [
        "MutatingWebhookConfiguration: ",
        "ValidatingWebhookConfiguration istio-validator-istio-system: ",
    ];
    assert_eq!(faults.len(), named.len(), "{faults:?}");
    for (fault, name) in faults.iter().zip(named) {
        assert!(
            fault.starts_with(name) && fault.contains("not for you"),
            "{fault}"
        );
    }
}
