//! Injection into files.

use lateen_api::annotations;
use serde::Deserialize;
use serde_json::Value;

use crate::template::{inject_grpc_agent, inject_grpc_simple};
use crate::{Decision, Owner, Params, decide, inject, inject_gateway, values};

/// Why a file cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum KubeInjectError {
    /// A document is not YAML.
    #[error("document {number} is not valid YAML: {source}")]
    Malformed {
        /// Which, from 1.
        number: usize,
        /// What is wrong, with its place.
        source: serde_yaml_ng::Error,
    },
    /// The result cannot be written.
    #[error("cannot write document {number}: {source}")]
    Write {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: serde_yaml_ng::Error,
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

/// Injects every workload of a file of YAML documents; the rest stays as it is.
pub fn kube_inject(text: &str, params: &Params) -> Result<String, KubeInjectError> {
    let mut out = Vec::new();
    for (n, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let number = n + 1;
        let malformed = |source| KubeInjectError::Malformed { number, source };
        let mut value = Value::deserialize(document).map_err(malformed)?;
        if value.is_null() {
            continue;
        }
        inject_document(&mut value, params)
            .map_err(|reason| KubeInjectError::Refused { number, reason })?;
        let written = serde_yaml_ng::to_string(&value);
        out.push(written.map_err(|source| KubeInjectError::Write { number, source })?);
    }
    Ok(out.join("---\n"))
}

/// Injects a workload, or each workload of a list. Returns whether anything was; an error says what
/// is wrong with which annotation.
pub fn inject_document(document: &mut Value, params: &Params) -> Result<bool, String> {
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
            any |= inject_document(item, params)?;
        }
        return Ok(any);
    }
    let namespace = values::text(document, &["metadata", "namespace"])
        .unwrap_or("default")
        .to_owned();
    let name = values::text(document, &["metadata", "name"])
        .unwrap_or_default()
        .to_owned();
    let owner = Owner {
        api_version,
        kind: kind.clone(),
        name,
        namespace,
    };
    let pod = match kind.as_str() {
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
    };
    match pod {
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
    let templates = values::annotation(pod, annotations::TEMPLATES).unwrap_or("sidecar");
    let mut template: fn(&mut Value, &Owner, &Params) = inject;
    for name in templates.split(',').map(str::trim) {
        match name {
            "sidecar" => {}
            "gateway" => template = inject_gateway,
            "grpc-agent" => template = inject_grpc_agent,
            "grpc-simple" => template = inject_grpc_simple,
            other => {
                return Err(format!(
                    "injection template {other:?} is not supported, only sidecar, gateway, \
                     grpc-agent and grpc-simple are"
                ));
            }
        }
    }
    check_proxy_config(pod)?;
    template(pod, owner, params);
    Ok(true)
}

/// A pod whose settings cannot be read must not run with others.
fn check_proxy_config(pod: &Value) -> Result<(), String> {
    let key = annotations::PROXY_CONFIG;
    let Some(text) = values::annotation(pod, key).filter(|text| !text.trim().is_empty()) else {
        return Ok(());
    };
    match serde_yaml_ng::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(format!(
            "annotation {key} is not a list of fields: {text:?}"
        )),
        Err(error) => Err(format!("annotation {key} is not valid YAML: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_read_are_refused() {
        let check = |config: &str, reason: Option<&str>| {
            let mut pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "annotations": {"proxy.istio.io/config": config}},
                "spec": {"containers": [{"name": "c"}]},
            });
            let refused = inject_document(&mut pod, &Params::default()).err();
            match reason {
                None => assert_eq!(refused, None, "{config:?}"),
                Some(reason) => {
                    let refused = refused.unwrap_or_default();
                    assert!(refused.contains(reason), "{config:?}: {refused}");
                }
            }
        };
        check("concurrency: 2", None);
        check("", None);
        check("concurrency", Some("is not a list of fields"));
        check("concurrency: [2", Some("is not valid YAML"));
    }

    #[test]
    fn other_documents_stay() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\n---\n\
            apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: b\nspec:\n  jobTemplate:\n    spec:\n      \
            template:\n        spec:\n          containers:\n          - name: c\n";
        let out = kube_inject(text, &Params::default()).expect("injected");
        assert!(
            out.starts_with("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\n"),
            "{out}"
        );
        assert!(
            out.contains("namespaces/default/cronjobs/b") && out.contains("istio-init"),
            "{out}"
        );
        let again = kube_inject(&out, &Params::default()).expect("injected");
        assert_eq!(out, again, "what is injected is not injected again");
    }

    #[test]
    fn malformed_yaml_is_named_with_its_place() {
        let error = kube_inject("kind: Service\n---\nkind: [", &Params::default());
        let message = error.expect_err("refused").to_string();
        assert!(
            message.starts_with("document 2 is not valid YAML:") && message.contains("line"),
            "{message}"
        );
    }
}
