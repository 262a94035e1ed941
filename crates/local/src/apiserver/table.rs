//! Tables: what `kubectl get` prints.

mod custom;
mod pod;
mod rows;

use serde_json::{Value, json};

use super::kinds::Resource;
use super::meta;
use super::request::Call;

/// One column of a table.
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    /// Columns above 0 are shown with `-o wide` only.
    priority: u64,
}

fn column(name: &str, priority: u64) -> Column {
    Column {
        name: name.to_owned(),
        kind: "string".into(),
        format: if name == "Name" {
            "name".into()
        } else {
            String::new()
        },
        description: String::new(),
        priority,
    }
}

/// The columns of a builtin kind, those of `-o wide` after a bar.
fn builtin_columns(resource: &Resource) -> &'static str {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => "Name,Ready,Status,Restarts,Age|IP,Node,Nominated Node,Readiness Gates",
        ("", "services") => "Name,Type,Cluster-IP,External-IP,Port(s),Age|Selector",
        ("", "nodes") => {
            "Name,Status,Roles,Age,Version|Internal-IP,External-IP,OS-Image,Kernel-Version,Container-Runtime"
        }
        ("", "namespaces") => "Name,Status,Age",
        ("", "configmaps") => "Name,Data,Age",
        ("", "secrets") => "Name,Type,Data,Age",
        ("", "serviceaccounts") => "Name,Secrets,Age",
        ("", "endpoints") => "Name,Endpoints,Age",
        ("" | "events.k8s.io", "events") => {
            "Last Seen,Type,Reason,Object,Message|Subobject,Source,First Seen,Count,Name"
        }
        ("apps", "deployments") => "Name,Ready,Up-to-date,Available,Age|Containers,Images,Selector",
        ("apps", "replicasets") => "Name,Desired,Current,Ready,Age|Containers,Images,Selector",
        ("batch", "jobs") => "Name,Status,Completions,Duration,Age|Containers,Images,Selector",
        ("discovery.k8s.io", _) => "Name,AddressType,Ports,Endpoints,Age",
        ("networking.k8s.io", "ingresses") => "Name,Class,Hosts,Address,Ports,Age",
        ("networking.k8s.io", "ingressclasses") => "Name,Controller,Parameters,Age",
        ("coordination.k8s.io", _) => "Name,Holder,Age",
        ("policy", _) => "Name,Min Available,Max Unavailable,Allowed Disruptions,Age",
        ("autoscaling", _) => "Name,Reference,Targets,MinPods,MaxPods,Replicas,Age",
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") | ("apiextensions.k8s.io", _) => {
            "Name,Created At"
        }
        ("rbac.authorization.k8s.io", _) => "Name,Role,Age|Users,Groups,ServiceAccounts",
        ("admissionregistration.k8s.io", _) => "Name,Webhooks,Age",
        _ => "Name,Age",
    }
}

fn columns(resource: &Resource) -> Vec<Column> {
    if let Some(custom) = &resource.custom {
        return custom::columns(custom);
    }
    let (narrow, wide) = builtin_columns(resource)
        .split_once('|')
        .unwrap_or((builtin_columns(resource), ""));
    let narrow = narrow.split(',').map(|name| column(name, 0));
    let wide = wide
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| column(name, 1));
    narrow.chain(wide).collect()
}

fn cells(resource: &Resource, object: &Value) -> Vec<Value> {
    if let Some(custom) = &resource.custom {
        return custom::cells(custom, object);
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::cells(object),
        _ => rows::cells(resource, object),
    }
}

/// A table of objects. Watches send the columns with the first event only.
pub(super) fn render(call: &Call, metadata: Value, objects: &[Value], with_columns: bool) -> Value {
    let resource = &call.target.resource;
    let columns: Vec<Value> = columns(resource)
        .iter()
        .map(|one| {
            json!({"name": one.name, "type": one.kind, "format": one.format,
                   "description": one.description, "priority": one.priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| json!({"cells": cells(resource, object), "object": shown(call, object)}))
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": if with_columns { Value::from(columns) } else { Value::Null },
        "rows": rows,
    })
}

fn shown(call: &Call, object: &Value) -> Value {
    match call.parameter("includeObject") {
        Some("Object") => object.clone(),
        Some("None") => Value::Null,
        _ => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
        }
    }
}

/// How long ago a time was, as Kubernetes says it.
fn age(time: Option<&str>) -> String {
    match time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) {
        Some(time) => duration(jiff::Timestamp::now().as_second() - time.as_second()),
        None => "<unknown>".into(),
    }
}

fn object_age(object: &Value) -> Value {
    age(meta::text(object, "/metadata/creationTimestamp")).into()
}

/// A duration in the two largest units that matter.
fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, unit: char, small: i64, small_unit: char| match (seconds % large) / small
    {
        0 => format!("{}{unit}", seconds / large),
        rest => format!("{}{unit}{rest}{small_unit}", seconds / large),
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(MINUTE, 'm', 1, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(HOUR, 'h', MINUTE, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(DAY, 'd', HOUR, 'h'),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(YEAR, 'y', DAY, 'd'),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, expect) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (601, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (3 * 86_400, "3d"),
            (3 * 86_400 + 7200, "3d2h"),
            (100 * 86_400, "100d"),
        ] {
            assert_eq!(duration(seconds), expect);
        }
    }
}
