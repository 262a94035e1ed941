//! WorkloadGroup: the template of its entries and their health check.

use lateen_api::{
    Object,
    networking::{
        ExecHealthCheck, GrpcHealthCheck, HttpHealthCheck, ReadinessProbe, TcpHealthCheck,
        WorkloadGroup,
    },
};

use super::{common, service_entry};
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<WorkloadGroup>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    if let Some(metadata) = &spec.metadata {
        let at = root.field("metadata");
        common::labels(&metadata.labels, &at.field("labels"), faults);
    }
    let template = root.field("template");
    match &spec.template {
        None => faults.add(&template, "Required value", "say what the entries share"),
        // The address comes from the workload when it registers itself.
        Some(entry) => service_entry::check_entry_parts(entry, &template, faults),
    }
    if let Some(probe) = &spec.probe {
        check_probe(probe, &root.field("probe"), faults);
    }
}

fn check_probe(probe: &ReadinessProbe, at: &Path<'_>, faults: &mut Faults) {
    let ReadinessProbe {
        initial_delay_seconds,
        timeout_seconds,
        period_seconds,
        success_threshold,
        failure_threshold,
        http_get,
        tcp_socket,
        exec,
        grpc,
    } = probe;
    for (name, value) in [
        ("initialDelaySeconds", initial_delay_seconds),
        ("timeoutSeconds", timeout_seconds),
        ("periodSeconds", period_seconds),
        ("successThreshold", success_threshold),
        ("failureThreshold", failure_threshold),
    ] {
        if *value < 0 {
            faults.add(
                &at.field(name),
                "must not be negative",
                "write zero or more",
            );
        }
    }
    let ways = [
        http_get.is_some(),
        tcp_socket.is_some(),
        exec.is_some(),
        grpc.is_some(),
    ];
    if ways.iter().filter(|set| **set).count() != 1 {
        faults.add(
            at,
            "a probe checks in exactly one way",
            "set one of httpGet, tcpSocket, exec and grpc",
        );
    }
    if let Some(get) = http_get {
        check_get(get, &at.field("httpGet"), faults);
    }
    if let Some(TcpHealthCheck { port, .. }) = tcp_socket {
        common::port(*port, &at.field("tcpSocket").field("port"), faults);
    }
    if let Some(GrpcHealthCheck { port, .. }) = grpc {
        common::port(*port, &at.field("grpc").field("port"), faults);
    }
    if let Some(ExecHealthCheck { command }) = exec
        && command.is_empty()
    {
        faults.add(
            &at.field("exec").field("command"),
            "Required value",
            "write the command",
        );
    }
}

fn check_get(get: &HttpHealthCheck, at: &Path<'_>, faults: &mut Faults) {
    common::port(get.port, &at.field("port"), faults);
    if !get.path.is_empty() && !get.path.starts_with('/') {
        faults.add(
            &at.field("path"),
            format!("{:?} is not a path", get.path),
            "begin it with /",
        );
    }
    if !matches!(
        get.scheme.to_ascii_uppercase().as_str(),
        "" | "HTTP" | "HTTPS"
    ) {
        faults.add(
            &at.field("scheme"),
            format!("Unsupported value: {:?}", get.scheme),
            "use HTTP or HTTPS",
        );
    }
    let list = at.field("httpHeaders");
    for (n, header) in get.http_headers.iter().enumerate() {
        common::header_name(&header.name, &list.index(n).field("name"), faults);
    }
}
