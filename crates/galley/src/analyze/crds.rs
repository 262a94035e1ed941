//! Definitions of the Gateway API, which must be of the versions that are read.

use super::{
    Code, Findings,
    index::Index,
    object::{list, text},
};

/// On a definition: the release that it is of.
const RELEASE: &str = "gateway.networking.k8s.io/bundle-version";

/// Definitions and the first release whose version of them is read.
const FIRST: [(&str, [u64; 3]); 9] = [
    ("gatewayclasses", [1, 0, 0]),
    ("gateways", [1, 0, 0]),
    ("httproutes", [1, 0, 0]),
    ("referencegrants", [0, 6, 0]),
    ("grpcroutes", [1, 1, 0]),
    ("backendtlspolicies", [1, 4, 0]),
    ("tlsroutes", [1, 5, 0]),
    ("listenersets", [1, 5, 0]),
    ("tcproutes", [1, 6, 0]),
];

/// Definitions that are too old.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("CustomResourceDefinition") {
        if object.spec()["group"] != lateen_api::gateway_api::GROUP {
            continue;
        }
        let plural = text(&object.spec()["names"]["plural"]);
        let Some((_, first)) = FIRST.iter().find(|(name, _)| *name == plural) else {
            continue;
        };
        let said = object.annotation(RELEASE).unwrap_or_default();
        let serves_v1 = list(&object.spec()["versions"])
            .iter()
            .any(|of| of["name"] == "v1" && of["served"] == true);
        match release(said) {
            Some(release) if release < *first && !serves_v1 => {
                let [a, b, c] = first;
                let what = format!(
                    "definition {:?} is of release {said}, in which the version that is read is not \
                     there; its objects have no effect: apply release v{a}.{b}.{c} or later",
                    object.name
                );
                findings.add(
                    object,
                    Code::GatewayAPICRDVersionBelowMinimum,
                    "metadata.annotations",
                    what,
                );
            }
            _ => {}
        }
    }
}

/// Kinds without which there is no Gateway API.
const CORE: [&str; 4] = ["GatewayClass", "Gateway", "HTTPRoute", "ReferenceGrant"];
/// The versions of them that are read. A ReferenceGrant is the same in both.
const READ: [&str; 2] = ["v1", "v1beta1"];

/// Definitions of these that serve no version that is read.
pub(super) fn served<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("CustomResourceDefinition") {
        let kind = text(&object.spec()["names"]["kind"]);
        let is_core = CORE.contains(&kind);
        if !is_core || object.spec()["group"] != lateen_api::gateway_api::GROUP {
            continue;
        }
        let all = list(&object.spec()["versions"]).iter();
        let served = all.filter(|of| of["served"] == true);
        let served: Vec<&str> = served.map(|of| text(&of["name"])).collect();
        let read = match kind {
            "ReferenceGrant" => &READ[..],
            _ => &READ[..1],
        };
        if !served.iter().any(|version| read.contains(version)) {
            let has = match served.is_empty() {
                true => "none".to_owned(),
                false => served.join(", "),
            };
            let what = format!(
                "definition {:?} serves {has}, and v1 is the least that is read: apply a release of the \
                 Gateway API that serves it",
                object.name
            );
            findings.add(
                object,
                Code::UnsupportedGatewayAPIVersion,
                "spec.versions",
                what,
            );
        }
    }
}

/// `v1.4.1` or `v1.5.0-rc.1`.
fn release(text: &str) -> Option<[u64; 3]> {
    let bare = text.strip_prefix('v')?;
    let bare = bare.split('-').next()?;
    let mut parts = bare.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}
