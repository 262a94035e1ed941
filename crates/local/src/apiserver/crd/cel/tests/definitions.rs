//! The mesh's own definitions: their rules compile, are cheap enough, and refuse what the webhook
//! refuses.

use std::path::Path;

use lateen_install::Installation;

use super::*;
use crate::apiserver::crd::schema;

struct Version {
    name: String,
    schema: Value,
}

fn versions() -> Vec<Version> {
    let manifests = lateen_install::manifests(&Installation::default()).expect("manifests");
    let definitions = manifests
        .into_iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition");
    let of = |definition: Value| {
        let versions = meta::list(&definition, "/spec/versions").to_vec();
        versions.into_iter().map(move |version| Version {
            name: format!(
                "{}/{} {}",
                definition["spec"]["group"].as_str().expect("a group"),
                version["name"].as_str().expect("a version"),
                definition["spec"]["names"]["kind"]
                    .as_str()
                    .expect("a kind"),
            ),
            schema: version["schema"]["openAPIV3Schema"].clone(),
        })
    };
    definitions.flat_map(of).collect()
}

/// What the API server says to a document, in the order in which it asks.
fn judge(versions: &[Version], document: &Value) -> Vec<String> {
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    let name = format!("{} {}", text("apiVersion"), text("kind"));
    let version = versions.iter().find(|version| version.name == name);
    let version = version.unwrap_or_else(|| panic!("no definition of {name}"));
    let mut errors = schema::validate(&version.schema, document);
    if errors.is_empty() {
        errors = Rules::of(&version.schema).check(&version.schema, document);
    }
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn all_rules_compile() {
    let mut n_rules = 0;
    for Version { name, schema } in versions() {
        assert_eq!(faults(&schema, "schema"), [], "{name}");
        n_rules += Rules::of(&schema).0.len();
    }
    assert!(n_rules > 50, "{n_rules} rules");
}

/// The API server's limits: what one rule may cost on the largest object, and all of a definition.
const RULE_COST: u64 = 10_000_000;
const DEFINITION_COST: u64 = 100_000_000;

/// How often a part of a schema can occur, times the cost of its rules. A list without bound in the
/// way would count as large as a request can be.
fn cost(schema: &Value, often: u64, name: &str) -> u64 {
    const UNBOUNDED: u64 = 1_000_000;
    let bound = |part: &Value, key: &str| part.get(key).and_then(Value::as_u64);
    let mut total = 0;
    for rule in meta::list(schema, "/x-kubernetes-validations") {
        let text = rule["rule"].as_str().expect("a rule");
        // Each word and sign outside of literals is a step; each loop takes the steps once for each
        // item.
        let code: String = text.split('\'').step_by(2).collect();
        let steps = code
            .split(|c: char| !c.is_alphanumeric() && c != '.')
            .count() as u64;
        // A text is read by the tenth of its length, once for each four characters of a pattern.
        let longest = bound(schema, "maxLength").unwrap_or(256) / 10 + 1;
        let reads = [".contains(", ".startsWith(", ".endsWith(", ".substring("]
            .iter()
            .map(|name| text.matches(name).count() as u64)
            .sum::<u64>();
        let patterns = text.split(".matches('").skip(1);
        let patterns: u64 = patterns.map(|rest| rest.len() as u64 / 4 + 1).sum();
        let steps = steps + longest * (reads + patterns);
        let n_loops = [".all(", ".exists(", ".exists_one("]
            .iter()
            .map(|name| text.matches(name).count() as u32)
            .sum::<u32>();
        let here = bound(schema, "maxItems").or(bound(schema, "maxProperties"));
        let longest = schema["properties"].as_object().into_iter().flatten();
        let longest = longest
            .filter(|(name, _)| n_loops > 0 && text.contains(&format!("self.{name}.")))
            .map(|(_, part)| {
                let most = bound(part, "maxItems").or(bound(part, "maxProperties"));
                most.unwrap_or(UNBOUNDED)
            })
            .max();
        let loops = if n_loops == 0 {
            1
        } else {
            here.or(longest).unwrap_or(UNBOUNDED).pow(n_loops)
        };
        let cost = often.saturating_mul(steps).saturating_mul(loops);
        assert!(cost <= RULE_COST, "{name}: {text} costs {cost}");
        total += cost;
    }
    let list = |part: &Value| bound(part, "maxItems").or(bound(part, "maxProperties"));
    for_each_part(schema, |step, part| {
        let times = match step.as_str() {
            ".items" | ".additionalProperties" => list(schema).unwrap_or(UNBOUNDED),
            _ => 1,
        };
        total += cost(part, often.saturating_mul(times), &format!("{name}{step}"));
    });
    total
}

#[test]
fn rules_cost_less_than_the_api_server_allows() {
    for Version { name, schema } in versions() {
        let total = cost(&schema, 1, &name);
        assert!(total <= DEFINITION_COST, "{name} costs {total}");
    }
}

/// Kind, a spec that is accepted, one that is refused, and why.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "VirtualService",
        "{hosts: ['*'], gateways: [g], http: [{route: [{destination: {host: a}}]}]}",
        "{hosts: ['*'], http: [{route: [{destination: {host: a}}]}]}",
        "not allowed for sidecars",
    ),
    (
        "VirtualService",
        "{http: [{route: [{destination: {host: a}}]}]}",
        "{tcp: [{route: [{destination: {host: a}}]}]}",
        "holds HTTP routes alone",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{redirect: {uri: /}}]}",
        "{hosts: [a], http: [{redirect: {uri: /}, route: [{destination: {host: a}}]}]}",
        "exactly one of route, redirect",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{rewrite: {uri: /}, route: [{destination: {host: a}}]}]}",
        "{hosts: [a], http: [{rewrite: {uri: /}, redirect: {uri: /}}]}",
        "redirect and rewrite",
    ),
    (
        "VirtualService",
        "{hosts: [a], exportTo: ['.', b], http: [{route: [{destination: {host: a}}]}]}",
        "{hosts: [a], exportTo: ['*', b], http: [{route: [{destination: {host: a}}]}]}",
        "stand for themselves alone",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{timeout: 1.5s, route: [{destination: {host: a}}]}]}",
        "{hosts: [a], http: [{timeout: '5', route: [{destination: {host: a}}]}]}",
        "timeout in body should match",
    ),
    (
        "VirtualService",
        "{hosts: [a], tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: a}}]}]}",
        "{hosts: [a], tls: [{match: [{}], route: [{destination: {host: a}}]}]}",
        "sniHosts: Required value",
    ),
    (
        "DestinationRule",
        "{host: a, subsets: [{name: b, labels: {v: '1'}}]}",
        "{host: a, subsets: [{labels: {v: '1'}}]}",
        "name: Required value",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
        "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}}",
        "at most one of simple, consistentHash",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
        "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {maglev: {}}}}}",
        "exactly one key",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}}}",
        "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}}}}",
        "distribute and failover",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}",
        "{host: a, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}}",
        "contradict",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}",
        "{host: a, trafficPolicy: {connectionPool: {}}}",
        "connectionPool is empty",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3}}}",
        "{host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 3}}}",
        "has no effect without",
    ),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}}",
        "{host: a, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: c}}}",
        "MUTUAL needs",
    ),
    (
        "Gateway",
        "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}]}",
        "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}]}",
        "need TLS settings",
    ),
    (
        "Gateway",
        "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}",
        "{servers: []}",
        "at least 1 items",
    ),
    (
        "Sidecar",
        "{egress: [{hosts: ['./*']}]}",
        "{egress: [{hosts: [a]}]}",
        "hosts[0] in body should match",
    ),
    (
        "Sidecar",
        "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 80}}}}",
        "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {egressProxy: {host: a, port: {number: 80}}}}",
        "ALLOW_ANY alone",
    ),
    (
        "Sidecar",
        "{workloadSelector: {labels: {app: a}}, egress: [{hosts: ['./*']}]}",
        "{workloadSelector: {labels: {app: '*'}}, egress: [{hosts: ['./*']}]}",
        "wildcard is not supported in selector",
    ),
    (
        "WorkloadGroup",
        "{template: {}, probe: {exec: {command: [a]}}}",
        "{template: {}, probe: {exec: {command: [a]}, grpc: {port: 80}}}",
        "at most one of httpGet",
    ),
    (
        "WorkloadEntry",
        "{address: 192.0.2.1, ports: {http: 80}}",
        "{address: 192.0.2.1, ports: {'a b': 80}}",
        "a port name",
    ),
    (
        "v1alpha3 EnvoyFilter",
        "{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {name: a}}}]}",
        "{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE}}]}",
        "needs a value",
    ),
    (
        "v1alpha3 EnvoyFilter",
        "{configPatches: [{applyTo: CLUSTER, match: {cluster: {}}, patch: {operation: REMOVE}}]}",
        "{configPatches: [{applyTo: CLUSTER, match: {cluster: {}, listener: {}}, patch: {operation: REMOVE}}]}",
        "at most one of listener",
    ),
    (
        "v1alpha3 EnvoyFilter",
        "{workloadSelector: {labels: {app: a}}}",
        "{workloadSelector: {labels: {app: a}}, targetRefs: [{kind: Gateway, name: a}]}",
        "at most one of workloadSelector, targetRefs",
    ),
    (
        "v1alpha3 VirtualService",
        "{hosts: [a], http: [{websocketUpgrade: true, removeResponseHeaders: {b: ''}, route: [{destination: {host: a}}]}]}",
        "{hosts: [a], http: [{websocketUpgrade: 'yes', route: [{destination: {host: a}}]}]}",
        "must be of type boolean",
    ),
    (
        "v1beta1 ProxyConfig",
        "{concurrency: 2}",
        "{concurrency: -1}",
        "greater than or equal to 0",
    ),
];

#[test]
fn each_rule_accepts_and_refuses() {
    let versions = versions();
    for (kind, good, bad, cause) in CASES {
        let (version, kind) = kind.split_once(' ').unwrap_or(("v1", kind));
        let document = |spec: &str| -> Value {
            let yaml = format!(
                "{{apiVersion: networking.istio.io/{version}, kind: {kind}, metadata: {{name: a}}, spec: {spec}}}"
            );
            serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
        };
        let (good, bad) = (document(good), document(bad));
        assert_eq!(judge(&versions, &good), Vec::<String>::new(), "{good}");
        let webhook = lateen_galley::validate(&good);
        assert!(webhook.is_empty(), "the webhook of {good}: {webhook:?}");
        let found = judge(&versions, &bad);
        assert!(
            found.iter().any(|error| error.contains(cause)),
            "{bad}: {found:?}"
        );
        assert!(
            !lateen_galley::validate(&bad).is_empty(),
            "the webhook accepts {bad}"
        );
    }
}

fn documents(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder is readable") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("file is readable");
        // An unquoted address that ends in a colon is a key to YAML 1.2, and a text to Go's parser.
        let text = text.replace("001:db8::]", "\"001:db8::\"]");
        let all = serde_saphyr::from_multiple::<Value>(&text);
        let all = all.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().unwrap_or_default().display().to_string();
        let all = all.into_iter().enumerate().filter(|(_, d)| !d.is_null());
        found.extend(all.map(|(n, document)| (format!("{name} #{n}"), document)));
    }
    found
}

/// What only the webhook refuses: a rule for it would need what CEL or its limits do not give.
const LEFT_TO_THE_WEBHOOK: &[&str] = &[];

#[test]
fn conformance_documents_are_judged_by_the_definitions() {
    let conformance = lateen_testkit::conformance;
    let (Some(folder), Some(samples)) = (
        conformance("validation"),
        conformance("samples/bookinfo/networking"),
    ) else {
        return;
    };
    let versions = versions();
    let (mut n_valid, mut n_invalid, mut wrong) = (0, 0, Vec::new());
    for (name, mut document) in documents(&folder) {
        let cause = document
            .as_object_mut()
            .and_then(|map| map.shift_remove("_err"));
        let found = judge(&versions, &document);
        match (cause, found.is_empty()) {
            (None, true) => n_valid += 1,
            (None, false) => wrong.push(format!("{name} is valid, but: {found:?}")),
            (Some(_), false) => n_invalid += 1,
            (Some(cause), true) if !LEFT_TO_THE_WEBHOOK.contains(&name.as_str()) => {
                wrong.push(format!("{name} is accepted: {cause}"));
            }
            (Some(_), true) => {}
        }
    }
    for (name, document) in documents(&samples) {
        let found = judge(&versions, &document);
        if !found.is_empty() {
            wrong.push(format!("{name} is valid, but: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_valid > 0 && n_invalid > 0, "{n_valid} and {n_invalid}");
}
