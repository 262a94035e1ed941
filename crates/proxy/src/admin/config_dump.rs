//! `/config_dump`.

use std::collections::HashMap;
use std::sync::PoisonError;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Json, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lateen_xds::json::any_to_value;
use serde_json::{Value, json};

use super::{Context, Params};
use crate::redact::{REDACTED, redact};
use crate::secrets::Shown;
use crate::state::RawKind;

const PREFIX: &str = "type.googleapis.com/envoy.admin.v3.";

pub(super) async fn handle(State(context): State<Context>, Query(params): Params) -> Response {
    let response = dump(&context, &params);
    // Writing it took a hundred times what the proxy holds otherwise.
    crate::memory::give_back();
    response
}

fn dump(context: &Context, params: &HashMap<String, String>) -> Response {
    let mut configs = vec![
        bootstrap(context),
        clusters(context),
        listeners(context),
        routes(context),
        secrets(context),
    ];
    if params.contains_key("include_eds") {
        configs.push(endpoints(context));
    }
    if let Some(wanted) = params.get("resource") {
        let lists: Vec<Value> = configs
            .iter_mut()
            .filter_map(|config| config.get_mut(wanted.as_str()).map(Value::take))
            .flat_map(|list| match list {
                Value::Array(list) => list,
                other => vec![other],
            })
            .collect();
        return Json(json!({ "configs": lists })).into_response();
    }
    Json(json!({ "configs": configs })).into_response()
}

/// The resources of one kind, each under `key`.
fn list(context: &Context, kind: RawKind, key: &str) -> Vec<Value> {
    let raw = {
        let store = context.raw.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            RawKind::Route => store.tables(),
            kind => store.of(kind),
        }
    };
    raw.into_iter()
        .map(|raw| {
            let mut message = any_to_value(&raw.any).unwrap_or_else(
                |error| json!({ "@type": raw.any.type_url, "error": error.to_string() }),
            );
            redact(&mut message);
            let mut entry = json!({ "last_updated": raw.updated.to_string() });
            if !raw.version.is_empty() {
                entry["version_info"] = raw.version.into();
            }
            entry[key] = message;
            // Kept for listeners, whose dump names them outside of their state.
            entry["name"] = raw.name.as_str().into();
            entry
        })
        .collect()
}

fn unnamed(mut entries: Vec<Value>) -> Vec<Value> {
    for entry in &mut entries {
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("name");
        }
    }
    entries
}

fn bootstrap(context: &Context) -> Value {
    let bootstrap: Value = serde_json::from_str(&context.shared.bootstrap)
        .unwrap_or_else(|_| json!({ "node": context.shared.node.json }));
    json!({
        "@type": format!("{PREFIX}BootstrapConfigDump"),
        "bootstrap": bootstrap,
    })
}

fn clusters(context: &Context) -> Value {
    json!({
        "@type": format!("{PREFIX}ClustersConfigDump"),
        "static_clusters": unnamed(list(context, RawKind::StaticCluster, "cluster")),
        "dynamic_active_clusters": unnamed(list(context, RawKind::Cluster, "cluster")),
    })
}

fn listeners(context: &Context) -> Value {
    let dynamic = list(context, RawKind::Listener, "listener")
        .into_iter()
        .map(|mut entry| {
            let name = entry["name"].take();
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("name");
            }
            json!({ "name": name, "active_state": entry })
        });
    json!({
        "@type": format!("{PREFIX}ListenersConfigDump"),
        "static_listeners": unnamed(list(context, RawKind::StaticListener, "listener")),
        "dynamic_listeners": dynamic.collect::<Vec<_>>(),
    })
}

fn routes(context: &Context) -> Value {
    json!({
        "@type": format!("{PREFIX}RoutesConfigDump"),
        "dynamic_route_configs": unnamed(list(context, RawKind::Route, "route_config")),
    })
}

fn endpoints(context: &Context) -> Value {
    json!({
        "@type": format!("{PREFIX}EndpointsConfigDump"),
        "dynamic_endpoint_configs": unnamed(list(context, RawKind::Endpoint, "endpoint_config")),
    })
}

/// Names and certificates; keys are never shown.
fn secrets(context: &Context) -> Value {
    let (mut active, mut warming) = (Vec::new(), Vec::new());
    for (name, shown) in context.shared.secrets.shown() {
        let mut secret = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": name,
        });
        match &shown {
            Some(Shown::Certificate(chain)) => {
                secret["tls_certificate"] = json!({
                    "certificate_chain": inline(chain),
                    "private_key": inline(REDACTED),
                });
            }
            Some(Shown::Roots(roots)) => {
                secret["validation_context"] = json!({ "trusted_ca": inline(roots) });
            }
            None => {}
        }
        let entry = json!({ "name": name, "secret": secret });
        match shown {
            Some(_) => active.push(entry),
            None => warming.push(entry),
        }
    }
    json!({
        "@type": format!("{PREFIX}SecretsConfigDump"),
        "dynamic_active_secrets": active,
        "dynamic_warming_secrets": warming,
    })
}

/// Text as bytes, which is how certificates come to Envoy and what tools expect to decode.
fn inline(text: &str) -> Value {
    json!({ "inline_bytes": STANDARD.encode(text) })
}
