//! Tags: other names of revisions, by which namespaces need not be labelled anew when a revision
//! takes the place of another. A tag has a Service as well, by which proxies outside of the platform and
//! other clusters can be led to whichever revision it stands for.

use serde_json::{Value, json};

use crate::{
    Installation, Part, control_plane,
    installation::DEFAULT_REVISION,
    labels::{COMPONENT, OWNER_NAMESPACE, REVISION, of_owner},
    merge::merge,
    operator::is_revision,
    webhooks,
};

/// On a tag's webhook: the tag.
pub const TAG: &str = "istio.io/tag";

/// The name of a tag's Service.
pub fn tag_service(tag: &str) -> String {
    format!("istiod-revision-tag-{tag}")
}

/// What a tag is to be.
#[derive(Clone, Copy, Debug)]
pub struct TagRequest<'a> {
    /// The tag; `default` is what namespaces with `istio-injection=enabled` mean.
    pub tag: &'a str,
    /// Name of its webhook; none is the usual one.
    pub name: Option<&'a str>,
    /// Whether pods are injected whose namespaces say nothing, which the default tag alone may do.
    pub everywhere: bool,
    /// The webhook of the revision that it stands for, as the cluster has it.
    pub injector: &'a Value,
}

/// The objects that make a revision known under a tag. The default one judges what names no revision,
/// too.
///
/// # Errors
/// The tag cannot be of this name or do what it is asked, or the webhook says nothing of who is asked.
pub fn tag(request: &TagRequest<'_>) -> Result<Vec<Value>, String> {
    if !is_revision(request.tag) {
        return Err(format!(
            "{:?} is no name of a tag: use letters of lower case, digits and -",
            request.tag
        ));
    }
    if request.everywhere && request.tag != DEFAULT_REVISION {
        return Err(format!(
            "tag {:?} cannot inject into namespaces that say nothing: they are the default revision's; ask it of tag default",
            request.tag
        ));
    }
    let injector = request.injector;
    let revision = injector["metadata"]["labels"][REVISION].as_str();
    let revision = revision.ok_or("the revision's webhook does not say which revision it is of")?;
    let hook = &injector["webhooks"][0];
    let client = &hook["clientConfig"];
    if !client.is_object() {
        return Err("the revision's webhook says nothing of who is asked".into());
    }
    let reinvocation = hook["reinvocationPolicy"].as_str().unwrap_or("Never");
    let name = match request.name {
        Some(name) => name.to_owned(),
        None => format!("istio-revision-tag-{}", request.tag),
    };
    let mut labels = json!({
        "app": "sidecar-injector",
        COMPONENT: "Pilot",
        REVISION: revision,
        TAG: request.tag,
    });
    let namespace = injector["metadata"]["labels"][OWNER_NAMESPACE].as_str();
    merge(
        &mut labels,
        &of_owner(None, namespace.unwrap_or("istio-system")),
    );
    let mut objects = vec![json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": labels},
        "webhooks": webhooks::injection(request.tag, client, reinvocation, request.everywhere),
    })];
    // Where the control plane is elsewhere, its address is all that is known of it.
    if let Some(namespace) = client["service"]["namespace"].as_str() {
        let name = tag_service(request.tag);
        let mut service = control_plane::service_named(&name, namespace, revision);
        merge(&mut service["metadata"]["labels"], &labels);
        service["metadata"]["labels"]["app"] = json!("istiod");
        objects.push(service);
    }
    if request.tag == DEFAULT_REVISION {
        let mut client = client.clone();
        if client["service"].is_object() {
            client["service"]["path"] = json!("/validate");
            objects.push(json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "istiod-default-validator", "labels": labels},
                "webhooks": webhooks::validation(&client, &[webhooks::Judged::OfNone]),
            }));
        }
    }
    Ok(objects)
}

/// Makes the revision of an installation the default one, by a tag beside its own webhooks. Nothing
/// is added for one that is the default by its name, or has no webhook.
///
/// # Errors
/// What an overlay left of the webhook says nothing of who is asked.
pub fn add_default_tag(installation: &Installation, parts: &mut [Part]) -> Result<(), String> {
    let found = parts.iter_mut().find_map(|part| {
        let at = part.objects.iter().position(is_injector)?;
        Some((part, at))
    });
    let Some((part, at)) = found else {
        return Ok(());
    };
    if installation.revision() == DEFAULT_REVISION {
        return Ok(());
    }
    let webhook = &installation.values().sidecar_injector_webhook;
    let objects = tag(&TagRequest {
        tag: DEFAULT_REVISION,
        name: None,
        everywhere: webhook.enable_namespaces_by_default == Some(true),
        injector: &part.objects[at],
    })?;
    let judges = installation.values().global.config_validation != Some(false);
    let is_judge = |it: &Value| it["kind"] == "ValidatingWebhookConfiguration";
    let wanted = objects.into_iter().filter(|it| judges || !is_judge(it));
    // Before the revision's own webhook, by which it is known that this has been done.
    part.objects.splice(at..at, wanted);
    Ok(())
}

fn is_injector(object: &Value) -> bool {
    object["kind"] == "MutatingWebhookConfiguration"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layers, manifests, parts};

    fn of_revision(revision: &str, sets: &[&str]) -> Installation {
        let layers = Layers {
            revision: Some(revision.into()),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            ..Layers::default()
        };
        Installation::of(&layers).expect("an installation")
    }

    fn canary() -> Value {
        let all = manifests(&of_revision("canary", &[])).expect("manifests");
        let hooks = all
            .into_iter()
            .find(|m| m["kind"] == "MutatingWebhookConfiguration");
        hooks.expect("a webhook")
    }

    fn of(tag_name: &str) -> Vec<Value> {
        let request = TagRequest {
            tag: tag_name,
            name: None,
            everywhere: false,
            injector: &canary(),
        };
        tag(&request).expect("a tag")
    }

    #[test]
    fn a_tag_leads_to_its_revision() {
        let prod = &of("prod")[0];
        assert_eq!(prod["metadata"]["name"], "istio-revision-tag-prod");
        assert_eq!(prod["metadata"]["labels"][REVISION], "canary");
        let hooks = prod["webhooks"].as_array().expect("webhooks");
        assert_eq!(hooks.len(), 2);
        for hook in hooks {
            assert_eq!(hook["clientConfig"]["service"]["name"], "istiod-canary");
        }
        let namespaces = &hooks[0]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(namespaces["values"], json!(["prod"]));
        let service = &of("prod")[1];
        let meta = &service["metadata"];
        assert_eq!(
            (&service["kind"], &meta["name"]),
            (&json!("Service"), &json!("istiod-revision-tag-prod"))
        );
        assert_eq!(meta["labels"][TAG], "prod");
        assert_eq!(service["spec"]["selector"][REVISION], "canary");
    }

    #[test]
    fn namespaces_that_say_nothing_are_the_default_tags() {
        let injector = canary();
        let of = |name| {
            tag(&TagRequest {
                tag: name,
                name: None,
                everywhere: true,
                injector: &injector,
            })
        };
        let refused = of("prod").expect_err("refused");
        assert!(refused.contains("ask it of tag default"), "{refused}");
        let objects = of("default").expect("a tag");
        assert_eq!(objects[0]["webhooks"].as_array().map(Vec::len), Some(5));
        let everywhere = "values.sidecarInjectorWebhook.enableNamespacesByDefault=true";
        let of_revision = |revision| {
            let all = manifests(&of_revision(revision, &[everywhere])).expect("manifests");
            let hooks = all.into_iter().find(is_injector).expect("a webhook");
            let hooks = hooks["webhooks"].as_array().cloned().unwrap_or_default();
            let is_auto = |hook: &Value| hook["name"] == "auto.sidecar-injector.istio.io";
            hooks.iter().any(is_auto)
        };
        assert!(of_revision("default"));
        assert!(!of_revision("canary"), "two would inject");
    }

    #[test]
    fn an_object_is_judged_by_one_revision() {
        let picks = |webhooks: &Value| {
            let mut picks = Vec::new();
            for hook in webhooks.as_array().expect("webhooks") {
                assert_eq!(hook["failurePolicy"], "Ignore", "nobody serves yet");
                let selector = &hook["objectSelector"]["matchExpressions"][0];
                assert_eq!(selector["key"], REVISION);
                picks.push(match selector["operator"].as_str() {
                    Some("In") => selector["values"][0]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                    operator => operator.unwrap_or_default().to_owned(),
                });
            }
            picks
        };
        let of_revision = |revision| {
            let all = manifests(&of_revision(revision, &[])).expect("manifests");
            let judges = |it: &&Value| it["kind"] == "ValidatingWebhookConfiguration";
            picks(&all.iter().find(judges).expect("a webhook")["webhooks"])
        };
        assert_eq!(of_revision("default"), ["default", "DoesNotExist"]);
        assert_eq!(of_revision("canary"), ["canary"]);
        assert_eq!(picks(&of("default")[2]["webhooks"]), ["DoesNotExist"]);
    }

    #[test]
    fn the_default_tag_is_what_names_no_revision() {
        let objects = of("default");
        assert_eq!(objects[0]["webhooks"].as_array().map(Vec::len), Some(4));
        let validator = &objects[2];
        assert_eq!(validator["metadata"]["name"], "istiod-default-validator");
        assert_eq!(
            validator["webhooks"][0]["clientConfig"]["service"]["path"],
            "/validate"
        );
    }

    #[test]
    fn a_revision_is_made_the_default_one() {
        let added = |installation: &Installation| {
            let before = parts(installation).expect("parts");
            let mut after = before.clone();
            add_default_tag(installation, &mut after).expect("a tag");
            let all = |parts: &[Part]| -> Vec<Value> {
                let objects = parts.iter().flat_map(|part| part.objects.clone());
                objects.collect()
            };
            let before = all(&before);
            let mut names = Vec::new();
            for object in all(&after) {
                if !before.contains(&object) {
                    assert_eq!(object["metadata"]["labels"][REVISION], "canary");
                    names.push(
                        object["metadata"]["name"]
                            .as_str()
                            .expect("a name")
                            .to_owned(),
                    );
                }
            }
            names
        };
        assert_eq!(added(&of_revision("default", &[])), [""; 0]);
        assert_eq!(
            added(&of_revision("canary", &[])),
            [
                "istio-revision-tag-default",
                "istiod-revision-tag-default",
                "istiod-default-validator"
            ]
        );
        let unjudged = of_revision("canary", &["values.global.configValidation=false"]);
        let without_judge = ["istio-revision-tag-default", "istiod-revision-tag-default"];
        assert_eq!(added(&unjudged), without_judge);
        let remote = of_revision("canary", &["profile=empty"]);
        assert_eq!(added(&remote), [""; 0]);
    }

    #[test]
    fn a_webhook_that_says_nothing_is_refused() {
        let injector = json!({"metadata": {"labels": {REVISION: "x"}}});
        let request = TagRequest {
            tag: "t",
            name: None,
            everywhere: false,
            injector: &injector,
        };
        tag(&request).expect_err("refused");
    }
}
