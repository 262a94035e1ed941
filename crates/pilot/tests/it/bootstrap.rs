//! A small Envoy bootstrap. All sockets outside are Unix sockets, so that Envoy can live in a network
//! namespace of its own and listen on the mesh's fixed ports.

use std::path::Path;

use lateen_xds::names::LOCAL_CLUSTER;
use serde_json::{Value, json};

/// Which protocol Envoy asks with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Delta,
    StateOfTheWorld,
}

pub(crate) fn bootstrap(id: &str, metadata: Value, protocol: Protocol, dir: &Path) -> Value {
    let api_type = match protocol {
        Protocol::Delta => "DELTA_GRPC",
        Protocol::StateOfTheWorld => "GRPC",
    };
    let cluster = |name: &str, path: &str| {
        json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            },
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"pipe": {"path": dir.join(path)}}}}
            ]}]}
        })
    };
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    // The proxy's own workload, by whose zones others are chosen.
    let own = json!({
        "name": LOCAL_CLUSTER, "type": "EDS",
        "eds_cluster_config": {"eds_config": ads, "service_name": LOCAL_CLUSTER},
    });
    json!({
        "cluster_manager": {"local_cluster_name": LOCAL_CLUSTER},
        "node": {"id": id, "cluster": "test", "metadata": metadata},
        "admin": {"address": {"pipe": {"path": dir.join("admin")}}},
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]
            }
        },
        "static_resources": {
            "clusters": [cluster("xds-grpc", "xds"), cluster("sds-grpc", "sds"), own]
        }
    })
}
