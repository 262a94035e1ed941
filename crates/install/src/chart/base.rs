//! The chart of what every cluster of a mesh has: definitions and the reader's account.

use serde_json::json;

use super::{
    Chart, Common, Contents, assemble, folded,
    node::{Entry, Node},
    values,
};
use crate::InstallError;

pub(super) fn chart() -> Result<Chart, InstallError> {
    let mut common = Common::new();
    let spec = json!({
        "profile": "minimal",
        "namespace": common.namespace,
        "components": {"pilot": {"enabled": false}},
        "values": {"global": {
            "imagePullSecrets": common.slots.each("$.Values.global.imagePullSecrets"),
        }},
    });
    let finish = |object: &mut Entry| {
        common.sign(object);
        if object.key.starts_with("customresourcedefinition") {
            definition(object);
        }
    };
    let objects = folded(&spec, &[], &finish)?;
    let of_profile = values::of_profile(&["global"]);
    let settings = json!({
        "global": {"imagePullSecrets": [], "istioNamespace": of_profile["global"]["istioNamespace"]},
        "base": {"enableIstioConfigCRDs": true, "excludedCRDs": []},
    });
    let contents = Contents {
        name: "base",
        description: "What every cluster of a Lateen service mesh has: definitions of its resources, \
                      and the account that reads them",
        values: settings,
        known: json!({"properties": {}}),
        ignored: &[
            "base",
            "defaultRevision",
            "experimental",
            "global",
            "profile",
        ],
        notes: NOTES,
        objects,
    };
    Ok(assemble(&contents, &common.slots))
}

const NOTES: &str = "\
The definitions of the mesh's resources are there. They stay when this release is uninstalled, as
everything of their kinds would go with them:

  kubectl get crd -l app=istio-pilot
";

/// Definitions stay when the release goes, and are left out by name.
fn definition(object: &mut Entry) {
    let name = object.node.text(&["metadata", "name"]).unwrap_or_default();
    let base = "$.Values.base";
    object.conditions = vec![
        format!("{base}.enableIstioConfigCRDs"),
        format!("(not (has \"{name}\" (default (list) {base}.excludedCRDs)))"),
    ];
    if let Some(Node::Map(meta)) = object.node.at(&["metadata"]) {
        meta.push(Entry {
            conditions: Vec::new(),
            key: "annotations".to_owned(),
            node: json!({"helm.sh/resource-policy": "keep"}).into(),
        });
    }
}
