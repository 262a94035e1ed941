//! GRPCRoute: as HTTPRoute, with the path made of service and method.

use lateen_api::{
    Object,
    gateway_api::{
        BackendRef, GrpcBackendRef, GrpcMethodMatch, GrpcRoute as Route, GrpcRouteFilter,
        GrpcRouteMatch, HttpRouteFilter, MatchType,
    },
    networking::{HttpMatchRequest, HttpRoute, StringMatch},
};

use crate::sources::Source;

use super::{
    Around,
    backend::End,
    filters::{Filters, Place},
    http::{self, Backends},
    routes::{Converted, Entry, Rank},
    sessions,
};

/// Reads a route for a place.
pub(super) fn convert(around: Around<'_>, route: &Object<Route>, place: Place) -> Converted {
    let mut out = Converted::default();
    for (n, rule) in route.spec.rules.iter().enumerate() {
        let from = End::of("GRPCRoute", &route.meta.namespace);
        let filters: Vec<_> = rule.filters.iter().map(filter).collect();
        let filters = Filters::read(around, from, &filters, &mut out.findings);
        let mut backends = Backends::default();
        for to in &rule.backend_refs {
            let own: Vec<_> = to.filters.iter().map(filter).collect();
            backends.add(around, from, &backend(to), &own, &mut out.findings);
        }
        let mut base = HttpRoute {
            name: format!("{}.{}.{n}", route.meta.namespace, route.meta.name),
            ..HttpRoute::default()
        };
        let source = Source {
            backends: backends.fields(n),
            ..Source::new("GRPCRoute", &route.meta, format!("spec.rules[{n}]"))
        };
        http::lead(&mut base, backends);
        let persistence = rule.session_persistence.as_ref();
        let session = sessions::read(persistence, &base, &base.name, &mut out.findings);
        let all = [GrpcRouteMatch::default()];
        let matches = match rule.matches.is_empty() {
            true => &all[..],
            false => &rule.matches[..],
        };
        for (m, of) in matches.iter().enumerate() {
            let (path, mut rank) = path(of.method.as_ref());
            rank.headers = of.headers.len();
            let request = HttpMatchRequest {
                uri: path,
                headers: http::headers(&of.headers),
                ..HttpMatchRequest::default()
            };
            let rank = rank.of(&route.meta, (n, m));
            for route in filters.apply(&base, request, place) {
                out.http.push(Entry {
                    rank: rank.clone(),
                    source: source.clone().matching(&rule.matches, m),
                    session: session.clone(),
                    route,
                });
            }
        }
    }
    out
}

/// The path of a call is `/service/method`.
fn path(of: Option<&GrpcMethodMatch>) -> (Option<StringMatch>, Rank) {
    let Some(of) = of else {
        return (Some(StringMatch::Prefix("/".into())), Rank::path(0, 1));
    };
    let service = of.service.as_deref().filter(|text| !text.is_empty());
    let method = of.method.as_deref().filter(|text| !text.is_empty());
    let length = service.map_or(0, str::len) + method.map_or(0, str::len);
    let exact = of.r#type.unwrap_or_default() == MatchType::Exact;
    match (service, method) {
        (Some(service), Some(method)) if exact => (
            Some(StringMatch::Exact(format!("/{service}/{method}"))),
            Rank::path(3, length),
        ),
        (Some(service), None) if exact => (
            Some(StringMatch::Prefix(format!("/{service}/"))),
            Rank::path(2, length),
        ),
        (None, None) => (Some(StringMatch::Prefix("/".into())), Rank::path(0, 1)),
        (service, method) => {
            let part = |text: Option<&str>| match text {
                Some(text) if exact => regex::escape(text),
                Some(text) => text.to_owned(),
                None => "[^/]+".to_owned(),
            };
            let pattern = format!("/{}/{}", part(service), part(method));
            (Some(StringMatch::Regex(pattern)), Rank::path(1, length))
        }
    }
}

fn backend(to: &GrpcBackendRef) -> BackendRef {
    BackendRef {
        group: to.group.clone(),
        kind: to.kind.clone(),
        name: to.name.clone(),
        namespace: to.namespace.clone(),
        port: to.port,
        weight: to.weight,
    }
}

fn filter(of: &GrpcRouteFilter) -> HttpRouteFilter {
    HttpRouteFilter {
        r#type: of.r#type.clone(),
        request_header_modifier: of.request_header_modifier.clone(),
        response_header_modifier: of.response_header_modifier.clone(),
        request_mirror: of.request_mirror.clone(),
        extension_ref: of.extension_ref.clone(),
        ..HttpRouteFilter::default()
    }
}
