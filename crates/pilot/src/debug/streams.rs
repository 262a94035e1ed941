//! Pages about streams and how far they got.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::StatusCode;
use jiff::Timestamp;
use lateen_api::kinds;
use lateen_core::ObjectRef;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Connection, Name, NameSet, TypeStatus};
use serde_json::{Map, Value, json};

use super::{Answer, Ask, Fault, Page};
use crate::Client;
use crate::distribution::{Report, Share};
use crate::proxy::{Dialect, Proxy};

const TYPES: [(&str, TypeUrl); 6] = [
    ("cluster", TypeUrl::CLUSTER),
    ("listener", TypeUrl::LISTENER),
    ("route", TypeUrl::ROUTE),
    ("endpoint", TypeUrl::ENDPOINT),
    ("extensionconfig", TypeUrl::EXTENSION),
    ("secret", TypeUrl::SECRET),
];

pub(super) fn connection_id(connection: &Connection<Client>) -> String {
    format!("{}-{}", connection.node, connection.id)
}

/// How far each proxy got: per type, the newest response sent and the newest one accepted.
pub(super) fn syncz(ask: &Ask<'_>) -> Answer {
    let connections = ask.discovery.proxies();
    let generation = ask.snapshot.generation;
    let all = connections
        .iter()
        .map(|connection| sync(connection, generation));
    Ok(Page::Json(all.collect()))
}

fn sync(connection: &Connection<Client>, generation: u64) -> Value {
    let proxy = &connection.client.proxy;
    let types = connection.types();
    let mut entry = Map::new();
    for (key, value) in [
        ("cluster_id", json!(proxy.cluster_id)),
        (
            "proxy",
            json!(format!("{}.{}", proxy.name, proxy.namespace)),
        ),
        (
            "proxy_type",
            json!(if proxy.is_router() {
                "router"
            } else {
                "sidecar"
            }),
        ),
        ("proxy_version", json!(proxy.version)),
        ("istio_version", json!(running_version(proxy))),
        ("generation_acked", json!(connection.acked_generation())),
        ("generation", json!(generation)),
    ] {
        entry.insert(key.into(), value);
    }
    for (name, type_url) in &TYPES {
        // What of our proxy's tables changes are their virtual hosts.
        let hosts = types
            .get(&TypeUrl::VIRTUAL_HOST)
            .filter(|_| *type_url == TypeUrl::ROUTE && proxy.dialect == Dialect::Lateen);
        if let Some(status) = hosts.or_else(|| types.get(type_url)) {
            insert_status(&mut entry, name, status);
        }
    }
    let resources = types
        .iter()
        .map(|(type_url, status)| (type_url.short().to_owned(), json!(status.resources)));
    entry.insert("resources".into(), Value::Object(resources.collect()));
    Value::Object(entry)
}

/// The version of what runs in the pod.
fn running_version(proxy: &Proxy) -> &str {
    match proxy.own_version.as_str() {
        "" => &proxy.version,
        own => own,
    }
}

fn insert_status(entry: &mut Map<String, Value>, name: &str, status: &TypeStatus) {
    entry.insert(format!("{name}_sent"), json!(status.sent));
    entry.insert(format!("{name}_acked"), json!(status.acked));
    if let Some((nonce, reason)) = &status.refused {
        entry.insert(format!("{name}_nacked"), json!(nonce));
        entry.insert(format!("{name}_error"), json!(reason));
    }
    if status.held_back > 0 {
        entry.insert(format!("{name}_held_back"), json!(status.held_back));
    }
}

/// Where a stream comes from and since when it is.
fn client(connection: &Connection<Client>) -> Value {
    json!({
        "connectionId": connection_id(connection),
        "connectedAt": time(connection.since),
        "address": connection.address.map(|a| a.to_string()).unwrap_or_default(),
        "labels": null,
    })
}

fn time(at: SystemTime) -> Value {
    Timestamp::try_from(at).map_or(Value::Null, |at| json!(at.to_string()))
}

fn clients(all: Vec<Value>) -> Page {
    let mut page = json!({"totalClients": all.len()});
    if !all.is_empty() {
        page["clients"] = all.into();
    }
    Page::Json(page)
}

pub(super) fn connections(ask: &Ask<'_>) -> Answer {
    let connections = ask.discovery.connections.list();
    Ok(clients(connections.iter().map(|c| client(c)).collect()))
}

pub(super) fn adsz(ask: &Ask<'_>) -> Answer {
    if ask.is_set("push") {
        ask.discovery.push_all();
        let n = ask.discovery.connections.list().len();
        return Ok(Page::Text(format!("Pushed to {n} servers\n")));
    }
    let mut connections = match ask.parameter("proxyID") {
        Some(_) => vec![ask.proxy()?],
        None => ask.discovery.connections.list(),
    };
    connections.sort_by_key(|connection| connection_id(connection));
    let detailed = |connection: &Connection<Client>| {
        let proxy = &connection.client.proxy;
        let watches = connection
            .types()
            .into_iter()
            .map(|(type_url, status)| (type_url.to_string(), json!(names(&status.names))));
        let mut entry = client(connection);
        entry["labels"] = json!(proxy.labels);
        entry["metadata"] = metadata(proxy);
        entry["watches"] = Value::Object(watches.collect());
        entry
    };
    Ok(clients(connections.iter().map(|c| detailed(c)).collect()))
}

/// The node's metadata, as far as it counts.
fn metadata(proxy: &Proxy) -> Value {
    json!({
        "CLUSTER_ID": proxy.cluster_id,
        "ISTIO_VERSION": proxy.version,
        "LABELS": proxy.labels,
        "NAMESPACE": proxy.namespace,
        "SERVICE_ACCOUNT": proxy.service_account,
    })
}

/// In their order, for people.
fn names(of: &NameSet) -> Vec<&str> {
    let mut names: Vec<_> = of.iter().map(Name::as_str).collect();
    names.sort_unstable();
    names
}

/// Ends a proxy's stream; it comes back by itself.
pub(super) fn force_disconnect(ask: &Ask<'_>) -> Answer {
    if !ask.discovery.core.settings.unsafe_admin {
        let why = "start the control plane with UNSAFE_ENABLE_ADMIN_ENDPOINTS=true for this";
        return Err(Fault(StatusCode::FORBIDDEN, why.to_owned()));
    }
    ask.proxy()?.disconnect();
    Ok(Page::Text("OK".to_owned()))
}

/// How far each object got: those of one kind, namespace or name, or those that `objects` lists as
/// `Kind/namespace/name`, divided by commas.
pub(super) fn distributionz(ask: &Ask<'_>) -> Answer {
    let reports = ask.discovery.reports();
    let reports = reports.borrow();
    let share = |(object, report): (&ObjectRef, &Arc<Report>)| Share::new(object, report);
    let shares: Vec<_> = match ask.parameter("objects") {
        Some(listed) => {
            let objects = listed.split(',').filter_map(object);
            let found = objects.filter_map(|object| Some((reports.get(&object)?, object)));
            found
                .map(|(report, object)| share((&object, report)))
                .collect()
        }
        None => {
            let is =
                |name: &str, value: &str| ask.parameter(name).is_none_or(|wanted| wanted == value);
            let wanted = |object: &ObjectRef| {
                is("kind", object.kind)
                    && is("namespace", &object.namespace)
                    && is("name", &object.name)
            };
            let all = reports.iter().filter(|(object, _)| wanted(object));
            all.map(share).collect()
        }
    };
    Ok(Page::Json(json!(shares)))
}

/// An object by its kind, namespace and name.
fn object(text: &str) -> Option<ObjectRef> {
    let mut parts = text.splitn(3, '/');
    let kind = parts.next()?;
    let kind = kinds::ALL.iter().find(|known| known.kind == kind)?;
    Some(ObjectRef::new(kind.kind, parts.next()?, parts.next()?))
}
