use k8s_openapi::api::admissionregistration::v1::ServiceReference;

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
    // A control plane begins with each root, as the authority is read when it starts.
    for root in ["first root", "second root"] {
        let service = Service {
            name: "istiod".to_owned(),
            namespace: "istio-system".to_owned(),
        };
        let keeping = tokio::spawn(keep_trusted(client.clone(), service, root.to_owned()));
        let mut last = Vec::new();
        for _ in 0..600 {
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
        keeping.abort();
        let n_right = last.iter().filter(|(_, bundle)| bundle == root).count();
        assert_eq!((last.len(), n_right), (6, 4), "{last:?}");
        assert_eq!(open(&client).await, ["foreign"]);
    }
}
