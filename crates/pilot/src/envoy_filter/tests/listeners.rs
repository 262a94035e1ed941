use lateen_api::networking::PatchContext::{Gateway, SidecarInbound, SidecarOutbound};

use super::{check_listener as check, *};

/// A listener with an HTTP chain, a TCP chain and one for the rest.
const LISTENER: &str = "
name: 0.0.0.0_80
address: {socket_address: {address: 0.0.0.0, port_value: 80}}
listener_filters: [{name: envoy.filters.listener.tls_inspector}]
filter_chains:
- name: web
  filter_chain_match: {transport_protocol: raw_buffer, application_protocols: [http/1.1, h2c]}
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': $HCM
      stat_prefix: s
      http_filters: [{name: envoy.filters.http.cors}, {name: envoy.filters.http.router, typed_config: {'@type': $ROUTER}}]
- name: bytes
  filter_chain_match: {server_names: [a.example.com], transport_protocol: tls}
  filters:
  - {name: envoy.filters.network.tcp_proxy, typed_config: {'@type': $TCP, stat_prefix: s, cluster: c}}
default_filter_chain:
  filters:
  - {name: envoy.filters.network.tcp_proxy, typed_config: {'@type': $TCP, stat_prefix: s, cluster: rest}}
";

#[track_caller]
fn outbound(items: &str, change: &[(&str, &str)], faults: &[&str]) {
    let mut after = LISTENER.to_owned();
    for (from, to) in change {
        assert!(after.contains(from), "{from}");
        after = after.replace(from, to);
    }
    check(SidecarOutbound, items, LISTENER, &after, faults);
}

const CORS: &str = "{name: envoy.filters.http.cors}, ";
const LUA: &str = "{name: lua, typed_config: {'@type': $LUA, inline_code: x}}, ";

fn http(operation: &str, sub_filter: &str, class: &str) -> String {
    format!(
        "- applyTo: HTTP_FILTER
  match: {{listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager{sub_filter}}}}}}}}}
  patch: {{operation: {operation}{class}, value: {{name: lua, typed_config: {{'@type': $LUA, inline_code: x}}}}}}"
    )
}

#[test]
fn where_an_http_filter_goes() {
    let before_router = format!("{CORS}{LUA}");
    let first = format!("{LUA}{CORS}");
    let cors = ", subFilter: {name: envoy.filters.http.cors}";
    let old_cors = ", subFilter: {name: envoy.cors}";
    for (operation, sub_filter, class, want) in [
        ("INSERT_FIRST", "", "", &first),
        ("INSERT_BEFORE", "", "", &first),
        ("INSERT_BEFORE", cors, "", &first),
        ("INSERT_BEFORE", old_cors, "", &first),
        ("INSERT_AFTER", cors, "", &before_router),
        ("INSERT_AFTER", "", "", &before_router),
        ("ADD", "", "", &before_router),
        ("ADD", "", ", filterClass: STATS", &before_router),
        ("ADD", "", ", filterClass: AUTHN", &first),
        ("ADD", "", ", filterClass: AUTHZ", &first),
        ("REPLACE", cors, "", &LUA.to_owned()),
    ] {
        outbound(&http(operation, sub_filter, class), &[(CORS, want)], &[]);
    }
    let none = ", subFilter: {name: envoy.filters.http.jwt_authn}";
    outbound(&http("INSERT_BEFORE", none, ""), &[], &[]);
    outbound(&http("REMOVE", cors, ""), &[(CORS, "")], &[]);
    let why = "REMOVE needs a match that names what is meant";
    outbound(&http("REMOVE", "", ""), &[], &[why]);
    // The filter there has no configuration, so the patch's counts.
    let merged = CORS.replace(
        "http.cors",
        "http.cors, typed_config: {'@type': $LUA, inline_code: x}",
    );
    let merge = http("MERGE", cors, "").replace("name: lua, ", "");
    outbound(&merge, &[(CORS, &merged)], &[]);
}

#[test]
fn network_filters() {
    let one = |operation: &str, which: &str, value: &str| {
        format!(
            "- applyTo: NETWORK_FILTER
  match: {{listener: {{filterChain: {{{which}}}}}}}
  patch: {{operation: {operation}, value: {value}}}"
        )
    };
    let tcp = "filter: {name: envoy.filters.network.tcp_proxy}";
    let merge = "{typed_config: {'@type': $TCP, idle_timeout: 5s}}";
    outbound(
        &one("MERGE", tcp, merge),
        &[
            ("cluster: c}", "cluster: c, idle_timeout: 5s}"),
            ("cluster: rest}", "cluster: rest, idle_timeout: 5s}"),
        ],
        &[],
    );
    outbound(
        &one("MERGE", &format!("name: bytes, {tcp}"), merge),
        &[("cluster: c}", "cluster: c, idle_timeout: 5s}")],
        &[],
    );
    outbound(
        &one("MERGE", tcp, "{typed_config: {'@type': $ECHO}}"),
        &[],
        &["listener 0.0.0.0_80: filter chain bytes: its configuration is of type"],
    );
    let echo = "{name: echo, typed_config: {'@type': $ECHO}}";
    let item = "  - {name: envoy.filters.network.tcp_proxy, typed_config: {'@type': $TCP, stat_prefix: s, cluster: c}}";
    let with = |first: &str, second: &str| format!("{first}\n{second}");
    let echo_item = format!("  - {echo}");
    for (operation, which, want) in [
        (
            "INSERT_BEFORE",
            "sni: a.example.com, filter: {name: envoy.tcp_proxy}",
            with(&echo_item, item),
        ),
        (
            "INSERT_FIRST",
            "transportProtocol: tls",
            with(&echo_item, item),
        ),
        ("INSERT_AFTER", "name: bytes", with(item, &echo_item)),
        ("ADD", "name: bytes", with(item, &echo_item)),
        (
            "REPLACE",
            &format!("name: bytes, {tcp}") as &str,
            echo_item.clone(),
        ),
    ] {
        outbound(&one(operation, which, echo), &[(item, &want)], &[]);
    }
    outbound(
        &one("REMOVE", &format!("name: bytes, {tcp}"), "{}"),
        &[
            (item, ""),
            (
                "transport_protocol: tls}\n  filters:",
                "transport_protocol: tls}",
            ),
        ],
        &[],
    );
    for which in [
        "name: web, filter: {name: envoy.filters.network.tcp_proxy}",
        "sni: b.example.com, filter: {name: envoy.filters.network.tcp_proxy}",
        "applicationProtocols: 'h2c,h2', filter: {name: envoy.filters.network.http_connection_manager}",
        "destinationPort: 8080, filter: {name: envoy.filters.network.tcp_proxy}",
    ] {
        outbound(&one("REMOVE", which, "{}"), &[], &[]);
    }
}

#[test]
fn chains() {
    let one = |operation: &str, which: &str, value: &str| {
        format!(
            "- applyTo: FILTER_CHAIN
  match: {{listener: {{{which}}}}}
  patch: {{operation: {operation}, value: {value}}}"
        )
    };
    outbound(
        &one(
            "MERGE",
            "portNumber: 80, filterChain: {applicationProtocols: 'h2c,http/1.1'}",
            "{name: other}",
        ),
        &[("- name: web", "- name: other")],
        &[],
    );
    outbound(&one("MERGE", "portNumber: 81", "{name: other}"), &[], &[]);
    outbound(&one("MERGE", "name: other", "{name: other}"), &[], &[]);
    let rest = LISTENER.find("default_filter_chain").expect("there");
    let bytes = LISTENER.find("- name: bytes").expect("there");
    outbound(
        &one("REMOVE", "filterChain: {name: bytes}", "{}"),
        &[(&LISTENER[bytes..rest], "")],
        &[],
    );
    outbound(
        &one("REMOVE", "name: 0.0.0.0_80", "{}"),
        &[],
        &["without a filter chain"],
    );
    outbound(
        &one("ADD", "name: 0.0.0.0_80", "{name: new}"),
        &[(
            "default_filter_chain",
            "- {name: new}\ndefault_filter_chain",
        )],
        &[],
    );
}

#[test]
fn listener_filters_and_the_listener_itself() {
    let one = |which: &str, operation: &str| {
        format!(
            "- applyTo: LISTENER_FILTER
  match: {{listener: {{{which}}}}}
  patch: {{operation: {operation}, value: {{name: new}}}}"
        )
    };
    let old = "{name: envoy.filters.listener.tls_inspector}";
    let named = "listenerFilter: envoy.filters.listener.tls_inspector";
    for (which, operation, want) in [
        ("", "ADD", format!("{old}, {{name: new}}")),
        ("", "INSERT_FIRST", format!("{{name: new}}, {old}")),
        (named, "INSERT_BEFORE", format!("{{name: new}}, {old}")),
        (named, "INSERT_AFTER", format!("{old}, {{name: new}}")),
        (named, "REPLACE", "{name: new}".into()),
        (named, "MERGE", "{name: new}".into()),
        (named, "REMOVE", String::new()),
    ] {
        outbound(&one(which, operation), &[(old, &want)], &[]);
    }
    outbound(
        "- applyTo: LISTENER
  match: {listener: {portNumber: 80}}
  patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 5}}",
        &[(
            "name: 0.0.0.0_80",
            "name: 0.0.0.0_80\nper_connection_buffer_limit_bytes: 5",
        )],
        &[],
    );
    outbound(
        "- applyTo: LISTENER\n  match: {listener: {portNumber: 81}}\n  patch: {operation: MERGE, value: {name: a}}",
        &[],
        &[],
    );
}

#[test]
fn a_port_of_virtual_inbound_is_one_of_its_chains() {
    let listener = |filters: &str| {
        format!(
            "name: virtualInbound
address: {{socket_address: {{address: 0.0.0.0, port_value: 15006}}}}
filter_chains:
- filter_chain_match: {{destination_port: 8080}}
  filters: [{filters}]
- filter_chain_match: {{destination_port: 9090}}
  filters: [{{name: b}}]"
        )
    };
    let patch = |port: u16| {
        format!(
            "- applyTo: NETWORK_FILTER
  match: {{context: SIDECAR_INBOUND, listener: {{portNumber: {port}}}}}
  patch: {{operation: INSERT_FIRST, value: {{name: new}}}}"
        )
    };
    let before = listener("{name: a}");
    check(
        SidecarInbound,
        &patch(8080),
        &before,
        &listener("{name: new}, {name: a}"),
        &[],
    );
    check(SidecarInbound, &patch(15006), &before, &before, &[]);
    check(Gateway, &patch(8080), &before, &before, &[]);
}

#[test]
fn routes_that_are_written_into_a_listener() {
    let listener = |route: &str| {
        format!(
            "name: virtualInbound
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': $HCM
      route_config: {{name: inbound|9080||, virtual_hosts: [{{name: h, domains: ['*'], routes: [{route}]}}]}}"
        )
    };
    let before = listener("{name: default}");
    let patch = |port: u16| {
        format!(
            "- applyTo: HTTP_ROUTE
  match: {{context: SIDECAR_INBOUND, routeConfiguration: {{portNumber: {port}}}}}
  patch: {{operation: MERGE, value: {{stat_prefix: new}}}}"
        )
    };
    let after = listener("{name: default, stat_prefix: new}");
    check(SidecarInbound, &patch(9080), &before, &after, &[]);
    check(SidecarInbound, &patch(80), &before, &before, &[]);
}

#[test]
fn a_typed_struct_is_the_message_that_it_stands_for() {
    let items = "- applyTo: NETWORK_FILTER
  match: {listener: {filterChain: {name: bytes, filter: {name: envoy.filters.network.tcp_proxy}}}}
  patch:
    operation: MERGE
    value:
      typed_config:
        '@type': type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: $TCP
        value: {idle_timeout: 5s}";
    outbound(
        items,
        &[("cluster: c}", "cluster: c, idle_timeout: 5s}")],
        &[],
    );
}

#[test]
fn our_proxy_keeps_what_it_can_read() {
    let tcp = "{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': $TCP, stat_prefix: s, cluster: c}}";
    let before = format!(
        "name: 10.0.0.1_80
address: {{socket_address: {{address: 10.0.0.1, port_value: 80}}}}
bind_to_port: false
filter_chains: [{{filters: [{tcp}]}}]"
    );
    let items = "- applyTo: NETWORK_FILTER
  match: {listener: {filterChain: {filter: {name: envoy.filters.network.tcp_proxy}}}}
  patch: {operation: REPLACE, value: {name: echo, typed_config: {'@type': $ECHO}}}
- applyTo: NETWORK_FILTER
  match: {listener: {filterChain: {filter: {name: envoy.filters.network.tcp_proxy}}}}
  patch: {operation: MERGE, value: {typed_config: {'@type': $TCP, idle_timeout: 5s}}}";
    let apply = |patches: &Patches, listener: Listener| patches.listener(SidecarOutbound, listener);
    let ours = before.replace("cluster: c", "cluster: c, idle_timeout: 5s");
    let faults = ["Lateen's proxy does not do it"];
    super::check(&patches(items), &before, &ours, &faults, apply, |who| {
        who.ours = true
    });
    // What it can read and does nothing with is sent, and named as well.
    let unread = "- applyTo: LISTENER
  patch: {operation: MERGE, value: {freebind: true}}";
    let sent = format!("{before}\nfreebind: true");
    let faults = ["does nothing with freebind"];
    super::check(&patches(unread), &before, &sent, &faults, apply, |who| {
        who.ours = true
    });
    let envoy = before.replace(tcp, "{name: echo, typed_config: {'@type': $ECHO}}");
    super::check(&patches(items), &before, &envoy, &[], apply, |_| ());
}
