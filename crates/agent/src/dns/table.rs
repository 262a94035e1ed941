//! The mesh's names, by all that clients call them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lateen_xds::nds::{KUBERNETES, NameTable};

/// What comes between a namespace and the domain of a cluster.
const SERVICES: &str = "svc";

/// Hosts and their addresses.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: HashMap<Box<str>, Host>,
    place: Place,
    told: NameTable,
}

/// Where short names are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The pod's namespace.
    namespace: String,
    /// The domain of the cluster.
    domain: String,
    /// What resolvers complete names with, as far as it is of the cluster.
    search: Vec<String>,
}

/// The addresses of a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
    has_short_names: bool,
}

/// A host that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) host: &'a Host,
    /// The name that was meant, where resolvers have put a domain behind it that it has no part in.
    pub(crate) meant: Option<&'a str>,
}

impl Place {
    /// The place of a pod whose names are completed with `NAMESPACE.svc.DOMAIN`.
    pub(crate) fn new(namespace: &str, dns_domain: &str, mut search: Vec<String>) -> Place {
        let dns_domain = dns_domain.to_ascii_lowercase();
        let domain = dns_domain.split_once(&format!(".{SERVICES}."));
        let domain = domain.map_or("", |(_, domain)| domain);
        // Nodes bring domains of their own. What has such a one behind it is a name out there, not
        // one of the mesh that was completed.
        let below = format!(".{domain}");
        search.retain(|known| known == domain || known.ends_with(&below));
        Place {
            namespace: namespace.to_owned(),
            domain: domain.to_owned(),
            search,
        }
    }
}

impl Table {
    /// A table as the control plane tells it.
    pub(crate) fn new(told: NameTable, place: Place) -> Table {
        let entries = told.table.iter().map(|(name, info)| {
            let mut host = Host {
                has_short_names: info.registry == KUBERNETES,
                ..Host::default()
            };
            for ip in info.ips.iter().filter_map(|ip| ip.parse().ok()) {
                match ip {
                    IpAddr::V4(ip) => host.v4.push(ip),
                    IpAddr::V6(ip) => host.v6.push(ip),
                }
            }
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            (name.into_boxed_str(), host)
        });
        Table {
            hosts: entries.collect(),
            place,
            told,
        }
    }

    /// As it was told.
    pub(crate) fn told(&self) -> &NameTable {
        &self.told
    }

    /// The host of a name in lower case, without a dot at the end: its own name, a short one, one
    /// that a wildcard stands for, or any of these with a domain of the cluster behind it that is in
    /// the pod's search list.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Option<Found<'a>> {
        if let Some(host) = self.named(name) {
            return Some(Found { host, meant: None });
        }
        let mut search = self.place.search.iter();
        search.find_map(|domain| {
            let meant = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            let host = self.named(meant)?;
            let meant = Some(meant);
            Some(Found { host, meant })
        })
    }

    fn named(&self, name: &str) -> Option<&Host> {
        let exact = self.hosts.get(name);
        let short = || self.short(name);
        exact.or_else(short).or_else(|| self.by_wildcard(name))
    }

    /// `reviews` within the namespace, `reviews.default`, `reviews.default.svc`.
    fn short(&self, name: &str) -> Option<&Host> {
        let Place {
            namespace, domain, ..
        } = &self.place;
        if domain.is_empty() {
            return None;
        }
        let mut labels = name.split('.').skip(1);
        let full = match (labels.next(), labels.next(), labels.next()) {
            (None, ..) => format!("{name}.{namespace}.{SERVICES}.{domain}"),
            (Some(_), None, _) => format!("{name}.{SERVICES}.{domain}"),
            (Some(_), Some(SERVICES), None) => format!("{name}.{domain}"),
            _ => return None,
        };
        let host = self.hosts.get(full.as_str())?;
        host.has_short_names.then_some(host)
    }

    /// The longest wildcard counts.
    fn by_wildcard(&self, name: &str) -> Option<&Host> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(host) = self.hosts.get(format!("*.{parent}").as_str()) {
                return Some(host);
            }
            rest = parent;
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lateen_xds::nds::{EXTERNAL, NameInfo};

    use super::*;

    /// A table of Kubernetes' services and others, seen from the namespace `default`.
    pub(crate) fn table(hosts: &[(&str, &str)]) -> Table {
        table_in("default", hosts)
    }

    /// The same, seen from a namespace, on a node that has a domain of its own.
    fn table_in(namespace: &str, hosts: &[(&str, &str)]) -> Table {
        let entry = |(name, ips): &(&str, &str)| {
            let registry = match name.ends_with(".svc.cluster.local") {
                true => KUBERNETES,
                false => EXTERNAL,
            };
            let info = NameInfo {
                ips: ips.split(' ').map(str::to_owned).collect(),
                registry: registry.to_owned(),
                ..NameInfo::default()
            };
            ((*name).to_owned(), info)
        };
        let table = hosts.iter().map(entry).collect();
        let dns_domain = format!("{namespace}.svc.cluster.local");
        let search = [
            dns_domain.as_str(),
            "svc.cluster.local",
            "cluster.local",
            "corp.example",
            "other-cluster.local",
        ];
        let search = search.map(str::to_owned).to_vec();
        let place = Place::new(namespace, &dns_domain, search);
        Table::new(NameTable { table }, place)
    }

    #[test]
    fn a_host_is_found_by_all_its_names() {
        let table = table(&[
            ("reviews.default.svc.cluster.local", "10.96.0.1 fd00::1"),
            ("db.other.svc.cluster.local", "10.96.0.2"),
            ("api.example.com", "240.240.0.1"),
            ("*.example.com", "240.240.0.2"),
            ("*.eu.example.com", "240.240.0.3"),
            ("given.default", "240.240.0.4"),
        ]);
        let check = |name: &str, expect: &str, meant: Option<&str>| {
            let found = table.find(name);
            let ip = found.as_ref().map(|found| found.host.v4[0].to_string());
            assert_eq!(ip.as_deref().unwrap_or(""), expect, "{name}");
            assert_eq!(found.and_then(|found| found.meant), meant, "{name}");
        };
        for name in [
            "reviews",
            "reviews.default",
            "reviews.default.svc",
            "reviews.default.svc.cluster.local",
        ] {
            check(name, "10.96.0.1", None);
        }
        check("db", "", None);
        check("db.other", "10.96.0.2", None);
        check("api.example.com", "240.240.0.1", None);
        check("x.example.com", "240.240.0.2", None);
        check("a.b.eu.example.com", "240.240.0.3", None);
        check("example.com", "", None);
        check("given.default", "240.240.0.4", None);
        check("given", "", None);
        // What resolvers ask first.
        let meant = "api.example.com";
        check(
            "api.example.com.default.svc.cluster.local",
            "240.240.0.1",
            Some(meant),
        );
        check(
            "x.example.com.svc.cluster.local",
            "240.240.0.2",
            Some("x.example.com"),
        );
        check(
            "db.other.default.svc.cluster.local",
            "10.96.0.2",
            Some("db.other"),
        );
        check("example.org.default.svc.cluster.local", "", None);
        check("default.svc.cluster.local", "", None);
        check("", "", None);
    }

    #[test]
    fn names_in_domains_of_others_are_not_the_meshs() {
        for namespace in ["default", "pay-svc", "svc"] {
            let full = format!("redis.{namespace}.svc.cluster.local");
            let table = table_in(namespace, &[(full.as_str(), "10.96.0.1")]);
            let known = |name: &str| table.find(name).is_some();
            let short = format!("redis.{namespace}");
            for name in ["redis", short.as_str(), full.as_str()] {
                assert!(known(name), "{name}");
                assert!(!known(&format!("{name}.corp.example")), "{name}");
                assert!(!known(&format!("{name}.other-cluster.local")), "{name}");
            }
            assert!(known(&format!("{short}.{namespace}.svc.cluster.local")));
        }
    }
}
