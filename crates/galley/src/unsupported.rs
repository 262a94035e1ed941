//! Fields that are checked and stored, but that nothing acts on.
//!
//! Whoever writes one is told so: a rule that looks as if it were in force and is not is worse than
//! none. A field that was to keep somebody out is refused, as nobody would be kept out.

use std::net::IpAddr;

use lateen_api::mesh::without_effect;
use lateen_api::mesh_networks::MeshNetworks;
use lateen_api::shape::is_set;
use lateen_core::Protocol;
use serde_json::Value;

use crate::Fault;

/// One field of a kind. `[]` steps into a list, and `POLICY` and `BLOCK` stand for the places that
/// traffic policies and their settings have.
struct Field {
    kind: &'static str,
    path: &'static str,
    then: Then,
}

/// What its author is told.
enum Then {
    /// It has no effect; more to say, or nothing.
    Warn(&'static str),
    /// It is refused.
    Refuse,
}

const fn warn(kind: &'static str, path: &'static str, note: &'static str) -> Field {
    let then = Then::Warn(note);
    Field { kind, path, then }
}

const fn refuse(kind: &'static str, path: &'static str) -> Field {
    let then = Then::Refuse;
    Field { kind, path, then }
}

const VS: &str = "VirtualService";
const DR: &str = "DestinationRule";
const GW: &str = "Gateway";
const EF: &str = "EnvoyFilter";

const FIELDS: &[Field] = &[
    warn(
        VS,
        "http[].match[].statPrefix",
        "our proxy keeps no statistics by it, Envoy does",
    ),
    refuse(VS, "http[].route[].destination.port.name"),
    refuse(VS, "http[].mirror.port.name"),
    refuse(VS, "tls[].route[].destination.port.name"),
    refuse(VS, "tcp[].route[].destination.port.name"),
    warn(
        DR,
        "POLICY.retryBudget.budgetInterval",
        "our proxy counts requests under way alone, Envoy all of the interval",
    ),
    warn(
        GW,
        "servers[].defaultEndpoint",
        "gateways lead where routes say; Istio's do too",
    ),
    warn(
        GW,
        "servers[].port.targetPort",
        "a gateway listens where its Service leads to; Istio's do too",
    ),
    warn(
        GW,
        "servers[].tls.insecureSkipVerify",
        "clients whose certificates cannot be verified are refused, where Istio lets them through",
    ),
    warn(EF, "configPatches[].match.listener.portName", ""),
    warn(
        EF,
        "configPatches[].match.waypoint",
        "no proxy is a waypoint",
    ),
    warn(
        EF,
        "filters[].listenerMatch.portNamePrefix",
        "the filter is not inserted; use portNumber",
    ),
];

const POLICIES: [&str; 2] = ["trafficPolicy", "subsets[].trafficPolicy"];
const BLOCKS: [&str; 2] = ["", ".portLevelSettings[]"];

/// Kinds that are checked and stored, but that nothing acts on. A policy that is not enforced would
/// leave a door open that its author believes shut, and so it is refused.
pub(crate) fn not_in_force(kind: &str, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) {
    match kind {
        "AuthorizationPolicy" | "RequestAuthentication" => faults.push(Fault {
            field: "kind".into(),
            reason: format!("{kind} is not supported"),
            help: "it would be stored and not enforced; remove it".into(),
        }),
        "Telemetry" | "WasmPlugin" | "TrafficExtension" => {
            warnings.push(format!(
                "{kind} is not supported: it is stored and has no effect"
            ));
        }
        _ => {}
    }
}

/// Names what a document of a kind sets without effect.
pub(crate) fn check(
    kind: &str,
    document: &Value,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) {
    for field in FIELDS.iter().filter(|field| field.kind == kind) {
        for at in places(&document["spec"], field.path) {
            match field.then {
                Then::Refuse => faults.push(Fault {
                    field: at,
                    reason: "is not supported".into(),
                    help: "it would be stored and not enforced; remove it".into(),
                }),
                Then::Warn("") => warnings.push(format!("{at}: not supported, has no effect")),
                Then::Warn(note) => warnings.push(format!("{at}: not supported, {note}")),
            }
        }
    }
    values(kind, &document["spec"], warnings);
}

/// Values of fields that are supported otherwise.
fn values(kind: &str, spec: &Value, warnings: &mut Vec<String>) {
    match kind {
        VS => faults_for_nobody(spec, warnings),
        "ServiceEntry" => of_entry(spec, warnings),
        "Sidecar" => of_sidecar(spec, warnings),
        EF => of_filter(spec, warnings),
        DR => of_rule(spec, warnings),
        _ => {}
    }
}

fn items<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    let items = spec[field].as_array().into_iter().flatten();
    items.enumerate()
}

fn faults_for_nobody(spec: &Value, warnings: &mut Vec<String>) {
    for (n, route) in items(spec, "http") {
        for what in ["delay", "abort"] {
            let fault = &route["fault"][what];
            if is_set(fault) && fault["percentage"].is_null() && fault["percent"].is_null() {
                warnings.push(format!(
                    "spec.http[{n}].fault.{what}: without percentage it is for no request"
                ));
            }
        }
    }
}

fn of_sidecar(spec: &Value, warnings: &mut Vec<String>) {
    for (n, listener) in items(spec, "ingress") {
        let at = format!("spec.ingress[{n}]");
        if listener["tls"].is_object() {
            warnings.push(format!(
                "{at}.tls: counts only where PeerAuthentication turns mutual TLS off for the port"
            ));
        }
        let endpoint = &listener["defaultEndpoint"];
        let address = endpoint
            .as_str()
            .and_then(|e| e.parse::<std::net::SocketAddr>().ok());
        let of_pod = address.is_some_and(|address| address.ip().is_unspecified());
        if of_pod && listener["captureMode"] == "NONE" {
            warnings.push(format!(
                "{at}.defaultEndpoint: with captureMode NONE the pod's address is not known; \
                 write 127.0.0.1"
            ));
        }
    }
}

/// What depends on more than the rule: which proxies know zones, and who may have the Secrets that it
/// names.
fn of_rule(spec: &Value, warnings: &mut Vec<String>) {
    for at in places(spec, "BLOCK.loadBalancer.zoneAwareLbSetting") {
        warnings.push(format!(
            "{at}: zones count at proxies with ISTIO_META_ENABLE_SELF_DISCOVERY in their \
             proxyMetadata, at others regions alone"
        ));
    }
    // Without a selector it is for gateways, which are asked about in any case.
    if spec["workloadSelector"].is_null() {
        return;
    }
    for at in places(spec, "BLOCK.tls.credentialName") {
        warnings.push(format!(
            "{at}: the workloads' service account has to be allowed to list Secrets when their \
             proxies connect"
        ));
    }
}

fn of_entry(spec: &Value, warnings: &mut Vec<String>) {
    for (n, endpoint) in items(spec, "endpoints") {
        let address = endpoint["address"].as_str().unwrap_or_default();
        if address.is_empty() && !is_set(&endpoint["network"]) {
            warnings.push(format!(
                "spec.endpoints[{n}].address: there is none, the endpoint is left out"
            ));
        }
    }
    for (n, port) in items(spec, "ports") {
        let protocol = port["protocol"].as_str().unwrap_or_default();
        if protocol.eq_ignore_ascii_case("UDP") {
            warnings.push(format!(
                "spec.ports[{n}].protocol: sidecars carry no datagrams, which go by themselves; only \
                 UDPRoutes lead to the port"
            ));
        }
    }
    let names_hosts = |protocol: &str| {
        let protocol = Protocol::parse(protocol).unwrap_or(Protocol::Unsupported);
        protocol.is_http() || matches!(protocol, Protocol::Tls | Protocol::Https)
    };
    if spec["resolution"] == "DYNAMIC_DNS" {
        for (n, port) in items(spec, "ports") {
            let protocol = port["protocol"].as_str().unwrap_or_default();
            if !names_hosts(protocol) {
                warnings.push(format!(
                    "spec.ports[{n}].protocol: with DYNAMIC_DNS, only HTTP and TLS say which host \
                     they mean; others are closed"
                ));
            }
        }
    }
}

fn of_filter(spec: &Value, warnings: &mut Vec<String>) {
    for (n, patch) in items(spec, "configPatches") {
        let at = format!("spec.configPatches[{n}]");
        if patch["applyTo"] == "BOOTSTRAP" {
            let operation = patch["patch"]["operation"].as_str().unwrap_or_default();
            warnings.push(match operation {
                "MERGE" => format!(
                    "{at}.applyTo: BOOTSTRAP counts for proxies that start later, with \
                     BOOTSTRAP_XDS_AGENT: \"true\" in their proxyMetadata"
                ),
                other => format!(
                    "{at}.patch.operation: {other} has no effect on BOOTSTRAP, which agents write; \
                     use MERGE"
                ),
            });
        }
        if patch["match"]["context"] == "WAYPOINT" {
            warnings.push(format!(
                "{at}.match.context: WAYPOINT is not supported, no proxy is one"
            ));
        }
    }
    for (n, target) in items(spec, "targetRefs") {
        if target["kind"] != "Gateway" {
            warnings.push(format!(
                "spec.targetRefs[{n}]: only Gateways are supported, it is attached to nothing"
            ));
        }
    }
}

/// Where a path is set in a document.
pub(crate) fn places(spec: &Value, path: &str) -> Vec<String> {
    let mut paths = vec![path.to_owned()];
    if path.starts_with("BLOCK") {
        let blocks = BLOCKS
            .iter()
            .map(|block| path.replacen("BLOCK", &format!("POLICY{block}"), 1));
        paths = blocks.collect();
    }
    if paths.iter().any(|path| path.starts_with("POLICY")) {
        let each = |path: &String| POLICIES.map(|policy| path.replacen("POLICY", policy, 1));
        paths = paths.iter().flat_map(each).collect();
    }
    let mut found = Vec::new();
    for path in paths {
        let steps: Vec<&str> = path.split('.').collect();
        walk(spec, &steps, "spec".to_owned(), &mut found);
    }
    found
}

fn walk(value: &Value, steps: &[&str], at: String, found: &mut Vec<String>) {
    let Some((step, rest)) = steps.split_first() else {
        if is_set(value) {
            found.push(at);
        }
        return;
    };
    let Some(list) = step.strip_suffix("[]") else {
        return walk(&value[*step], rest, format!("{at}.{step}"), found);
    };
    let items = value[list].as_array().into_iter().flatten();
    for (n, item) in items.enumerate() {
        walk(item, rest, format!("{at}.{list}[{n}]"), found);
    }
}

/// Names what a mesh configuration says without effect.
pub(crate) fn of_mesh(text: &str) -> Vec<String> {
    let mesh = serde_saphyr::from_str::<Value>(text);
    mesh.map_or_else(|_| Vec::new(), |mesh| without_effect(&mesh))
}

/// Names parts of the mesh's networks that have no effect.
pub(crate) fn of_networks(networks: &MeshNetworks) -> Vec<String> {
    let mut found = Vec::new();
    for (name, network) in &networks.networks {
        for (n, endpoints) in network.endpoints.iter().enumerate() {
            let range = &endpoints.from_cidr;
            if !range.is_empty() && range.parse::<ipnet::IpNet>().is_err() {
                let at = format!("networks.{name}.endpoints[{n}].fromCidr");
                found.push(format!("{at}: {range:?} is no range of addresses"));
            }
        }
        for (n, gateway) in network.gateways.iter().enumerate() {
            let at = format!("networks.{name}.gateways[{n}]");
            let address = &gateway.address;
            if gateway.registry_service_name.is_empty() && address.parse::<IpAddr>().is_err() {
                found.push(format!(
                    "{at}.address: {address:?} is no IP address, and names are not looked up"
                ));
            }
            if u16::try_from(gateway.port).is_err() {
                found.push(format!(
                    "{at}.port: {} is no port, 15443 it is",
                    gateway.port
                ));
            }
            if !gateway.locality.is_empty() {
                found.push(format!(
                    "{at}.locality: endpoints behind a gateway have the localities of their own"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn named(yaml: &str, want: &[&str]) {
        let document: Value = serde_saphyr::from_str(yaml).expect("YAML");
        let kind = document["kind"].as_str().expect("a kind");
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        check(kind, &document, &mut faults, &mut warnings);
        let faults = faults.iter().map(|f| format!("{}: refused", f.field));
        let found: Vec<_> = faults.chain(warnings).collect();
        assert_eq!(found, want, "{yaml}");
    }

    #[test]
    fn what_has_no_effect_is_named() {
        named(
            "{kind: VirtualService, spec: {http: [{}, {match: [{statPrefix: a}]}]}}",
            &[
                "spec.http[1].match[0].statPrefix: not supported, our proxy keeps no statistics by \
                 it, Envoy does",
            ],
        );
        named(
            "{kind: VirtualService, spec: {http: [{fault: {abort: {httpStatus: 500}}}]}}",
            &["spec.http[0].fault.abort: without percentage it is for no request"],
        );
        named(
            "{kind: DestinationRule, spec: {trafficPolicy: {retryBudget: {budgetInterval: 1s}}, \
             subsets: [{trafficPolicy: {portLevelSettings: [{loadBalancer: {zoneAwareLbSetting: {enabled: true}}}]}}]}}",
            &[
                "spec.trafficPolicy.retryBudget.budgetInterval: not supported, our proxy counts \
                 requests under way alone, Envoy all of the interval",
                "spec.subsets[0].trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting: \
                 zones count at proxies with ISTIO_META_ENABLE_SELF_DISCOVERY in their \
                 proxyMetadata, at others regions alone",
            ],
        );
        named(
            "{kind: Gateway, spec: {servers: [{tls: {insecureSkipVerify: true}}]}}",
            &[
                "spec.servers[0].tls.insecureSkipVerify: not supported, clients whose certificates \
                 cannot be verified are refused, where Istio lets them through",
            ],
        );
        named(
            "{kind: ServiceEntry, spec: {ports: [{protocol: udp}], endpoints: [\
             {address: 192.0.2.1, network: a}, {address: \"unix:///a\"}]}}",
            &[
                "spec.ports[0].protocol: sidecars carry no datagrams, which go by themselves; only \
                 UDPRoutes lead to the port",
            ],
        );
        named(
            "{kind: DestinationRule, spec: {workloadSelector: {}, trafficPolicy: {tls: \
             {credentialName: a}}}}",
            &[
                "spec.trafficPolicy.tls.credentialName: the workloads' service account has to be \
                 allowed to list Secrets when their proxies connect",
            ],
        );
        named(
            "{kind: DestinationRule, spec: {trafficPolicy: {tls: {credentialName: a}}}}",
            &[],
        );
        named(
            "{kind: Sidecar, spec: {ingress: [{defaultEndpoint: \"unix:///a\"}, \
             {captureMode: NONE, defaultEndpoint: \"0.0.0.0:80\"}], egress: [{bind: \"unix:///b\", \
             port: {protocol: HTTP_PROXY}}], \
             outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}}",
            &[
                "spec.ingress[1].defaultEndpoint: with captureMode NONE the pod's address is not \
                 known; write 127.0.0.1",
            ],
        );
        named(
            "{kind: EnvoyFilter, spec: {targetRefs: [{kind: Service}], configPatches: [{applyTo: \
             BOOTSTRAP, patch: {operation: ADD}}, {match: {context: WAYPOINT, waypoint: {portNumber: 1}}}], filters: \
             [{listenerMatch: {portNamePrefix: a}}]}}",
            &[
                "spec.configPatches[1].match.waypoint: not supported, no proxy is a waypoint",
                "spec.filters[0].listenerMatch.portNamePrefix: not supported, the filter is not \
                 inserted; use portNumber",
                "spec.configPatches[0].patch.operation: ADD has no effect on BOOTSTRAP, which agents \
                 write; use MERGE",
                "spec.configPatches[1].match.context: WAYPOINT is not supported, no proxy is one",
                "spec.targetRefs[0]: only Gateways are supported, it is attached to nothing",
            ],
        );
        named(
            "{kind: EnvoyFilter, spec: {configPatches: [{applyTo: BOOTSTRAP, patch: {operation: \
             MERGE}}]}}",
            &[
                "spec.configPatches[0].applyTo: BOOTSTRAP counts for proxies that start later, with \
                 BOOTSTRAP_XDS_AGENT: \"true\" in their proxyMetadata",
            ],
        );
        named(
            "{kind: ServiceEntry, spec: {resolution: DYNAMIC_DNS, ports: [{protocol: HTTP}, \
             {protocol: TCP}, {protocol: TLS}]}}",
            &[
                "spec.ports[1].protocol: with DYNAMIC_DNS, only HTTP and TLS say which host they \
                 mean; others are closed",
            ],
        );
    }

    #[test]
    fn what_is_in_force_is_not() {
        named(
            "{kind: DestinationRule, spec: {trafficPolicy: {loadBalancer: {localityLbSetting: \
             {enabled: true, failover: []}}, tls: {mode: SIMPLE, caCrl: \"a\"}}}}",
            &[],
        );
        named(
            "{kind: Gateway, spec: {servers: [{tls: {credentialNames: [a]}}]}}",
            &[],
        );
    }

    #[test]
    fn parts_of_networks() {
        let yaml = "networks: {n1: {endpoints: [{fromCidr: 10.0.0.0}, {fromCidr: 10.0.0.0/8}, \
                    {fromRegistry: a}], gateways: [{address: a.example}, {address: 1.1.1.1, port: \
                    70000}, {registryServiceName: a.b, locality: r}]}}";
        let found = of_networks(&serde_saphyr::from_str(yaml).expect("networks"));
        assert_eq!(
            found,
            [
                "networks.n1.endpoints[0].fromCidr: \"10.0.0.0\" is no range of addresses",
                "networks.n1.gateways[0].address: \"a.example\" is no IP address, and names are not \
                 looked up",
                "networks.n1.gateways[1].port: 70000 is no port, 15443 it is",
                "networks.n1.gateways[2].locality: endpoints behind a gateway have the localities of \
                 their own",
            ]
        );
    }

    #[test]
    fn fields_of_the_mesh() {
        assert_eq!(
            of_mesh("{enableTracing: true, authPolicy: MUTUAL_TLS}"),
            ["enableTracing"]
        );
        assert_eq!(of_mesh("["), Vec::<String>::new());
    }
}
