//! Route tables and their virtual hosts, some of which come as resources of their own.
//!
//! A host that is named `TABLE/HOST` belongs to the table of that name, if this one asks for such
//! hosts. All that an update says about a table's hosts counts at once: a domain may move from one
//! host to another. Hosts that an update leaves alone are shared by the tables before and after it,
//! and so is the index by domains where no domain has changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_decode::RouteExtra;
use lateen_route::Host;
use lateen_xds::names::parse_virtual_host;

use crate::snapshot::Routes;

/// Everything that is known of tables.
#[derive(Default)]
pub(super) struct Tables {
    heads: HashMap<ArcStr, Head>,
    /// By table and resource name.
    hosts: HashMap<ArcStr, BTreeMap<ArcStr, Arc<Host<RouteExtra>>>>,
    /// Tables that are not as they should be any more.
    changed: HashSet<ArcStr>,
    /// The server has said what hosts there are.
    has_hosts: bool,
}

/// A table as it came.
struct Head {
    table: Routes,
    /// Further hosts come by themselves.
    asks_for_hosts: bool,
    /// The last one that was built of it, whose index may still be right.
    built: Option<Routes>,
}

/// What becomes of a table.
pub(super) enum Built {
    /// It is complete.
    Table(Routes),
    /// It is not known what hosts it has.
    Waits,
    /// The hosts do not fit together, and what there was stays.
    Refused(String),
}

impl Tables {
    /// Takes a table as it came.
    pub(super) fn set(&mut self, name: &ArcStr, table: Routes, asks_for_hosts: bool) {
        let head = Head {
            table,
            asks_for_hosts,
            built: None,
        };
        self.heads.insert(name.clone(), head);
        self.changed.insert(name.clone());
    }

    /// Drops a table. Its hosts are the server's to take back.
    pub(super) fn remove(&mut self, name: &ArcStr) {
        self.heads.remove(name);
        self.changed.remove(name);
    }

    /// Takes a virtual host.
    pub(super) fn set_host(
        &mut self,
        name: &ArcStr,
        host: Arc<Host<RouteExtra>>,
    ) -> Result<(), String> {
        let Some((table, _)) = parse_virtual_host(name) else {
            return Err("is not of the form TABLE/HOST".to_owned());
        };
        let table = ArcStr::from(table);
        let hosts = self.hosts.entry(table.clone()).or_default();
        hosts.insert(name.clone(), host);
        self.changed.insert(table);
        Ok(())
    }

    /// Drops a virtual host.
    pub(super) fn remove_host(&mut self, name: &ArcStr) {
        let Some((table, _)) = parse_virtual_host(name) else {
            return;
        };
        if let Some(hosts) = self.hosts.get_mut(table) {
            hosts.remove(name);
            if hosts.is_empty() {
                self.hosts.remove(table);
            }
            self.changed.insert(table.into());
        }
    }

    /// From now on a table of which no host is known has none.
    pub(super) fn know_hosts(&mut self) {
        if !std::mem::replace(&mut self.has_hosts, true) {
            self.changed.extend(self.heads.keys().cloned());
        }
    }

    /// Builds anew the tables of which something has changed.
    pub(super) fn build(&mut self) -> Vec<(ArcStr, Built)> {
        let mut all = Vec::new();
        for name in std::mem::take(&mut self.changed) {
            if let Some(head) = self.heads.get_mut(&name) {
                let hosts = self.hosts.get(&name);
                let built = match (head.asks_for_hosts, self.has_hosts) {
                    (false, _) => Built::Table(head.table.clone()),
                    (true, false) => Built::Waits,
                    (true, true) => head.with(hosts.into_iter().flat_map(BTreeMap::values)),
                };
                all.push((name, built));
            }
        }
        all
    }
}

impl Head {
    fn with<'a>(&mut self, hosts: impl Iterator<Item = &'a Arc<Host<RouteExtra>>>) -> Built {
        let own = self.table.hosts().iter().cloned();
        let hosts = own.chain(hosts.cloned()).collect();
        let like = self.built.as_ref().unwrap_or(&self.table);
        match like.with_hosts(hosts) {
            Ok(table) => {
                let table = Arc::new(table);
                self.built = Some(table.clone());
                Built::Table(table)
            }
            Err(error) => Built::Refused(format!("table {}: {error}", self.table.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use lateen_decode::{route_configuration, virtual_host};
    use lateen_xds::types::core::{AggregatedConfigSource, ConfigSource, config_source};
    use lateen_xds::types::route as pb;

    use super::*;

    fn table(tables: &mut Tables, name: &str) {
        let ads = config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
        let config = pb::RouteConfiguration {
            name: name.into(),
            vhds: Some(pb::Vhds {
                config_source: Some(ConfigSource {
                    config_source_specifier: Some(ads),
                    ..ConfigSource::default()
                }),
            }),
            ..pb::RouteConfiguration::default()
        };
        let table = route_configuration(&config).expect("a table");
        tables.set(&name.into(), table, true);
    }

    fn host(tables: &mut Tables, name: &str, domains: &[&str]) {
        let config = pb::VirtualHost {
            name: name.into(),
            domains: domains.iter().map(|domain| (*domain).into()).collect(),
            ..pb::VirtualHost::default()
        };
        let host = virtual_host(&config).expect("a host");
        tables.set_host(&name.into(), host).expect("a name");
    }

    fn one(mut built: Vec<(ArcStr, Built)>) -> Routes {
        match (built.pop(), built.len()) {
            (Some((_, Built::Table(table))), 0) => table,
            _ => panic!("not one table"),
        }
    }

    #[test]
    fn a_table_waits_until_its_hosts_are_known_and_follows_them() {
        let mut tables = Tables::default();
        table(&mut tables, "80");
        assert!(matches!(tables.build()[..], [(_, Built::Waits)]));
        host(&mut tables, "80/a", &["a"]);
        host(&mut tables, "80/b", &["b"]);
        host(&mut tables, "81/a", &["a"]);
        tables.know_hosts();
        let first = one(tables.build());
        assert_eq!(first.host("b").expect("b").name, "80/b");
        assert!(tables.build().is_empty(), "nothing has changed");

        host(&mut tables, "80/b", &["b", "c"]);
        let second = one(tables.build());
        assert!(second.host("c").is_some());
        let [a, again] = [&first, &second].map(|table| table.host("a").expect("a"));
        assert!(std::ptr::eq(a, again), "shared");

        // What the server says at once counts at once.
        tables.remove_host(&"80/b".into());
        host(&mut tables, "80/c", &["b"]);
        let third = one(tables.build());
        assert_eq!(third.host("b").expect("c").name, "80/c");
        assert!(third.host("c").is_none());

        host(&mut tables, "80/d", &["b"]);
        let refused = tables.build();
        assert!(matches!(&refused[..], [(_, Built::Refused(reason))] if reason.contains("80/d")));
    }
}
