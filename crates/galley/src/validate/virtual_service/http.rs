//! HTTP routes: what they match and what they may combine.

use std::collections::BTreeMap;

use lateen_api::networking::{HeaderOperations, Headers, HttpMatchRequest, HttpRoute, StringMatch};

use super::{super::common, destination, gateway_names, http_actions, weights};
use crate::fault::{Faults, Path};

pub(super) fn check(route: &HttpRoute, delegate: bool, at: &Path<'_>, faults: &mut Faults) {
    check_combination(route, delegate, at, faults);
    let list = at.field("match");
    for (n, rule) in route.r#match.iter().enumerate() {
        check_match(rule, &list.index(n), faults);
    }
    let list = at.field("route");
    for (n, entry) in route.route.iter().enumerate() {
        let at = list.index(n);
        destination(entry.destination.as_ref(), &at, faults);
        headers(entry.headers.as_ref(), &at.field("headers"), faults);
    }
    weights(
        &route.route.iter().map(|r| r.weight).collect::<Vec<_>>(),
        &list,
        faults,
    );
    headers(route.headers.as_ref(), &at.field("headers"), faults);
    if route.timeout.is_some_and(|t| !t.is_zero()) {
        common::positive(route.timeout, &at.field("timeout"), faults);
    }
    http_actions::check(route, at, faults);
}

/// A request can be answered in one way only.
fn check_combination(route: &HttpRoute, delegate: bool, at: &Path<'_>, faults: &mut Faults) {
    let ways = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    let chosen: Vec<&str> = ways
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    match chosen.as_slice() {
        [] => faults.add(
            at,
            "HTTP route has no destination",
            "set one of route, redirect, directResponse and delegate",
        ),
        [_] => {}
        several => faults.add(
            at,
            format!("HTTP route cannot have {} together", several.join(" and ")),
            "keep one of them",
        ),
    }
    if delegate && route.delegate.is_some() {
        faults.add(
            &at.field("delegate"),
            "a delegate cannot delegate",
            "remove it, or add hosts",
        );
    }
    let forwarded = !route.route.is_empty();
    for (name, set) in [
        ("rewrite", route.rewrite.is_some()),
        ("mirror", route.mirror.is_some()),
    ] {
        if set && !forwarded && route.delegate.is_none() {
            faults.add(
                &at.field(name),
                format!("{name} needs a route"),
                "add a route, or remove it",
            );
        }
    }
    if let (Some(redirect), Some(_)) = (&route.redirect, &route.rewrite) {
        let _ = redirect;
        faults.add(
            &at.field("rewrite"),
            "HTTP route cannot have redirect and rewrite together",
            "keep one of them",
        );
    }
}

fn check_match(rule: &HttpMatchRequest, at: &Path<'_>, faults: &mut Faults) {
    let single = [
        ("uri", &rule.uri),
        ("scheme", &rule.scheme),
        ("method", &rule.method),
        ("authority", &rule.authority),
    ];
    for (name, value) in single {
        let Some(value) = value else { continue };
        let at = at.field(name);
        if *value == StringMatch::Present {
            faults.add(&at, "match is empty", "set one of exact, prefix and regex");
        }
        common::string_match(value, &at, faults);
    }
    match_map(&rule.headers, true, &at.field("headers"), faults);
    match_map(
        &rule.without_headers,
        true,
        &at.field("withoutHeaders"),
        faults,
    );
    match_map(&rule.query_params, false, &at.field("queryParams"), faults);
    if let Some(port) = rule.port {
        common::port(port, &at.field("port"), faults);
    }
    common::labels(&rule.source_labels, &at.field("sourceLabels"), faults);
    gateway_names(&rule.gateways, &at.field("gateways"), faults);
}

fn match_map(
    map: &BTreeMap<String, StringMatch>,
    headers: bool,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    for (name, value) in map {
        let at = at.key(name);
        if headers {
            common::header_name(name, &at, faults);
        } else if name.is_empty() {
            faults.add(&at, "the parameter has no name", "name it");
        }
        common::string_match(value, &at, faults);
    }
}

fn headers(value: Option<&Headers>, at: &Path<'_>, faults: &mut Faults) {
    let Some(value) = value else { return };
    for (name, operations) in [("request", &value.request), ("response", &value.response)] {
        if let Some(operations) = operations {
            header_operations(operations, &at.field(name), faults);
        }
    }
}

fn header_operations(value: &HeaderOperations, at: &Path<'_>, faults: &mut Faults) {
    for (field, map) in [("set", &value.set), ("add", &value.add)] {
        let at = at.field(field);
        for name in map.keys() {
            changeable_header(name, &at.key(name), faults);
        }
    }
    let list = at.field("remove");
    for (n, name) in value.remove.iter().enumerate() {
        changeable_header(name, &list.index(n), faults);
    }
}

fn changeable_header(name: &str, at: &Path<'_>, faults: &mut Faults) {
    common::header_name(name, at, faults);
    if name.starts_with(':') && name != ":authority" {
        faults.add(
            at,
            format!("pseudo-header {name} cannot be changed"),
            "use rewrite",
        );
    }
}
