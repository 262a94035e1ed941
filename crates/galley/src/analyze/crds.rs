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

/// `v1.4.1` or `v1.5.0-rc.1`.
fn release(text: &str) -> Option<[u64; 3]> {
    let bare = text.strip_prefix('v')?;
    let bare = bare.split('-').next()?;
    let mut parts = bare.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}
