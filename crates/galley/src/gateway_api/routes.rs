//! Routes of all kinds: what they attach themselves to, and what follows for each host.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use lateen_api::{
    Kind, Meta, Object,
    gateway_api::{BackendRef, ParentReference},
    kinds::gateway_api as kinds,
    networking::{Destination, HttpDirectResponse, HttpMatchRequest, HttpRoute, StringMatch},
    networking::{TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService},
};
use lateen_core::{Hostname, ObjectRef};

use crate::sessions::{self, Session};
use crate::sources::{self, Source};

use super::{
    Around, GATEWAY_SEMANTICS, ROUTE_SEMANTICS, Said,
    backend::End,
    conditions::Verdict,
    filters::Place,
    gateways::Gateways,
    grpc, http,
    l4::{self, L4},
    listeners::Role,
    mesh::{self, MeshHost},
    objects::by_age,
    status,
};

/// How specific a match is, and how old; the least is tried first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rank {
    /// Exact paths, then prefixes, then expressions, then every path; the longer first.
    path: (u8, usize),
    pub(super) method: bool,
    pub(super) headers: usize,
    pub(super) query: usize,
    created: (bool, Option<Timestamp>),
    name: (String, String),
    place: (usize, usize),
}

impl Rank {
    pub(super) fn path(rank: u8, length: usize) -> Self {
        Self {
            path: (rank, length),
            ..Self::default()
        }
    }

    pub(super) fn of(mut self, meta: &Meta, place: (usize, usize)) -> Self {
        self.created = (meta.creation_timestamp.is_none(), meta.creation_timestamp);
        self.name = (meta.namespace.clone(), meta.name.clone());
        self.place = place;
        self
    }

    fn key(&self) -> impl Ord + '_ {
        let specific = (self.path, self.method, self.headers, self.query);
        (Reverse(specific), self.created, &self.name, self.place)
    }
}

/// One match of one rule of a route.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) rank: Rank,
    /// What it was made of.
    pub(super) source: Source,
    pub(super) session: Option<Session>,
    pub(super) route: HttpRoute,
}

/// What was found of a route wherever it is attached.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) refused: Option<Verdict>,
    pub(super) unresolved: Option<Verdict>,
    /// Namespace and name of the Services that it leads to, whether or not they can be called.
    services: BTreeSet<(String, String)>,
}

impl Findings {
    /// Something that cannot be done; the first is told.
    pub(super) fn refused(&mut self, verdict: Verdict) {
        self.refused.get_or_insert(verdict);
    }

    /// Where a backend is; what is missing or forbidden is an error.
    pub(super) fn backend(
        &mut self,
        around: Around<'_>,
        from: End<'_>,
        to: &BackendRef,
    ) -> Result<Destination, Verdict> {
        let namespace = to.namespace.as_deref().unwrap_or(from.namespace);
        if is_service(to) {
            self.services
                .insert((namespace.to_owned(), to.name.clone()));
        }
        around.backend(from, to)
    }

    /// A reference that leads nowhere; the first is told.
    pub(super) fn unresolved(&mut self, verdict: Verdict) {
        self.unresolved.get_or_insert(verdict);
    }
}

/// Whether a backend is a Service, not something else of its name.
fn is_service(to: &BackendRef) -> bool {
    let group = to.group.as_deref().unwrap_or_default();
    group.is_empty() && to.kind.as_deref().unwrap_or("Service") == "Service"
}

/// A route as rules of VirtualServices.
#[derive(Clone, Debug, Default)]
pub(super) struct Converted {
    pub(super) http: Vec<Entry>,
    pub(super) l4: L4,
    pub(super) findings: Findings,
}

/// What all kinds of routes have.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) kind: &'static Kind,
    pub(super) meta: &'a Meta,
    pub(super) parents: &'a [ParentReference],
    pub(super) hostnames: &'a [String],
}

/// What is served for a host at a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct HostRules {
    http: Vec<Entry>,
    /// Of several routes of connections, the oldest counts.
    l4: L4,
}

/// Everything that routes say.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// By listener and host.
    pub(super) listeners: BTreeMap<(usize, Hostname), HostRules>,
    /// The Services that routes of a Gateway lead to.
    pub(super) led: BTreeMap<(String, String), BTreeSet<(String, String)>>,
    /// For clients in the mesh.
    pub(super) mesh: BTreeMap<MeshHost, mesh::HostRules>,
}

/// Reads all routes.
pub(super) fn read<'a>(
    around: Around<'a>,
    gateways: &mut Gateways<'a>,
    rules: &mut Rules,
    statuses: &mut BTreeMap<ObjectRef, Said>,
) {
    let objects = around.objects;
    let mut reader = Reader {
        around,
        gateways,
        rules,
        statuses,
    };
    for route in by_age(&objects.http_routes) {
        let (parents, hosts) = (&route.spec.parent_refs, &route.spec.hostnames);
        reader.route(
            common(&kinds::HTTP_ROUTE, route, parents, hosts),
            |around, at| http::convert(around, route, at),
        );
    }
    for route in by_age(&objects.grpc_routes) {
        let (parents, hosts) = (&route.spec.parent_refs, &route.spec.hostnames);
        reader.route(
            common(&kinds::GRPC_ROUTE, route, parents, hosts),
            |around, at| grpc::convert(around, route, at),
        );
    }
    for route in by_age(&objects.tls_routes) {
        let (parents, hosts) = (&route.spec.parent_refs, &route.spec.hostnames);
        let of = common(&kinds::TLS_ROUTE, route, parents, hosts);
        reader.route(of, |around, _| l4::convert(around, of, &route.spec.rules));
    }
    for route in by_age(&objects.tcp_routes) {
        let of = common(&kinds::TCP_ROUTE, route, &route.spec.parent_refs, &[]);
        reader.route(of, |around, _| l4::convert(around, of, &route.spec.rules));
    }
    for route in by_age(&objects.udp_routes) {
        let of = common(&kinds::UDP_ROUTE, route, &route.spec.parent_refs, &[]);
        reader.route(of, |around, _| l4::convert(around, of, &route.spec.rules));
    }
}

fn common<'a, T>(
    kind: &'static Kind,
    object: &'a Object<T>,
    parents: &'a [ParentReference],
    hostnames: &'a [String],
) -> Common<'a> {
    Common {
        kind,
        meta: &object.meta,
        parents,
        hostnames,
    }
}

struct Reader<'a, 'b> {
    around: Around<'a>,
    gateways: &'b mut Gateways<'a>,
    rules: &'b mut Rules,
    statuses: &'b mut BTreeMap<ObjectRef, Said>,
}

impl Reader<'_, '_> {
    fn route(&mut self, route: Common<'_>, convert: impl Fn(Around<'_>, Place) -> Converted) {
        let at_gateways = convert(self.around, Place::default()).findings;
        let mut parents = Vec::new();
        for parent in route.parents {
            let findings;
            let found = match mesh::parent(self.around, route, parent) {
                Some(found) => {
                    let converted = convert(self.around.for_mesh(), Place::MESH);
                    findings = converted.findings.clone();
                    found.map(|host| match findings.refused {
                        None => mesh::add(&mut self.rules.mesh, route, host, parent, converted),
                        Some(_) => None,
                    })
                }
                None => match self.gateways.attach(self.around, route, parent) {
                    // Somebody else's.
                    None => continue,
                    Some(found) => {
                        findings = at_gateways.clone();
                        found.map(|listeners| match findings.refused {
                            None => self.serve(listeners, &convert),
                            Some(_) => None,
                        })
                    }
                },
            };
            let behind = found.as_ref().ok().and_then(Option::as_deref);
            let refused = found.as_ref().err();
            let generation = route.meta.generation;
            parents.push(status::parent(
                parent, refused, &findings, behind, generation,
            ));
        }
        if !parents.is_empty() {
            let key = ObjectRef::new(route.kind.id(), &route.meta.namespace, &route.meta.name);
            self.statuses
                .insert(key, status::route(parents, route.meta.generation));
        }
    }

    /// Adds a route to listeners; what of it is not in force there.
    fn serve(
        &mut self,
        found: Vec<(usize, Vec<Hostname>)>,
        convert: &impl Fn(Around<'_>, Place) -> Converted,
    ) -> Option<String> {
        let mut behind = None;
        for (n, hosts) in found {
            let listener = &mut self.gateways.listeners[n];
            listener.attached += 1;
            if !listener.serves() {
                continue;
            }
            let place = Place {
                port: listener.listener.port,
                https: listener.role == Role::Https,
            };
            let converted = convert(self.around, place);
            let gateway = &listener.gateway.meta;
            let led = self
                .rules
                .led
                .entry((gateway.namespace.clone(), gateway.name.clone()));
            led.or_default().extend(converted.findings.services);
            for host in hosts {
                let is_taken = format!(
                    "Route was valid, but an older one has listener {} for {host}",
                    listener.listener.name
                );
                let rules = self.rules.listeners.entry((n, host)).or_default();
                rules.http.extend(converted.http.iter().cloned());
                if rules.l4.is_empty() {
                    rules.l4.clone_from(&converted.l4);
                } else if !converted.l4.is_empty() {
                    behind = Some(is_taken);
                }
            }
        }
        behind
    }
}

/// The rules in the order in which they are tried, what they were made of, and their sessions.
pub(super) fn sorted(
    mut entries: Vec<Entry>,
) -> (Vec<HttpRoute>, Vec<Source>, Vec<Option<Session>>) {
    entries.sort_by(|a, b| a.rank.key().cmp(&b.rank.key()));
    let entries = entries.into_iter();
    entries
        .map(|entry| (entry.route, entry.source, entry.session))
        .collect()
}

impl Rules {
    /// A VirtualService for each host of each listener.
    pub(super) fn write(&self, gateways: &Gateways<'_>, out: &mut Vec<Object<VirtualService>>) {
        for ((n, host), rules) in &self.listeners {
            let listener = &gateways.listeners[*n];
            let (http, sources, sessions) = sorted(rules.http.clone());
            let mut spec = VirtualService {
                hosts: vec![host.to_string()],
                http,
                ..VirtualService::default()
            };
            let L4 { route, source } = rules.l4.clone();
            let l4 = [source];
            if listener.role == Role::Passthrough && !route.is_empty() {
                spec.tls.push(TlsRoute {
                    r#match: vec![TlsMatchAttributes {
                        sni_hosts: vec![host.to_string()],
                        ..TlsMatchAttributes::default()
                    }],
                    route,
                });
            } else if !route.is_empty() {
                spec.tcp.push(TcpRoute {
                    r#match: Vec::new(),
                    route,
                });
            }
            let gateway = match listener.role {
                Role::Terminated => listener.name_for(host),
                _ => listener.name.clone(),
            };
            let meta = &listener.gateway.meta;
            let mut made = object(meta, &gateway, host, spec, &sources);
            sessions::note(&mut made.meta.annotations, &sessions);
            if !rules.l4.is_empty() {
                sources::note_l4(&mut made.meta.annotations, &l4);
            }
            out.push(made);
        }
        for (n, listener) in gateways.listeners.iter().enumerate() {
            let host = listener.host();
            let is_served = self.listeners.contains_key(&(n, host.clone()));
            if !is_served && gateways.is_within_another(n) {
                let nothing = HttpRoute {
                    name: "not-found".into(),
                    r#match: vec![HttpMatchRequest {
                        uri: Some(StringMatch::Prefix("/".into())),
                        ..HttpMatchRequest::default()
                    }],
                    direct_response: Some(HttpDirectResponse {
                        status: 404,
                        body: None,
                    }),
                    ..HttpRoute::default()
                };
                let spec = VirtualService {
                    hosts: vec![host.to_string()],
                    http: vec![nothing],
                    ..VirtualService::default()
                };
                let meta = &listener.gateway.meta;
                let source = [listener.source()];
                out.push(object(meta, &listener.name, &host, spec, &source));
            }
        }
    }
}

fn object(
    meta: &Meta,
    gateway: &str,
    host: &Hostname,
    mut spec: VirtualService,
    sources: &[Source],
) -> Object<VirtualService> {
    spec.gateways = vec![format!("{}/{gateway}", meta.namespace)];
    spec.export_to = vec!["*".into()];
    let semantics = (ROUTE_SEMANTICS.to_owned(), GATEWAY_SEMANTICS.to_owned());
    let mut annotations = [semantics].into();
    sources::note(&mut annotations, sources);
    let meta = Meta {
        name: format!("{gateway}~{host}"),
        namespace: meta.namespace.clone(),
        annotations,
        creation_timestamp: meta.creation_timestamp,
        ..Meta::default()
    };
    Object { meta, spec }
}
