//! Every resource that any client was sent, looked into once: five thousand clients that get the same
//! resource compare a number.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use lateen_xds::types::listener::{Listener, filter};
use lateen_xds::types::network::hcm::HttpConnectionManager;
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::{Any, decode_any};
use std::hash::BuildHasher;

use super::mesh::{MARKED_NETWORK, MARKED_VALUE};
use super::protobuf::text_of;

/// The types that a proxy of ours or Envoy asks this stream for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Cluster,
    Endpoint,
    Listener,
    Route,
    /// Ours alone: Envoy has them in its tables.
    VirtualHost,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [
        Kind::Cluster,
        Kind::Endpoint,
        Kind::Listener,
        Kind::Route,
        Kind::VirtualHost,
    ];

    pub(super) fn url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Kind::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
        }
    }

    pub(super) fn of(url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// What its resources name.
    pub(super) fn leads_to(self) -> Option<Kind> {
        match self {
            Kind::Cluster => Some(Kind::Endpoint),
            Kind::Listener => Some(Kind::Route),
            Kind::Endpoint | Kind::Route | Kind::VirtualHost => None,
        }
    }

    /// Whether all that there are of it are asked for, not some by name.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Kind::Cluster | Kind::Listener | Kind::VirtualHost)
    }
}

/// A name, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(u32);

/// A resource in one of its versions, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content(u32);

/// What is known of a resource.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: Name,
    /// As the server said it; empty in state of the world.
    pub(super) version: Box<str>,
    pub(super) leads: Vec<Name>,
    /// The change that it brings; zero is none.
    pub(super) change: u32,
}

/// Names and resources.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    names: HashMap<Box<str>, Name, FixedState>,
    texts: Vec<Box<str>>,
    by_hash: HashMap<u64, Content, FixedState>,
    contents: Vec<Known>,
    hasher: FixedState,
}

/// Resources that come as one field of a response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) kind: Kind,
    /// Empty where only the resource itself says it.
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) body: &'a [u8],
}

impl Catalog {
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.into());
        self.names.insert(text.into(), name);
        name
    }

    pub(super) fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }

    pub(super) fn known(&self, content: Content) -> &Known {
        &self.contents[content.0 as usize]
    }

    /// The number of a resource. A version stands for its content; where there is none, the content
    /// is all there is.
    pub(super) fn content(&mut self, raw: Raw<'_>) -> Content {
        let identity = (raw.kind, raw.name, raw.version);
        let hash = if raw.version.is_empty() {
            self.hasher.hash_one((identity, raw.body))
        } else {
            self.hasher.hash_one(identity)
        };
        if let Some(content) = self.by_hash.get(&hash) {
            return *content;
        }
        let known = self.look_into(raw);
        let content = Content(u32::try_from(self.contents.len()).unwrap_or(u32::MAX));
        self.contents.push(known);
        self.by_hash.insert(hash, content);
        content
    }

    fn look_into(&mut self, raw: Raw<'_>) -> Known {
        // The name is the first field of all types whose name may be missing.
        let name = match raw.name {
            "" => text_of(raw.body, 1),
            name => name,
        };
        let name = self.name(name);
        let change = match raw.kind {
            Kind::Endpoint => changed_address(raw.body),
            Kind::Route | Kind::VirtualHost => changed_value(raw.body),
            Kind::Cluster | Kind::Listener => None,
        };
        let leads = leads(raw).into_iter().map(|lead| self.name(&lead));
        Known {
            name,
            version: raw.version.into(),
            leads: leads.collect(),
            change: change.unwrap_or_default(),
        }
    }
}

/// The text behind the last occurrence of a mark that is the largest: a table of routes has several.
fn changed_value(body: &[u8]) -> Option<u32> {
    after(body, MARKED_VALUE.as_bytes())
        .filter_map(|rest| std::str::from_utf8(rest.get(..5)?).ok()?.parse().ok())
        .max()
}

fn changed_address(body: &[u8]) -> Option<u32> {
    let number = |rest: &[u8]| {
        let text: Vec<u8> = rest.iter().copied().take(7).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (high, low) = text.split_once('.')?;
        let digits = low.bytes().take_while(u8::is_ascii_digit).count();
        let high: u32 = high.parse().ok()?;
        Some(high * 256 + low[..digits].parse::<u32>().ok()?)
    };
    after(body, MARKED_NETWORK.as_bytes())
        .filter_map(number)
        .max()
}

/// What stands behind each occurrence of `mark`.
fn after<'a>(body: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let starts = body.windows(mark.len()).enumerate();
    starts
        .filter(move |(_, window)| *window == mark)
        .map(move |(at, _)| &body[at + mark.len()..])
}

/// Names of other resources in it. Decoded, as each content is looked into only once.
fn leads(raw: Raw<'_>) -> HashSet<String> {
    let any = Any {
        type_url: raw.kind.url().to_owned(),
        value: raw.body.to_vec(),
    };
    match raw.kind {
        Kind::Cluster => decode_any(&any).map_or_else(|_| HashSet::new(), |c| of_cluster(&c)),
        Kind::Listener => decode_any(&any).map_or_else(|_| HashSet::new(), |l| of_listener(&l)),
        Kind::Endpoint | Kind::Route | Kind::VirtualHost => HashSet::new(),
    }
}

fn of_cluster(cluster: &Cluster) -> HashSet<String> {
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    if cluster.cluster_discovery_type != Some(eds) {
        return HashSet::new();
    }
    let config = cluster.eds_cluster_config.as_ref();
    let service = config.map_or("", |config| &config.service_name);
    let name = if service.is_empty() {
        &cluster.name
    } else {
        service
    };
    HashSet::from_iter([name.to_owned()])
}

fn of_listener(listener: &Listener) -> HashSet<String> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let configs = chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(filter::ConfigType::TypedConfig(config)) => Some(config),
            _ => None,
        });
    configs
        .filter_map(|config| decode_any::<HttpConnectionManager>(config).ok())
        .filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_found() {
        assert_eq!(changed_address(b"\x0a\x0b10.250.1.7\x10\x50"), Some(263));
        assert_eq!(changed_address(b"10.2.0.1"), None);
        let text = b"..lateen-bench-change-00002..lateen-bench-change-00011";
        assert_eq!(changed_value(text), Some(11));
        assert_eq!(changed_value(b"lateen-bench-change-"), None);
    }

    #[test]
    fn the_same_version_is_the_same_content() {
        let mut catalog = Catalog::default();
        let mut content = |name, version, body: &'static [u8]| {
            catalog.content(Raw {
                kind: Kind::Endpoint,
                name,
                version,
                body,
            })
        };
        assert_eq!(content("a", "1", b""), content("a", "1", b""));
        assert_ne!(content("a", "1", b""), content("a", "2", b""));
        assert_ne!(content("a", "1", b""), content("b", "1", b""));
        // A name is field 1, where a response does not give it.
        assert_ne!(content("", "", b"\x0a\x01a"), content("", "", b"\x0a\x01b"));
    }
}
