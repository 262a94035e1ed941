//! Sidecar: its listeners and the hosts that they know.

use std::net::{IpAddr, SocketAddr};

use lateen_api::{
    Object,
    networking::{
        CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficMode,
        OutboundTrafficPolicy, Port, ServerTlsMode, ServerTlsSettings, Sidecar,
    },
};
use lateen_core::Protocol;

use super::{common, destination_rule};
use crate::fault::{Faults, Path};

pub(super) fn check(object: &Object<Sidecar>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    let Sidecar {
        workload_selector,
        ingress,
        egress,
        inbound_connection_pool,
        outbound_traffic_policy,
    } = spec;
    let empty = ingress.is_empty()
        && egress.is_empty()
        && inbound_connection_pool.is_none()
        && outbound_traffic_policy.is_none();
    if empty {
        faults.add(
            &root,
            "the Sidecar says nothing",
            "set ingress, egress, inboundConnectionPool or outboundTrafficPolicy",
        );
    }
    if let Some(selector) = workload_selector {
        let at = root.field("workloadSelector");
        common::selector(&selector.labels, &at.field("labels"), faults);
    }
    check_ingress(ingress, &root.field("ingress"), faults);
    check_egress(egress, &root.field("egress"), faults);
    if let Some(pool) = inbound_connection_pool {
        destination_rule::check_pool(pool, &root.field("inboundConnectionPool"), faults);
    }
    if let Some(policy) = outbound_traffic_policy {
        check_outbound(policy, &root.field("outboundTrafficPolicy"), faults);
    }
}

fn check_ingress(listeners: &[IstioIngressListener], list: &Path<'_>, faults: &mut Faults) {
    for (n, listener) in listeners.iter().enumerate() {
        let at = list.index(n);
        let port_at = at.field("port");
        match &listener.port {
            None => faults.add(&port_at, "Required value", "name the port to listen on"),
            Some(port) => check_port(port, &port_at, faults),
        }
        let number = |listener: &IstioIngressListener| listener.port.as_ref().map(|p| p.number);
        let held = listeners[..n].iter().find(|other| {
            number(other).is_some()
                && number(other) == number(listener)
                && other.bind == listener.bind
        });
        if let Some(number) = held.and_then(number) {
            taken(number, &port_at, faults);
        }
        if listener.bind.starts_with("unix://") {
            faults.add(
                &at.field("bind"),
                "what comes from the network comes to no socket in the file system",
                "write an IP address, or leave it out",
            );
        }
        check_bind(&listener.bind, listener.capture_mode, &at, faults);
        check_default_endpoint(
            &listener.default_endpoint,
            &at.field("defaultEndpoint"),
            faults,
        );
        if let Some(tls) = &listener.tls {
            check_tls(tls, &at.field("tls"), faults);
        }
        if let Some(pool) = &listener.connection_pool {
            destination_rule::check_pool(pool, &at.field("connectionPool"), faults);
        }
    }
}

fn taken(number: u32, at: &Path<'_>, faults: &mut Faults) {
    faults.add(
        at,
        format!("port {number} is in use by another listener"),
        "use another port, or another bind",
    );
}

fn check_port(port: &Port, at: &Path<'_>, faults: &mut Faults) {
    common::port(port.number, &at.field("number"), faults);
    check_protocol(port, at, faults);
}

fn check_protocol(port: &Port, at: &Path<'_>, faults: &mut Faults) {
    if port.protocol.is_empty() {
        faults.add(
            &at.field("protocol"),
            "Required value",
            "say what the port carries",
        );
    } else if Protocol::parse(&port.protocol).is_none() {
        faults.add(
            &at.field("protocol"),
            format!("Unsupported value: {:?}", port.protocol),
            "use HTTP, HTTPS, HTTP2, GRPC, TLS, TCP or MONGO",
        );
    }
}

/// `at` is the listener's place.
fn check_bind(bind: &str, capture: CaptureMode, at: &Path<'_>, faults: &mut Faults) {
    let at = at.field("bind");
    if let Some(path) = bind.strip_prefix("unix://") {
        if capture == CaptureMode::Iptables {
            faults.add(
                &at,
                "traffic cannot be redirected to a socket in the file system",
                "use captureMode NONE",
            );
        }
        common::socket_path(path, &at, faults);
    } else if !bind.is_empty() && bind.parse::<IpAddr>().is_err() {
        faults.add(
            &at,
            format!("{bind:?} is not an address"),
            "write an IP address, or unix:///path",
        );
    }
}

/// The application is in the same pod: no other address can be meant.
fn check_default_endpoint(endpoint: &str, at: &Path<'_>, faults: &mut Faults) {
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return common::socket_path(path, at, faults);
    }
    let address = endpoint.parse::<SocketAddr>().ok();
    match address.map(|address| (address.ip(), address.port())) {
        Some((ip, 1..)) if ip.is_loopback() || ip.is_unspecified() => {}
        Some((ip, 1..)) => faults.add(
            at,
            format!("{ip} is not an address of the application"),
            "write 127.0.0.1, [::1], 0.0.0.0 or [::] with a port, or unix:///path",
        ),
        _ => faults.add(
            at,
            format!("{endpoint:?} is not an address with a port"),
            "write 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///path",
        ),
    }
}

/// A sidecar reads certificates from files: it has no right to Secrets.
fn check_tls(tls: &ServerTlsSettings, at: &Path<'_>, faults: &mut Faults) {
    let mode = tls.mode.unwrap_or(ServerTlsMode::Passthrough);
    let terminates = matches!(
        mode,
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
    );
    if !terminates {
        faults.add(
            &at.field("mode"),
            format!("{mode} is not for a sidecar"),
            "use SIMPLE, MUTUAL or OPTIONAL_MUTUAL",
        );
        return;
    }
    if tls.https_redirect {
        faults.add(
            &at.field("httpsRedirect"),
            "a sidecar does not redirect",
            "remove it",
        );
    }
    if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
        faults.add(
            &at.field("credentialName"),
            "a sidecar has no access to Secrets",
            "set serverCertificate and privateKey to files",
        );
    }
    for (name, value) in [
        ("serverCertificate", &tls.server_certificate),
        ("privateKey", &tls.private_key),
    ] {
        if value.is_empty() {
            faults.add(
                &at.field(name),
                "Required value",
                format!("{mode} needs the file"),
            );
        }
    }
    if mode != ServerTlsMode::Simple && tls.ca_certificates.is_empty() {
        faults.add(
            &at.field("caCertificates"),
            "Required value",
            format!("{mode} needs the client roots"),
        );
    }
}

fn check_egress(listeners: &[IstioEgressListener], list: &Path<'_>, faults: &mut Faults) {
    let last = listeners.len().saturating_sub(1);
    for (n, listener) in listeners.iter().enumerate() {
        let at = list.index(n);
        let port_at = at.field("port");
        let is_unix = listener.bind.starts_with("unix://");
        match &listener.port {
            // A socket in the file system has a protocol and no number.
            Some(port) if is_unix => {
                if port.number != 0 {
                    faults.add(
                        &port_at.field("number"),
                        "a socket in the file system has no port",
                        "write 0",
                    );
                }
                check_protocol(port, &port_at, faults);
            }
            Some(port) => check_port(port, &port_at, faults),
            None if is_unix => {
                let reason = "Required value";
                faults.add(
                    &port_at,
                    reason,
                    "say what is spoken there, with the number 0",
                );
            }
            None if n != last => faults.add(
                &at,
                "a listener without port is for all that the others leave",
                "make it the last one",
            ),
            None if !listener.bind.is_empty() => {
                faults.add(
                    &port_at,
                    "Required value",
                    "bind needs a port, or remove bind",
                );
            }
            None => {}
        }
        let number = |listener: &IstioEgressListener| listener.port.as_ref().map(|p| p.number);
        let held = listeners[..n].iter().find(|other| {
            number(other).is_some()
                && number(other) == number(listener)
                && other.bind == listener.bind
        });
        if let Some(number) = held.and_then(number) {
            taken(number, &port_at, faults);
        }
        check_bind(&listener.bind, listener.capture_mode, &at, faults);
        check_hosts(&listener.hosts, &at.field("hosts"), faults);
    }
}

fn check_hosts(hosts: &[String], list: &Path<'_>, faults: &mut Faults) {
    if hosts.is_empty() {
        faults.add(
            list,
            "Required value",
            "name the hosts as namespace/host, or write ~/* for none",
        );
    }
    for (n, host) in hosts.iter().enumerate() {
        let at = list.index(n);
        let Some((namespace, name)) = host.split_once('/') else {
            faults.add(
                &at,
                format!("{host:?} has no namespace"),
                "write namespace/host, with . for this namespace and * for all",
            );
            continue;
        };
        if !matches!(namespace, "*" | "." | "~") && !common::is_label(namespace) {
            faults.add(
                &at,
                format!("{namespace:?} is not a namespace"),
                "write a namespace, . for this one, * for all or ~ for none",
            );
        }
        common::host(name, &at, faults);
    }
}

fn check_outbound(policy: &OutboundTrafficPolicy, at: &Path<'_>, faults: &mut Faults) {
    let Some(proxy) = &policy.egress_proxy else {
        return;
    };
    let at = at.field("egressProxy");
    if policy.mode != OutboundTrafficMode::AllowAny {
        faults.add(
            &at,
            format!("cannot be set with {}", policy.mode),
            "set mode to ALLOW_ANY, or remove it",
        );
    }
    common::destination_host(&proxy.host, &at.field("host"), faults);
    match &proxy.port {
        None => faults.add(
            &at.field("port"),
            "Required value",
            "name the port by its number",
        ),
        Some(port) => common::port(port.number, &at.field("port").field("number"), faults),
    }
}
