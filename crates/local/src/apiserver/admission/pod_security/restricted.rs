//! The level `restricted`: what a pod needs that is written with care, and no more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{bad_seccomp, forbidden_seccomp};
use super::{Violation, containers, counted, name, plural, quoted, setters, those};
use crate::apiserver::meta;

/// The one capability that may be added.
const LOW_PORTS: &str = "NET_BIND_SERVICE";

const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What this level asks beyond `baseline`.
pub(super) fn check(pod: &Value) -> Vec<Violation> {
    let all = [
        escalation(pod),
        capabilities(pod),
        volumes(pod),
        non_root(pod),
        user(pod),
        seccomp(pod),
    ];
    all.into_iter().flatten().collect()
}

fn escalation(pod: &Value) -> Option<Violation> {
    let field = "allowPrivilegeEscalation";
    let bad = those(pod, |one| one["securityContext"][field] != false);
    (!bad.is_empty()).then(|| {
        let who = counted("container", &bad);
        Violation::new(
            format!("{field} != false"),
            format!("{who} must set securityContext.{field}=false"),
        )
    })
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let drops_all = |one: &Value| {
        let dropped = meta::list(one, "/securityContext/capabilities/drop");
        dropped.iter().any(|name| name == "ALL")
    };
    let keeping = those(pod, |one| !drops_all(one));
    let forbidden = |one: &'_ Value| -> Vec<String> {
        let added = meta::list(one, "/securityContext/capabilities/add").iter();
        let added = added.filter_map(Value::as_str);
        added
            .filter(|name| *name != LOW_PORTS)
            .map(str::to_owned)
            .collect()
    };
    let adding = those(pod, |one| !forbidden(one).is_empty());
    let added: BTreeSet<String> = containers(pod)
        .flat_map(|(_, one)| forbidden(one))
        .collect();
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            counted("container", &keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            counted("container", &adding),
            quoted(&added.into_iter().collect::<Vec<_>>())
        ));
    }
    let detail = details.join("; ");
    (!detail.is_empty()).then(|| Violation::new("unrestricted capabilities", detail))
}

fn volumes(pod: &Value) -> Option<Violation> {
    let mut names = Vec::new();
    let mut kinds = BTreeSet::new();
    for volume in meta::list(pod, "/spec/volumes") {
        let sources = volume.as_object().into_iter().flatten();
        let bad = sources
            .map(|(key, _)| key.as_str())
            .find(|key| *key != "name" && !VOLUMES.contains(key));
        if let Some(kind) = bad {
            names.push(name(volume));
            kinds.insert(kind);
        }
    }
    let kinds: Vec<&str> = kinds.into_iter().collect();
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let who = counted("volume", &names);
        let (many, kinds) = (plural(&kinds), quoted(&kinds));
        Violation::new(
            "restricted volume types",
            format!("{who} {verb} restricted volume type{many} {kinds}"),
        )
    })
}

fn non_root(pod: &Value) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let (who, _) = setters(pod, |context| {
        (context["runAsNonRoot"] == false).then_some("")
    });
    if !who.is_empty() {
        let who = who.join(" and ");
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Some(Violation::new(reason, detail));
    }
    if pod["spec"]["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let silent = those(pod, |one| one["securityContext"]["runAsNonRoot"] != true);
    (!silent.is_empty()).then(|| {
        let who = counted("container", &silent);
        Violation::new(
            reason,
            format!("pod or {who} must set securityContext.runAsNonRoot=true"),
        )
    })
}

fn user(pod: &Value) -> Option<Violation> {
    let (who, _) = setters(pod, |context| (context["runAsUser"] == 0).then_some(""));
    (!who.is_empty()).then(|| {
        let who = who.join(" and ");
        Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
    })
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let (who, values) = setters(pod, bad_seccomp);
    if !who.is_empty() {
        return Some(forbidden_seccomp(&who, &values));
    }
    let says = |context: &Value| context["seccompProfile"]["type"].is_string();
    if says(&pod["spec"]["securityContext"]) {
        return None;
    }
    let silent = those(pod, |one| !says(&one["securityContext"]));
    (!silent.is_empty()).then(|| {
        let who = counted("container", &silent);
        Violation::new(
            "seccompProfile",
            format!(
                "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
            ),
        )
    })
}
