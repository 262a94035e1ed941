//! Annotations that may yet change or go: those whose stage is alpha in Istio's list.

use lateen_api::annotations as named;

use super::{
    Code, Findings,
    annotations::is_known,
    index::Index,
    object::{entries, list},
};

/// Of a later stage.
const SETTLED: [&str; 2] = [named::PROXY_CONFIG, named::INJECT];
/// Written by the mesh itself.
const OWN: [&str; 3] = [
    named::STATUS,
    named::REVISION,
    "gateway.istio.io/controller-version",
];
/// Written into pods whose traffic is captured by the node's plugin.
const OF_PLUGIN: [&str; 4] = [
    named::INTERCEPTION_MODE,
    named::INCLUDE_INBOUND_PORTS,
    named::EXCLUDE_INBOUND_PORTS,
    named::INCLUDE_OUTBOUND_IP_RANGES,
];

/// Objects that depend on such.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for kind in ["Namespace", "Service", "Pod", "Deployment"] {
        for object in index.of(kind) {
            let inits = list(&object.spec()["initContainers"]);
            let is_init = |container: &serde_json::Value| container["name"] == "istio-init";
            let by_plugin = kind == "Pod" && !inits.iter().any(is_init);
            let annotations = &object.written.value["metadata"]["annotations"];
            for (name, _) in entries(annotations) {
                let is_left_out = SETTLED.contains(&name)
                    || OWN.contains(&name)
                    || (by_plugin && OF_PLUGIN.contains(&name));
                if is_known(name) && !is_left_out {
                    let field = format!("metadata.annotations[{name}]");
                    let what = format!(
                        "Annotation {name:?} is of the stage alpha: later versions may read it otherwise"
                    );
                    findings.add(object, Code::AlphaAnnotation, &field, what);
                }
            }
        }
    }
}
