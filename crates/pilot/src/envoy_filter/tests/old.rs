use lateen_api::networking::PatchContext;

use super::*;

fn listener(http: &str) -> String {
    format!(
        "name: 10.0.0.1_80
address: {{socket_address: {{address: 10.0.0.1, port_value: 80}}}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': $HCM
      http_filters: [{http}{{name: envoy.filters.http.router}}]
- filters: [{{name: envoy.filters.network.tcp_proxy}}]"
    )
}

#[track_caller]
fn check_old(filter: &str, after: &str, faults: &[&str]) {
    let yaml = format!(
        "kind: EnvoyFilter\nmetadata: {{name: f}}\nspec: {{workloadLabels: {{}}, filters: [{filter}]}}"
    );
    let apply = |patches: &Patches, listener: Listener| {
        patches.listener(PatchContext::SidecarOutbound, listener)
    };
    check(&yaml, &listener(""), after, faults, apply, |_| ());
}

#[test]
fn filters_of_istio_1_0() {
    let lua = "{name: envoy.filters.http.lua, typed_config: {'@type': $LUA, inline_code: x}}, ";
    let one = |rest: &str| {
        format!(
            "{{filterName: envoy.lua, filterType: HTTP, filterConfig: {{inline_code: x}}{rest}}}"
        )
    };
    for rest in [
        "",
        ", insertPosition: {index: LAST}",
        ", insertPosition: {index: BEFORE, relativeTo: envoy.router}",
        ", listenerMatch: {portNumber: 80, listenerType: SIDECAR_OUTBOUND, listenerProtocol: HTTP}",
        ", listenerMatch: {address: [10.0.0.0/8]}",
    ] {
        check_old(&one(rest), &listener(lua), &[]);
    }
    for rest in [
        ", listenerMatch: {portNumber: 81}",
        ", listenerMatch: {listenerType: GATEWAY}",
        ", listenerMatch: {address: [10.0.0.2]}",
        ", insertPosition: {index: AFTER, relativeTo: envoy.cors}",
    ] {
        check_old(&one(rest), &listener(""), &[]);
    }
}

#[test]
fn a_network_filter_for_what_carries_bytes() {
    let filter = "{filterName: envoy.echo, filterType: NETWORK, filterConfig: {}, \
         listenerMatch: {listenerProtocol: TCP}}";
    let after = listener("").replace(
        "- filters: [",
        "- filters: [{name: envoy.filters.network.echo, typed_config: {'@type': $ECHO}}, ",
    );
    check_old(filter, &after, &[]);
}

#[test]
fn what_cannot_be_known_is_named() {
    let unknown = "{filterName: made.up, filterType: HTTP, filterConfig: {}}";
    check_old(
        unknown,
        &listener(""),
        &["spec.filters[0]: filterName: the type of \"made.up\""],
    );
    let prefix = "{filterName: envoy.lua, filterType: HTTP, filterConfig: {}, \
         listenerMatch: {portNamePrefix: http}}";
    check_old(prefix, &listener(""), &["portNamePrefix is not supported"]);
}
