//! Objects that want the same, where only one of them can have it.

mod gateways;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lateen_api::Object;
use lateen_api::networking::{MESH_GATEWAY, VirtualService, gateway_key};
use lateen_core::{Hostname, ObjectRef};
use lateen_galley::ConfigSet;

use super::sidecar;
use crate::snapshot::{Snapshot, full_host, is_visible, same};

/// A part of an object that has no effect because another object has its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conflict {
    /// Whose part has no effect.
    pub(crate) loser: ObjectRef,
    /// Who has its place.
    pub(crate) winner: ObjectRef,
    /// The part: `spec.hosts[0]`.
    pub(crate) field: String,
    /// What is wanted by both.
    pub(crate) about: String,
}

/// The conflicts of the newest snapshot. Those of kinds of which nothing changed are kept.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// The configuration that they are of; `None` before the first.
    config: Option<Arc<ConfigSet>>,
    of_virtual_services: Vec<Conflict>,
    of_destination_rules: Vec<Conflict>,
    of_sidecars: Vec<Conflict>,
    of_gateways: Vec<Conflict>,
}

impl Conflicts {
    /// Every conflict of a snapshot, in the order of the objects, oldest first.
    pub(crate) fn of(&mut self, snapshot: &Snapshot) -> impl Iterator<Item = &Conflict> {
        let is = &snapshot.config;
        let was = self.config.replace(is.clone());
        // What may be seen where is the mesh's to say.
        let was = was.filter(|was| Arc::ptr_eq(&was.mesh, &is.mesh));
        let is_kept = |is_same: fn(&ConfigSet, &ConfigSet) -> bool| {
            was.as_ref().is_some_and(|was| is_same(was, is))
        };
        if !is_kept(|was, is| same(&was.virtual_services, &is.virtual_services)) {
            self.of_virtual_services = virtual_services(snapshot);
        }
        if !is_kept(|was, is| same(&was.destination_rules, &is.destination_rules)) {
            self.of_destination_rules = destination_rules(snapshot);
        }
        if !is_kept(|was, is| same(&was.sidecars, &is.sidecars)) {
            self.of_sidecars = sidecars(snapshot);
        }
        if !is_kept(|was, is| same(&was.gateways, &is.gateways)) {
            self.of_gateways = gateways::conflicts(snapshot);
        }
        self.of_virtual_services
            .iter()
            .chain(&self.of_destination_rules)
            .chain(&self.of_sidecars)
            .chain(&self.of_gateways)
    }
}

/// Sidecars take the routes of one VirtualService for a host. (The rules of several at a gateway add
/// up.) Two that no namespace sees both of do not meet.
fn virtual_services(snapshot: &Snapshot) -> Vec<Conflict> {
    let default = &snapshot.config.mesh.default_virtual_service_export_to;
    let (all, contested) = snapshot.hosted();
    let mut first: BTreeMap<&Hostname, Vec<&Arc<Object<VirtualService>>>> = BTreeMap::new();
    let mut found = Vec::new();
    // Most hosts are of one object.
    let all = if contested.is_empty() { &[] } else { all };
    for hosted in all {
        let object = &hosted.object;
        let (meta, spec) = (&object.meta, &object.spec);
        let is_mesh = |name: &String| gateway_key(name, &meta.namespace) == MESH_GATEWAY;
        if !spec.gateways.is_empty() && !spec.gateways.iter().any(is_mesh) {
            continue;
        }
        let hosts = hosted.hosts.iter().enumerate();
        for (n, host) in hosts.filter(|(_, host)| contested.contains(*host)) {
            let earlier = first.entry(host).or_default();
            let meets = |other: &&&Arc<Object<VirtualService>>| {
                let (there, here) = (&other.meta.namespace, &meta.namespace);
                !Arc::ptr_eq(other, object)
                    && (is_visible(&other.spec.export_to, default, there, here)
                        || is_visible(&spec.export_to, default, here, there))
            };
            if let Some(winner) = earlier.iter().find(meets) {
                found.push(Conflict {
                    loser: of("VirtualService", object),
                    winner: of("VirtualService", winner),
                    field: format!("spec.hosts[{n}]"),
                    about: format!("sidecars route {host} by the older VirtualService alone"),
                });
            }
            earlier.push(object);
        }
    }
    found
}

/// DestinationRules of one namespace for one host and one set of clients are merged: their subsets
/// add up, of subsets with one name the older counts, and so does the older traffic policy.
fn destination_rules(snapshot: &Snapshot) -> Vec<Conflict> {
    let mut policies = BTreeMap::new();
    let mut subsets = BTreeMap::new();
    let mut found = Vec::new();
    for object in &snapshot.config.destination_rules {
        let (meta, spec) = (&object.meta, &object.spec);
        let selector = spec.workload_selector.as_ref().map(|s| &s.match_labels);
        let host = full_host(&spec.host, &meta.namespace, &snapshot.domain);
        let place = (&meta.namespace, host, selector);
        let own = of("DestinationRule", object);
        if spec.traffic_policy.is_some() {
            match policies.entry(place.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(own.clone());
                }
                Entry::Occupied(entry) => found.push(Conflict {
                    loser: own.clone(),
                    winner: entry.get().clone(),
                    field: "spec.trafficPolicy".into(),
                    about: format!("the older traffic policy of {} counts", place.1),
                }),
            }
        }
        for (n, subset) in spec.subsets.iter().enumerate() {
            match subsets.entry((place.clone(), &subset.name)) {
                Entry::Vacant(entry) => {
                    entry.insert(own.clone());
                }
                Entry::Occupied(entry) => found.push(Conflict {
                    loser: own.clone(),
                    winner: entry.get().clone(),
                    field: format!("spec.subsets[{n}]"),
                    about: format!("the older subset {} of {} counts", subset.name, place.1),
                }),
            }
        }
    }
    found
}

/// One Sidecar holds for a namespace, and one for the workloads that a selector picks.
fn sidecars(snapshot: &Snapshot) -> Vec<Conflict> {
    let mut first = BTreeMap::new();
    let mut found = Vec::new();
    for object in &snapshot.config.sidecars {
        let selector = sidecar::selector(object);
        let own = of("Sidecar", object);
        match first.entry((&object.meta.namespace, selector)) {
            Entry::Vacant(entry) => {
                entry.insert(own);
            }
            Entry::Occupied(entry) => found.push(Conflict {
                loser: own,
                winner: entry.get().clone(),
                field: "spec.workloadSelector".into(),
                about: match selector {
                    Some(_) => "the older Sidecar with this selector holds".into(),
                    None => format!(
                        "the older Sidecar for all workloads of {} holds",
                        object.meta.namespace
                    ),
                },
            }),
        }
    }
    found
}

fn of<T>(kind: &'static str, object: &Object<T>) -> ObjectRef {
    ObjectRef::new(kind, &object.meta.namespace, &object.meta.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[track_caller]
    fn check(yaml: &str, want: &[(&str, &str, &str)]) {
        let mut conflicts = Conflicts::default();
        let snapshot = fixture::snapshot(yaml);
        let found = conflicts.of(&snapshot);
        let found: Vec<_> = found
            .map(|c| (c.loser.to_string(), c.winner.to_string(), c.field.as_str()))
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(loser, winner, field)| (loser.as_str(), winner.as_str(), *field))
            .collect();
        assert_eq!(found, want, "{yaml}");
    }

    #[test]
    fn the_older_virtual_service_of_a_host_wins_at_sidecars() {
        let rule = |name: &str, more: &str| {
            format!("---\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{{more}}}\n")
        };
        let first = rule("first", "hosts: [reviews]");
        let full = "hosts: [ratings, reviews.default.svc.cluster.local]";
        check(
            &(first.clone() + &rule("second", full)),
            &[(
                "VirtualService default/second",
                "VirtualService default/first",
                "spec.hosts[1]",
            )],
        );
        check(
            &(first + &rule("edge", "hosts: [reviews], gateways: [gw]")),
            &[],
        );
        let hidden = |name: &str, namespace: &str| {
            format!(
                "---\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{hosts: [a.example.com], exportTo: [\".\"]}}\n"
            )
        };
        check(&(hidden("a", "one") + &hidden("b", "two")), &[]);
    }

    #[test]
    fn rules_of_one_host_are_merged_as_far_as_they_differ() {
        let rule = |name: &str, more: &str| {
            format!(
                "---\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
                 spec: {{host: reviews, {more}}}\n"
            )
        };
        let policy = "trafficPolicy: {tls: {mode: DISABLE}}";
        let both = rule("first", &format!("subsets: [{{name: v1}}], {policy}"))
            + &rule(
                "second",
                &format!("subsets: [{{name: v2}}, {{name: v1}}], {policy}"),
            );
        let (loser, winner) = (
            "DestinationRule default/second",
            "DestinationRule default/first",
        );
        check(
            &both,
            &[
                (loser, winner, "spec.trafficPolicy"),
                (loser, winner, "spec.subsets[1]"),
            ],
        );
        let selecting = "workloadSelector: {matchLabels: {app: a}}, subsets: [{name: v1}]";
        check(
            &(rule("first", "subsets: [{name: v1}]") + &rule("second", selecting)),
            &[],
        );
    }

    #[test]
    fn what_is_kept_is_as_found_anew() {
        let rule = |kind: &str, name: &str, spec: &str| {
            format!("---\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
        };
        let services =
            rule("VirtualService", "a", "hosts: [x]") + &rule("VirtualService", "b", "hosts: [x]");
        let rules = rule("DestinationRule", "a", "host: x, trafficPolicy: {}")
            + &rule("DestinationRule", "b", "host: x, trafficPolicy: {}");
        let mut conflicts = Conflicts::default();
        let mut was = Arc::new(fixture::config(&(services + &rules)));
        let world = Arc::new(fixture::world());
        for step in 0..5 {
            let mut is = ConfigSet::clone(&was);
            match step {
                0 => {}
                1 => is.virtual_services.truncate(1),
                2 => is.destination_rules.reverse(),
                3 => is.mesh = Arc::new((*is.mesh).clone()),
                _ => is.destination_rules.clear(),
            }
            was = Arc::new(is);
            let snapshot = Snapshot::new(1, world.clone(), was.clone(), fixture::DOMAIN);
            let kept: Vec<_> = conflicts.of(&snapshot).cloned().collect();
            let mut anew = Conflicts::default();
            let anew: Vec<_> = anew.of(&snapshot).cloned().collect();
            assert_eq!(kept, anew, "step {step}");
            assert_eq!(kept.len(), [2, 1, 1, 1, 0][step]);
        }
    }

    #[test]
    fn one_sidecar_holds_for_a_namespace() {
        let sidecar = |name: &str, more: &str| {
            format!("---\nkind: Sidecar\nmetadata: {{name: {name}}}\nspec: {{{more}}}\n")
        };
        let selecting = "workloadSelector: {labels: {app: a}}";
        let all = sidecar("a", "egress: [{hosts: [\"*/*\"]}]")
            + &sidecar("b", selecting)
            + &sidecar("c", "egress: [{hosts: [\"./*\"]}]");
        check(
            &all,
            &[(
                "Sidecar default/c",
                "Sidecar default/a",
                "spec.workloadSelector",
            )],
        );
    }
}
