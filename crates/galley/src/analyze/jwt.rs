//! Routes by claims of tokens, which only gateways that verify tokens know.

use lateen_api::networking::gateway_key;

use super::{
    Code, Findings,
    index::{Index, selector},
    object::{entries, list, selects, texts},
};

/// What header matches by claims begin with.
const CLAIMS: &str = "@request.auth.claims";

/// The gateways of such a VirtualService must have a RequestAuthentication.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for object in index.of("VirtualService") {
        let Some((key, field)) = claim(object.spec()) else {
            continue;
        };
        for name in texts(&object.spec()["gateways"]) {
            let full = gateway_key(name, object.namespace);
            let (namespace, bare) = full.split_once('/').unwrap_or(("", &full));
            let Some(gateway) = index.find("Gateway", namespace, bare) else {
                continue;
            };
            let Some(selector) = selector(&gateway.spec()["selector"]) else {
                continue;
            };
            let pods = index.select(None, selector);
            let unverified = pods
                .iter()
                .find(|(_, pod)| !is_verified(index, pod.object.namespace, pod.labels()));
            if let Some((_, pod)) = unverified {
                let what = format!(
                    "the rule by {key:?} is for Gateway {name:?}, where no RequestAuthentication is for \
                     {} {:?}: without one no claim is known, and the rule never holds",
                    pod.object.kind.to_ascii_lowercase(),
                    pod.object.key(),
                );
                findings.add(
                    object,
                    Code::JwtClaimBasedRoutingWithoutRequestAuthN,
                    &field,
                    what,
                );
            }
        }
    }
}

/// The first header that asks for a claim.
fn claim(spec: &serde_json::Value) -> Option<(&str, String)> {
    for (n, rule) in list(&spec["http"]).iter().enumerate() {
        for (m, matched) in list(&rule["match"]).iter().enumerate() {
            for headers in ["headers", "withoutHeaders"] {
                let mut names = entries(&matched[headers]).map(|(name, _)| name);
                let asks = |name: &&str| name.to_ascii_lowercase().starts_with(CLAIMS);
                if let Some(name) = names.find(asks) {
                    return Some((name, format!("spec.http[{n}].match[{m}].{headers}")));
                }
            }
        }
    }
    None
}

fn is_verified(index: &Index<'_>, namespace: &str, labels: &serde_json::Value) -> bool {
    let policies = index.of("RequestAuthentication").iter();
    let root = &index.settings.root_namespace;
    let mut near = policies.filter(|of| of.namespace == namespace || of.namespace == root);
    near.any(
        |policy| match policy.spec()["selector"]["matchLabels"].as_object() {
            Some(selector) => selects(selector, labels),
            None => true,
        },
    )
}
