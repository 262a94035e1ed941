//! Which proxies a report is about, and of which time.

use std::str::FromStr;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;

/// The time that logs are of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub(super) start: Option<SystemTime>,
    pub(super) end: Option<SystemTime>,
}

/// As RFC 3339 writes it.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not like 2026-11-26T18:00:00Z"))?;
    Ok(time.into())
}

/// `NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS`. A part that is empty is for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    namespaces: Vec<String>,
    deployments: Vec<String>,
    pods: Vec<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    pub(super) containers: Vec<String>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = parts(text);
        if parts.len() > 6 {
            return Err(format!(
                "{text:?} has more than six parts: \
                 NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS"
            ));
        }
        let part = |at: usize| parts.get(at).map_or("", String::as_str);
        Ok(Selection {
            namespaces: patterns(part(0)),
            deployments: patterns(part(1)),
            pods: patterns(part(2)),
            labels: pairs(part(3))?,
            annotations: pairs(part(4))?,
            containers: patterns(part(5)),
        })
    }
}

/// Which parts are of labels and of annotations.
const PAIRS: [usize; 2] = [3, 4];

/// The parts. In those of labels and annotations a key may have a slash of its own, behind a name with
/// a dot: `app.kubernetes.io/name=x`.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for piece in text.split('/') {
        let is_pairs = parts
            .len()
            .checked_sub(1)
            .is_some_and(|at| PAIRS.contains(&at));
        match parts.last_mut().filter(|last| is_pairs && is_prefix(last)) {
            Some(last) => {
                last.push('/');
                last.push_str(piece);
            }
            None => parts.push(piece.to_owned()),
        }
    }
    parts
}

/// Whether pairs end with what stands before the slash of a key.
fn is_prefix(pairs: &str) -> bool {
    let last = pairs.rsplit(',').next().unwrap_or_default();
    last.contains('.') && !last.contains(['=', '/', '*'])
}

fn patterns(part: &str) -> Vec<String> {
    let all = part.split(',').map(str::trim);
    let all: Vec<_> = all.filter(|it| !it.is_empty()).map(str::to_owned).collect();
    match all.iter().any(|pattern| pattern == "*") {
        true => Vec::new(),
        false => all,
    }
}

fn pairs(part: &str) -> Result<Vec<(String, String)>, String> {
    let all = patterns(part).into_iter().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, "*"));
        if key.contains('*') {
            return Err(format!("{pair:?}: * is not for keys"));
        }
        Ok((key.to_owned(), value.to_owned()))
    });
    all.collect()
}

impl Selection {
    /// Whether a pod is of it.
    pub(super) fn has(&self, pod: &Pod) -> bool {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let deployment = workload(pod);
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        let all = |wanted: &[(String, String)],
                   own: Option<&std::collections::BTreeMap<String, String>>| {
            wanted.iter().all(|(key, pattern)| {
                own.and_then(|own| own.get(key))
                    .is_some_and(|value| matches(pattern, value))
            })
        };
        any(&self.namespaces, namespace)
            && any(&self.deployments, &deployment)
            && any(&self.pods, name)
            && all(&self.labels, meta.labels.as_ref())
            && all(&self.annotations, meta.annotations.as_ref())
            && (self.containers.is_empty() || self.of_containers(pod).next().is_some())
    }

    /// The pod's containers that are named.
    pub(super) fn of_containers<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a str> {
        let named = containers(pod);
        named.filter(|name| self.containers.iter().any(|pattern| matches(pattern, name)))
    }
}

/// The names of a pod's containers, native sidecars included.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| {
        let before = spec.init_containers.iter().flatten();
        let native = before.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        native.chain(&spec.containers)
    });
    all.map(|container| container.name.as_str())
}

/// The workload that a pod is of; a Deployment's name is that of its ReplicaSet without the hash.
fn workload(pod: &Pod) -> String {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.controller == Some(true));
    let Some(owner) = owners.next() else {
        return String::new();
    };
    match (owner.kind.as_str(), owner.name.rsplit_once('-')) {
        ("ReplicaSet", Some((deployment, _))) => deployment.to_owned(),
        _ => owner.name.clone(),
    }
}

/// Whether a pattern with `*` for anything is for the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {
                "name": "reviews-v1-77bb-x1", "namespace": "shop",
                "labels": {"app": "reviews", "version": "v1", "app.kubernetes.io/name": "reviews"},
                "annotations": {"rev": "1.6.2", "sidecar.istio.io/inject": "true"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "reviews-v1-77bb", "uid": "u", "controller": true}]},
            "spec": {"initContainers": [{"name": "istio-init"},
                    {"name": "istio-proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "reviews"}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_are_selected_by_each_part() {
        for (text, expect) in [
            ("", true),
            ("*", true),
            ("shop", true),
            ("other", false),
            ("other,sh*", true),
            ("*/reviews-v1", true),
            ("*/reviews", false),
            ("*/*/*77bb*", true),
            ("*/*/ratings*", false),
            ("*/*/*/app=reviews,version=v*", true),
            ("*/*/*/app=reviews,version=v2", false),
            ("*/*/*/app", true),
            ("*/*/*/private", false),
            ("*/*/*/*/rev=1.6*", true),
            ("*/*/*/*/rev=1.7*", false),
            ("*/*/*/*/*/istio-proxy", true),
            ("*/*/*/*/*/istio-init", false),
            ("shop/reviews-v1/*/app=ratings", false),
            ("*/*/*/app.kubernetes.io/name=reviews", true),
            ("*/*/*/app.kubernetes.io/name=ratings", false),
            ("*/*/*/app.kubernetes.io/name", true),
            ("*/*/*/app.kubernetes.io/part-of", false),
            (
                "*/*/*/app=reviews,app.kubernetes.io/name=rev*/rev=1.6*",
                true,
            ),
            ("*/*/*/*/sidecar.istio.io/inject=true/istio-proxy", true),
            ("*/*/*/*/sidecar.istio.io/inject=true/other", false),
            ("*/*/*/app.kubernetes.io/name=reviews,x.y/z=1", false),
        ] {
            let selection: Selection = text.parse().unwrap();
            assert_eq!(selection.has(&pod()), expect, "{text}");
        }
        for text in ["a/b/c/d/e/f/g", "*/*/*/a*=b"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_for_the_whole_text() {
        for (pattern, text, expect) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*c*e", "abcde", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn times_are_read() {
        assert!(time("2026-11-26T18:00:00Z").is_ok());
        assert!(time("yesterday").unwrap_err().contains("yesterday"));
    }
}
