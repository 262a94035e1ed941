//! Pod security: what the pods of a namespace may ask of the machine, as its labels say.
//!
//! Labels, levels, words and order of the Pod Security Standards of Kubernetes, as of its 1.32; an older
//! version in a label is shown and changes nothing. What `audit` finds is not kept: there is no audit log.
//!
//! Pods are refused. What makes pods is not, but its template is told of where the namespace warns.

mod baseline;
mod restricted;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Operation, warnings};
use crate::apiserver::core::Core;
use crate::apiserver::error::{ApiError, FieldError};
use crate::apiserver::meta;
use crate::apiserver::request::Call;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// What is done with violations; each has a label for its level and one for its version.
const MODES: [&str; 3] = ["enforce", "warn", "audit"];
const LATEST: &str = "latest";

/// A namespace's label: `false` gives each of its pods users of its own (`hostUsers: false`).
pub const HOST_USERS: &str = "lateen.io/host-users";

/// How much a pod may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const ALL: [(&'static str, Self); 3] = [
        ("privileged", Self::Privileged),
        ("baseline", Self::Baseline),
        ("restricted", Self::Restricted),
    ];

    fn named(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, level)| *level)
    }
}

/// A level with the names that it is shown by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    level: Level,
    /// `level:version`.
    shown: String,
}

impl Policy {
    /// What the labels of a namespace say for a mode. A level that is none is the narrowest.
    fn of(namespace: &Value, mode: &str) -> Self {
        let labels = &namespace["metadata"]["labels"];
        let text = |key: String| labels[key].as_str().map(str::to_owned);
        let name = text(format!("{PREFIX}{mode}")).unwrap_or_else(|| "privileged".into());
        let version = text(format!("{PREFIX}{mode}-version")).unwrap_or_else(|| LATEST.into());
        Self {
            level: Level::named(&name).unwrap_or(Level::Restricted),
            shown: format!("{name}:{version}"),
        }
    }

    /// What a pod does that it may not.
    fn violations(&self, pod: &Value) -> Vec<Violation> {
        match self.level {
            Level::Privileged => Vec::new(),
            Level::Baseline => baseline::check(pod, false),
            Level::Restricted => {
                let mut found = baseline::check(pod, true);
                found.extend(restricted::check(pod));
                found
            }
        }
    }
}

/// Something that a pod may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

fn details(violations: &[Violation]) -> String {
    let each = violations
        .iter()
        .map(|one| format!("{} ({})", one.reason, one.detail));
    each.collect::<Vec<_>>().join(", ")
}

/// Refuses a pod that its namespace does not allow, and labels of a namespace that are none.
pub(in crate::apiserver) fn check(
    core: &Core,
    call: &Call,
    operation: Operation<'_>,
    object: &Value,
) -> Result<(), ApiError> {
    let resource = &call.target.resource;
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    if resource.is("", "namespaces") {
        return check_namespace(core, call, operation, object);
    }
    let Some(namespace) = core.get("namespaces", "", &call.target.namespace) else {
        return Ok(());
    };
    if resource.is("", "pods") {
        return check_pod(call, &namespace.value, operation, object);
    }
    let template = match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "deployments" | "replicasets") | ("batch", "jobs") => &object["spec"]["template"],
        _ => return Ok(()),
    };
    warn(&namespace.value, template);
    Ok(())
}

fn check_pod(
    call: &Call,
    namespace: &Value,
    operation: Operation<'_>,
    pod: &Value,
) -> Result<(), ApiError> {
    // A pod that is there already may be labelled and may end, whatever is asked of new ones.
    let annotations = |pod: &Value| pod["metadata"]["annotations"].clone();
    let same = operation
        .old
        .is_some_and(|old| old["spec"] == pod["spec"] && annotations(old) == annotations(pod));
    if same {
        return Ok(());
    }
    let refuse = |why: &str| {
        let name = meta::name(pod);
        Err(ApiError::forbidden(&call.target.resource, name, why))
    };
    if has_own_users(namespace) && pod["spec"]["hostUsers"] != false {
        return refuse(&format!(
            "the namespace is labelled {HOST_USERS}=false, so that spec.hostUsers must be false"
        ));
    }
    let policy = Policy::of(namespace, "enforce");
    let found = policy.violations(pod);
    if !found.is_empty() {
        let (shown, details) = (&policy.shown, details(&found));
        return refuse(&format!("violates PodSecurity {shown:?}: {details}"));
    }
    warn(namespace, pod);
    Ok(())
}

fn warn(namespace: &Value, pod: &Value) {
    let policy = Policy::of(namespace, "warn");
    let found = policy.violations(pod);
    if !found.is_empty() {
        let (shown, details) = (&policy.shown, details(&found));
        warnings::say([format!("would violate PodSecurity {shown:?}: {details}")]);
    }
}

/// Whether the pods of a namespace get users of their own.
pub(in crate::apiserver) fn has_own_users(namespace: &Value) -> bool {
    namespace["metadata"]["labels"][HOST_USERS] == "false"
}

fn check_namespace(
    core: &Core,
    call: &Call,
    operation: Operation<'_>,
    namespace: &Value,
) -> Result<(), ApiError> {
    let errors = label_errors(namespace);
    if !errors.is_empty() {
        let name = meta::name(namespace);
        return Err(ApiError::invalid(&call.target.resource, name, &errors));
    }
    let policy = Policy::of(namespace, "enforce");
    let is_new = operation
        .old
        .is_some_and(|old| Policy::of(old, "enforce") != policy);
    if is_new {
        warn_of_existing(core, namespace, &policy);
    }
    Ok(())
}

fn label_errors(namespace: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let labels = &namespace["metadata"]["labels"];
    let mut check = |key: String, is_good: fn(&str) -> bool, why: &str| {
        let value = &labels[&key];
        if value.as_str().is_some_and(|text| !is_good(text)) {
            let field = format!("metadata.labels[{key}]");
            errors.push(FieldError::invalid(field, value, why));
        }
    };
    let levels = "must be one of privileged, baseline, restricted";
    let versions = "must be \"latest\" or \"v1.x\"";
    for mode in MODES {
        let is_level = |text: &str| Level::named(text).is_some();
        check(format!("{PREFIX}{mode}"), is_level, levels);
        check(format!("{PREFIX}{mode}-version"), is_version, versions);
    }
    check(
        HOST_USERS.to_owned(),
        |text| matches!(text, "true" | "false"),
        "must be true or false",
    );
    errors
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.");
    let is_number = |minor: &str| {
        !minor.is_empty()
            && minor.bytes().all(|byte| byte.is_ascii_digit())
            && (minor == "0" || !minor.starts_with('0'))
    };
    text == LATEST || minor.is_some_and(is_number)
}

/// Tells who narrows a namespace which of its pods would not be let in any more.
fn warn_of_existing(core: &Core, namespace: &Value, policy: &Policy) {
    let name = meta::name(namespace);
    let (pods, _) = core.store.list("pods", Some(name));
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in &pods {
        let found = policy.violations(&pod.value);
        if !found.is_empty() {
            let reasons: Vec<_> = found.iter().map(|one| one.reason.as_str()).collect();
            let names = by_reason.entry(reasons.join(", ")).or_default();
            names.push(meta::name(&pod.value).to_owned());
        }
    }
    if by_reason.is_empty() {
        return;
    }
    let shown = &policy.shown;
    warnings::say([format!(
        "existing pods in namespace {name:?} violate the new PodSecurity enforce level {shown:?}"
    )]);
    warnings::say(by_reason.into_iter().map(|(reasons, names)| {
        let more = match names.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other pod)".to_owned(),
            n => format!(" (and {n} other pods)"),
        };
        format!("{}{more}: {reasons}", names[0])
    }));
}

/// The containers of a pod of every kind, in the order that they are told in.
fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |list| {
            let all = pod["spec"][list].as_array().into_iter().flatten();
            all.map(move |container| (list, container))
        })
}

fn name(object: &Value) -> &str {
    object["name"].as_str().unwrap_or_default()
}

/// The names of the containers for which something holds.
fn those<'p>(pod: &'p Value, holds: impl Fn(&'p Value) -> bool) -> Vec<&'p str> {
    let all = containers(pod).filter(|(_, container)| holds(container));
    all.map(|(_, container)| name(container)).collect()
}

/// `container "a"`, or `containers "a", "b"`.
fn counted(what: &str, names: &[&str]) -> String {
    format!("{what}{} {}", plural(names), quoted(names))
}

fn plural<T>(all: &[T]) -> &'static str {
    match all.len() {
        1 => "",
        _ => "s",
    }
}

fn quoted<T: std::fmt::Debug>(all: &[T]) -> String {
    let each = all.iter().map(|one| format!("{one:?}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Who sets a value of the security context that is not allowed: the pod, containers, or both; and the
/// values, sorted.
fn setters<'p>(
    pod: &'p Value,
    bad: impl Fn(&'p Value) -> Option<&'p str>,
) -> (Vec<String>, Vec<&'p str>) {
    let mut who = Vec::new();
    let mut values = std::collections::BTreeSet::new();
    if let Some(value) = bad(&pod["spec"]["securityContext"]) {
        who.push("pod".to_owned());
        values.insert(value);
    }
    let mut names = Vec::new();
    for (_, container) in containers(pod) {
        if let Some(value) = bad(&container["securityContext"]) {
            names.push(name(container));
            values.insert(value);
        }
    }
    if !names.is_empty() {
        who.push(counted("container", &names));
    }
    (who, values.into_iter().collect())
}

#[cfg(test)]
mod tests;
