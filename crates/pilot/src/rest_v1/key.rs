//! Keys of services: `hostname|ports|labels`, and names of clusters made of them.

use lateen_core::Labels;
use lateen_registry::{Service, ServicePort};
use lateen_xds::names::ClusterName;
use sha1::{Digest, Sha1};

use crate::snapshot::Snapshot;

/// Most characters of a cluster's name, as old Envoys had it.
const NAME_MAX: usize = 189;
/// Characters of a digest.
const DIGEST: usize = 40;

/// The key of one port of a service, and of those of its endpoints that have all of some labels.
pub(super) fn of(service: &Service, port: &ServicePort, labels: &Labels) -> String {
    let host = &service.hostname;
    let is_only = service.ports.len() == 1 && port.name.is_empty();
    let name = if is_only { "" } else { port.name.as_str() };
    let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
    let pairs = pairs.collect::<Vec<_>>().join(",");
    match (is_only, pairs.as_str()) {
        (true, "") => host.to_string(),
        (false, "") => format!("{host}|{name}"),
        (_, pairs) => format!("{host}|{name}|{pairs}"),
    }
}

/// The key of what a cluster of today leads to; `None` where that is no service.
pub(super) fn of_cluster(snapshot: &Snapshot, name: &str) -> Option<String> {
    let name: ClusterName = name.parse().ok()?;
    if name.direction != lateen_core::Direction::Outbound {
        return None;
    }
    let mut services = snapshot.world.services.values();
    let service = services.find(|service| *service.hostname == *name.host)?;
    let port = service.ports.iter().find(|port| port.port == name.port)?;
    Some(of(service, port, &subset(snapshot, service, &name.subset)))
}

/// The labels of a subset.
fn subset(snapshot: &Snapshot, service: &Service, name: &str) -> Labels {
    let rules = snapshot.config.destination_rules.iter().filter(|rule| {
        let (host, namespace) = (&rule.spec.host, &rule.meta.namespace);
        crate::snapshot::full_host(host, namespace, &snapshot.domain) == service.hostname
    });
    let mut subsets = rules.flat_map(|rule| &rule.spec.subsets);
    let found = subsets.find(|subset| subset.name == name);
    let labels = found.map(|subset| &subset.labels).into_iter().flatten();
    labels
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The name of the cluster to a service, in the length that old Envoys took: what is too long ends
/// with its digest.
pub(super) fn cluster(key: &str) -> String {
    let name = format!("out.{key}");
    if name.len() <= NAME_MAX {
        return name;
    }
    let digest = format!("{:x}", Sha1::digest(name.as_bytes()));
    // Keys are of ASCII; where one is not, less is kept.
    let kept = name.get(..NAME_MAX - DIGEST).unwrap_or_default();
    format!("{kept}{digest}")
}

/// A key read again: host, ports, and sets of labels of which an endpoint must have one.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed<'a> {
    pub(super) host: &'a str,
    pub(super) ports: Vec<&'a str>,
    pub(super) labels: Vec<Vec<(&'a str, &'a str)>>,
}

pub(super) fn parse(key: &str) -> Parsed<'_> {
    let mut parts = key.splitn(3, '|');
    let mut next = || parts.next().unwrap_or_default();
    let (host, ports, labels) = (next(), next(), next());
    let sets = labels.split(';').filter(|set| !set.is_empty());
    Parsed {
        host,
        ports: ports.split(',').filter(|name| !name.is_empty()).collect(),
        labels: sets
            .map(|set| {
                set.split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .collect()
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use lateen_core::Protocol;

    use super::*;
    use crate::fixture;

    #[test]
    fn keys_name_ports_and_labels_where_they_tell_something() {
        let http = Protocol::Http;
        let mut service = (*fixture::service("a", &[(80, 80, http)])).clone();
        let none = Labels::default();
        let some: Labels = [("version", "v1"), ("app", "a")].into_iter().collect();
        let host = "a.default.svc.cluster.local";
        assert_eq!(
            of(&service, &service.ports[0], &none),
            format!("{host}|p80")
        );
        let labelled = format!("{host}|p80|app=a,version=v1");
        assert_eq!(of(&service, &service.ports[0], &some), labelled);
        service.ports[0].name = "".into();
        assert_eq!(of(&service, &service.ports[0], &none), host);
        assert_eq!(
            of(&service, &service.ports[0], &some),
            format!("{host}||app=a,version=v1")
        );
        let parsed = parse("name.ns|http,x|env=prod;env=test,version=my-v1");
        assert_eq!(parsed.host, "name.ns");
        assert_eq!(parsed.ports, ["http", "x"]);
        let sets = [
            vec![("env", "prod")],
            vec![("env", "test"), ("version", "my-v1")],
        ];
        assert_eq!(parsed.labels, sets);
    }

    #[test]
    fn long_names_end_with_a_digest() {
        assert_eq!(cluster("a|http"), "out.a|http");
        let long = cluster(&"x".repeat(200));
        assert_eq!(long.len(), NAME_MAX);
        assert!(long.starts_with("out.xxx"));
        assert_ne!(long, cluster(&format!("{}y", "x".repeat(199))));
    }
}
