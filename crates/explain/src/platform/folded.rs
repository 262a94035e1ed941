//! Documents, folded as the control plane folds them, and what it would say of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::labels::GATEWAY_NAME;
use lateen_core::{Hostname, ServiceId};
use lateen_galley::{AnyCredentials, Once};
use lateen_registry::{Documents, FieldFault, Offline, Places, WATCHED_KINDS, World};
use serde_json::{Value, json};

/// What was read.
pub(super) struct Folded {
    pub(super) world: Arc<World>,
    pub(super) places: Places,
    pub(super) unused: Vec<String>,
    pub(super) once: Once,
}

impl Folded {
    pub(super) fn new(
        texts: &[Documents],
        changes: &[Documents],
        domain: &str,
    ) -> Result<Folded, Vec<String>> {
        let offline = Offline::read(texts, changes, check, domain)?;
        let (world, raw) = (Arc::new(offline.world), Arc::new(offline.config));
        Ok(Folded {
            once: lateen_galley::fold_with(&raw, &world, domain, Arc::new(AnyCredentials)),
            world,
            places: offline.places,
            unused: offline.unused,
        })
    }
}

/// What the control plane would make for Gateways, as documents; `None` where that is nothing, or is
/// there already.
pub(super) fn deployments(folded: &Folded, domain: &str) -> Option<Documents> {
    let all = folded.once.gateways.deployments.iter();
    let missing = all.filter(|of| {
        let host = Hostname::service(&of.name, &of.namespace, domain);
        let id = ServiceId::new(&of.namespace, host);
        folded.world.services.get(&id).is_none()
    });
    let documents = missing.flat_map(|of| {
        let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
        labels.extend(of.labels.iter().map(|(key, value)| (&**key, &**value)));
        labels.insert(GATEWAY_NAME, &of.gateway);
        let meta = json!({ "name": of.name, "namespace": of.namespace, "labels": labels });
        let ports = of.ports.iter();
        let ports = ports.map(|(name, number, protocol)| {
            let carried = match protocol.as_str() {
                "udp" => "UDP",
                _ => "TCP",
            };
            json!({ "name": name, "port": number, "protocol": carried })
        });
        let selector = json!({ GATEWAY_NAME: of.gateway });
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": { "ports": ports.collect::<Vec<_>>(), "selector": selector } });
        let pod = json!({ "metadata": { "labels": labels },
            "spec": { "serviceAccountName": of.name, "containers": [{ "name": "istio-proxy" }] } });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": { "template": pod } });
        [service, deployment]
    });
    let items: Vec<Value> = documents.collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    (!items.is_empty()).then(|| Documents::stored(list.to_string()))
}

/// What is left out, and what of the Gateway API's objects is not in force.
pub(super) fn notes(once: &Once) -> Vec<String> {
    let faulty = once.faulty.iter().map(|(object, faults)| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("{object} is not valid and left out: {}", faults.join("; "))
    });
    let statuses = once.gateways.statuses.iter().flat_map(|(object, said)| {
        let mut found = Vec::new();
        unmet(&said.status, &mut found);
        found.into_iter().map(move |why| format!("{object}: {why}"))
    });
    let problems = once.gateways.problems.iter();
    let problems = problems.map(|problem| format!("{}: {problem}", problem.on));
    let mut all: Vec<String> = faulty.chain(statuses).chain(problems).collect();
    all.dedup();
    all
}

/// Conditions of a status that say that something is not taken or not found, wherever it has them.
fn unmet(status: &Value, found: &mut Vec<String>) {
    match status {
        Value::Object(fields) => {
            let text = |field: &str| {
                fields
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let counts = ["Accepted", "ResolvedRefs"].contains(&text("type"));
            if counts && text("status") == "False" {
                let (kind, reason) = (text("type"), text("reason"));
                found.push(format!("not {kind}: {reason}: {}", text("message")));
            }
            fields.values().for_each(|value| unmet(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| unmet(value, found)),
        _ => {}
    }
}

/// What is wrong with a document, in the words of the webhook.
fn check(document: &Value) -> Vec<FieldFault> {
    let faults = lateen_galley::validate(document).into_iter();
    let in_words = |fault: lateen_galley::Fault| match fault.help.as_str() {
        "" => FieldFault::new(fault.field, fault.reason),
        help => FieldFault::new(fault.field, format!("{}; {help}", fault.reason)),
    };
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    let group = text("apiVersion").split('/').next().unwrap_or_default();
    let mut kinds = WATCHED_KINDS.iter();
    let kind = kinds.find(|kind| kind.kind == text("kind") && kind.group == group);
    let unread = kind.and_then(|kind| lateen_galley::unreadable(kind.id(), document));
    let unread = unread.map(|error| FieldFault::new("spec", error.to_string()));
    faults.map(in_words).chain(unread).collect()
}
