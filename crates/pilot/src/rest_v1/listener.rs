//! Listeners in the words of Envoy's first API.

use lateen_xds::types::listener::{self as v3, Filter};
use lateen_xds::types::network::hcm::HttpConnectionManager;
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::types::network::tcp_proxy::TcpProxy;
use lateen_xds::types::network::tcp_proxy::tcp_proxy::ClusterSpecifier;
use serde_json::{Value, json};

use super::{cluster, key, route};
use crate::snapshot::Snapshot;

/// All listeners that serve anything. The first API knew no chains: of a listener that has several
/// the first is shown.
pub(super) fn all(snapshot: &Snapshot, listeners: &[v3::Listener]) -> Vec<Value> {
    listeners
        .iter()
        .filter_map(|listener| of(snapshot, listener))
        .collect()
}

fn of(snapshot: &Snapshot, listener: &v3::Listener) -> Option<Value> {
    let address = cluster::url(listener.address.as_ref()?)?;
    let mut chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let filters = chains.find_map(|chain| {
        let filters = chain
            .filters
            .iter()
            .filter_map(|filter| read(snapshot, filter));
        let filters: Vec<_> = filters.collect();
        (!filters.is_empty()).then_some(filters)
    })?;
    let is_bound = listener.bind_to_port.is_none_or(|bind| bind.value);
    Some(json!({
        "address": address,
        "name": listener.name,
        "filters": filters,
        "bind_to_port": is_bound,
    }))
}

fn read(snapshot: &Snapshot, filter: &Filter) -> Option<Value> {
    let v3::filter::ConfigType::TypedConfig(any) = filter.config_type.as_ref()? else {
        return None;
    };
    if let Ok(http) = lateen_xds::decode_any::<HttpConnectionManager>(any) {
        return Some(http_filter(snapshot, &http));
    }
    let tcp: TcpProxy = lateen_xds::decode_any(any).ok()?;
    let routes: Vec<_> = clusters(snapshot, &tcp)
        .into_iter()
        .map(|name| json!({"cluster": name}))
        .collect();
    Some(json!({
        "type": "read",
        "name": "tcp_proxy",
        "config": {"stat_prefix": "tcp", "route_config": {"routes": routes}},
    }))
}

fn clusters(snapshot: &Snapshot, tcp: &TcpProxy) -> Vec<String> {
    let names: Vec<&str> = match &tcp.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name],
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            all.clusters.iter().map(|one| one.name.as_str()).collect()
        }
        None => Vec::new(),
    };
    names
        .into_iter()
        .map(|name| name_of(snapshot, name))
        .collect()
}

/// The name that a cluster has in the first API; its own, where it stands for no service.
pub(super) fn name_of(snapshot: &Snapshot, name: &str) -> String {
    if let Some(key) = key::of_cluster(snapshot, name) {
        return key::cluster(&key);
    }
    match name.parse::<lateen_xds::names::ClusterName>() {
        Ok(own) if own.direction == lateen_core::Direction::Inbound => format!("in.{}", own.port),
        _ => name.to_owned(),
    }
}

fn http_filter(snapshot: &Snapshot, http: &HttpConnectionManager) -> Value {
    let mut config = json!({
        "codec_type": "auto",
        "stat_prefix": "http",
        "generate_request_id": true,
        "filters": [{"type": "decoder", "name": "router", "config": {}}],
        "access_log": [{"path": "/dev/stdout"}],
    });
    match &http.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            config["rds"] = json!({
                "cluster": "rds",
                "route_config_name": rds.route_config_name,
                "refresh_delay_ms": 1000,
            });
        }
        Some(RouteSpecifier::RouteConfig(table)) => {
            config["route_config"] = json!(route::table(snapshot, Some(table)));
        }
        _ => {}
    }
    json!({"type": "read", "name": "http_connection_manager", "config": config})
}
