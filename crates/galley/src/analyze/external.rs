//! Webhooks of a control plane that is outside of the cluster.

use std::net::IpAddr;

use super::{
    Code, Findings,
    index::Index,
    object::{list, text},
};

/// Configurations of webhooks that are the mesh's.
const CONFIGURATIONS: [(&str, &[&str]); 2] = [
    (
        "ValidatingWebhookConfiguration",
        &["istio-validator", "istiod-default-validator"],
    ),
    (
        "MutatingWebhookConfiguration",
        &["istio-sidecar-injector", "istio-revision-tag"],
    ),
];

/// Addresses that the API server is to call.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (kind, names) in CONFIGURATIONS {
        for object in index.of(kind) {
            if !names.iter().any(|name| object.name.starts_with(name)) {
                continue;
            }
            for (n, hook) in list(&object.written.value["webhooks"]).iter().enumerate() {
                let client = &hook["clientConfig"];
                if !client["service"].is_null() {
                    continue;
                }
                let (name, url) = (text(&hook["name"]), text(&client["url"]));
                let at = format!("webhooks[{n}].clientConfig.url");
                let host = host(url);
                if host.is_empty() {
                    let what = format!(
                        "webhook {name:?} names neither a service nor the address of a control plane \
                         (url is {url:?}), so the API server cannot call it"
                    );
                    findings.add(object, Code::InvalidExternalControlPlaneConfig, &at, what);
                } else if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
                    let what = format!(
                        "webhook {name:?} calls the control plane by its address {host}; a host name \
                         would stay when the address changes"
                    );
                    findings.add(
                        object,
                        Code::ExternalControlPlaneAddressIsNotAHostname,
                        &at,
                        what,
                    );
                }
            }
        }
    }
}

/// The host of `https://host:port/path`.
fn host(url: &str) -> &str {
    let Some(rest) = url.strip_prefix("https://") else {
        return "";
    };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}
