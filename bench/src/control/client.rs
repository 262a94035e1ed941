//! What one simulated proxy asks for and holds, as `lateen-proxy` or Envoy would. No I/O.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::catalog::{Catalog, Content, Kind, Name};
use super::protobuf::{put, put_entry};
use super::response::{Protocol, Response};

/// One resource type on one stream.
#[derive(Debug, Default)]
struct OfType {
    /// It was asked for on this stream.
    open: bool,
    /// A response came on this stream.
    answered: bool,
    held: HashMap<Name, Content, FixedState>,
    /// Names asked for; empty for what is asked for as a whole.
    asked: HashSet<Name, FixedState>,
    /// Names asked for of which nothing is known yet.
    missing: HashSet<Name, FixedState>,
    nonce: String,
    version: String,
    /// A sum over what is held.
    digest: u64,
}

impl OfType {
    fn hold(&mut self, name: Name, content: Content) {
        self.missing.remove(&name);
        if let Some(old) = self.held.insert(name, content) {
            self.digest = self.digest.wrapping_sub(part(name, old));
        }
        self.digest = self.digest.wrapping_add(part(name, content));
    }

    fn let_go(&mut self, name: Name) {
        self.missing.remove(&name);
        if let Some(old) = self.held.remove(&name) {
            self.digest = self.digest.wrapping_sub(part(name, old));
        }
    }
}

/// What one resource adds to a digest. A content belongs to one type.
fn part(name: Name, content: Content) -> u64 {
    FixedState::default().hash_one((name, content))
}

/// A proxy's side of the protocol.
#[derive(Debug)]
pub(super) struct Client {
    protocol: Protocol,
    node: Vec<u8>,
    types: [OfType; 5],
    /// The newest change of each type that was seen.
    changes: [u32; 5],
    /// Resources that came, on all streams.
    pub(super) resources: u64,
}

/// What a response leads to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Encoded requests, in their order.
    pub(super) requests: Vec<Vec<u8>>,
    /// Changes that the first of the requests acknowledges.
    pub(super) changes: Vec<u32>,
}

impl Client {
    /// `node` is the encoded message.
    pub(super) fn new(protocol: Protocol, node: Vec<u8>) -> Self {
        Client {
            protocol,
            node,
            types: Default::default(),
            changes: [0; 5],
            resources: 0,
        }
    }

    fn of(&mut self, kind: Kind) -> &mut OfType {
        &mut self.types[kind as usize]
    }

    /// Everything that was asked for has come.
    pub(super) fn is_steady(&self) -> bool {
        let [clusters, endpoints, listeners, routes, hosts] = &self.types;
        clusters.answered
            && listeners.answered
            && (hosts.answered || !hosts.open)
            && endpoints.missing.is_empty()
            && routes.missing.is_empty()
    }

    /// A number for all that is held.
    pub(super) fn digest(&self) -> u64 {
        let types = self.types.iter();
        types.fold(0, |sum: u64, of_type| sum.wrapping_add(of_type.digest))
    }

    /// The first requests of a stream.
    pub(super) fn opening(&mut self, catalog: &Catalog) -> Vec<Vec<u8>> {
        for of_type in &mut self.types {
            of_type.open = false;
            of_type.answered = false;
            of_type.nonce.clear();
            // State of the world says everything again.
            if self.protocol == Protocol::StateOfTheWorld {
                of_type.missing.clone_from(&of_type.asked);
            }
        }
        let known = !self.types[Kind::Cluster as usize].held.is_empty();
        let at_once = |kind: &Kind| match (self.protocol, kind) {
            (_, Kind::Cluster) => true,
            (Protocol::Delta, Kind::Listener | Kind::VirtualHost) => true,
            (Protocol::StateOfTheWorld, Kind::VirtualHost) => false,
            // Envoy asks for listeners when its clusters are warm.
            (Protocol::StateOfTheWorld, Kind::Listener) => known,
            (_, Kind::Endpoint | Kind::Route) => !self.types[*kind as usize].asked.is_empty(),
        };
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(at_once).collect();
        kinds
            .into_iter()
            .map(|kind| self.open(kind, catalog))
            .collect()
    }

    /// The first request for a type.
    fn open(&mut self, kind: Kind, catalog: &Catalog) -> Vec<u8> {
        self.of(kind).open = true;
        let node = (kind == Kind::Cluster).then(|| self.node.clone());
        match self.protocol {
            Protocol::StateOfTheWorld => self.list(kind, node.as_deref(), catalog),
            Protocol::Delta => {
                let of_type = &self.types[kind as usize];
                let mut out = request(kind, node.as_deref());
                if kind.is_whole() {
                    put(&mut out, 3, b"*");
                }
                for name in &of_type.asked {
                    put(&mut out, 3, catalog.text(*name).as_bytes());
                }
                for (name, content) in &of_type.held {
                    let version = &catalog.known(*content).version;
                    put_entry(&mut out, 5, catalog.text(*name), version);
                }
                out
            }
        }
    }

    /// A state-of-the-world request, which lists all names.
    fn list(&self, kind: Kind, node: Option<&[u8]>, catalog: &Catalog) -> Vec<u8> {
        let of_type = &self.types[kind as usize];
        let mut out = Vec::new();
        put(&mut out, 1, of_type.version.as_bytes());
        if let Some(node) = node {
            put(&mut out, 2, node);
        }
        for name in &of_type.asked {
            put(&mut out, 3, catalog.text(*name).as_bytes());
        }
        put(&mut out, 4, kind.url().as_bytes());
        put(&mut out, 5, of_type.nonce.as_bytes());
        out
    }

    /// Takes and acknowledges a response, and asks for what it leads to.
    pub(super) fn take(&mut self, response: Response, catalog: &Catalog) -> Answer {
        let mut answer = Answer::default();
        let Some(kind) = Kind::of(&response.type_url) else {
            return answer;
        };
        self.resources += response.resources.len() as u64;
        answer.changes = self.note_changes(kind, &response, catalog);
        let mut removed = response.removed;
        let of_type = self.of(kind);
        of_type.answered = true;
        of_type.nonce = response.nonce;
        of_type.version = response.version;
        for content in &response.resources {
            of_type.hold(catalog.known(*content).name, *content);
        }
        if self.protocol == Protocol::StateOfTheWorld && kind.leads_to().is_some() {
            let listed: HashSet<Content, FixedState> = response.resources.into_iter().collect();
            let held = self.types[kind as usize].held.iter();
            let unlisted = held.filter(|(_, content)| !listed.contains(*content));
            removed = unlisted.map(|(name, _)| *name).collect();
        }
        for name in removed {
            self.of(kind).let_go(name);
        }
        answer.requests.push(self.acknowledge(kind, catalog));
        if let Some(next) = kind.leads_to() {
            answer.requests.extend(self.follow(kind, next, catalog));
        }
        answer.requests.extend(self.warm(catalog));
        answer
    }

    fn note_changes(&mut self, kind: Kind, response: &Response, catalog: &Catalog) -> Vec<u32> {
        let newest = &mut self.changes[kind as usize];
        let changes = response
            .resources
            .iter()
            .map(|content| catalog.known(*content).change);
        let mut new: Vec<_> = changes.filter(|change| *change > *newest).collect();
        new.sort_unstable();
        new.dedup();
        *newest = new.last().copied().unwrap_or(*newest);
        new
    }

    fn acknowledge(&self, kind: Kind, catalog: &Catalog) -> Vec<u8> {
        match self.protocol {
            Protocol::StateOfTheWorld => self.list(kind, None, catalog),
            Protocol::Delta => {
                let mut out = request(kind, None);
                put(&mut out, 6, self.types[kind as usize].nonce.as_bytes());
                out
            }
        }
    }

    /// Asks for what the resources of a type name, and no longer for what none of them does.
    fn follow(&mut self, from: Kind, to: Kind, catalog: &Catalog) -> Option<Vec<u8>> {
        let held = self.types[from as usize].held.values();
        let leads = held.flat_map(|content| &catalog.known(*content).leads);
        let wanted: HashSet<Name, FixedState> = leads.copied().collect();
        let of_type = self.of(to);
        let more: Vec<_> = wanted.difference(&of_type.asked).copied().collect();
        let less: Vec<_> = of_type.asked.difference(&wanted).copied().collect();
        if more.is_empty() && less.is_empty() {
            return None;
        }
        of_type.missing.extend(&more);
        for name in &less {
            of_type.let_go(*name);
        }
        of_type.asked = wanted;
        if !of_type.open {
            return Some(self.open(to, catalog));
        }
        Some(match self.protocol {
            Protocol::StateOfTheWorld => self.list(to, None, catalog),
            Protocol::Delta => {
                let mut out = request(to, None);
                for name in more {
                    put(&mut out, 3, catalog.text(name).as_bytes());
                }
                for name in less {
                    put(&mut out, 4, catalog.text(name).as_bytes());
                }
                out
            }
        })
    }

    /// Envoy asks for listeners when it has the endpoints of its first clusters.
    fn warm(&mut self, catalog: &Catalog) -> Option<Vec<u8>> {
        let [clusters, endpoints, listeners, ..] = &self.types;
        let due = clusters.answered && endpoints.missing.is_empty() && !listeners.open;
        due.then(|| self.open(Kind::Listener, catalog))
    }
}

/// The beginning of a delta request.
fn request(kind: Kind, node: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(node) = node {
        put(&mut out, 1, node);
    }
    put(&mut out, 2, kind.url().as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use lateen_xds::pack_any;
    use lateen_xds::types::cluster::Cluster;
    use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};

    use super::*;
    use crate::control::catalog::Raw;
    use crate::control::protobuf::{fields, text_of};

    fn cluster(catalog: &mut Catalog, name: &str, version: &str) -> Content {
        let any = pack_any(&Cluster {
            name: name.into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            ..Cluster::default()
        });
        catalog.content(Raw {
            kind: Kind::Cluster,
            name,
            version,
            body: &any.value,
        })
    }

    fn response(kind: Kind, resources: Vec<Content>, removed: Vec<Name>) -> Response {
        Response {
            type_url: kind.url().into(),
            nonce: "n".into(),
            resources,
            removed,
            ..Response::default()
        }
    }

    fn texts(request: &[u8], number: u64) -> Vec<String> {
        let found = fields(request).filter(|(found, _)| *found == number);
        found.map(|(_, field)| field.text().to_owned()).collect()
    }

    #[test]
    fn endpoints_of_clusters_are_followed() {
        let mut catalog = Catalog::default();
        let mut client = Client::new(Protocol::Delta, b"node".to_vec());
        let opening = client.opening(&catalog);
        assert_eq!(opening.len(), 3);
        assert_eq!(texts(&opening[0], 3), ["*"]);
        assert_eq!(text_of(&opening[0], 1), "node");

        let a = cluster(&mut catalog, "a", "1");
        let answer = client.take(response(Kind::Cluster, vec![a], Vec::new()), &catalog);
        assert_eq!(text_of(&answer.requests[0], 6), "n");
        assert_eq!(texts(&answer.requests[1], 3), ["a"]);
        client.take(response(Kind::Listener, Vec::new(), Vec::new()), &catalog);
        client.take(
            response(Kind::VirtualHost, Vec::new(), Vec::new()),
            &catalog,
        );
        assert!(!client.is_steady());
        let endpoints = catalog.content(Raw {
            kind: Kind::Endpoint,
            name: "a",
            version: "7",
            body: b"10.250.0.3",
        });
        let come = response(Kind::Endpoint, vec![endpoints], Vec::new());
        assert_eq!(client.take(come, &catalog).changes, [3]);
        assert!(client.is_steady());

        let again = client.opening(&catalog);
        assert_eq!(again.len(), 4);
        assert_eq!(
            text_of(fields(&again[1]).nth(2).expect("a version").1.bytes(), 2),
            "7"
        );

        let gone = catalog.name("a");
        let answer = client.take(response(Kind::Cluster, Vec::new(), vec![gone]), &catalog);
        assert_eq!(texts(&answer.requests[1], 4), ["a"]);
        assert_eq!(client.digest(), 0);
    }

    #[test]
    fn envoy_waits_for_endpoints_before_it_asks_for_listeners() {
        let mut catalog = Catalog::default();
        let mut client = Client::new(Protocol::StateOfTheWorld, b"node".to_vec());
        assert_eq!(client.opening(&catalog).len(), 1);
        let a = cluster(&mut catalog, "a", "");
        let answer = client.take(response(Kind::Cluster, vec![a], Vec::new()), &catalog);
        assert_eq!(answer.requests.len(), 2);
        assert_eq!(texts(&answer.requests[1], 3), ["a"]);
        let endpoints = catalog.content(Raw {
            kind: Kind::Endpoint,
            name: "",
            version: "",
            body: b"\x0a\x01a",
        });
        let come = response(Kind::Endpoint, vec![endpoints], Vec::new());
        let answer = client.take(come, &catalog);
        assert_eq!(text_of(&answer.requests[1], 4), Kind::Listener.url());
        // A list without it takes it away.
        client.take(response(Kind::Cluster, Vec::new(), Vec::new()), &catalog);
        assert_eq!(client.digest(), 0);
    }
}
