//! The proxy's bootstrap: who it is, where xDS and secrets come from, and the two listeners that
//! must work before any configuration arrives. Envoy and our proxy start from the same file.

mod overlay;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lateen_core::{Locality, locality};
use lateen_xds::names::{LOCAL_CLUSTER, SELF_DISCOVERY};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::config::AgentConfig;
pub(crate) use overlay::Overlay;

const FILE: &str = "envoy-rev.json";
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const HTTP_OPTIONS: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Envoy refuses larger regular expressions; Istio raises the limit to this.
const MAX_REGEX_PROGRAM: &str = "32768";
/// Envoy's own limit on xDS streams and their requests would throttle the one that matters.
const XDS_LIMIT: u32 = 100_000;

/// Writes the bootstrap below the configuration directory, with what users lay over it.
pub(crate) async fn write(config: &AgentConfig) -> Result<PathBuf, Error> {
    let bootstrap = overlay::laid_over(build(config), config).await?;
    let directory = &config.paths.config_dir;
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    let path = directory.join(FILE);
    let text = format!("{bootstrap:#}\n");
    std::fs::write(&path, text).map_err(Error::file(&path))?;
    // Beside Envoy, or without a proxy, nothing here needs it for as long as the pod lives.
    lateen_xds::json::release();
    Ok(path)
}

pub(crate) fn build(config: &AgentConfig) -> Value {
    let mut bootstrap = json!({
        "node": node(config),
        "layered_runtime": { "layers": [
            { "name": "global config", "static_layer": {
                "re2.max_program_size.error_level": MAX_REGEX_PROGRAM,
            } },
            { "name": "admin", "admin_layer": {} },
        ] },
        "stats_config": stats(),
        "admin": { "address": tcp("127.0.0.1", config.ports.admin) },
        "dynamic_resources": dynamic(config.delta),
        "static_resources": {
            "clusters": clusters(config),
            "listeners": [
                endpoint_listener(
                    "prometheus", everywhere(config, config.ports.metrics), "/stats/prometheus", "prometheus_stats",
                ),
                endpoint_listener("ready", everywhere(config, config.ports.ready), "/healthz/ready", "agent"),
            ],
        },
    });
    if config.metadata[SELF_DISCOVERY] == "true" {
        bootstrap["cluster_manager"] = json!({ "local_cluster_name": LOCAL_CLUSTER });
    }
    bootstrap
}

/// Who the control plane is told that this is.
pub(crate) fn node(config: &AgentConfig) -> Value {
    let mut node = json!({
        "id": config.node_id(),
        "cluster": config.cluster,
        "metadata": config.metadata,
    });
    if let Some(locality) = locality(&config.metadata["LABELS"]) {
        node["locality"] = locality;
    }
    node
}

/// What the pod's own labels say, else what Kubernetes copies to pods from their nodes.
fn locality(labels: &Value) -> Option<Value> {
    let text = |label: &str| labels[label].as_str();
    let of_node = |label| text(label).unwrap_or_default().into();
    let place = Locality::of_labels(text).unwrap_or_else(|| Locality {
        region: of_node(locality::REGION),
        zone: of_node(locality::ZONE),
        sub_zone: of_node(locality::SUBZONE),
    });
    let fields = [
        ("region", place.region),
        ("zone", place.zone),
        ("sub_zone", place.sub_zone),
    ];
    let known = fields.into_iter().filter(|(_, text)| !text.is_empty());
    let known: Map<_, _> = known
        .map(|(field, text)| (field.to_owned(), text.as_str().into()))
        .collect();
    (!known.is_empty()).then_some(Value::Object(known))
}

/// The statistics that Istio's proxies keep; Envoy's full set costs megabytes per thousand clusters.
fn stats() -> Value {
    let prefixes = [
        "reporter=",
        "component",
        "istio",
        "cluster_manager",
        "listener_manager",
        "server",
        "cluster.xds-grpc",
        "wasm",
    ];
    let suffixes = [
        "rbac.allowed",
        "rbac.denied",
        "shadow_allowed",
        "shadow_denied",
        "downstream_cx_active",
    ];
    let patterns = prefixes.map(|p| json!({ "prefix": p })).into_iter();
    let patterns = patterns.chain(suffixes.map(|s| json!({ "suffix": s })));
    let patterns: Vec<_> = patterns.collect();
    json!({
        "use_all_default_tags": true,
        "stats_matcher": { "inclusion_list": { "patterns": patterns } },
    })
}

/// Resources that come over the one stream, however late.
fn discovered() -> Value {
    json!({ "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" })
}

fn dynamic(delta: bool) -> Value {
    let source = discovered();
    json!({
        "lds_config": source,
        "cds_config": source,
        "ads_config": {
            "api_type": if delta { "DELTA_GRPC" } else { "GRPC" },
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
        },
    })
}

fn clusters(config: &AgentConfig) -> Vec<Value> {
    let mut clusters = vec![
        cluster("prometheus_stats", tcp("127.0.0.1", config.ports.admin)),
        cluster("agent", tcp("127.0.0.1", config.ports.status)),
        grpc_cluster("sds-grpc", &config.paths.sds_socket),
        grpc_cluster("xds-grpc", &config.paths.xds_socket),
    ];
    if config.metadata[SELF_DISCOVERY] == "true" {
        clusters.push(local_cluster());
    }
    clusters
}

/// The proxy's own workload by zone, for zone-aware routing: nothing is sent there.
fn local_cluster() -> Value {
    json!({
        "name": LOCAL_CLUSTER,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": { "eds_config": discovered(), "service_name": LOCAL_CLUSTER },
    })
}

fn cluster(name: &str, address: Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    })
}

fn grpc_cluster(name: &str, socket: &Path) -> Value {
    let mut cluster = cluster(name, json!({ "pipe": { "path": socket } }));
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": HTTP_OPTIONS,
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    let threshold = |priority: &str| {
        json!({
            "priority": priority,
            "max_connections": XDS_LIMIT,
            "max_pending_requests": XDS_LIMIT,
            "max_requests": XDS_LIMIT,
        })
    };
    cluster["circuit_breakers"] =
        json!({ "thresholds": [threshold("DEFAULT"), threshold("HIGH")] });
    cluster
}

/// A listener that answers one path from one cluster.
fn endpoint_listener(name: &str, address: Value, path: &str, cluster: &str) -> Value {
    let manager = json!({
        "@type": HCM,
        "codec_type": "AUTO",
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [{
            "name": "backend",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": path }, "route": { "cluster": cluster } }],
        }] },
        "http_filters": [
            { "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } },
        ],
    });
    json!({
        "name": name,
        "address": address,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }] }],
    })
}

/// All addresses of the pod; one socket is for both families where it has IPv6.
fn everywhere(config: &AgentConfig, port: u16) -> Value {
    if config.ips.iter().all(IpAddr::is_ipv4) {
        return tcp("0.0.0.0", port);
    }
    let mut address = tcp("::", port);
    address["socket_address"]["ipv4_compat"] = json!(true);
    address
}

fn tcp(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

#[cfg(test)]
mod tests {
    use lateen_xds::types::bootstrap::Bootstrap;

    use super::*;
    use crate::config::tests::sample;

    #[test]
    fn where_a_pod_is() {
        let check = |labels: Value, want: Value| {
            assert_eq!(locality(&labels).unwrap_or_default(), want, "{labels}");
        };
        let label = |text: &str| json!({ "istio-locality": text });
        check(Value::Null, Value::Null);
        check(label(""), Value::Null);
        check(label("r"), json!({"region": "r"}));
        let all = json!({"region": "r", "zone": "z", "sub_zone": "s"});
        check(label("r.z.s"), all.clone());
        check(json!({"topology.istio.io/locality": "r.z.s"}), all.clone());
        check(label("r/z.1"), json!({"region": "r", "zone": "z.1"}));
        let of_node = json!({
            "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z",
            "topology.istio.io/subzone": "s",
        });
        check(of_node, all);
        check(
            json!({"topology.kubernetes.io/zone": "z", "istio-locality": "r"}),
            json!({"region": "r"}),
        );
    }

    #[test]
    fn a_pod_is_asked_at_the_addresses_that_it_has() {
        for (ips, want) in [
            (
                "10.0.0.7",
                json!({"address": "0.0.0.0", "port_value": 15021}),
            ),
            (
                "fd00::7",
                json!({"address": "::", "port_value": 15021, "ipv4_compat": true}),
            ),
            (
                "10.0.0.7,fd00::7",
                json!({"address": "::", "port_value": 15021, "ipv4_compat": true}),
            ),
        ] {
            let bootstrap = build(&sample(&[("INSTANCE_IPS", ips)]));
            let ready = &bootstrap["static_resources"]["listeners"][1];
            assert_eq!(ready["address"]["socket_address"], want, "{ips}");
            let message: Result<Bootstrap, _> = lateen_xds::json::from_value(bootstrap);
            assert!(message.is_ok(), "{ips}: {message:?}");
        }
    }

    #[test]
    fn a_cluster_of_its_own_where_that_is_asked_for() {
        let config = sample(&[("ISTIO_META_ENABLE_SELF_DISCOVERY", "true")]);
        let message: Bootstrap =
            lateen_xds::json::from_value(build(&config)).expect("Envoy's message");
        let manager = message.cluster_manager.expect("set");
        assert_eq!(manager.local_cluster_name, "local_cluster");
        let clusters = message.static_resources.expect("set").clusters;
        assert!(
            clusters
                .iter()
                .any(|of| of.name == manager.local_cluster_name)
        );
        let plain = build(&sample(&[]));
        assert!(!plain.to_string().contains("local_cluster"));
    }

    #[test]
    fn it_is_a_valid_bootstrap() {
        let config = sample(&[("ISTIO_META_CLUSTER_ID", "Kubernetes")]);
        let message: Bootstrap =
            lateen_xds::json::from_value(build(&config)).expect("Envoy's message");
        let node = message.node.expect("a node");
        assert_eq!(node.id, config.node_id());
        assert!(
            node.metadata
                .expect("metadata")
                .fields
                .contains_key("CLUSTER_ID")
        );
        let resources = message.static_resources.expect("static resources");
        let names: Vec<_> = resources.clusters.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["prometheus_stats", "agent", "sds-grpc", "xds-grpc"]);
        assert_eq!(resources.listeners.len(), 2);
    }
}
