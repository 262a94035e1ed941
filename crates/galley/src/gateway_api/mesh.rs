//! Routes whose parent is a Service: they hold for clients in the mesh.

use std::collections::BTreeMap;

use lateen_api::{
    Meta, Object,
    gateway_api::ParentReference,
    networking::{
        HttpMatchRequest, HttpRoute, HttpRouteDestination, L4MatchAttributes, MESH_GATEWAY,
        TcpRoute, VirtualService,
    },
};
use lateen_core::{Hostname, ServiceId};

use crate::sessions;
use crate::sources::{self, Source};

use super::{
    Around, GATEWAY_SEMANTICS, ROUTE_SEMANTICS,
    backend::destination,
    conditions::Verdict,
    l4::L4,
    routes::{Common, Converted, Entry, Rules, sorted},
};

/// A Service as the clients of a namespace see it. Routes of its own namespace are for all clients;
/// those of another are for the clients there, and come before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MeshHost {
    namespace: String,
    service: ServiceId,
}

/// What is said of a Service.
#[derive(Clone, Debug, Default)]
pub(super) struct HostRules {
    http: Vec<Entry>,
    /// By port, if one is named.
    tcp: BTreeMap<Option<u32>, L4>,
    /// Ports that HTTP rules are for; all where one names none.
    ports: Vec<Option<u32>>,
}

/// The Service that a route names as its parent. `None` where the parent is none.
pub(super) fn parent(
    around: Around<'_>,
    route: Common<'_>,
    parent: &ParentReference,
) -> Option<Result<MeshHost, Verdict>> {
    let group = parent.group.as_deref();
    if group != Some("") || parent.kind.as_deref() != Some("Service") {
        return None;
    }
    let home = parent.namespace.as_deref().unwrap_or(&route.meta.namespace);
    let host = Hostname::service(&parent.name, home, around.domain);
    let id = ServiceId::new(home, host);
    let Some(service) = around.world.services.get(&id) else {
        let message = format!("Service {home}/{} not found", parent.name);
        return Some(Err(Verdict::new("NoMatchingParent", message)));
    };
    if let Some(port) = parent.port {
        let known = u16::try_from(port).ok().and_then(|port| service.port(port));
        if known.is_none() {
            let message = format!("Service {home}/{} has no port {port}", parent.name);
            return Some(Err(Verdict::new("NoMatchingParent", message)));
        }
    }
    if !matches!(route.kind.kind, "HTTPRoute" | "GRPCRoute" | "TCPRoute") {
        let message = format!("{} is not supported for a Service", route.kind.kind);
        return Some(Err(Verdict::new("UnsupportedValue", message)));
    }
    Some(Ok(MeshHost {
        namespace: route.meta.namespace.clone(),
        service: id,
    }))
}

/// Adds a route; what of it is not in force.
pub(super) fn add(
    all: &mut BTreeMap<MeshHost, HostRules>,
    route: Common<'_>,
    host: MeshHost,
    parent: &ParentReference,
    converted: Converted,
) -> Option<String> {
    let rules = all.entry(host).or_default();
    if route.kind.kind == "TCPRoute" {
        if rules.tcp.contains_key(&parent.port) {
            return Some("Route was valid, but an older one has the Service's port".to_owned());
        }
        rules.tcp.insert(parent.port, converted.l4);
        return None;
    }
    rules.ports.push(parent.port);
    for mut entry in converted.http {
        for of in &mut entry.route.r#match {
            of.port = parent.port;
        }
        rules.http.push(entry);
    }
    None
}

/// A VirtualService for each Service.
pub(super) fn write(around: Around<'_>, rules: &Rules, out: &mut Vec<Object<VirtualService>>) {
    for (at, rules) in &rules.mesh {
        let own = at.namespace == *at.service.namespace;
        let host = &at.service.hostname;
        let (mut http, mut sources, sessions) = sorted(rules.http.clone());
        if !http.is_empty() && !rules.ports.contains(&None) {
            http.extend(untouched(around, at, &rules.ports));
            sources.resize_with(http.len(), || service(at));
        }
        let tcp = rules.tcp.iter().map(|(port, route)| TcpRoute {
            r#match: port.iter().map(|port| only(*port)).collect(),
            route: route.route.clone(),
        });
        let spec = VirtualService {
            hosts: vec![host.to_string()],
            gateways: vec![MESH_GATEWAY.into()],
            http,
            // Those of a port come before those of all.
            tcp: tcp.rev().collect(),
            export_to: vec![if own { "*" } else { "." }.into()],
            ..VirtualService::default()
        };
        let semantics = (ROUTE_SEMANTICS.to_owned(), GATEWAY_SEMANTICS.to_owned());
        let mut annotations = [semantics].into();
        sources::note(&mut annotations, &sources);
        sessions::note(&mut annotations, &sessions);
        let l4 = rules.tcp.values().rev().map(|of| of.source.clone());
        sources::note_l4(&mut annotations, &l4.collect::<Vec<_>>());
        let meta = Meta {
            name: format!("{MESH_GATEWAY}~{host}"),
            namespace: at.namespace.clone(),
            annotations,
            // Of VirtualServices for a host, the oldest counts: what clients say for themselves.
            creation_timestamp: own.then_some(jiff::Timestamp::UNIX_EPOCH),
            ..Meta::default()
        };
        out.push(Object { meta, spec });
    }
}

/// What the ports that no route names stand for.
fn service(at: &MeshHost) -> Source {
    let name = at.service.hostname.as_str();
    Source {
        kind: "Service".to_owned(),
        namespace: at.service.namespace.to_string(),
        name: name.split('.').next().unwrap_or_default().to_owned(),
        rule: "spec.ports".to_owned(),
        ..Source::default()
    }
}

fn only(port: u32) -> L4MatchAttributes {
    L4MatchAttributes {
        port: Some(port),
        ..L4MatchAttributes::default()
    }
}

/// Ports that no route names go where they went.
fn untouched<'a>(
    around: Around<'a>,
    at: &'a MeshHost,
    ports: &'a [Option<u32>],
) -> impl Iterator<Item = HttpRoute> + 'a {
    let service = around.world.services.get(&at.service);
    let all = service.into_iter().flat_map(|service| &service.ports);
    let all = all.map(|port| u32::from(port.port));
    let others = all.filter(|port| !ports.contains(&Some(*port)));
    others.map(|port| HttpRoute {
        name: "default".into(),
        r#match: vec![HttpMatchRequest {
            port: Some(port),
            ..HttpMatchRequest::default()
        }],
        route: vec![HttpRouteDestination {
            destination: Some(destination(&at.service.hostname, port)),
            weight: 1,
            headers: None,
        }],
        ..HttpRoute::default()
    })
}
