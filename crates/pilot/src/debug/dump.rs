//! What a proxy is served, in the form of Envoy's own `/config_dump`.

use std::sync::Arc;

use lateen_xds::server::{Connection, NameSet, Names, Resource};
use lateen_xds::{Error, TypeUrl, json};
use serde_json::{Value, json};

use crate::Client;
use crate::discovery::Discovery;

/// Clusters, listeners, the route tables and the endpoints that the proxy asked for.
pub(super) fn config_dump(
    discovery: &Discovery,
    connection: &Connection<Client>,
) -> Result<Value, Error> {
    let clusters = values(
        &generated(discovery, connection, &TypeUrl::CLUSTER),
        "cluster",
    )?;
    let listeners = generated(discovery, connection, &TypeUrl::LISTENER);
    let listeners = listeners.iter().map(|listener| {
        Ok(json!({
            "name": listener.name.as_str(),
            "active_state": {
                "version_info": listener.version(),
                "listener": json::any_to_value(&listener.body())?,
            }
        }))
    });
    let listeners = listeners.collect::<Result<Vec<_>, Error>>()?;
    let routes = values(
        &generated(discovery, connection, &TypeUrl::ROUTE),
        "route_config",
    )?;
    let endpoints = generated(discovery, connection, &TypeUrl::ENDPOINT);
    let endpoints = values(&endpoints, "endpoint_config")?;
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    Ok(json!({"configs": [
        {"@type": kind("ClustersConfigDump"), "dynamic_active_clusters": clusters},
        {"@type": kind("ListenersConfigDump"), "dynamic_listeners": listeners},
        {"@type": kind("RoutesConfigDump"), "dynamic_route_configs": routes},
        {"@type": kind("EndpointsConfigDump"), "dynamic_endpoint_configs": endpoints},
    ]}))
}

/// The endpoints that the proxy asked for.
pub(super) fn endpoints(
    discovery: &Discovery,
    connection: &Connection<Client>,
) -> Result<Value, Error> {
    let endpoints = generated(discovery, connection, &TypeUrl::ENDPOINT);
    let bodies = endpoints.iter().map(|e| json::any_to_value(&e.body()));
    Ok(Value::Array(bodies.collect::<Result<_, _>>()?))
}

/// Secrets are left out of every dump.
fn generated(
    discovery: &Discovery,
    connection: &Connection<Client>,
    type_url: &TypeUrl,
) -> Vec<Arc<Resource>> {
    let status = connection.types().remove(type_url).unwrap_or_default();
    let everything = NameSet::default();
    let names = if status.wildcard || type_url.is_wildcard() {
        Names::All(&everything)
    } else {
        Names::Only(&status.names)
    };
    let client = &connection.client;
    let served = discovery.core.engine.served(&client.proxy);
    discovery.core.shown(&served, client, type_url, names)
}

fn values(resources: &[Arc<Resource>], field: &str) -> Result<Vec<Value>, Error> {
    let value = |resource: &Arc<Resource>| {
        Ok(json!({
            "version_info": resource.version(),
            field: json::any_to_value(&resource.body())?,
        }))
    };
    resources.iter().map(value).collect()
}
