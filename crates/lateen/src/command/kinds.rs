//! Kinds of the mesh by any name that users have for them.

use kube::{Api, Client, api::DynamicObject};
use lateen_api::kinds::{self, Kind};
use lateen_registry::resource;

/// The kind that a user means: `virtualservice`, `virtual-services`, `VirtualService`, `vs`.
pub(super) fn find(text: &str) -> Option<&'static Kind> {
    let plain = text.replace('-', "").to_ascii_lowercase();
    let is = |kind: &&Kind| {
        kind.plural == plain || kind.singular == plain || kind.short_names.contains(&&*plain)
    };
    const ALL: &[Kind] = &kinds::ALL;
    ALL.iter().find(is)
}

/// The words of a kind with dashes between them, as `istioctl` 1.0 had them: `virtual-service`.
pub(super) fn dashed(kind: &Kind) -> String {
    let mut text = String::new();
    for c in kind.kind.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Objects of a kind in a namespace.
pub(super) fn api(client: &Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_many_names() {
        for (text, expect) in [
            ("virtualservice", Some("VirtualService")),
            ("virtual-services", Some("VirtualService")),
            ("VirtualService", Some("VirtualService")),
            ("vs", Some("VirtualService")),
            ("dr", Some("DestinationRule")),
            ("pod", None),
        ] {
            assert_eq!(find(text).map(|kind| kind.kind), expect, "{text}");
        }
    }

    #[test]
    fn words_have_dashes_between_them() {
        assert_eq!(dashed(&kinds::VIRTUAL_SERVICE), "virtual-service");
        assert_eq!(dashed(&kinds::GATEWAY), "gateway");
    }
}
