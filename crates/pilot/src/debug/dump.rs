//! What a proxy is served, in the form of Envoy's own `/config_dump`.

use std::sync::Arc;

use axum::http::StatusCode;
use lateen_xds::nds::NameTable;
use lateen_xds::server::{Connection, NameSet, Names, Resource};
use lateen_xds::{Error, TypeUrl, json};
use prost::Message as _;
use serde_json::{Value, json};

use super::{Answer, Ask, Fault, Page, failed};
use crate::Client;
use crate::discovery::Discovery;

pub(super) fn config_dump(ask: &Ask<'_>) -> Answer {
    let dump = dump(ask.discovery, &*ask.proxy()?);
    dump.map(Page::Json).map_err(|error| failed(&error))
}

pub(super) fn edsz(ask: &Ask<'_>) -> Answer {
    bodies(ask, &TypeUrl::ENDPOINT)
}

pub(super) fn ecdsz(ask: &Ask<'_>) -> Answer {
    match bodies(ask, &TypeUrl::EXTENSION)? {
        Page::Json(Value::Array(all)) if all.is_empty() => {
            let why = "the proxy is served no extension configuration";
            Err(Fault(StatusCode::NOT_FOUND, why.to_owned()))
        }
        page => Ok(page),
    }
}

/// The names that the agent beside a proxy answers.
pub(super) fn ndsz(ask: &Ask<'_>) -> Answer {
    let connection = ask.proxy()?;
    let served = ask.discovery.core.engine.served(&connection.client.proxy);
    let Some(table) = served.name_table() else {
        let why = "DNS capture is not enabled in the proxy";
        return Err(Fault(StatusCode::BAD_REQUEST, why.to_owned()));
    };
    let fault =
        |error: prost::DecodeError| Fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let table = NameTable::decode(table).map_err(fault)?;
    Ok(Page::Json(json!(table)))
}

/// Clusters, listeners, the route tables and the endpoints that the proxy asked for.
fn dump(discovery: &Discovery, connection: &Connection<Client>) -> Result<Value, Error> {
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

/// What the proxy asked for of a type.
fn bodies(ask: &Ask<'_>, type_url: &TypeUrl) -> Answer {
    let resources = generated(ask.discovery, &*ask.proxy()?, type_url);
    let bodies = resources.iter().map(|of| json::any_to_value(&of.body()));
    let bodies: Result<_, _> = bodies.collect();
    Ok(Page::Json(Value::Array(
        bodies.map_err(|error| failed(&error))?,
    )))
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
