//! Destinations that lead nowhere.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lateen_api::networking::{Destination, VirtualService};
use lateen_api::{Object, kinds};
use lateen_core::{Hostname, ObjectRef, Problem, ProblemKind, ServiceId};
use lateen_galley::ConfigSet;
use lateen_registry::{Service, SharedMap};

use crate::snapshot::{Snapshot, full_host, same};

/// Destinations of the newest snapshot that lead nowhere. An object that has not changed is not looked
/// at again while services and subsets are the same.
#[derive(Debug, Default)]
pub(crate) struct Unresolved {
    targets: Option<Targets>,
    /// By the address of the object, which is held, so that no other one can have it.
    found: HashMap<usize, (Arc<Object<VirtualService>>, Vec<Problem>)>,
}

/// What destinations may be.
#[derive(Debug)]
struct Targets {
    config: Arc<ConfigSet>,
    services: SharedMap<ServiceId, Arc<Service>>,
    subsets: HashMap<Hostname, HashSet<String>>,
    /// Wildcards among the hosts that have subsets.
    patterns: Vec<Hostname>,
    /// DestinationRules of names that only stand for services.
    of_aliases: Vec<Problem>,
}

impl Unresolved {
    /// Every destination of a VirtualService whose host no registry has, or whose subset no
    /// DestinationRule has.
    pub(crate) fn of(&mut self, snapshot: &Snapshot) -> impl Iterator<Item = &Problem> {
        let targets = self
            .targets
            .take()
            .filter(|targets| targets.are_of(snapshot));
        if targets.is_none() {
            self.found.clear();
        }
        let targets = targets.unwrap_or_else(|| Targets::new(snapshot));
        let mut before = std::mem::take(&mut self.found);
        let all = &snapshot.config.virtual_services;
        self.found.reserve(all.len());
        for object in all {
            let address = Arc::as_ptr(object).addr();
            let found = before
                .remove(&address)
                .unwrap_or_else(|| (object.clone(), targets.lacking(object, snapshot)));
            self.found.insert(address, found);
        }
        let targets = self.targets.insert(targets);
        let found = &self.found;
        let found = all
            .iter()
            .filter_map(move |object| found.get(&Arc::as_ptr(object).addr()));
        let found = found.flat_map(|(_, problems)| problems);
        found
            .collect::<Vec<_>>()
            .into_iter()
            .chain(&targets.of_aliases)
    }
}

impl Targets {
    fn new(snapshot: &Snapshot) -> Targets {
        let mut subsets: HashMap<Hostname, HashSet<String>> = HashMap::new();
        for rule in &snapshot.config.destination_rules {
            let host = full_host(&rule.spec.host, &rule.meta.namespace, &snapshot.domain);
            let names = rule.spec.subsets.iter().map(|subset| subset.name.clone());
            subsets.entry(host).or_default().extend(names);
        }
        let patterns = subsets.keys().filter(|host| host.is_wildcard()).cloned();
        Targets {
            patterns: patterns.collect(),
            subsets,
            of_aliases: rules_of_aliases(snapshot),
            config: snapshot.config.clone(),
            services: snapshot.world.services.clone(),
        }
    }

    /// Whether another snapshot has the same.
    fn are_of(&self, snapshot: &Snapshot) -> bool {
        let (was, is) = (&self.config, &snapshot.config);
        Arc::ptr_eq(&was.mesh, &is.mesh)
            && same(&was.destination_rules, &is.destination_rules)
            && snapshot.world.services.changed(&self.services).is_empty()
    }

    fn has_subset(&self, host: &Hostname, name: &str) -> bool {
        let has = |host: &Hostname| self.subsets.get(host).is_some_and(|of| of.contains(name));
        let mut patterns = self.patterns.iter();
        has(host) || patterns.any(|pattern| pattern.covers(host) && has(pattern))
    }

    /// What of an object leads nowhere.
    fn lacking(&self, object: &Object<VirtualService>, snapshot: &Snapshot) -> Vec<Problem> {
        let meta = &object.meta;
        let mut found = Vec::new();
        for (field, destination) in destinations(&object.spec) {
            let host = full_host(&destination.host, &meta.namespace, &snapshot.domain);
            let subset = destination.subset.as_str();
            let (field, text) = if !is_known(&host, &meta.namespace, snapshot) {
                let text = format!(
                    "there is no service {host} that namespace {} sees; requests are answered with 503",
                    meta.namespace
                );
                (format!("{field}.host"), text)
            } else if !subset.is_empty() && !self.has_subset(&host, subset) {
                let text = format!(
                    "no DestinationRule has the subset {subset} of {host}; requests are answered with 503"
                );
                (format!("{field}.subset"), text)
            } else {
                continue;
            };
            found.push(Problem {
                on: ObjectRef::new(kinds::VIRTUAL_SERVICE.kind, &meta.namespace, &meta.name),
                with: None,
                field: field.into(),
                kind: ProblemKind::Unresolved,
                text,
            });
        }
        found
    }
}

/// Whether a namespace sees a service of a name. What a wildcard covers is looked up by those who can,
/// so it is not for us to say.
fn is_known(host: &Hostname, namespace: &str, snapshot: &Snapshot) -> bool {
    let sees = |host: &str| snapshot.service(host, namespace).is_some();
    let wildcards = snapshot.wildcards().iter();
    let mut covering = wildcards.filter(|service| service.hostname.covers(host));
    sees(host) || covering.any(|service| sees(&service.hostname))
}

/// DestinationRules of names that only stand for services: clusters have the services' names.
fn rules_of_aliases(snapshot: &Snapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    if snapshot.aliases().is_empty() {
        return found;
    }
    for rule in &snapshot.config.destination_rules {
        let meta = &rule.meta;
        let host = full_host(&rule.spec.host, &meta.namespace, &snapshot.domain);
        let named = snapshot.service(&host, &meta.namespace);
        let meant = named.and_then(|named| snapshot.meant_by(named, &meta.namespace));
        found.extend(meant.map(|meant| Problem {
            on: ObjectRef::new(kinds::DESTINATION_RULE.kind, &meta.namespace, &meta.name),
            with: None,
            field: "spec.host".into(),
            kind: ProblemKind::Ignored,
            text: format!(
                "{host} stands for {}, whose rules hold; name that host",
                meant.hostname
            ),
        }));
    }
    found
}

/// All destinations with their places.
fn destinations(spec: &VirtualService) -> Vec<(String, &Destination)> {
    let mut all = Vec::new();
    for (n, rule) in spec.http.iter().enumerate() {
        let routes = rule.route.iter().map(|route| route.destination.as_ref());
        list(&mut all, &format!("spec.http[{n}].route"), routes);
        let mirrors = rule
            .mirrors
            .iter()
            .map(|mirror| mirror.destination.as_ref());
        list(&mut all, &format!("spec.http[{n}].mirrors"), mirrors);
        all.extend(
            rule.mirror
                .as_ref()
                .map(|to| (format!("spec.http[{n}].mirror"), to)),
        );
    }
    for (n, rule) in spec.tls.iter().enumerate() {
        let routes = rule.route.iter().map(|route| route.destination.as_ref());
        list(&mut all, &format!("spec.tls[{n}].route"), routes);
    }
    for (n, rule) in spec.tcp.iter().enumerate() {
        let routes = rule.route.iter().map(|route| route.destination.as_ref());
        list(&mut all, &format!("spec.tcp[{n}].route"), routes);
    }
    all
}

fn list<'a>(
    all: &mut Vec<(String, &'a Destination)>,
    at: &str,
    destinations: impl Iterator<Item = Option<&'a Destination>>,
) {
    for (n, destination) in destinations.enumerate() {
        all.extend(destination.map(|to| (format!("{at}[{n}].destination"), to)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn rules_of_other_names_are_named() {
        let yaml = "---\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: alias}\n\
                    ---\nkind: DestinationRule\nmetadata: {name: b}\nspec: {host: reviews}\n";
        let mut world = fixture::world();
        let mut alias = lateen_registry::Service::clone(&fixture::service("alias", &[]));
        alias.external_name = Some("reviews.default.svc.cluster.local".into());
        world.services.insert(alias.id(), alias.into());
        let config = fixture::config(yaml).into();
        let snapshot = Snapshot::new(1, world.into(), config, fixture::DOMAIN);
        let mut unresolved = Unresolved::default();
        let found: Vec<_> = unresolved
            .of(&snapshot)
            .map(|p| (&*p.on.name, p.kind))
            .collect();
        assert_eq!(found, [("a", ProblemKind::Ignored)]);
    }

    #[test]
    fn destinations_that_lead_nowhere_are_named() {
        let yaml = "---\nkind: DestinationRule\nmetadata: {name: r}\n\
             spec: {host: reviews, subsets: [{name: v1}]}\n\
             ---\nkind: DestinationRule\nmetadata: {name: all}\n\
             spec: {host: \"*.local\", subsets: [{name: any}]}\n\
             ---\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [\
             {route: [{destination: {host: reviews, subset: v1}}, {destination: {host: reviews, subset: any}}, \
             {destination: {host: reviews, subset: v2}}, {destination: {host: gone}}], \
             mirror: {host: away}, mirrors: [{destination: {host: ratings}}, \
             {destination: {host: ratings, subset: v9}}]}], \
             tcp: [{route: [{destination: {host: db.default.svc.cluster.local}}, {destination: {host: db.gone}}]}]}\n";
        let mut unresolved = Unresolved::default();
        let snapshot = fixture::snapshot(yaml);
        let found: Vec<_> = unresolved.of(&snapshot).cloned().collect();
        let fields: Vec<_> = found.iter().map(|problem| &*problem.field).collect();
        assert_eq!(
            fields,
            [
                "spec.http[0].route[2].destination.subset",
                "spec.http[0].route[3].destination.host",
                "spec.http[0].mirrors[1].destination.subset",
                "spec.http[0].mirror.host",
                "spec.tcp[0].route[1].destination.host",
            ]
        );
        assert!(
            found
                .iter()
                .all(|p| p.kind == ProblemKind::Unresolved && &*p.on.name == "a")
        );
    }

    #[test]
    fn what_is_kept_is_as_found_anew() {
        let yaml = "---\nkind: DestinationRule\nmetadata: {name: r}\n\
             spec: {host: reviews, subsets: [{name: v1}]}\n\
             ---\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [\
             {route: [{destination: {host: reviews, subset: v1}}]}]}\n\
             ---\nkind: VirtualService\nmetadata: {name: b}\nspec: {hosts: [b], http: [\
             {route: [{destination: {host: gone}}]}]}\n";
        let (mut world, mut config) = (fixture::world(), fixture::config(yaml));
        let gone = fixture::service("gone", &[]);
        let mut kept = Unresolved::default();
        for (step, want) in [1, 0, 1, 0, 1].into_iter().enumerate() {
            match step {
                1 => _ = world.services.insert(gone.id(), gone.clone()),
                2 => config.destination_rules.clear(),
                3 => config.virtual_services.retain(|of| of.meta.name == "b"),
                4 => world.services.retain(|id, _| *id != gone.id()),
                _ => {}
            }
            let (world, config) = (Arc::new(world.clone()), Arc::new(config.clone()));
            let snapshot = Snapshot::new(1, world, config, fixture::DOMAIN);
            let found: Vec<_> = kept.of(&snapshot).cloned().collect();
            let mut anew = Unresolved::default();
            assert_eq!(found, anew.of(&snapshot).cloned().collect::<Vec<_>>());
            assert_eq!(found.len(), want, "step {step}");
        }
    }
}
