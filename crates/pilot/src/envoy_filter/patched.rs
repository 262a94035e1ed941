//! Patches as a part of keys.

use std::collections::HashSet;

use lateen_api::networking::PatchContext;
use lateen_core::ports;
use lateen_xds::names::{self, RouteName};
use lateen_xds::types::listener::Listener;

use super::edit::Edit;
use super::when::{ClusterFacts, Table};
use super::{Patches, Selected, What};
use crate::key::{Key, Message};
use crate::route::HostKind;
use crate::shared::Shared;
use crate::wire;

/// A resource and the patches that change it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Patched {
    key: Key,
    patches: Shared<Patches>,
}

/// A resource that a patch brings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Added {
    patches: Shared<Patches>,
    /// Which of the patches.
    at: usize,
}

/// What kind of resource a patch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cluster,
    Listener,
    Extension,
}

impl Patched {
    /// What is patched.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn message(&self) -> Message {
        let (key, patches) = (&self.key, &self.patches);
        let context = context(key, patches);
        match key.message() {
            Message::Cluster(cluster) => {
                let facts = cluster_facts(key);
                let facts = facts.unwrap_or_else(|| ClusterFacts::named(""));
                Message::Cluster(patches.cluster(context, &facts, cluster))
            }
            Message::Listener(listener) => Message::Listener(patches.listener(context, listener)),
            Message::Routes(name, table) => {
                Message::Routes(name, patches.routes(context, &table_facts(key), table))
            }
            other => other,
        }
    }
}

impl Added {
    pub(crate) fn message(&self) -> Message {
        match &self.patches.list[self.at].what {
            What::Cluster(edit) => Message::Cluster(*edit.value.clone()),
            What::Listener(edit) => Message::Listener(*edit.value.clone()),
            What::Extension(edit) => Message::Extension(*edit.value.clone()),
            _ => unreachable!("`added` makes keys of these only"),
        }
    }

    /// Whether the proxy can read it.
    fn reads(&self) -> Result<(), lateen_decode::DecodeError> {
        match &self.patches.list[self.at].what {
            _ if !self.patches.ours => Ok(()),
            What::Cluster(edit) => lateen_decode::cluster(&edit.value).map(drop),
            What::Listener(edit) => lateen_decode::listener(&edit.value).map(drop),
            _ => Ok(()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match &self.patches.list[self.at].what {
            What::Cluster(edit) => &edit.value.name,
            What::Listener(edit) => &edit.value.name,
            What::Extension(edit) => &edit.value.name,
            _ => "",
        }
    }
}

impl Selected {
    /// Keys as they are served: without those of what is taken out, and with the patches of what is
    /// changed.
    pub(crate) fn patch(&self, mut keys: Vec<Key>) -> Vec<Key> {
        let Some(patches) = &self.all else {
            return keys;
        };
        keys.retain(|key| !is_removed(key, patches));
        keys.into_iter().map(|key| patched(key, patches)).collect()
    }

    /// One key, of what cannot be taken out.
    pub(crate) fn patch_one(&self, key: Key) -> Key {
        match &self.all {
            Some(patches) => patched(key, patches),
            None => key,
        }
    }

    /// Keys of what patches bring, but for names that are taken.
    pub(crate) fn added(
        &self,
        kind: Kind,
        inbound: bool,
        is_taken: impl Fn(&str) -> bool,
    ) -> Vec<Key> {
        let Some(patches) = &self.all else {
            return Vec::new();
        };
        let context = match inbound {
            true => PatchContext::SidecarInbound,
            false => patches.outward(),
        };
        let mut taken = HashSet::new();
        let mut keys = Vec::new();
        for (at, patch) in patches.list.iter().enumerate() {
            if !adds(&patch.what, kind) || !patch.when.adds_in(context) {
                continue;
            }
            let added = Added {
                patches: patches.clone(),
                at,
            };
            let name = added.name();
            if name.is_empty() {
                patch.done("what it adds", Err("has no name".into()));
            } else if is_taken(name) || !taken.insert(name.to_owned()) {
                patch.done(name, Err("there is one of that name already".into()));
            } else if let Err(error) = added.reads() {
                let why = format!("Lateen's proxy does not do it: {error}");
                patch.done(name, Err(why));
            } else {
                patch.done(name, Ok(true));
                keys.push(Key::Added(Box::new(added)));
            }
        }
        keys
    }

    /// The key of an extension's configuration by name; the last one counts.
    pub(crate) fn extension(&self, name: &str) -> Option<Key> {
        let patches = self.all.as_ref()?;
        let added = (0..patches.list.len()).rev().map(|at| Added {
            patches: patches.clone(),
            at,
        });
        let is_wanted = |added: &Added| {
            adds(&patches.list[added.at].what, Kind::Extension) && added.name() == name
        };
        let found = added.into_iter().find(is_wanted)?;
        patches.list[found.at].done(name, Ok(true));
        Some(Key::Added(Box::new(found)))
    }

    /// Whether patches are for route tables that lead out.
    pub(crate) fn change_tables(&self) -> bool {
        let mut patches = self.all.iter();
        patches.any(|patches| patches.change_routes(patches.outward()))
    }

    /// Whether patches bring clusters that lead out.
    pub(crate) fn adds_clusters(&self) -> bool {
        let list = self.all.iter().flat_map(|patches| &patches.list);
        list.into_iter()
            .any(|patch| adds(&patch.what, Kind::Cluster))
    }
}

fn adds(what: &What, kind: Kind) -> bool {
    fn is_add<M: lateen_xds::NamedMessage>(edit: &Edit<M>) -> bool {
        edit.adds()
    }
    match (what, kind) {
        (What::Cluster(edit), Kind::Cluster) => is_add(edit),
        (What::Listener(edit), Kind::Listener) => is_add(edit),
        (What::Extension(edit), Kind::Extension) => is_add(edit),
        _ => false,
    }
}

fn is_removed(key: &Key, patches: &Patches) -> bool {
    let context = context(key, patches);
    if let Some(facts) = cluster_facts(key) {
        return patches.remove_cluster(context, &facts);
    }
    outline(key).is_some_and(|listener| patches.remove_listener(context, &listener))
}

fn patched(key: Key, patches: &Shared<Patches>) -> Key {
    let context = context(&key, patches);
    let changes = if let Some(facts) = cluster_facts(&key) {
        patches.change_cluster(context, &facts)
    } else if let Some(listener) = outline(&key) {
        patches.change_listener(context, &listener)
    } else {
        matches!(key, Key::Routes(_)) && patches.change_routes(context)
    };
    if !changes {
        return key;
    }
    let patches = patches.clone();
    Key::Patched(Box::new(Patched { key, patches }))
}

fn context(key: &Key, patches: &Patches) -> PatchContext {
    match key {
        Key::InboundCluster(_) | Key::VirtualInbound(_) | Key::Bound(_) => {
            PatchContext::SidecarInbound
        }
        _ => patches.outward(),
    }
}

fn cluster_facts(key: &Key) -> Option<ClusterFacts<'_>> {
    match key {
        Key::BlackHole(_) => Some(ClusterFacts::named(names::BLACK_HOLE_CLUSTER)),
        Key::Passthrough(_) => Some(ClusterFacts::named(names::PASSTHROUGH_CLUSTER)),
        Key::ByName(_) => Some(ClusterFacts::named(names::DYNAMIC_DNS_CLUSTER)),
        Key::Cluster(key) => Some(ClusterFacts {
            name: key.name().to_string(),
            hosts: vec![key.service.hostname.as_str()],
        }),
        Key::InboundCluster(key) => Some(ClusterFacts {
            name: key.name(),
            hosts: key.services.iter().map(|of| of[0].as_str()).collect(),
        }),
        _ => None,
    }
}

impl Key {
    /// The name of a listener.
    pub(crate) fn listener_name(&self) -> Option<String> {
        outline(self).map(|listener| listener.name)
    }
}

/// A listener's name and address, which decide whether it is meant.
fn outline(key: &Key) -> Option<Listener> {
    let (name, address, port) = match key {
        Key::Bound(key) => (key.name(), key.address(), key.port.port),
        Key::VirtualOutbound(_) => (names::VIRTUAL_OUTBOUND.into(), "0.0.0.0", ports::OUTBOUND),
        Key::VirtualInbound(_) => (names::VIRTUAL_INBOUND.into(), "0.0.0.0", ports::INBOUND),
        Key::Listener(key) => (key.name(), key.address(), key.port),
        Key::Gateway(key) => (key.name(), key.address(), key.port),
        _ => return None,
    };
    Some(Listener {
        name,
        address: Some(wire::socket_address(address, port)),
        ..Listener::default()
    })
}

fn table_facts(key: &Key) -> Table<'_> {
    let Key::Routes(key) = key else {
        return Table::default();
    };
    let hosts = key.hosts.iter().filter_map(|host| match &host.kind {
        HostKind::Gateway(host) => Some(host),
        _ => None,
    });
    let rules = hosts.flat_map(|host| &host.rules);
    let mut gateways: Vec<_> = rules.map(|(gateway, _)| gateway.clone()).collect();
    let rest = match RouteName::parse(&key.name) {
        Some(RouteName::GatewayHttps { .. }) => key.name.splitn(3, '.').nth(2),
        _ => None,
    };
    // `https.PORT.PORTNAME.GATEWAY.NAMESPACE`: neither of the last two has a dot.
    let parts = rest.map(|rest| rest.rsplitn(3, '.').collect::<Vec<_>>());
    let port_name = match parts.as_deref() {
        Some([namespace, gateway, port_name]) => {
            gateways.push(format!("{namespace}/{gateway}"));
            Some(*port_name)
        }
        _ => None,
    };
    Table {
        port: Some(key.port),
        port_name,
        gateways,
    }
}
