//! Injection into files.

use lateen_api::annotations;
use serde_json::Value;

use crate::custom::Template;
use crate::template::{BuiltIn, Draft, uninject};
use crate::{Decision, InjectorConfig, Owner, Params, checks, decide, values};

/// Why a file cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum KubeInjectError {
    /// A document is not YAML.
    #[error(transparent)]
    Malformed(#[from] lateen_yaml::DocumentError),
    /// The result cannot be written.
    #[error("cannot write document {number}: {source}")]
    Write {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: lateen_yaml::WriteError,
    },
    /// An annotation asks for what is not there, or cannot be read.
    #[error("document {number}: {reason}")]
    Refused {
        /// Which, from 1.
        number: usize,
        /// What is wrong with which annotation.
        reason: String,
    },
}

/// Injects every workload of a file of YAML documents; the rest stays as it is. What names no namespace is
/// of the one that is given.
pub fn kube_inject(
    text: &str,
    namespace: &str,
    params: &Params,
) -> Result<String, KubeInjectError> {
    each_document(text, |document| {
        inject_document(document, namespace, params)
    })
}

/// Takes the injection out of every workload of a file; the rest stays as it is.
pub fn kube_uninject(text: &str) -> Result<String, KubeInjectError> {
    each_document(text, |document| Ok(uninject_document(document)))
}

fn each_document(
    text: &str,
    mut change: impl FnMut(&mut Value) -> Result<bool, String>,
) -> Result<String, KubeInjectError> {
    let mut out = Vec::new();
    for (n, mut value) in lateen_yaml::documents(text)?.into_iter().enumerate() {
        let number = n + 1;
        change(&mut value).map_err(|reason| KubeInjectError::Refused { number, reason })?;
        let written = lateen_yaml::to_string(&value);
        out.push(written.map_err(|source| KubeInjectError::Write { number, source })?);
    }
    Ok(out.join("---\n"))
}

/// Takes the injection out of a workload, or of each workload of a list. Returns whether there was one.
pub fn uninject_document(document: &mut Value) -> bool {
    if document.get("kind").is_some_and(|kind| kind == "List") {
        let items = values::list(document, "items").iter_mut();
        return items.fold(false, |any, item| uninject_document(item) | any);
    }
    pod_of(document).is_some_and(uninject)
}

/// The pod of a workload, or the template of its pods.
fn pod_of(document: &mut Value) -> Option<&mut Value> {
    match document.get("kind").and_then(Value::as_str)? {
        "Pod" => Some(document),
        "CronJob" => document.pointer_mut("/spec/jobTemplate/spec/template"),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "Job"
        | "ReplicationController"
        | "DeploymentConfig" => document.pointer_mut("/spec/template"),
        _ => None,
    }
}

/// Injects a workload, or each workload of a list. What names no namespace is of the one that is given.
/// Returns whether anything was injected; an error says what is wrong with which annotation.
pub fn inject_document(
    document: &mut Value,
    namespace: &str,
    params: &Params,
) -> Result<bool, String> {
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind == "List" {
        let mut any = false;
        for item in values::list(document, "items") {
            any |= inject_document(item, namespace, params)?;
        }
        return Ok(any);
    }
    let namespace = values::text(document, &["metadata", "namespace"])
        .unwrap_or(namespace)
        .to_owned();
    let name = values::text(document, &["metadata", "name"])
        .unwrap_or_default()
        .to_owned();
    let owner = Owner {
        api_version,
        kind,
        name,
        namespace,
    };
    match pod_of(document) {
        Some(pod) => inject_pod(pod, &owner, params),
        None => Ok(false),
    }
}

/// Decides, picks the template and injects.
pub(crate) fn inject_pod(pod: &mut Value, owner: &Owner, params: &Params) -> Result<bool, String> {
    if let Decision::Skip(reason) = decide(pod, &owner.namespace, params) {
        tracing::debug!(
            owner = owner.name,
            namespace = owner.namespace,
            reason,
            "not injected"
        );
        return Ok(false);
    }
    checks::annotations(pod)?;
    let templates = templates(pod, params)?;
    let built_in = templates.iter().find_map(|(_, template)| match template {
        Chosen::BuiltIn(template) => Some(*template),
        Chosen::Custom(_) => None,
    });
    let mut draft = Draft::of(pod, owner, params, built_in);
    if built_in == Some(BuiltIn::Sidecar) {
        checks::capture(&draft)?;
    }
    for (name, template) in templates {
        match template {
            Chosen::BuiltIn(template) => template.fill(&mut draft),
            Chosen::Custom(template) => template.fill(name, &mut draft)?,
        }
    }
    draft.finish();
    Ok(true)
}

#[derive(PartialEq)]
enum Chosen<'a> {
    BuiltIn(BuiltIn),
    Custom(&'a Template),
}

/// The templates that the pod names, or those of all pods, each once. Of the built-in ones the last
/// counts: each is a whole.
fn templates<'a>(pod: &Value, params: &'a Params) -> Result<Vec<(&'a str, Chosen<'a>)>, String> {
    let config = &params.config;
    let named = values::annotation(pod, annotations::TEMPLATES);
    let named: Vec<&str> = match named {
        Some(named) => named.split(',').map(str::trim).collect(),
        None => config
            .default_templates
            .iter()
            .map(String::as_str)
            .collect(),
    };
    let mut chosen: Vec<(&str, Chosen<'_>)> = Vec::new();
    for name in named {
        let stands_for = config.aliases.get(name);
        let all: Vec<&str> = match stands_for {
            Some(all) => all.iter().map(String::as_str).collect(),
            None => vec![name],
        };
        for name in all {
            let found = find(name, config)?;
            if matches!(found.1, Chosen::BuiltIn(_)) {
                chosen.retain(|(_, other)| !matches!(other, Chosen::BuiltIn(_)));
            }
            if !chosen.iter().any(|(held, _)| *held == found.0) {
                chosen.push(found);
            }
        }
    }
    // What is laid over something comes after it.
    chosen.sort_by_key(|(_, template)| matches!(template, Chosen::Custom(_)));
    Ok(chosen)
}

fn find<'a>(name: &str, config: &'a InjectorConfig) -> Result<(&'a str, Chosen<'a>), String> {
    if let Some((name, template)) = config.templates.get_key_value(name) {
        return Ok((name, Chosen::Custom(template)));
    }
    if let Some(template) = BuiltIn::of(name) {
        return Ok(("", Chosen::BuiltIn(template)));
    }
    let own: Vec<&str> = config.templates.keys().map(String::as_str).collect();
    let own = match &own[..] {
        [] => "has no others".to_owned(),
        own => format!("has {}", own.join(", ")),
    };
    Err(format!(
        "there is no injection template {name:?}: sidecar, gateway, grpc-agent and grpc-simple are \
         built in, and the injector's ConfigMap {own}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_documents_stay() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\n---\n\
            apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: b\nspec:\n  jobTemplate:\n    spec:\n      \
            template:\n        spec:\n          containers:\n          - name: c\n";
        let out = kube_inject(text, "default", &Params::default()).expect("injected");
        assert!(
            out.starts_with("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\n"),
            "{out}"
        );
        assert!(
            out.contains("namespaces/default/cronjobs/b") && out.contains("istio-init"),
            "{out}"
        );
        let again = kube_inject(&out, "default", &Params::default()).expect("injected");
        let values = |text: &str| -> Vec<Value> { lateen_yaml::documents(text).expect("YAML") };
        assert_eq!(values(&out), values(&again), "injection is idempotent");
        let back = kube_uninject(&again).expect("uninjected");
        assert_eq!(
            values(&back)[..],
            values(&text.replacen("---\n", "", 1))[..]
        );
    }

    #[test]
    fn what_names_no_namespace_is_of_the_one_that_is_given() {
        let check = |metadata: &str, namespace: &str, owner: Option<&str>| {
            let pod = format!(
                "{{kind: Pod, metadata: {{name: a{metadata}}}, spec: {{containers: [{{name: c}}]}}}}"
            );
            for text in [format!("{{kind: List, items: [{pod}]}}"), pod] {
                let out = kube_inject(&text, namespace, &Params::default()).expect("injected");
                let owned = owner.map(|of| format!("/namespaces/{of}/pods/a"));
                match owned {
                    Some(owned) => assert!(out.contains(&owned), "{out}"),
                    None => assert!(!out.contains("istio-proxy"), "{out}"),
                }
            }
        };
        check("", "shop", Some("shop"));
        check(", namespace: own", "shop", Some("own"));
        // No pod of it is injected.
        check("", "kube-system", None);
        check(", namespace: own", "kube-system", Some("own"));
    }

    /// What is injected means to `kubectl` what the file alone meant.
    #[test]
    fn files_are_read_and_written_as_kubectl_does() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {\"on\": \"off\"}\nspec:\n  \
            hostNetwork: no\n  containers:\n  - name: c\n    env:\n    - {name: A, value: \"yes\"}\n    \
            - {name: B, value: \"1_000\"}\n  volumes:\n  - name: v\n    secret: {secretName: s, defaultMode: 0644}\n";
        let out = kube_inject(pod, "default", &Params::default()).expect("injected");
        assert!(out.contains("istio-proxy"), "{out}");
        assert!(out.contains("hostNetwork: false\n"), "{out}");
        assert!(out.contains("defaultMode: 420\n"), "{out}");
        for (key, text) in [("value", "yes"), ("value", "1_000"), ("\"on\"", "off")] {
            let quoted = ['\'', '"'].map(|quote| format!("{key}: {quote}{text}{quote}\n"));
            assert!(quoted.iter().any(|line| out.contains(line)), "{out}");
        }
        let host = pod.replace("hostNetwork: no", "hostNetwork: yes");
        let out = kube_inject(&host, "default", &Params::default()).expect("left alone");
        assert!(!out.contains("istio-proxy"), "{out}");
    }

    #[test]
    fn malformed_yaml_is_named_with_its_place() {
        let error = kube_inject("kind: Service\n---\nkind: [", "default", &Params::default());
        let message = error.expect_err("refused").to_string();
        assert!(
            message.starts_with("document 2 is not valid YAML:") && message.contains("line"),
            "{message}"
        );
    }
}
