//! Whose configuration an object is, where control planes of several revisions share a cluster.
//!
//! The rule is Istio's: an object with label `istio.io/rev` is read by the control plane of that very
//! revision, one without by all. Tags do not count, as they say which control plane runs workloads:
//! where a tag moves on, configuration that was tried out by one revision does not move with it.

use std::collections::BTreeMap;

use lateen_api::{Kind, kinds::gateway_api, labels};

/// Kinds whose label says which control plane runs what they stand for, by tags as well, and those
/// that Kubernetes has for others than the mesh.
const OF_ALL: [Kind; 4] = [
    gateway_api::KUBERNETES_GATEWAY,
    gateway_api::GATEWAY_CLASS,
    gateway_api::INGRESS,
    gateway_api::INGRESS_CLASS,
];

/// Whether the control plane of revision `own` reads an object; one without a revision reads all.
pub(crate) fn reads(own: &str, kind: &Kind, of: &BTreeMap<String, String>) -> bool {
    let named = of.get(labels::REVISION);
    own.is_empty()
        || named.is_none_or(|named| named == own)
        || OF_ALL.iter().any(|all| all.id() == kind.id())
}

#[cfg(test)]
mod tests {
    use lateen_api::kinds;

    use super::*;

    #[test]
    fn a_label_keeps_an_object_from_other_revisions() {
        let rule = &kinds::VIRTUAL_SERVICE;
        for (own, kind, label, expect) in [
            ("default", rule, None, true),
            ("default", rule, Some("default"), true),
            ("default", rule, Some("canary"), false),
            ("canary", rule, Some("canary"), true),
            ("canary", rule, None, true),
            ("canary", rule, Some("prod"), false),
            ("canary", rule, Some(""), false),
            ("", rule, Some("canary"), true),
            ("default", &gateway_api::HTTP_ROUTE, Some("canary"), false),
            (
                "default",
                &gateway_api::KUBERNETES_GATEWAY,
                Some("canary"),
                true,
            ),
            ("default", &gateway_api::INGRESS, Some("canary"), true),
        ] {
            let of = label.map(|label| (labels::REVISION.to_owned(), label.to_owned()));
            let of = of.into_iter().collect();
            assert_eq!(
                reads(own, kind, &of),
                expect,
                "{own} {} {label:?}",
                kind.id()
            );
        }
    }
}
