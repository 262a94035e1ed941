//! EnvoyFilter: patches, and the filters of Istio 1.0.

use lateen_api::{
    Object,
    networking::{
        ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, EnvoyFilterFilter,
        FilterListenerProtocol, FilterType, InsertIndex, Patch, PatchOperation,
    },
};

use super::common;
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<EnvoyFilter>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    let EnvoyFilter {
        workload_selector,
        target_refs,
        config_patches,
        priority: _,
        workload_labels,
        filters,
    } = spec;
    if let Some(selector) = workload_selector {
        let at = root.field("workloadSelector");
        common::selector(&selector.labels, &at.field("labels"), faults);
        if !target_refs.is_empty() {
            faults.add(
                &root.field("targetRefs"),
                "only one of targetRefs or workloadSelector can be set",
                "remove one",
            );
        }
    }
    let labels = root.field("workloadLabels");
    common::selector(workload_labels, &labels, faults);
    if workload_selector.is_some() && !workload_labels.is_empty() {
        faults.add(
            &labels,
            "is the old form of workloadSelector",
            "move the labels there",
        );
    }
    let list = root.field("configPatches");
    for (n, patch) in config_patches.iter().enumerate() {
        check_patch(patch, &list.index(n), faults);
    }
    let list = root.field("filters");
    for (n, filter) in filters.iter().enumerate() {
        check_filter(filter, &list.index(n), faults);
    }
}

fn check_patch(patch: &EnvoyConfigObjectPatch, at: &Path<'_>, faults: &mut Faults) {
    let apply_to = patch.apply_to;
    if apply_to == ApplyTo::Invalid {
        faults.add(
            &at.field("applyTo"),
            "Required value",
            "say what kind of object is patched, as in CLUSTER",
        );
    }
    let patch_at = at.field("patch");
    match &patch.patch {
        None => faults.add(&patch_at, "Required value", "say what is done"),
        Some(what) => check_operation(what, apply_to, &patch_at, faults),
    }
    if let Some(which) = &patch.r#match {
        check_match(which, apply_to, &at.field("match"), faults);
    }
}

fn check_operation(patch: &Patch, apply_to: ApplyTo, at: &Path<'_>, faults: &mut Faults) {
    let (operation, value) = (patch.operation, at.field("value"));
    if operation == PatchOperation::Invalid {
        faults.add(
            &at.field("operation"),
            "Required value",
            "say how, as in MERGE",
        );
    }
    let needs_value = !matches!(operation, PatchOperation::Remove | PatchOperation::Invalid);
    if needs_value && patch.value.is_null() {
        faults.add(
            &value,
            "Required value",
            format!("{operation} needs a value"),
        );
    } else if !patch.value.is_null() && !patch.value.is_object() {
        faults.add(
            &value,
            "is not an object",
            "write a message of Envoy's API, or a part of it",
        );
    }
    let inserts = matches!(
        operation,
        PatchOperation::InsertBefore | PatchOperation::InsertAfter | PatchOperation::InsertFirst
    );
    let ordered = matches!(
        apply_to,
        ApplyTo::ListenerFilter | ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::HttpRoute
    );
    if inserts && !ordered && apply_to != ApplyTo::Invalid {
        faults.add(
            &at.field("operation"),
            format!("{operation} has no meaning for {apply_to}"),
            "use it for filters and routes, or use ADD",
        );
    }
    let replaces = operation == PatchOperation::Replace;
    if replaces && matches!(apply_to, ApplyTo::VirtualHost | ApplyTo::Bootstrap) {
        faults.add(
            &at.field("operation"),
            format!("{operation} has no meaning for {apply_to}"),
            "use MERGE",
        );
    }
}

/// A match by what the patched objects do not have picks nothing.
fn check_match(
    which: &EnvoyConfigObjectMatch,
    apply_to: ApplyTo,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    if let Some(proxy) = &which.proxy
        && !proxy.proxy_version.is_empty()
    {
        let at = at.field("proxy");
        common::regex(&proxy.proxy_version, &at.field("proxyVersion"), faults);
    }
    let objects = [
        ("listener", which.listener.is_some()),
        ("routeConfiguration", which.route_configuration.is_some()),
        ("cluster", which.cluster.is_some()),
        ("waypoint", which.waypoint.is_some()),
    ];
    let set: Vec<&str> = objects.iter().filter(|o| o.1).map(|o| o.0).collect();
    if set.len() > 1 {
        let reason = format!("match cannot have {} together", set.join(" and "));
        faults.add(at, reason, "keep one");
    }
    let allowed: &[&str] = match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::ListenerFilter => &["listener"],
        ApplyTo::NetworkFilter | ApplyTo::HttpFilter => &["listener", "waypoint"],
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost => &["routeConfiguration"],
        ApplyTo::HttpRoute => &["routeConfiguration", "waypoint"],
        ApplyTo::Cluster => &["cluster"],
        ApplyTo::Bootstrap => &[],
        ApplyTo::ExtensionConfig | ApplyTo::Invalid => return,
    };
    for name in set.iter().filter(|name| !allowed.contains(name)) {
        let help = match allowed {
            [] => "remove it".to_owned(),
            names => format!("use {}", names.join(" or ")),
        };
        faults.add(
            &at.field(name),
            format!("{apply_to} cannot be matched by it"),
            help,
        );
    }
}

fn check_filter(filter: &EnvoyFilterFilter, at: &Path<'_>, faults: &mut Faults) {
    if filter.filter_name.is_empty() {
        faults.add(
            &at.field("filterName"),
            "Required value",
            "name the filter, as Envoy does",
        );
    }
    if filter.filter_type == FilterType::Invalid {
        faults.add(
            &at.field("filterType"),
            "Required value",
            "use HTTP or NETWORK",
        );
    }
    if !filter.filter_config.is_object() {
        faults.add(
            &at.field("filterConfig"),
            "Required value",
            "write the filter's configuration, or {}",
        );
    }
    if let Some(which) = &filter.listener_match {
        let http_filter = filter.filter_type == FilterType::Http;
        if http_filter && which.listener_protocol == FilterListenerProtocol::Tcp {
            faults.add(
                &at.field("listenerMatch").field("listenerProtocol"),
                "a TCP listener has no HTTP filters",
                "use HTTP, or filterType NETWORK",
            );
        }
        let list = at.field("listenerMatch");
        let list = list.field("address");
        for (n, address) in which.address.iter().enumerate() {
            common::subnet(address, &list.index(n), faults);
        }
    }
    if let Some(position) = &filter.insert_position {
        let relative = matches!(position.index, InsertIndex::Before | InsertIndex::After);
        if relative && position.relative_to.is_empty() {
            faults.add(
                &at.field("insertPosition").field("relativeTo"),
                "Required value",
                format!("{} needs the name of a filter", position.index),
            );
        }
    }
}
