//! A pod whose only container is the proxy: a gateway.

use serde_json::{Value, json};

use super::{
    Added, Overrides, PROXY, Settings, add_volumes, annotate, container, mark, name_application,
    prepare, volumes,
};
use crate::{Owner, Params, prometheus, values::list};

/// Makes a gateway of a pod (or a pod template) whose container `istio-proxy` is to be filled in.
pub fn inject_gateway(pod: &mut Value, owner: &Owner, params: &Params) {
    let settings = Settings::of(pod, owner, params);
    let mut overrides = Overrides::take(pod, "containers");
    prepare(pod, &settings);
    let mut proxy = json!({
        "name": PROXY,
        "image": container::image(pod, &settings),
        "args": container::args("router", pod, &settings),
        "env": container::env(pod, &settings),
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "readinessProbe": container::readiness(pod),
        "securityContext": {
            "runAsGroup": lateen_core::ports::PROXY_UID,
            "runAsUser": lateen_core::ports::PROXY_UID,
        },
        "volumeMounts": volumes::mounts(false),
    });
    if let Some(value) = prometheus::merge(pod, params) {
        list(&mut proxy, "env")
            .push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value}));
    }
    overrides.apply(&mut proxy, PROXY);
    list(&mut pod["spec"], "containers").push(proxy);
    // Ports below 1024 without privileges.
    let security = crate::values::object(&mut pod["spec"], "securityContext");
    security
        .entry("sysctls")
        .or_insert_with(|| json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]));
    let added = Added {
        containers: vec![PROXY.into()],
        volumes: add_volumes(pod, volumes::gateway()),
        ..Added::default()
    };
    annotate(pod, &settings, &overrides, &added);
    name_application(pod);
    mark(pod, &settings);
}
