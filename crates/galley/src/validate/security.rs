//! PeerAuthentication and AuthorizationPolicy.

use lateen_api::{
    Object,
    security::{
        AuthorizationAction, AuthorizationPolicy, LabelSelector, PeerAuthentication, Source,
    },
};
use serde_json::Value;

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check_peer(
    object: &Object<PeerAuthentication>,
    document: &Value,
    faults: &mut Faults,
) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    selector(spec.selector.as_ref(), &root.field("selector"), faults);
    let at = root.field("portLevelMtls");
    // The typed form no longer tells an empty map from an absent one.
    let written = document["spec"]
        .get("portLevelMtls")
        .is_some_and(|value| !value.is_null());
    if written && spec.port_level_mtls.is_empty() {
        faults.add(
            &at,
            "in body should have at least 1 properties",
            "add a port, or remove it",
        );
    }
    let selected = spec
        .selector
        .as_ref()
        .is_some_and(|s| !s.match_labels.is_empty());
    if !spec.port_level_mtls.is_empty() && !selected {
        faults.add(
            &at,
            "portLevelMtls requires selector",
            "add a selector with matchLabels",
        );
    }
    for port in spec.port_level_mtls.keys() {
        match port.parse::<u32>() {
            Ok(number) => common::port(number, &at.key(port), faults),
            Err(_) => faults.add(
                &at.key(port),
                format!("type conversion error from {port:?} to a port number"),
                "write the port's number",
            ),
        }
    }
}

fn selector(value: Option<&LabelSelector>, at: &Path<'_>, faults: &mut Faults) {
    if let Some(value) = value {
        common::selector(&value.match_labels, &at.field("matchLabels"), faults);
    }
}

pub(super) fn check_authorization(object: &Object<AuthorizationPolicy>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    selector(spec.selector.as_ref(), &root.field("selector"), faults);
    let attached = spec.target_ref.is_some() || !spec.target_refs.is_empty();
    if attached && spec.selector.is_some() {
        faults.add(
            &root,
            "selector and targetRefs cannot be set together",
            "keep one",
        );
    }
    match (spec.action, &spec.provider) {
        (AuthorizationAction::Custom, None) => {
            faults.add(
                &root.field("provider"),
                "Required value",
                "CUSTOM needs a provider's name",
            );
        }
        (AuthorizationAction::Custom, Some(_)) | (_, None) => {}
        (action, Some(_)) => faults.add(
            &root.field("provider"),
            format!("cannot be set with action {action}"),
            "use action CUSTOM, or remove it",
        ),
    }
    if spec.action == AuthorizationAction::Deny && spec.rules.is_empty() {
        faults.add(
            &root.field("rules"),
            "a DENY policy without rules has no effect",
            "add a rule; {} denies all",
        );
    }
    let rules = root.field("rules");
    for (n, rule) in spec.rules.iter().enumerate() {
        let at = rules.index(n);
        let (from, to, when) = (at.field("from"), at.field("to"), at.field("when"));
        for (n, from_rule) in rule.from.iter().enumerate() {
            let at = from.index(n);
            match &from_rule.source {
                None => faults.add(&at.field("source"), "Required value", "say who"),
                Some(source) => check_source(source, &at.field("source"), faults),
            }
        }
        for (n, to_rule) in rule.to.iter().enumerate() {
            if to_rule.operation.is_none() {
                faults.add(
                    &to.index(n).field("operation"),
                    "Required value",
                    "say what",
                );
            }
        }
        for (n, condition) in rule.when.iter().enumerate() {
            let at = when.index(n);
            if condition.key.is_empty() {
                faults.add(&at.field("key"), "Required value", "name the attribute");
            }
            if condition.values.is_empty() && condition.not_values.is_empty() {
                faults.add(
                    &at,
                    "at least one of values and notValues must be set",
                    "add a value",
                );
            }
        }
    }
}

fn check_source(source: &Source, at: &Path<'_>, faults: &mut Faults) {
    if *source == Source::default() {
        faults.add(at, "source is empty", "say who");
    }
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [
        &source.namespaces,
        &source.not_namespaces,
        &source.principals,
        &source.not_principals,
    ];
    if accounts && others.iter().any(|list| !list.is_empty()) {
        faults.add(
            at,
            "Cannot set serviceAccounts with namespaces or principals",
            "split into two sources",
        );
    }
    for (name, list) in [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ] {
        let at = at.field(name);
        for (n, block) in list.iter().enumerate() {
            common::subnet(block, &at.index(n), faults);
        }
    }
}
