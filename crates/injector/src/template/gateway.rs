//! A pod whose only container is the proxy: a gateway.

use serde_json::json;

use super::{Draft, PROXY, add_volumes, container, volumes};
use crate::{
    prometheus,
    values::{list, object},
};

pub(super) fn fill(draft: &mut Draft<'_>) {
    draft.prepare();
    let Draft {
        pod,
        settings,
        overrides,
        added,
        ..
    } = draft;
    let mut proxy = json!({
        "name": PROXY,
        "image": container::image(pod, settings),
        "args": container::args("router", pod, settings),
        "env": container::env(pod, settings),
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "readinessProbe": container::readiness(pod, settings),
        "securityContext": {
            "runAsGroup": lateen_core::ports::PROXY_UID,
            "runAsUser": lateen_core::ports::PROXY_UID,
        },
        "volumeMounts": volumes::mounts(false),
    });
    container::common(&mut proxy, settings);
    if let Some(hooks) = &settings.params.config.proxy().lifecycle {
        proxy["lifecycle"] = hooks.clone();
    }
    if let Some(value) = prometheus::merge(pod, settings) {
        list(&mut proxy, "env")
            .push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value}));
    }
    overrides.apply(&mut proxy, PROXY);
    list(&mut pod["spec"], "containers").push(proxy);
    // Ports below 1024 without privileges.
    let security = object(&mut pod["spec"], "securityContext");
    security
        .entry("sysctls")
        .or_insert_with(|| json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]));
    added.container(PROXY);
    add_volumes(pod, volumes::gateway(settings), added);
    draft.is_known = true;
}
