use super::check_cluster as check;

const BEFORE: &str = "{name: outbound|80|v1|a.default.svc.cluster.local, connect_timeout: 10s}";
const AFTER: &str = "{name: outbound|80|v1|a.default.svc.cluster.local, connect_timeout: 1s}";

#[test]
fn which_clusters_are_meant() {
    let one = |which: &str| {
        format!(
            "- applyTo: CLUSTER\n  match: {{cluster: {{{which}}}}}\n  \
             patch: {{operation: MERGE, value: {{connect_timeout: 1s}}}}"
        )
    };
    for which in [
        "",
        "portNumber: 80",
        "subset: v1",
        "service: a.default.svc.cluster.local",
        "name: outbound|80|v1|a.default.svc.cluster.local",
        // A name says all.
        "name: outbound|80|v1|a.default.svc.cluster.local, portNumber: 1",
        "portNumber: 80, subset: v1, service: a.default.svc.cluster.local",
    ] {
        check(&one(which), BEFORE, AFTER, &[]);
    }
    for which in [
        "portNumber: 81",
        "subset: v2",
        "service: b.default.svc.cluster.local",
        "name: outbound|80||a.default.svc.cluster.local",
    ] {
        check(&one(which), BEFORE, BEFORE, &[]);
    }
}

#[test]
fn where_they_are_used() {
    let one = |context: &str| {
        format!(
            "- applyTo: CLUSTER\n  match: {{context: {context}}}\n  \
             patch: {{operation: MERGE, value: {{connect_timeout: 1s}}}}"
        )
    };
    check(&one("ANY"), BEFORE, AFTER, &[]);
    check(&one("SIDECAR_OUTBOUND"), BEFORE, AFTER, &[]);
    for context in ["SIDECAR_INBOUND", "GATEWAY", "WAYPOINT"] {
        check(&one(context), BEFORE, BEFORE, &[]);
    }
}

#[test]
fn a_socket_is_merged_into_the_one_that_is_chosen_by_endpoint() {
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    let before = format!(
        "{{name: c, transport_socket_matches: [
        {{name: tlsMode-istio, transport_socket: {{name: t, typed_config: {{'@type': {tls}, sni: a}}}}}},
        {{name: tlsMode-disabled, transport_socket: {{name: raw}}}}]}}"
    );
    let patch = |socket: &str| {
        format!(
            "- applyTo: CLUSTER\n  patch:\n    operation: MERGE\n    value: {{connect_timeout: 1s, \
             transport_socket: {{name: {socket}, typed_config: {{'@type': {tls}, \
             max_session_keys: 0}}}}}}"
        )
    };
    let after = format!(
        "{{name: c, connect_timeout: 1s, transport_socket_matches: [
        {{name: tlsMode-istio, transport_socket: {{name: t, typed_config:
            {{'@type': {tls}, sni: a, max_session_keys: 0}}}}}},
        {{name: tlsMode-disabled, transport_socket: {{name: raw}}}}]}}"
    );
    check(&patch("t"), &before, &after, &[]);
    check(&patch("other"), &before, &before, &["is named \"other\""]);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_holds() {
    check(
        "- applyTo: CLUSTER
  patch: {operation: MERGE, value: {conect_timeout: 1s}}
- applyTo: CLUSTER
  patch: {operation: MERGE, value: {transport_socket: {name: a, typed_config: {'@type': type.googleapis.com/envoy.Nothing}}}}
- applyTo: CLUSTER
  patch: {operation: INSERT_FIRST, value: {name: a}}
- applyTo: BOOTSTRAP
  patch: {operation: ADD, value: {}}
- applyTo: CLUSTER
  match: {proxy: {proxyVersion: '1['}}
  patch: {operation: REMOVE}
- applyTo: CLUSTER
  patch: {operation: MERGE, value: {connect_timeout: 1s}}",
        BEFORE,
        AFTER,
        &[
            "spec.configPatches[0]: value: ",
            "spec.configPatches[1]: value: ",
            "spec.configPatches[2]: patch.operation: INSERT_FIRST has no meaning for CLUSTER",
            "spec.configPatches[3]: patch.operation: ADD has no meaning for BOOTSTRAP",
            "spec.configPatches[4]: match.proxy.proxyVersion: ",
        ],
    );
}

#[test]
fn later_patches_see_what_earlier_ones_did() {
    check(
        "- applyTo: CLUSTER
  patch: {operation: MERGE, value: {connect_timeout: 5s, dns_refresh_rate: 2s}}
- applyTo: CLUSTER
  patch: {operation: MERGE, value: {connect_timeout: 1s}}
- applyTo: CLUSTER
  patch: {operation: MERGE_AND_REPLACE_LIST, value: {filters: [{name: b}]}}",
        "{name: a, filters: [{name: a}]}",
        "{name: a, connect_timeout: 1s, dns_refresh_rate: 2s, filters: [{name: b}]}",
        &[],
    );
}
