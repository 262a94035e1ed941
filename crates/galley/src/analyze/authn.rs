//! RequestAuthentications: keys that the control plane fetches.

use super::{
    Code, Findings,
    index::Index,
    object::{Obj, list, text},
};

/// Keeps the control plane from fetching keys inside of its network.
const BLOCKED: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";

/// A control plane that fetches keys from wherever users say.
pub(super) fn jwks<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let fetches = |object: &&Obj<'_>| {
        let mut rules = list(&object.spec()["jwtRules"]).iter();
        rules.any(|rule| !text(&rule["jwksUri"]).is_empty())
    };
    let users: Vec<_> = index
        .of("RequestAuthentication")
        .iter()
        .filter(fetches)
        .collect();
    if users.is_empty() {
        return;
    }
    for object in index.of("Deployment") {
        let of_plane = object.label("app") == Some("istiod");
        if !of_plane || object.namespace != index.settings.root_namespace {
            continue;
        }
        let containers = list(&object.spec()["template"]["spec"]["containers"]).iter();
        let mut variables = containers.flat_map(|container| list(&container["env"]));
        if variables.any(|of| of["name"] == BLOCKED && !text(&of["value"]).is_empty()) {
            continue;
        }
        let names: Vec<_> = users.iter().map(|object| object.key()).collect();
        let what = format!(
            "{} RequestAuthentications have the control plane fetch keys from a jwksUri ({}), and {BLOCKED} \
             does not say where it must not: who may write one can have it ask addresses inside of its \
             network",
            users.len(),
            names.join(", ")
        );
        findings.add(
            object,
            Code::JwksUriFetchUnrestricted,
            "spec.template.spec.containers",
            what,
        );
    }
}
