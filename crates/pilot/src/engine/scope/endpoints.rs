//! Endpoints by the name of their cluster: those that somebody has asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_core::Hostname;
use lateen_registry::SharedMap;
use lateen_xds::names::{LOCAL_CLUSTER, host_of_cluster};
use lateen_xds::server::{Name, Resource};

use super::clusters::Clusters;
use super::{Making, State, Vantage};
use crate::key::{Cache, Key};
use crate::snapshot::Snapshot;
use crate::view::View;

/// Names whose resources are kept at once: more than a large mesh has, and a bound to what clients
/// can make us keep by asking for what there is not.
const NAMES_MAX: usize = 250_000;

/// The endpoints of a scope, made when somebody asks.
pub(in crate::engine) struct Endpoints {
    pub(in crate::engine) state: State,
    vantage: Arc<Vantage>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// What they are made from.
    snapshot: Arc<Snapshot>,
    /// By the service that they are of, and by name.
    made: SharedMap<(Hostname, Name), Made>,
    /// The service of the proxy's peers, once somebody has asked for them.
    peers_of: Option<Hostname>,
}

#[derive(Clone)]
struct Made {
    /// `None` where there is nothing of that name.
    resource: Option<Arc<Resource>>,
    /// Something has changed since it was made.
    is_old: bool,
}

impl Endpoints {
    pub(super) fn new(making: Making<'_>) -> Endpoints {
        Endpoints {
            state: State::new(),
            vantage: making.vantage.clone(),
            inner: Mutex::new(Inner {
                snapshot: making.snapshot.clone(),
                made: SharedMap::new(),
                peers_of: None,
            }),
        }
    }

    /// Nothing under the lock leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn n_made(&self) -> usize {
        self.lock().made.len()
    }

    /// The same ones where nothing that they depend on has changed. `known` are the clusters before
    /// and after, by whose names they are asked for.
    pub(super) fn next(self: &Arc<Self>, making: Making<'_>, known: [&Clusters; 2]) -> Arc<Self> {
        let touched = making.touched;
        let mut inner = self.lock();
        if !touched.all && touched.hosts.is_empty() {
            inner.snapshot = making.snapshot.clone();
            return self.clone();
        }
        let mut next = Inner {
            snapshot: making.snapshot.clone(),
            made: inner.made.clone(),
            peers_of: inner.peers_of.clone(),
        };
        let state = if touched.all {
            let made: Vec<_> = next.made.keys().cloned().collect();
            made.into_iter().for_each(|key| next.touch(key));
            State::new()
        } else {
            let mut names = Vec::new();
            for host in &touched.hosts {
                for (host, name) in next.of(host) {
                    names.push(name.clone());
                    next.touch((host, name));
                }
                names.extend(known.iter().flat_map(|clusters| clusters.names_to(host)));
            }
            // Another service may be the one of the peers now.
            let of_peers = next.peers_of.as_ref();
            let is_other = touched.services || of_peers.is_some_and(|h| touched.hosts.contains(h));
            if self.vantage.peers.is_some() && is_other {
                let key = (Hostname::new(""), Name::new(LOCAL_CLUSTER));
                names.push(key.1.clone());
                next.touch(key);
            }
            self.state.moved(names)
        };
        Arc::new(Endpoints {
            state,
            vantage: self.vantage.clone(),
            inner: Mutex::new(next),
        })
    }

    /// Those of the names that there are.
    pub(in crate::engine) fn find<'a>(
        &self,
        cache: &Cache,
        names: impl Iterator<Item = &'a Name>,
    ) -> Vec<Arc<Resource>> {
        let mut inner = self.lock();
        names
            .filter_map(|name| inner.find(&self.vantage, cache, name))
            .collect()
    }
}

impl Inner {
    /// What is kept of a service.
    fn of(&self, host: &Hostname) -> Vec<(Hostname, Name)> {
        let from = (host.clone(), Name::new(""));
        let keys = self.made.range(from..).map(|(key, _)| key);
        keys.take_while(|(of, _)| of == host).cloned().collect()
    }

    /// Marks something as old. What was old already nobody asked for since, and is dropped.
    fn touch(&mut self, key: (Hostname, Name)) {
        match self.made.get_mut(&key) {
            Some(made) if !made.is_old && made.resource.is_some() => made.is_old = true,
            _ => {
                self.made.remove(&key);
            }
        }
    }

    fn find(
        &mut self,
        vantage: &Arc<Vantage>,
        cache: &Cache,
        name: &Name,
    ) -> Option<Arc<Resource>> {
        // Peers are of no service in particular.
        let host = match &**name {
            LOCAL_CLUSTER => "",
            name => host_of_cluster(name)?,
        };
        let known = self
            .made
            .get_by(|(of, known)| (of.as_str(), known).cmp(&(host, name)));
        let before = match known {
            Some(made) if !made.is_old => return made.resource.clone(),
            Some(made) => made.resource.clone(),
            None => None,
        };
        let resource = self.make(vantage, cache, name, before);
        if self.made.len() >= NAMES_MAX {
            self.made = SharedMap::new();
        }
        let made = Made {
            resource: resource.clone(),
            is_old: false,
        };
        let key = (Hostname::new(host), name.clone());
        self.made.insert(key, made);
        resource
    }

    /// What cannot be made is as it was before.
    fn make(
        &mut self,
        vantage: &Arc<Vantage>,
        cache: &Cache,
        name: &Name,
        before: Option<Arc<Resource>>,
    ) -> Option<Arc<Resource>> {
        let making = Making {
            vantage,
            snapshot: &self.snapshot.clone(),
            touched: &Default::default(),
            cache,
        };
        if **name == *LOCAL_CLUSTER {
            let service = making.look(name, View::service_of_peers).flatten();
            self.peers_of = service.map(|service| service.hostname.clone());
        }
        let Some(key) = making.look(name, |view| view.endpoints(name)) else {
            return before;
        };
        match cache.resource(Key::Endpoints(key?)) {
            Ok((_, resource)) => Some(resource),
            Err(_) => before,
        }
    }
}
