//! The bootstrap: Envoy's file, in JSON.

use std::path::PathBuf;

use lateen_decode::address;
use lateen_xds::json;
use lateen_xds::types::bootstrap::Bootstrap;
use lateen_xds::types::{cluster, core, listener};

use crate::error::Error;
use crate::redact::redact;

/// Where the control plane answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdsTarget {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// What the proxy takes from the file.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub node: core::Node,
    pub clusters: Vec<cluster::Cluster>,
    pub listeners: Vec<listener::Listener>,
    pub admin: Option<std::net::SocketAddr>,
    pub ads: Option<AdsTarget>,
    /// The cluster of the proxy's own service; empty where none is named.
    pub local_cluster: String,
    /// The whole as the admin pages show it, without keys: as text, which is small, and made now, so
    /// that they need no reflection for it.
    pub shown: String,
}

/// Reads a bootstrap.
pub(crate) fn parse(text: &str) -> Result<Config, Error> {
    let fault = |reason: String| Error::Bootstrap(reason);
    let bootstrap: Bootstrap = json::from_str(text).map_err(|error| fault(error.to_string()))?;
    let shown = shown(&bootstrap).map_err(|error| fault(error.to_string()))?;
    let resources = bootstrap.static_resources.unwrap_or_default();
    let admin = bootstrap
        .admin
        .as_ref()
        .and_then(|admin| admin.address.as_ref());
    let admin = admin
        .map(|found| address("admin.address", Some(found)))
        .transpose()
        .map_err(|error| fault(error.to_string()))?;
    let dynamic = bootstrap.dynamic_resources.unwrap_or_default();
    let ads = match &dynamic.ads_config {
        None => None,
        Some(source) => Some(ads_target(source, &resources.clusters)?),
    };
    let manager = bootstrap.cluster_manager.unwrap_or_default();
    let local_cluster = manager.local_cluster_name;
    // As Envoy has it: one of discovery may never come.
    if !local_cluster.is_empty() && !resources.clusters.iter().any(|of| of.name == local_cluster) {
        return Err(fault(format!(
            "cluster_manager.local_cluster_name: there is no static cluster {local_cluster:?}"
        )));
    }
    Ok(Config {
        node: bootstrap.node.unwrap_or_default(),
        clusters: resources.clusters,
        listeners: resources.listeners,
        admin,
        ads,
        local_cluster,
        shown,
    })
}

fn shown(bootstrap: &Bootstrap) -> Result<String, lateen_xds::Error> {
    let mut shown = json::to_value(bootstrap)?;
    redact(&mut shown);
    Ok(shown.to_string())
}

fn ads_target(
    source: &core::ApiConfigSource,
    clusters: &[cluster::Cluster],
) -> Result<AdsTarget, Error> {
    use core::grpc_service::TargetSpecifier;
    let fault = |reason: &str| Error::Bootstrap(format!("ads_config: {reason}"));
    let service = source
        .grpc_services
        .first()
        .ok_or_else(|| fault("names no service"))?;
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &service.target_specifier else {
        return Err(fault("only envoy_grpc is supported"));
    };
    let named = clusters
        .iter()
        .find(|cluster| cluster.name == grpc.cluster_name);
    let cluster = named.ok_or_else(|| fault("names a cluster that does not exist"))?;
    if cluster.transport_socket.is_some() {
        return Err(fault(
            "TLS towards the control plane is the agent's work, not supported here",
        ));
    }
    let endpoint = cluster
        .load_assignment
        .iter()
        .flat_map(|load| &load.endpoints)
        .flat_map(|group| &group.lb_endpoints)
        .find_map(|endpoint| match &endpoint.host_identifier {
            Some(lateen_xds::types::endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)) => {
                endpoint.address.as_ref()?.address.clone()
            }
            _ => None,
        });
    match endpoint {
        Some(core::address::Address::Pipe(pipe)) => Ok(AdsTarget::Unix(pipe.path.into())),
        Some(core::address::Address::SocketAddress(socket)) => {
            use core::socket_address::PortSpecifier;
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
                return Err(fault("the cluster's endpoint has no port"));
            };
            let host = if socket.address.contains(':') {
                format!("[{}]", socket.address)
            } else {
                socket.address
            };
            Ok(AdsTarget::Tcp(format!("{host}:{port}")))
        }
        _ => Err(fault("the cluster has no endpoint")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let text = r#"{"node": {"id": "a"}, "static_resources": {"secrets": [
            {"name": "s", "tls_certificate": {"private_key": {"inline_string": "hidden"}}}]}}"#;
        let shown = parse(text).expect("a bootstrap").shown;
        assert!(
            shown.contains("private_key") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
