use super::{check_routes, *};

const TABLE: &str = "
name: '9080'
virtual_hosts:
- name: a:9080
  domains: [a, a.default]
  routes:
  - {name: first, match: {prefix: /a}, route: {cluster: c}}
  - {name: second, match: {prefix: /}, redirect: {path_redirect: /b}}
- name: b:9080
  domains: [b]
  routes: [{name: only, match: {prefix: /}, direct_response: {status: 200}}]
";

#[track_caller]
fn check(items: &str, change: &[(&str, &str)], faults: &[&str]) {
    let mut after = TABLE.to_owned();
    for (from, to) in change {
        assert!(after.contains(from), "{from}");
        after = after.replace(from, to);
    }
    let table = Table {
        port: Some(9080),
        ..Table::default()
    };
    check_routes(&table, items, TABLE, &after, faults);
}

const FIRST: &str = "  - {name: first, match: {prefix: /a}, route: {cluster: c}}";
const SECOND: &str = "  - {name: second, match: {prefix: /}, redirect: {path_redirect: /b}}";

fn route(which: &str, operation: &str) -> String {
    format!(
        "- applyTo: HTTP_ROUTE
  match: {{routeConfiguration: {{vhost: {{name: 'a:9080'{which}}}}}}}
  patch: {{operation: {operation}, value: {{name: new}}}}"
    )
}

#[test]
fn routes_of_a_host() {
    let new = "  - {name: new}";
    let around = |a: &str, b: &str| format!("{a}\n{b}");
    for (which, operation, from, to) in [
        ("", "INSERT_FIRST", FIRST, around(new, FIRST)),
        ("", "ADD", SECOND, around(SECOND, new)),
        (
            ", route: {name: second}",
            "INSERT_BEFORE",
            SECOND,
            around(new, SECOND),
        ),
        (
            ", route: {name: first}",
            "INSERT_AFTER",
            FIRST,
            around(FIRST, new),
        ),
        (", route: {name: first}", "REMOVE", FIRST, String::new()),
        (
            ", route: {action: REDIRECT}",
            "REMOVE",
            SECOND,
            String::new(),
        ),
        (
            ", route: {action: ROUTE}",
            "MERGE",
            FIRST,
            FIRST.replace("first", "new"),
        ),
        (", route: {name: second}", "REPLACE", SECOND, new.to_owned()),
    ] {
        check(&route(which, operation), &[(from, &to)], &[]);
    }
    check(&route(", route: {name: third}", "REMOVE"), &[], &[]);
    check(
        &route(", route: {name: first, action: REDIRECT}", "REMOVE"),
        &[],
        &[],
    );
    // Without a match of routes, all of them.
    check(
        &route("", "MERGE"),
        &[("name: first", "name: new"), ("name: second", "name: new")],
        &[],
    );
}

#[test]
fn hosts_of_a_table() {
    let one = |which: &str, operation: &str, value: &str| {
        format!(
            "- applyTo: VIRTUAL_HOST
  match: {{routeConfiguration: {{{which}}}}}
  patch: {{operation: {operation}, value: {value}}}"
        )
    };
    check(
        &one(
            "vhost: {domainName: a.default}",
            "MERGE",
            "{domains: [c], include_request_attempt_count: true}",
        ),
        &[(
            "domains: [a, a.default]",
            "domains: [a, a.default, c]\n  include_request_attempt_count: true",
        )],
        &[],
    );
    let b = TABLE.find("- name: b:9080").expect("there");
    check(
        &one("vhost: {name: 'b:9080'}", "REMOVE", "{}"),
        &[(&TABLE[b..], "")],
        &[],
    );
    check(
        &one("portNumber: 80, vhost: {name: 'b:9080'}", "REMOVE", "{}"),
        &[],
        &[],
    );
    let added = format!("{}- {{name: c, domains: [c]}}\n", &TABLE[b..]);
    check(
        &one("portNumber: 9080", "ADD", "{name: c, domains: [c]}"),
        &[(&TABLE[b..], &added)],
        &[],
    );
    check(
        &one("", "ADD", "{name: c, domains: [b]}"),
        &[],
        &["route table 9080: another virtual host has the domain \"b\""],
    );
    check(
        &one("", "ADD", "{name: 'b:9080'}"),
        &[],
        &["there is a virtual host \"b:9080\" already"],
    );
}

#[test]
fn the_table_itself() {
    let one = |which: &str, operation: &str| {
        format!(
            "- applyTo: ROUTE_CONFIGURATION
  match: {{routeConfiguration: {{{which}}}}}
  patch: {{operation: {operation}, value: {{internal_only_headers: [x]}}}}"
        )
    };
    let change = [("name: '9080'", "name: '9080'\ninternal_only_headers: [x]")];
    check(&one("name: '9080'", "MERGE"), &change, &[]);
    check(&one("name: '80'", "MERGE"), &[], &[]);
    let why = "ADD has no meaning for ROUTE_CONFIGURATION";
    check(&one("", "ADD"), &[], &[why]);
}

#[test]
fn tables_of_gateways() {
    let one = |which: &str| {
        format!(
            "- applyTo: ROUTE_CONFIGURATION
  match: {{routeConfiguration: {{{which}}}}}
  patch: {{operation: MERGE, value: {{internal_only_headers: [x]}}}}"
        )
    };
    let after = TABLE.replace("name: '9080'", "name: '9080'\ninternal_only_headers: [x]");
    let table = |port_name| Table {
        port: Some(443),
        port_name,
        gateways: vec!["default/gw".into()],
    };
    let https = table(Some("https"));
    for which in ["portNumber: 443", "portName: https", "gateway: default/gw"] {
        check_routes(&https, &one(which), TABLE, &after, &[]);
    }
    for which in ["portNumber: 80", "portName: http", "gateway: other/gw"] {
        check_routes(&https, &one(which), TABLE, TABLE, &[]);
    }
    let why = "the names of its ports are not known; use portNumber";
    check_routes(&table(None), &one("portName: http"), TABLE, TABLE, &[why]);
}
