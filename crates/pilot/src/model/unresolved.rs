//! Destinations that lead nowhere.

use std::collections::HashSet;

use lateen_api::kinds;
use lateen_api::networking::{Destination, VirtualService};
use lateen_core::{Hostname, ObjectRef, Problem, ProblemKind};

use crate::snapshot::{Snapshot, full_host};

/// Every destination of a VirtualService whose host no registry has, or whose subset no
/// DestinationRule has. It looks at each object once.
pub(crate) fn unresolved(snapshot: &Snapshot) -> Vec<Problem> {
    let rules = snapshot.config.destination_rules.iter();
    let subsets: HashSet<(Hostname, &str)> = rules
        .flat_map(|rule| {
            let host = full_host(&rule.spec.host, &rule.meta.namespace, &snapshot.domain);
            let names = rule.spec.subsets.iter().map(|subset| subset.name.as_str());
            names.map(move |name| (host.clone(), name))
        })
        .collect();
    let patterns: Vec<_> = subsets
        .iter()
        .filter(|(host, _)| host.is_wildcard())
        .collect();
    let has_subset = |host: &Hostname, name: &str| {
        subsets.contains(&(host.clone(), name))
            || patterns
                .iter()
                .any(|(pattern, of)| *of == name && pattern.covers(host))
    };
    let services = snapshot.world.services.values();
    let wildcards: Vec<_> = services.filter(|s| s.hostname.is_wildcard()).collect();
    // What a wildcard covers is looked up by those who can, so it is not for us to say.
    let is_known = |host: &Hostname, namespace: &str| {
        let sees = |host: &str| snapshot.service(host, namespace).is_some();
        let mut covering = wildcards
            .iter()
            .filter(|service| service.hostname.covers(host));
        sees(host) || covering.any(|service| sees(&service.hostname))
    };
    let mut found = Vec::new();
    for object in &snapshot.config.virtual_services {
        let meta = &object.meta;
        for (field, destination) in destinations(&object.spec) {
            let host = full_host(&destination.host, &meta.namespace, &snapshot.domain);
            let subset = destination.subset.as_str();
            let (field, text) = if !is_known(&host, &meta.namespace) {
                let text = format!(
                    "there is no service {host} that namespace {} sees; requests are answered with 503",
                    meta.namespace
                );
                (format!("{field}.host"), text)
            } else if !subset.is_empty() && !has_subset(&host, subset) {
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
    }
    found.extend(rules_of_aliases(snapshot));
    found
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
        let found = unresolved(&Snapshot::new(1, world.into(), config, fixture::DOMAIN));
        let found: Vec<_> = found.iter().map(|p| (&*p.on.name, p.kind)).collect();
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
        let found = unresolved(&fixture::snapshot(yaml));
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
}
