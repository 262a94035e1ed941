//! Which fields of MeshConfig something acts on. Whoever writes another one is told so, by `lateen
//! install` and by the control plane alike.

use serde_json::Value;

use crate::shape::is_set;

/// Fields that something acts on.
const MESH: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "authPolicy",
    "connectTimeout",
    "defaultConfig",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultInboundHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enablePrometheusMerge",
    "h2UpgradePolicy",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "meshMTLS",
    "outboundTrafficPolicy",
    "pathNormalization",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "rootNamespace",
    "tcpKeepalive",
    "trustDomain",
    "trustDomainAliases",
    "zoneAwareLbSetting",
];

/// Fields of `defaultConfig` that something acts on.
const PROXY: &[&str] = &[
    "binaryPath",
    "concurrency",
    "configPath",
    "discoveryAddress",
    "gatewayTopology",
    "holdApplicationUntilProxyStarts",
    "image",
    "interceptionMode",
    "meshId",
    "proxyAdminPort",
    "proxyMetadata",
    "readinessProbe",
    "serviceCluster",
    "statusPort",
    "terminationDrainDuration",
];

/// Values without effect of fields that have one.
const VALUES: &[(&str, &str)] = &[
    // Templates of users are told it; where proxies send such traffic does not change.
    ("/inboundTrafficPolicy/mode", "LOCALHOST"),
    // Slashes that are encoded stay as they are.
    (
        "/pathNormalization/normalization",
        "DECODE_AND_MERGE_SLASHES",
    ),
    ("/defaultConfig/interceptionMode", "TPROXY"),
];

/// What a mesh configuration says that has no effect: fields, and values of fields.
pub fn without_effect(mesh: &Value) -> Vec<String> {
    let proxy = &mesh["defaultConfig"];
    let mut found = unknown(mesh, MESH, "");
    let of_proxy = unknown(proxy, PROXY, "defaultConfig.");
    found.extend(of_proxy.into_iter().filter(|at| !is_share_alone(at, proxy)));
    for (pointer, without) in VALUES {
        if mesh.pointer(pointer).is_some_and(|value| value == without) {
            let at = pointer.trim_start_matches('/').replace('/', ".");
            found.push(format!("{at} {without}"));
        }
    }
    found
}

fn unknown(of: &Value, known: &[&str], before: &str) -> Vec<String> {
    let fields = of.as_object().into_iter().flatten();
    let unknown = fields.filter(|(name, value)| is_set(value) && !known.contains(&name.as_str()));
    unknown.map(|(name, _)| format!("{before}{name}")).collect()
}

/// The share of requests that are traced is in every installation (`values.pilot.traceSampling`), so that
/// it alone says nothing of what anybody wants.
fn is_share_alone(at: &str, proxy: &Value) -> bool {
    let tracing = proxy["tracing"].as_object();
    at == "defaultConfig.tracing"
        && tracing.is_some_and(|tracing| tracing.keys().all(|field| field == "sampling"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::{
        Schema,
        mesh::{MeshConfig, ProxyConfig},
    };

    #[test]
    fn what_has_no_effect_is_named() {
        let named = |mesh: Value, want: &[&str]| assert_eq!(without_effect(&mesh), want, "{mesh}");
        named(
            json!({"trustDomain": "a", "enableTracing": true, "madeUp": 1, "accessLogFile": ""}),
            &["enableTracing", "madeUp"],
        );
        named(
            json!({"authPolicy": "MUTUAL_TLS", "ingressClass": "x", "caCertificates": []}),
            &[],
        );
        named(
            json!({"defaultConfig": {"interceptionMode": "TPROXY", "statNameLength": 7}}),
            &[
                "defaultConfig.statNameLength",
                "defaultConfig.interceptionMode TPROXY",
            ],
        );
        named(json!({"defaultConfig": {"tracing": {"sampling": 1}}}), &[]);
        named(
            json!({"defaultConfig": {"tracing": {"sampling": 1, "zipkin": {"address": "a"}}}}),
            &["defaultConfig.tracing"],
        );
        named(
            json!({"pathNormalization": {"normalization": "MERGE_SLASHES"}}),
            &[],
        );
        named(
            json!({"pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"}}),
            &["pathNormalization.normalization DECODE_AND_MERGE_SLASHES"],
        );
        named(
            json!({"inboundTrafficPolicy": {"mode": "PASSTHROUGH"}}),
            &[],
        );
        named(
            json!({"inboundTrafficPolicy": {"mode": "LOCALHOST"}}),
            &["inboundTrafficPolicy.mode LOCALHOST"],
        );
    }

    /// The program's text without its tests and without white space.
    fn sources(directory: &Path, into: &mut String) {
        for entry in std::fs::read_dir(directory).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if name != "tests" {
                    sources(&path, into);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path).expect("text");
                let program = text.split("#[cfg(test)]\nmod tests {").next();
                let lines = program.unwrap_or_default().lines();
                let code = lines.filter(|line| !line.trim_start().starts_with("//"));
                into.extend(code.flat_map(str::split_whitespace));
                into.push('\n');
            }
        }
    }

    fn snake(name: &str) -> String {
        // The one name that does not follow from its field's.
        let name = name.replace("MTLS", "Mtls");
        let letters = name.chars().map(|c| match c.is_ascii_uppercase() {
            true => format!("_{}", c.to_ascii_lowercase()),
            false => c.to_string(),
        });
        letters.collect()
    }

    /// Whether some code reads a field, written `OBJECT.field`.
    fn reads(code: &str, object: &str, field: &str) -> bool {
        let wanted = format!("{object}.{}", snake(field));
        code.match_indices(&wanted).any(|(at, found)| {
            let after = code[at + found.len()..].chars().next();
            !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '(')
        })
    }

    #[test]
    fn each_field_is_acted_on_or_told() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut code = String::new();
        for entry in std::fs::read_dir(&crates).expect("the crates") {
            let path = entry.expect("an entry").path();
            match path.file_name().is_some_and(|name| name == "api") {
                true => {}
                false if path.join("src").is_dir() => sources(&path.join("src"), &mut code),
                false => {}
            }
        }
        // Questions that the mesh answers itself.
        let own = std::fs::read_to_string(crates.join("api/src/mesh.rs")).expect("text");
        let own = own.replace("\n            .", ".");
        code.push_str(&own.replace("self.", "mesh."));
        let all = [
            (MeshConfig::schema(), MESH, "mesh"),
            (ProxyConfig::schema(), PROXY, "proxy"),
        ];
        for (schema, acted_on, object) in all {
            let fields = schema["properties"].as_object().expect("fields");
            for name in acted_on {
                assert!(fields.contains_key(*name), "there is no field {name}");
                assert!(reads(&code, "", name), "{name} is read by nothing");
            }
            for name in fields
                .keys()
                .filter(|name| !acted_on.contains(&name.as_str()))
            {
                assert!(
                    !reads(&code, object, name),
                    "{name} is read, and said not to be"
                );
            }
        }
    }
}
