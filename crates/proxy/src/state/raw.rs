//! Resources as they came, encoded, with their versions: what the config dump shows.

use std::collections::BTreeMap;

use arcstr::ArcStr;
use lateen_xds::types::route::{RouteConfiguration, VirtualHost};
use lateen_xds::{Any, decode_any, names, pack_any};

/// The parts of the config dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RawKind {
    StaticCluster,
    Cluster,
    StaticListener,
    Listener,
    Route,
    VirtualHost,
    Endpoint,
}

/// One resource.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub name: ArcStr,
    pub version: String,
    pub updated: jiff::Timestamp,
    pub any: Any,
    /// Fields that nothing reads.
    pub unread: Vec<String>,
}

/// All resources.
#[derive(Debug, Default)]
pub(crate) struct RawStore {
    all: BTreeMap<(RawKind, ArcStr), Raw>,
    n_unread: usize,
}

impl RawStore {
    /// True where the resource is known in exactly this form.
    pub(crate) fn is_same(&self, kind: RawKind, name: &ArcStr, any: &Any) -> bool {
        self.all
            .get(&(kind, name.clone()))
            .is_some_and(|raw| raw.any == *any)
    }

    /// Keeps a resource; true where other fields of it are unread than of the one before.
    pub(crate) fn keep(
        &mut self,
        kind: RawKind,
        name: &ArcStr,
        version: &str,
        any: Any,
        unread: Vec<String>,
    ) -> bool {
        self.n_unread += unread.len();
        let raw = Raw {
            name: name.clone(),
            version: version.to_owned(),
            updated: jiff::Timestamp::now(),
            any,
            unread,
        };
        let key = (kind, name.clone());
        let unread = raw.unread.clone();
        let before = self.all.insert(key, raw).map(|raw| raw.unread);
        self.n_unread -= before.as_ref().map_or(0, Vec::len);
        before.unwrap_or_default() != unread
    }

    pub(crate) fn forget(&mut self, kind: RawKind, name: &ArcStr) {
        let gone = self.all.remove(&(kind, name.clone()));
        self.n_unread -= gone.map_or(0, |raw| raw.unread.len());
    }

    /// How many fields are unread, of all resources.
    pub(crate) fn n_unread(&self) -> usize {
        self.n_unread
    }

    /// The fields that nothing reads, by kind and name.
    pub(crate) fn unread(&self) -> Vec<(RawKind, ArcStr, Vec<String>)> {
        let some = self.all.iter().filter(|(_, raw)| !raw.unread.is_empty());
        some.map(|((kind, name), raw)| (*kind, name.clone(), raw.unread.clone()))
            .collect()
    }

    /// Route tables by name, each with the virtual hosts that came for it, and as new as the newest
    /// of these.
    pub(crate) fn tables(&self) -> Vec<Raw> {
        let mut tables = self.of(RawKind::Route);
        for table in &mut tables {
            let Ok(mut config) = decode_any::<RouteConfiguration>(&table.any) else {
                continue;
            };
            if config.vhds.take().is_none() {
                continue;
            }
            let prefix = names::virtual_host(&table.name, "");
            let from = (RawKind::VirtualHost, ArcStr::from(prefix.as_str()));
            let hosts = self.all.range(from..);
            let hosts = hosts.take_while(|((kind, name), _)| {
                *kind == RawKind::VirtualHost && name.starts_with(&prefix)
            });
            for (_, host) in hosts {
                if let Ok(host) = decode_any::<VirtualHost>(&host.any) {
                    config.virtual_hosts.push(host);
                }
                if host.updated > table.updated {
                    table.updated = host.updated;
                    table.version.clone_from(&host.version);
                }
            }
            table.any = pack_any(&config);
        }
        tables
    }

    /// The resources of one kind, by name.
    pub(crate) fn of(&self, kind: RawKind) -> Vec<Raw> {
        let all = self.all.iter().filter(|((found, _), _)| *found == kind);
        all.map(|(_, raw)| raw.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_xds::types::route::Vhds;

    #[test]
    fn tables_are_shown_with_the_hosts_that_came_for_them() {
        let mut store = RawStore::default();
        let table = |name: &str| RouteConfiguration {
            name: name.into(),
            vhds: Some(Vhds::default()),
            ..RouteConfiguration::default()
        };
        let host = |name: &str| VirtualHost {
            name: name.into(),
            ..VirtualHost::default()
        };
        store.keep(
            RawKind::Route,
            &"8".into(),
            "1",
            pack_any(&table("8")),
            Vec::new(),
        );
        for name in ["8/a", "8/b", "80/c"] {
            let any = pack_any(&host(name));
            store.keep(RawKind::VirtualHost, &name.into(), name, any, Vec::new());
        }
        let [shown] = &store.tables()[..] else {
            panic!("one table")
        };
        let config: RouteConfiguration = decode_any(&shown.any).expect("a table");
        let names: Vec<_> = config.virtual_hosts.iter().map(|h| &*h.name).collect();
        assert_eq!((names, config.vhds), (vec!["8/a", "8/b"], None));
        assert_ne!(shown.version, "80/c");
    }
}
