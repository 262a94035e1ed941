//! Route tables and the virtual hosts in them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arcstr::ArcStr;
use lateen_core::Hostname;
use lateen_registry::SharedMap;
use lateen_xds::names::{HTTP_PROXY_ROUTE, parse_virtual_host};
use lateen_xds::server::{Name, Resource};

use super::{Making, State, Vantage};
use crate::key::{Cache, Key};
use crate::proxy::Dialect;
use crate::route::{self, HostKind};
use crate::snapshot::Snapshot;

/// Tables that are kept at once: more than a large mesh has.
const TABLES_MAX: usize = 50_000;

/// The tables of a scope: those that its listeners lead to and others that somebody has asked for,
/// made when somebody asks.
pub(in crate::engine) struct Tables {
    /// Of the virtual hosts.
    pub(in crate::engine) hosts: State,
    /// Of the tables as they are served to the scope's dialect.
    pub(in crate::engine) whole: State,
    vantage: Arc<Vantage>,
    /// What listeners lead to.
    listed: Arc<BTreeSet<String>>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// What they are made from.
    snapshot: Arc<Snapshot>,
    /// `None` where there is none of a name.
    made: SharedMap<ArcStr, Option<Arc<Table>>>,
    /// Some that were asked for are not kept.
    is_full: bool,
}

/// One table. What is alike in tables of several scopes is in memory once.
struct Table {
    hosts: SharedMap<ArcStr, Host>,
    /// Clients name the port, which tells hosts apart.
    by_port: bool,
    /// Without its hosts, for those who get these by themselves.
    head: Arc<OnceLock<Arc<Resource>>>,
    /// With them.
    whole: OnceLock<Arc<Resource>>,
}

#[derive(Clone)]
struct Host {
    key: Arc<Key>,
    resource: Arc<Resource>,
}

/// What changed on the way from one state to the next.
#[derive(Default)]
struct Changed {
    hosts: Vec<Name>,
    tables: Vec<Name>,
}

impl Tables {
    pub(super) fn new(
        making: Making<'_>,
        like: Option<&Tables>,
        listed: &Arc<BTreeSet<String>>,
    ) -> Tables {
        let tables = Tables {
            hosts: State::new(),
            whole: State::new(),
            vantage: making.vantage.clone(),
            listed: listed.clone(),
            inner: Mutex::new(Inner {
                snapshot: making.snapshot.clone(),
                made: SharedMap::new(),
                is_full: false,
            }),
        };
        if let Some(like) = like {
            let like = like.lock().made.clone();
            let inner = &mut *tables.lock();
            for (name, table) in like.iter().filter(|(name, _)| listed.contains(&***name)) {
                let table = Table::next(table.as_ref(), name, making, &mut Changed::default());
                inner.made.insert(name.clone(), table);
            }
        }
        tables
    }

    /// Nothing under the lock leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn n_made(&self) -> usize {
        self.lock().made.len()
    }

    fn serves_hosts(&self) -> bool {
        self.vantage.dialect == Dialect::Lateen
    }

    /// The same ones where nothing that they depend on has changed.
    pub(super) fn next(
        self: &Arc<Self>,
        making: Making<'_>,
        listed: &Arc<BTreeSet<String>>,
    ) -> Arc<Tables> {
        let touched = making.touched;
        let mut inner = self.lock();
        let mut next = Inner {
            snapshot: making.snapshot.clone(),
            made: inner.made.clone(),
            is_full: false,
        };
        let mut changed = Changed::default();
        if self.listed != *listed {
            next.relist(&self.listed, listed, making, &mut changed);
        }
        if touched.all_routes(making.view()) {
            next.renew_all(making, listed, &mut changed);
        } else {
            next.renew_some(making, &mut changed);
        }
        let is_concerned = touched.all_routes(making.view()) || !touched.routed.is_empty();
        let is_same = changed.hosts.is_empty() && changed.tables.is_empty();
        // Who is behind may still make something of what counted then, of which nothing is known here.
        let was_all_there = inner.has_all(&self.listed) && !inner.is_full;
        if self.listed == *listed && is_same && (was_all_there || !is_concerned) {
            *inner = next;
            return self.clone();
        }
        Arc::new(Tables {
            hosts: match was_all_there {
                true => self.hosts.moved(changed.hosts),
                false => State::new(),
            },
            // Tables are few, and any may have been asked for.
            whole: match changed.tables.is_empty() && was_all_there {
                true => self.whole.clone(),
                false => State::new(),
            },
            vantage: self.vantage.clone(),
            listed: listed.clone(),
            inner: Mutex::new(next),
        })
    }

    /// Those of the names that there are, as they are served to the scope's dialect.
    pub(in crate::engine) fn find<'a>(
        &self,
        cache: &Cache,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        if !self.serves_hosts() {
            return self.find_whole(cache, names);
        }
        let mut inner = self.lock();
        let tables =
            names.filter_map(|name| Some((name, inner.table(name, &self.vantage, cache)?)));
        tables.map(|(name, table)| table.head(name)).collect()
    }

    /// Those of the names that there are, with all their virtual hosts.
    pub(in crate::engine) fn find_whole<'a>(
        &self,
        cache: &Cache,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        let mut inner = self.lock();
        let tables =
            names.filter_map(|name| Some((name, inner.table(name, &self.vantage, cache)?)));
        let whole = |(name, table): (&'a Name, Arc<Table>)| table.whole(name, &self.vantage, cache);
        tables.map(whole).collect()
    }

    /// All virtual hosts of all tables that listeners lead to.
    pub(in crate::engine) fn all_hosts(&self, cache: &Cache) -> Vec<Arc<Resource>> {
        if !self.serves_hosts() {
            return Vec::new();
        }
        let mut inner = self.lock();
        let mut hosts = Vec::new();
        for name in &*self.listed {
            if let Some(table) = inner.table(name, &self.vantage, cache) {
                hosts.extend(table.hosts.values().map(|host| host.resource.clone()));
            }
        }
        hosts
    }

    /// Those virtual hosts of the names that there are.
    pub(in crate::engine) fn find_hosts<'a>(
        &self,
        cache: &Cache,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        if !self.serves_hosts() {
            return Vec::new();
        }
        let mut inner = self.lock();
        let mut found = Vec::new();
        for name in names {
            if let Some((table, host)) = parse_virtual_host(name)
                && self.listed.contains(table)
                && let Some(table) = inner.table(table, &self.vantage, cache)
                && let Some(host) = table.hosts.get(host)
            {
                found.push(host.resource.clone());
            }
        }
        found
    }
}

impl Inner {
    fn has_all(&self, listed: &BTreeSet<String>) -> bool {
        let mut listed = listed.iter();
        listed.all(|name| self.made.contains_key(name.as_str()))
    }

    /// The table of a name, made now if it was not.
    fn table(&mut self, name: &str, vantage: &Arc<Vantage>, cache: &Cache) -> Option<Arc<Table>> {
        if let Some(made) = self.made.get(name) {
            return made.clone();
        }
        let making = Making {
            vantage,
            snapshot: &self.snapshot,
            touched: &Default::default(),
            cache,
        };
        let table = Table::next(None, name, making, &mut Changed::default());
        if self.made.len() < TABLES_MAX {
            self.made.insert(name.into(), table.clone());
        } else {
            self.is_full = true;
        }
        table
    }

    /// Takes note of which tables listeners lead to now. Hosts of those are sent to clients that may
    /// not have asked for their table yet.
    fn relist(
        &mut self,
        was: &BTreeSet<String>,
        is: &BTreeSet<String>,
        making: Making<'_>,
        changed: &mut Changed,
    ) {
        for name in was.symmetric_difference(is) {
            if let Some(table) = self.made.remove(name.as_str()) {
                changed.gone(name, table.as_deref());
            }
        }
        if making.vantage.dialect == Dialect::Lateen {
            for name in is.difference(was) {
                let table = Table::next(None, name, making, changed);
                self.made.insert(name.as_str().into(), table);
            }
        }
    }

    /// Looks at everything. Tables that are not led to are forgotten until somebody asks again.
    fn renew_all(&mut self, making: Making<'_>, listed: &BTreeSet<String>, changed: &mut Changed) {
        let before = std::mem::take(&mut self.made);
        let is_asked_for = |name: &&String| {
            before.contains_key(name.as_str()) || making.vantage.dialect == Dialect::Lateen
        };
        for name in listed.iter().filter(is_asked_for) {
            let was = before.get(name.as_str()).and_then(Option::as_ref);
            let table = Table::next(was, name, making, changed);
            self.made.insert(name.as_str().into(), table);
        }
        for (name, table) in before.iter().filter(|(name, _)| !listed.contains(&***name)) {
            changed.gone(name, table.as_deref());
        }
    }

    /// Looks at the hosts whose rules have changed.
    fn renew_some(&mut self, making: Making<'_>, changed: &mut Changed) {
        let mut stale = BTreeSet::new();
        for host in &making.touched.routed {
            let places = making.look(host, |view| {
                view.service(host).map(|service| view.places(service))
            });
            match places.unwrap_or_default() {
                Some(places) => {
                    for (table, host) in places {
                        self.renew(&table, &host, making, changed);
                    }
                }
                None => stale.extend(self.tables_of_unknown(host, making)),
            }
        }
        for name in stale {
            let was = self.made.get(&*name).and_then(Option::as_ref);
            let table = Table::next(was, &name, making, changed);
            self.made.insert(name, table);
        }
    }

    /// The tables that have a host which no registry has, or are to have it.
    fn tables_of_unknown(&self, host: &Hostname, making: Making<'_>) -> Vec<ArcStr> {
        let ports = making.look(host, |view| view.ports_of_unknown(host));
        let ports = ports.unwrap_or_default();
        let concerned = self.made.iter().filter(|(name, table)| {
            let Ok(port) = name.parse::<u16>() else {
                return ***name == *HTTP_PROXY_ROUTE;
            };
            let has = |table: &Arc<Table>| table.hosts.contains_key(&*format!("{host}:{port}"));
            ports.contains(&port) || table.as_ref().is_some_and(has)
        });
        concerned.map(|(name, _)| name.clone()).collect()
    }

    /// Looks at one host of one table.
    fn renew(&mut self, table: &str, host: &str, making: Making<'_>, changed: &mut Changed) {
        let Some(Some(was)) = self.made.get(table) else {
            return;
        };
        let Some(Key::VirtualHost(before)) = was.hosts.get(host).map(|host| &*host.key) else {
            return;
        };
        let Some(key) = making.look(host, |view| view.renewed(before)) else {
            return;
        };
        let mut hosts = was.hosts.clone();
        let key = Key::VirtualHost(key);
        let n_changed = changed.hosts.len();
        if !set(&mut hosts, host.into(), key, making, &mut changed.hosts) {
            return;
        }
        let next = if changed.hosts.len() > n_changed {
            changed.note(table, making);
            was.with(hosts)
        } else {
            was.made_otherwise(hosts)
        };
        self.made.insert(table.into(), Some(Arc::new(next)));
    }
}

impl Changed {
    /// A table is not kept any more, with its hosts.
    fn gone(&mut self, name: &str, table: Option<&Table>) {
        self.tables.push(Name::new(name));
        let hosts = table.into_iter().flat_map(|table| table.hosts.values());
        self.hosts
            .extend(hosts.map(|host| host.resource.name.clone()));
    }

    /// A table has other hosts, which is a change of the table for those who get it whole.
    fn note(&mut self, table: &str, making: Making<'_>) {
        if making.vantage.dialect != Dialect::Lateen {
            self.tables.push(Name::new(table));
        }
    }
}

/// Sets one host. Whether the map is another one then; the name goes to `changed` where the host is
/// another one.
fn set(
    hosts: &mut SharedMap<ArcStr, Host>,
    name: ArcStr,
    key: Key,
    making: Making<'_>,
    changed: &mut Vec<Name>,
) -> bool {
    let was = hosts.get(&name);
    if was.is_some_and(|was| *was.key == key) {
        return false;
    }
    // What cannot be made stays as it was.
    let Ok((key, resource)) = making.cache.resource(key) else {
        return false;
    };
    match was {
        Some(was) if was.resource == resource => {
            let resource = was.resource.clone();
            hosts.insert(name, Host { key, resource });
        }
        _ => {
            changed.push(resource.name.clone());
            hosts.insert(name, Host { key, resource });
        }
    }
    true
}

impl Table {
    /// The table of a name, the same one where nothing came out differently; `None` where there is
    /// none.
    fn next(
        before: Option<&Arc<Table>>,
        name: &str,
        making: Making<'_>,
        changed: &mut Changed,
    ) -> Option<Arc<Table>> {
        let Some(made) = making.look(name, |view| view.routes(name)) else {
            return before.cloned();
        };
        let Some(made) = made else {
            if let Some(before) = before {
                changed.gone(name, Some(before));
            }
            return None;
        };
        let mut hosts = before.map(|table| table.hosts.clone()).unwrap_or_default();
        let n_changed = changed.hosts.len();
        let mut is_other = false;
        let mut there = BTreeSet::new();
        for key in made.hosts {
            let host = ArcStr::from(key.name());
            let key = Key::VirtualHost(key);
            is_other |= set(&mut hosts, host.clone(), key, making, &mut changed.hosts);
            there.insert(host);
        }
        let gone: Vec<_> = hosts
            .keys()
            .filter(|n| !there.contains(*n))
            .cloned()
            .collect();
        for host in gone {
            if let Some(host) = hosts.remove(&host) {
                changed.hosts.push(host.resource.name.clone());
            }
        }
        let Some(before) = before.filter(|before| before.by_port == made.by_port) else {
            changed.tables.push(Name::new(name));
            return Some(Arc::new(Table {
                hosts,
                by_port: made.by_port,
                head: Arc::default(),
                whole: OnceLock::new(),
            }));
        };
        if changed.hosts.len() > n_changed {
            changed.note(name, making);
            return Some(Arc::new(before.with(hosts)));
        }
        match is_other {
            true => Some(Arc::new(before.made_otherwise(hosts))),
            false => Some(before.clone()),
        }
    }

    /// The same table with other hosts.
    fn with(&self, hosts: SharedMap<ArcStr, Host>) -> Table {
        Table {
            hosts,
            by_port: self.by_port,
            head: self.head.clone(),
            whole: OnceLock::new(),
        }
    }

    /// The same table, made from other inputs that came to the same.
    fn made_otherwise(&self, hosts: SharedMap<ArcStr, Host>) -> Table {
        Table {
            whole: self.whole.clone(),
            ..self.with(hosts)
        }
    }

    fn head(&self, name: &str) -> Arc<Resource> {
        let head = self
            .head
            .get_or_init(|| Arc::new(route::head(name, self.by_port)));
        head.clone()
    }

    fn whole(&self, name: &str, vantage: &Vantage, cache: &Cache) -> Arc<Resource> {
        let whole = self.whole.get_or_init(|| {
            let patched = || self.patched(name, vantage, cache);
            let (named, rest): (Vec<_>, Vec<_>) =
                self.hosts.values().partition(|host| !host.is_for_others());
            let hosts = named.into_iter().chain(rest);
            let put_together =
                || route::assemble(name, self.by_port, hosts.map(|host| &*host.resource));
            patched().unwrap_or_else(|| Arc::new(put_together()))
        });
        whole.clone()
    }

    /// The table with users' patches, which see all of it, where there are any. `None` also where it
    /// cannot be made, which leaves it without them.
    fn patched(&self, name: &str, vantage: &Vantage, cache: &Cache) -> Option<Arc<Resource>> {
        if !vantage.patches.change_tables() {
            return None;
        }
        let key = |host: &Host| match &*host.key {
            Key::VirtualHost(key) => Some(key.clone()),
            _ => None,
        };
        let hosts: Vec<_> = self.hosts.values().filter_map(key).collect();
        let table = route::Table {
            name: name.to_owned(),
            port: hosts.iter().find_map(|host| host.port()).unwrap_or(0),
            by_port: self.by_port,
            hosts,
        };
        let made = cache.resource(vantage.patches.patch_one(Key::Routes(table)));
        made.ok().map(|(_, resource)| resource)
    }
}

impl Host {
    fn is_for_others(&self) -> bool {
        match &*self.key {
            Key::VirtualHost(key) => matches!(key.kind, HostKind::Others(_)),
            _ => false,
        }
    }
}
