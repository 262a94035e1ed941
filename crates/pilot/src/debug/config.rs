//! Pages about configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use lateen_api::{Kind, Object, kinds};
use lateen_core::ProblemKind;
use lateen_registry::WATCHED_KINDS;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Answer, Ask, Fault, Page, registry};

/// All configuration, as the objects that users wrote.
pub(super) fn configz(ask: &Ask<'_>) -> Answer {
    let config = &ask.snapshot.config;
    let mut all = Vec::new();
    list(&mut all, kinds::VIRTUAL_SERVICE, &config.virtual_services);
    list(&mut all, kinds::DESTINATION_RULE, &config.destination_rules);
    list(&mut all, kinds::GATEWAY, &config.gateways);
    list(&mut all, kinds::SERVICE_ENTRY, &config.service_entries);
    list(&mut all, kinds::WORKLOAD_ENTRY, &config.workload_entries);
    list(&mut all, kinds::SIDECAR, &config.sidecars);
    list(&mut all, kinds::ENVOY_FILTER, &config.envoy_filters);
    list(&mut all, kinds::PROXY_CONFIG, &config.proxy_configs);
    list(
        &mut all,
        kinds::PEER_AUTHENTICATION,
        &config.peer_authentications,
    );
    Ok(Page::Json(all.into()))
}

fn list<T: Serialize>(all: &mut Vec<Value>, kind: Kind, objects: &[Arc<Object<T>>]) {
    for object in objects {
        all.push(json!({
            "apiVersion": kind.api_version(),
            "kind": kind.kind,
            "metadata": object.meta,
            "spec": object.spec,
        }));
    }
}

/// What became of each patch of an EnvoyFilter.
pub(super) fn patchz(ask: &Ask<'_>) -> Answer {
    let patch = |report: crate::PatchReport| {
        json!({
            "namespace": &*report.object.namespace,
            "name": &*report.object.name,
            "field": report.field,
            "applied": report.applied,
            "fault": report.fault,
        })
    };
    let patches = ask.discovery.patches().into_iter();
    Ok(Page::Json(patches.map(patch).collect()))
}

pub(super) fn resourcesz(_: &Ask<'_>) -> Answer {
    let kind =
        |kind: &Kind| json!({"group": kind.group, "version": kind.versions[0], "kind": kind.kind});
    Ok(Page::Json(WATCHED_KINDS.iter().map(kind).collect()))
}

pub(super) fn mesh(ask: &Ask<'_>) -> Answer {
    let mesh = serde_json::to_value(&*ask.snapshot.config.mesh);
    mesh.map(Page::Json)
        .map_err(|error| Fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// None are in force; they are refused when they are written.
pub(super) fn authorizationz(ask: &Ask<'_>) -> Answer {
    Ok(Page::Json(json!({"authorization_policies": policies(ask)})))
}

fn policies(ask: &Ask<'_>) -> Value {
    json!({"namespace_to_policies": {}, "root_namespace": ask.discovery.namespace()})
}

/// None are in force; who writes one is warned.
pub(super) fn telemetryz(ask: &Ask<'_>) -> Answer {
    let root = ask.discovery.namespace();
    Ok(Page::Json(json!({
        "telemetries": {"namespace_to_telemetries": {}, "root_namespace": root},
    })))
}

pub(super) fn ambientz(_: &Ask<'_>) -> Answer {
    let empty: [Value; 0] = [];
    Ok(Page::Json(json!({
        "workloads": empty, "services": empty, "policies": empty, "waypoints": empty,
    })))
}

/// Problems by the metric that Istio counts them in, and then by object.
pub(super) fn push_status(ask: &Ask<'_>) -> Answer {
    let problems = ask.discovery.problems();
    let problems = problems.borrow();
    let mut all: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for problem in problems.values().flatten() {
        let metric = match problem.kind {
            ProblemKind::Conflict => "pilot_vservice_dup_domain",
            ProblemKind::Unresolved => "pilot_unresolved_references",
            _ => "pilot_other_problems",
        };
        let of_metric = all.entry(metric).or_default();
        let said = json!({"message": problem.to_string()});
        of_metric.insert(problem.on.to_string(), said);
    }
    Ok(Page::Json(json!(all)))
}

pub(super) fn push_context(ask: &Ask<'_>) -> Answer {
    let networks = ask.snapshot.networks().gateways();
    let networks = networks.map(|(network, gateways)| {
        let all = gateways.iter();
        let all = all.map(|gateway| registry::network_gateway(ask, network, gateway));
        (network.to_owned(), all.collect::<Value>())
    });
    let networks: Map<_, _> = networks.collect();
    Ok(Page::Json(
        json!({"AuthorizationPolicies": policies(ask), "NetworkGateways": networks}),
    ))
}

pub(super) fn inject(ask: &Ask<'_>) -> Answer {
    match &ask.discovery.core.settings.templates {
        Some(templates) => Ok(Page::Json(json!(templates()))),
        None => {
            let why = "this control plane injects nothing";
            Err(Fault(StatusCode::NOT_FOUND, why.to_owned()))
        }
    }
}
