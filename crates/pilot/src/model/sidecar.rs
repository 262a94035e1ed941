//! Sidecar: which of them holds for a workload, and what its egress listeners let through.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{self as api, IstioEgressListener};
use lateen_core::{Hostname, Labels};

use crate::shared::Shared;
use crate::wire;

/// A Sidecar as an input of a generator.
pub(crate) type Sidecar = Shared<Object<api::Sidecar>>;

type Listed = Arc<Object<api::Sidecar>>;

/// All Sidecars, by the namespace that they are for.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    by_namespace: BTreeMap<String, OfNamespace>,
    /// What the root namespace has for all.
    root: Option<Listed>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    /// Those for some workloads, the oldest first.
    selecting: Vec<Listed>,
    /// The oldest of those for all workloads.
    default: Option<Listed>,
}

impl Sidecars {
    /// Indexes a list that has the oldest first.
    pub(crate) fn new(all: &[Listed], root: &str) -> Sidecars {
        let mut sidecars = Sidecars::default();
        for object in all {
            let namespace = object.meta.namespace.clone();
            let known = sidecars.by_namespace.entry(namespace).or_default();
            if selector(object).is_some() {
                known.selecting.push(object.clone());
            } else if known.default.is_none() {
                known.default = Some(object.clone());
            }
        }
        let of_root = sidecars.by_namespace.get(root);
        sidecars.root = of_root.and_then(|known| known.default.clone());
        sidecars
    }

    /// The Sidecar of a workload: the oldest that selects it, else the one for its whole namespace,
    /// else the one that the root namespace has for all.
    pub(crate) fn of(&self, namespace: &str, labels: &Labels) -> Option<&Listed> {
        let own = self.by_namespace.get(namespace);
        let selects =
            |object: &&Listed| selector(object).is_some_and(|wanted| wire::selects(wanted, labels));
        let selecting = own.and_then(|own| own.selecting.iter().find(selects));
        let default = || own.and_then(|own| own.default.as_ref());
        selecting.or_else(default).or(self.root.as_ref())
    }
}

/// The labels by which it selects; `None` where it is for all of its namespace.
pub(crate) fn selector(object: &Object<api::Sidecar>) -> Option<&BTreeMap<String, String>> {
    let selector = object.spec.workload_selector.as_ref();
    let labels = selector.map(|selector| &selector.labels);
    labels.filter(|labels| !labels.is_empty())
}

/// The hosts of one egress listener, seen from a namespace.
#[derive(Clone, Copy)]
pub(crate) struct Egress<'a> {
    pub(crate) listener: &'a IstioEgressListener,
    /// What `./` stands for: the namespace of the workload, also where the Sidecar is the root
    /// namespace's.
    pub(crate) own: &'a str,
}

impl<'a> Egress<'a> {
    /// The namespace (`None` for any) and the pattern of each host.
    pub(crate) fn hosts(self) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
        let hosts = self.listener.hosts.iter();
        hosts.filter_map(move |host| match host.split_once('/')? {
            ("~", _) => None,
            (".", pattern) => Some((Some(self.own), pattern)),
            ("*", pattern) => Some((None, pattern)),
            (namespace, pattern) => Some((Some(namespace), pattern)),
        })
    }

    /// Whether a service is among them.
    pub(crate) fn lets_service(self, namespace: &str, host: &str) -> bool {
        self.hosts().any(|(of, pattern)| {
            of.is_none_or(|of| of == namespace) && Hostname::pattern_covers(pattern, host)
        })
    }

    /// Whether a VirtualService for these hosts is: a rule for a part of what is let through counts,
    /// and so does a rule for more than that.
    pub(crate) fn lets_rule(self, namespace: &str, hosts: &[Hostname]) -> bool {
        self.hosts().any(|(of, pattern)| {
            let overlaps = |host: &Hostname| {
                Hostname::pattern_covers(pattern, host) || Hostname::pattern_covers(host, pattern)
            };
            of.is_none_or(|of| of == namespace) && hosts.iter().any(overlaps)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sidecar(name: &str, namespace: &str, spec: Value) -> Listed {
        let meta = json!({"name": name, "namespace": namespace});
        let object = json!({"metadata": meta, "spec": spec});
        Arc::new(Object::from_value(&object).expect("a Sidecar"))
    }

    #[test]
    fn the_narrowest_one_holds() {
        let for_all = json!({"egress": [{"hosts": ["./*"]}]});
        let selecting = |app: &str| json!({"workloadSelector": {"labels": {"app": app}}});
        let all = [
            sidecar("root", "istio-system", for_all.clone()),
            sidecar("root-a", "istio-system", selecting("a")),
            sidecar("a", "one", selecting("a")),
            sidecar("a-later", "one", selecting("a")),
            sidecar("nobody", "one", json!({"workloadSelector": {"labels": {}}})),
            sidecar("later", "one", for_all),
        ];
        let sidecars = Sidecars::new(&all, "istio-system");
        for (namespace, app, want) in [
            ("one", "a", "a"),
            ("one", "b", "nobody"),
            // What the root namespace selects by labels is for its own workloads alone.
            ("two", "a", "root"),
            ("istio-system", "a", "root-a"),
            ("istio-system", "b", "root"),
        ] {
            let labels: Labels = [("app", app)].into_iter().collect();
            let found = sidecars.of(namespace, &labels);
            let name = found.map(|object| object.meta.name.as_str());
            assert_eq!(name, Some(want), "{app} in {namespace}");
        }
        let none = Sidecars::new(&all[2..3], "istio-system");
        assert!(none.of("one", &Labels::new()).is_none());
    }

    #[test]
    fn hosts_that_are_let_through() {
        let check = |host: &str, namespace: &str, name: &str, service: bool, rule: bool| {
            let listener = json!({"hosts": [host]});
            let listener = serde_json::from_value(listener).expect("a listener");
            let egress = Egress {
                listener: &listener,
                own: "own",
            };
            let hosts = [Hostname::new(name)];
            let found = (
                egress.lets_service(namespace, name),
                egress.lets_rule(namespace, &hosts),
            );
            assert_eq!(found, (service, rule), "{host} of {name} in {namespace}");
        };
        check("*/*", "away", "a.example.com", true, true);
        check("~/*", "own", "a.example.com", false, false);
        check("./*", "own", "a.example.com", true, true);
        check("./*", "away", "a.example.com", false, false);
        check("away/*.example.com", "away", "a.example.com", true, true);
        check("away/*.example.com", "away", "a.example.org", false, false);
        check("*/a.example.com", "away", "a.example.com", true, true);
        check("*/a.example.com", "away", "b.example.com", false, false);
        // A rule for more than one host is for this one too.
        check("*/a.example.com", "away", "*.example.com", false, true);
    }
}
