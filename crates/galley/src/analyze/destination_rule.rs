//! DestinationRules: whether servers are verified, and whether hosts and subsets are there.

use serde_json::{Map, Value};

use super::{
    Code, Findings,
    index::{Index, Workload, selector},
    object::{Obj, entries, in_words, list, text},
};

/// TLS that takes any certificate for the server's.
pub(super) fn roots<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("DestinationRule") {
        let spec = object.spec();
        let host = text(&spec["host"]);
        let policies = list(&spec["subsets"])
            .iter()
            .enumerate()
            .map(|(n, subset)| {
                (
                    format!("spec.subsets[{n}].trafficPolicy"),
                    &subset["trafficPolicy"],
                )
            });
        let own = ("spec.trafficPolicy".to_owned(), &spec["trafficPolicy"]);
        for (at, policy) in policies.chain([own]) {
            if let Some(mode) = unverified(spec, &policy["tls"]) {
                let what = format!(
                    "TLS to {host:?} is {mode} without caCertificates: the server's certificate is held \
                     against no roots of yours; set them"
                );
                let code = Code::NoServerCertificateVerificationDestinationLevel;
                findings.add(object, code, &format!("{at}.tls"), what);
            }
            for (n, level) in list(&policy["portLevelSettings"]).iter().enumerate() {
                let Some(mode) = unverified(spec, &level["tls"]) else {
                    continue;
                };
                let what = format!(
                    "TLS to port {} of {host:?} is {mode} without caCertificates: the server's \
                     certificate is held against no roots of yours; set them",
                    level["port"]["number"]
                );
                let code = Code::NoServerCertificateVerificationPortLevel;
                findings.add(
                    object,
                    code,
                    &format!("{at}.portLevelSettings[{n}].tls"),
                    what,
                );
            }
        }
    }
}

/// The mode of a setting that verifies nothing.
fn unverified<'a>(spec: &Value, tls: &'a Value) -> Option<&'a str> {
    let mode = text(&tls["mode"]);
    // Sidecars read Secrets only for rules that select them.
    let by_secret = !text(&tls["credentialName"]).is_empty() && !spec["workloadSelector"].is_null();
    let bare = text(&tls["caCertificates"]).is_empty() && !by_secret;
    (bare && matches!(mode, "SIMPLE" | "MUTUAL")).then_some(mode)
}

/// Hosts that are not there, and subsets that no pod is of.
pub(super) fn hosts<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("DestinationRule") {
        let written = text(&object.spec()["host"]);
        let host = index.full_name(written, object.namespace);
        let services = index.services(&host, object.namespace);
        if services.is_empty() && !stands_for_some(index, &host) {
            let what = format!(
                "host {written:?} is that of no Service or ServiceEntry that is known here"
            );
            findings.add(object, Code::UnknownDestinationRuleHost, "spec.host", what);
            continue;
        }
        let Some(service) = services.iter().find(|of| of.kind == "Service") else {
            continue;
        };
        subsets(index, object, service, findings);
    }
}

/// A wildcard is for all services that it covers.
fn stands_for_some(index: &Index<'_>, host: &str) -> bool {
    let Some(suffix) = host.strip_prefix('*') else {
        return false;
    };
    let mut services = index.of("Service").iter();
    services.any(|of| index.full_name(of.name, of.namespace).ends_with(suffix))
        || index.of("ServiceEntry").iter().any(|of| {
            let mut hosts = super::object::texts(&of.spec()["hosts"]);
            hosts.any(|of| of.ends_with(suffix))
        })
}

fn subsets<'a>(
    index: &Index<'a>,
    object: &Obj<'a>,
    service: &Obj<'a>,
    findings: &mut Findings<'a>,
) {
    let Some(selector) = selector(&service.spec()["selector"]) else {
        return;
    };
    let pods = index.select(Some(service.namespace), selector);
    for (n, subset) in list(&object.spec()["subsets"]).iter().enumerate() {
        let Some(labels) = subset["labels"]
            .as_object()
            .filter(|labels| !labels.is_empty())
        else {
            continue;
        };
        if pods.iter().any(|(_, pod)| is_of(index, labels, pod)) {
            continue;
        }
        let what = format!(
            "subset {:?} has no pod: none of host {:?} has the labels {}",
            text(&subset["name"]),
            text(&object.spec()["host"]),
            in_words(labels)
        );
        let field = format!("spec.subsets[{n}].labels");
        findings.add(
            object,
            Code::DestinationRuleSubsetNotSelectPods,
            &field,
            what,
        );
    }
}

/// Where a pod runs counts among its labels.
fn is_of(index: &Index<'_>, subset: &Map<String, Value>, pod: &Workload<'_>) -> bool {
    let node = index.find("Node", "", text(&pod.spec["nodeName"]));
    let of_node = |key: &str| {
        let names = key.starts_with("topology.kubernetes.io/") || key == "kubernetes.io/hostname";
        node.and_then(|node| node.label(key))
            .filter(|value| names && !value.is_empty())
    };
    subset.iter().all(|(key, value)| {
        let own = entries(pod.labels()).any(|(name, held)| name == key && held == value);
        own || of_node(key).is_some_and(|held| *value == *held)
    })
}
