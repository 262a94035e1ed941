//! Services that several clusters have under one name: to the mesh they are one, so they must be alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Code, Findings,
    index::Index,
    object::{Obj, list, text},
};

/// Services that other clusters have otherwise.
pub(super) fn services<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let settings = index.settings;
    if settings.others.is_empty() {
        return;
    }
    let mut elsewhere: BTreeMap<(&str, &str), Vec<(&str, Obj<'_>)>> = BTreeMap::new();
    for (cluster, objects) in &settings.others {
        let services = objects.iter().filter_map(Obj::new);
        for service in services.filter(|of| of.id() == "Service") {
            let all = elsewhere
                .entry((service.namespace, service.name))
                .or_default();
            all.push((cluster, service));
        }
    }
    for own in index.of("Service") {
        let Some(others) = elsewhere.get(&(own.namespace, own.name)) else {
            continue;
        };
        let mut clusters = Vec::new();
        let mut reasons = BTreeSet::new();
        for (cluster, other) in others {
            let found = differences(own.spec(), other.spec());
            if !found.is_empty() {
                clusters.push(*cluster);
                reasons.extend(found);
            }
        }
        if !clusters.is_empty() {
            let reasons: Vec<&str> = reasons.into_iter().collect();
            let what = format!(
                "Service {} of namespace {} is otherwise in {} than in {}: {}; clients get what one of \
                 them says, so make them alike",
                own.name,
                own.namespace,
                clusters.join(", "),
                settings.cluster,
                reasons.join("; ")
            );
            findings.add(own, Code::MultiClusterInconsistentService, "spec", what);
        }
    }
}

fn differences(own: &Value, other: &Value) -> Vec<&'static str> {
    let headless = |spec: &Value| spec["clusterIP"] == "None";
    let type_of = |spec: &Value| match text(&spec["type"]) {
        "" => "ClusterIP".to_owned(),
        kind => kind.to_owned(),
    };
    let mut found = Vec::new();
    if headless(own) != headless(other) {
        found.push("it has an address in some and none in others");
    }
    if type_of(own) != type_of(other) {
        found.push("its type differs");
    }
    if ports(own) != ports(other) {
        found.push("its ports differ");
    }
    found
}

/// The ports by name, without what the cluster gave them by itself.
fn ports(spec: &Value) -> BTreeMap<&str, Value> {
    let each = list(&spec["ports"]).iter().map(|port| {
        let or = |value: &Value, default: Value| match value {
            Value::Null => default,
            value => value.clone(),
        };
        let said = json!({
            "port": port["port"],
            "targetPort": or(&port["targetPort"], port["port"].clone()),
            "protocol": or(&port["protocol"], "TCP".into()),
            "appProtocol": port["appProtocol"],
        });
        (text(&port["name"]), said)
    });
    each.collect()
}
