//! Injection: namespaces and pods that ask for a proxy, and what they have.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{
    Code, Findings,
    index::{Index, Workload},
    injector,
    object::{Obj, entries, is_of_system, list, text},
};

/// Variants of an image, which take part in no comparison.
const VARIANTS: [&str; 2] = ["-distroless", "-debug"];
/// An image that the injector replaces.
const AUTO: &str = "auto";

/// Namespaces that ask for injection or do not, and pods without what their namespace asks for.
pub(super) fn namespaces<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let values = injector::values(index, "");
    let by_default = values.is_some_and(|values| {
        values["sidecarInjectorWebhook"]["enableNamespacesByDefault"] == true
    });
    for object in index.of("Namespace") {
        if is_of_system(object.name, &index.settings.root_namespace) {
            continue;
        }
        let injection = object.label("istio-injection");
        let revision = object.label("istio.io/rev");
        match (injection, revision) {
            (Some(_), Some(_)) => {
                let what = "labels istio-injection and istio.io/rev are both there, and istio-injection \
                            alone counts; remove one";
                findings.add(
                    object,
                    Code::NamespaceMultipleInjectionLabels,
                    "metadata.labels",
                    what,
                );
            }
            (None, None) if object.label("istio.io/dataplane-mode").is_some() => {}
            (None, None) if by_default => {
                let what = "pods are injected although the namespace does not ask for it: the injector \
                            does so by default; label it istio-injection=disabled to have none";
                findings.add(object, Code::NamespaceInjectionEnabledByDefault, "", what);
            }
            (None, None) => {
                let name = object.name;
                let what = format!(
                    "The namespace is not enabled for injection: run 'kubectl label namespace {name} \
                     istio-injection=enabled', or with istio-injection=disabled to say that it is meant"
                );
                findings.add(object, Code::NamespaceNotInjected, "metadata.labels", what);
            }
            _ => {}
        }
    }
}

/// Pods without the proxy that their namespace asks for.
pub(super) fn pods<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (_, pod) in index.workloads() {
        let namespace = pod.object.namespace;
        let asks = pod.is_pod()
            && index.is_injected(namespace)
            && pod.spec["hostNetwork"] != true
            && pod.inject() != Some("false");
        if !asks || pod.proxy().is_some() || has_ended(&pod) {
            continue;
        }
        let name = pod.object.name;
        let what = format!(
            "The pod {name} is missing the proxy: it was made before its namespace asked for injection, \
             or the webhook was not called; make it anew"
        );
        findings.add(&pod.object, Code::PodMissingProxy, "", what);
    }
}

fn has_ended(pod: &Workload<'_>) -> bool {
    let phase = text(&pod.object.written.value["status"]["phase"]);
    matches!(phase, "Succeeded" | "Failed")
}

/// Proxies of other images than the injector would give.
pub(super) fn images<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut injected: HashMap<&str, Option<String>> = HashMap::new();
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, pod) in index.workloads().filter(|(_, pod)| pod.is_pod()) {
        let Some(namespace) = index.namespace(pod.object.namespace) else {
            continue;
        };
        if !index.is_injected(namespace.name) || pod.inject() == Some("false") {
            continue;
        }
        let Some(image) = pod.proxy().map(|proxy| text(&proxy["image"])) else {
            continue;
        };
        let revision = match namespace.label("istio-injection") {
            Some(_) => "",
            None => namespace.label("istio.io/rev").unwrap_or_default(),
        };
        let of_injector = injected
            .entry(revision)
            .or_insert_with(|| injector::image(&injector::values(index, revision)?));
        let said = pod.annotation(lateen_api::annotations::PROXY_IMAGE);
        let wanted = said.map(str::to_owned).or_else(|| of_injector.clone());
        if wanted.is_some_and(|wanted| plain(&wanted) != plain(image)) {
            others
                .entry(namespace.name)
                .or_default()
                .push(pod.object.name);
        }
    }
    for (name, pods) in others {
        let Some(namespace) = index.namespace(name) else {
            continue;
        };
        let what = format!(
            "The proxy's image is another than the injector gives in these pods: {}; make them anew, as \
             with 'kubectl rollout restart'",
            pods.join(", ")
        );
        findings.add(
            &namespace,
            Code::PodsIstioProxyImageMismatchInNamespace,
            "",
            what,
        );
    }
}

fn plain(image: &str) -> &str {
    VARIANTS
        .iter()
        .find_map(|variant| image.strip_suffix(variant))
        .unwrap_or(image)
}

/// Images that the injector was to replace.
pub(super) fn auto<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (_, workload) in index.workloads() {
        let object = &workload.object;
        let is_auto = workload.proxy().is_some_and(|proxy| proxy["image"] == AUTO);
        if !is_auto {
            continue;
        }
        let field = format!("{}.containers", workload.path());
        let name = object.key();
        match object.kind {
            "Pod" => {
                let what = format!(
                    "pod {name} has a container istio-proxy with image \"{AUTO}\", which the injector \
                     was to replace and did not; it cannot start: make it anew"
                );
                findings.add(object, Code::ImageAutoWithoutInjectionError, &field, what);
            }
            "Deployment" if !is_called(index, &workload) => {
                let what = format!(
                    "deployment {name} has a container istio-proxy with image \"{AUTO}\", but no webhook \
                     injects its pods, which will not start; label the namespace or the pods"
                );
                findings.add(object, Code::ImageAutoWithoutInjectionWarning, &field, what);
            }
            _ => {}
        }
    }
}

/// Whether an injector is called for the pods of a template: by its webhooks, where these are known.
fn is_called(index: &Index<'_>, workload: &Workload<'_>) -> bool {
    let is_injector = |of: &&Obj<'_>| {
        list(&of.written.value["webhooks"])
            .iter()
            .any(|hook| text(&hook["name"]).ends_with("sidecar-injector.istio.io"))
    };
    let mut injectors = index
        .of("MutatingWebhookConfiguration")
        .iter()
        .filter(is_injector)
        .peekable();
    if injectors.peek().is_none() {
        return index.is_injected(workload.object.namespace) || workload.inject() == Some("true");
    }
    let namespace = index.namespace(workload.object.namespace);
    let none = Value::Null;
    let of_namespace = namespace.map_or(&none, |of| &of.written.value["metadata"]["labels"]);
    let mut hooks = injectors.flat_map(|of| list(&of.written.value["webhooks"]));
    hooks.any(|hook| {
        selected(&hook["namespaceSelector"], of_namespace)
            && selected(&hook["objectSelector"], workload.labels())
    })
}

/// Whether a selector of Kubernetes selects labels.
pub(super) fn selected(selector: &Value, labels: &Value) -> bool {
    let mut of_labels = entries(&selector["matchLabels"]);
    let all = of_labels.all(|(key, value)| labels.get(key) == Some(value));
    all && list(&selector["matchExpressions"])
        .iter()
        .all(|expression| {
            let held = labels.get(text(&expression["key"]));
            let among = || held.is_some_and(|held| list(&expression["values"]).contains(held));
            match text(&expression["operator"]) {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => held.is_some(),
                "DoesNotExist" => held.is_none(),
                _ => false,
            }
        })
}
