//! Gateway: its servers, their ports and their certificates.

use base64::Engine as _;
use lateen_api::{
    Object,
    networking::{Gateway, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol},
};

use super::common;
use crate::fault::{Faults, Path};

const PROTOCOLS: [&str; 9] = [
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "MONGO",
    "TCP",
    "TLS",
    "HTTP_PROXY",
];

pub(super) fn check(object: &Object<Gateway>, faults: &mut Faults) {
    let (root, spec) = (Path::root("spec"), &object.spec);
    let list = root.field("servers");
    if spec.servers.is_empty() {
        faults.add(&list, "Required value", "add a server");
    }
    for (n, server) in spec.servers.iter().enumerate() {
        check_server(server, &list.index(n), faults);
    }
    duplicates(&spec.servers, &list, faults);
    common::labels(&spec.selector, &root.field("selector"), faults);
}

/// Two servers of one Gateway on one port must be told apart by host, and a name is a name.
fn duplicates(servers: &[Server], list: &Path<'_>, faults: &mut Faults) {
    for (n, server) in servers.iter().enumerate() {
        let Some(port) = &server.port else { continue };
        let at = list.index(n);
        let port_at = at.field("port");
        for other in &servers[..n] {
            let Some(held) = &other.port else { continue };
            if held.name == port.name && !port.name.is_empty() {
                faults.add(
                    &port_at.field("name"),
                    format!("Duplicate value: {:?}", port.name),
                    "rename one",
                );
            }
            let same_place = held.number == port.number && other.bind == server.bind;
            if same_place && is_http(&held.protocol) != is_http(&port.protocol) {
                faults.add(
                    &port_at,
                    format!(
                        "port {} is in use by another server for {}",
                        port.number, held.protocol
                    ),
                    "choose another port",
                );
            }
        }
    }
}

fn is_http(protocol: &str) -> bool {
    matches!(
        protocol.to_ascii_uppercase().as_str(),
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY"
    )
}

fn check_server(server: &Server, at: &Path<'_>, faults: &mut Faults) {
    let port_at = at.field("port");
    let protocol = match &server.port {
        None => {
            faults.add(
                &port_at,
                "Required value",
                "give the port's number, name and protocol",
            );
            String::new()
        }
        Some(port) => {
            if !server.bind.starts_with("unix://") {
                common::port(port.number, &port_at.field("number"), faults);
            } else if port.number != 0 {
                let reason = "port number must be 0 for unix domain socket";
                faults.add(&port_at.field("number"), reason, "write 0");
            }
            let protocol = port.protocol.to_ascii_uppercase();
            if !PROTOCOLS.contains(&protocol.as_str()) {
                faults.add(
                    &port_at.field("protocol"),
                    format!("Unsupported value: {:?}", port.protocol),
                    format!("use one of {}", PROTOCOLS.join(", ")),
                );
            }
            if port.name.is_empty() {
                faults.add(&port_at.field("name"), "Required value", "name the port");
            }
            protocol
        }
    };
    check_hosts(&server.hosts, &at.field("hosts"), faults);
    if let Some(path) = server.bind.strip_prefix("unix://") {
        common::socket_path(path, &at.field("bind"), faults);
    } else if !server.bind.is_empty() && server.bind.parse::<std::net::IpAddr>().is_err() {
        faults.add(
            &at.field("bind"),
            format!("{:?} is not an address", server.bind),
            "write an IP address, or unix:///path",
        );
    }
    let tls_at = at.field("tls");
    match &server.tls {
        Some(tls) => check_tls(tls, &protocol, &tls_at, faults),
        None if matches!(protocol.as_str(), "HTTPS" | "TLS") => {
            faults.add(
                &tls_at,
                "Required value",
                format!("{protocol} needs TLS settings"),
            );
        }
        None => {}
    }
}

fn check_hosts(hosts: &[String], at: &Path<'_>, faults: &mut Faults) {
    if hosts.is_empty() {
        faults.add(at, "Required value", "name the hosts, or write *");
    }
    for (n, host) in hosts.iter().enumerate() {
        let at = at.index(n);
        let name = match host.split_once('/') {
            Some((namespace, name)) => {
                if !matches!(namespace, "*" | ".") && !common::is_label(namespace) {
                    faults.add(
                        &at,
                        format!("{namespace:?} is not a namespace"),
                        "write namespace/host",
                    );
                }
                name
            }
            None => host,
        };
        if name.parse::<std::net::IpAddr>().is_ok() {
            faults.add(
                &at,
                format!("{name} is an address"),
                "name a host, or write *",
            );
        }
        common::host(name, &at, faults);
    }
}

fn check_tls(tls: &ServerTlsSettings, protocol: &str, at: &Path<'_>, faults: &mut Faults) {
    let plain = is_http(protocol);
    if plain && tls.mode.is_some() && !tls.https_redirect {
        let reason = format!("{protocol} is not secured by tls");
        faults.add(
            &at.field("mode"),
            reason,
            "use protocol HTTPS, or remove tls",
        );
    }
    if plain {
        return;
    }
    if tls.https_redirect {
        faults.add(
            &at.field("httpsRedirect"),
            "only a plain HTTP server can redirect",
            "set it on the server of port 80",
        );
    }
    let mode = tls.mode.unwrap_or(ServerTlsMode::Passthrough);
    let terminates = !matches!(
        mode,
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough
    );
    if protocol == "HTTPS"
        && !terminates
        && tls.mode.is_some()
        && mode == ServerTlsMode::AutoPassthrough
    {
        faults.add(
            &at.field("mode"),
            "AUTO_PASSTHROUGH needs protocol TLS",
            "use protocol TLS",
        );
    }
    if matches!(
        mode,
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
    ) {
        check_credentials(tls, mode, at, faults);
    }
    check_pins(tls, mode, at, faults);
    for (name, version) in [
        ("minProtocolVersion", tls.min_protocol_version),
        ("maxProtocolVersion", tls.max_protocol_version),
    ] {
        if matches!(version, TlsProtocol::V1_0 | TlsProtocol::V1_1) {
            faults.add(
                &at.field(name),
                format!("{version} is not supported"),
                "use TLSV1_2 or TLSV1_3",
            );
        }
    }
    let (least, most) = (tls.min_protocol_version, tls.max_protocol_version);
    if most != TlsProtocol::Auto && least > most {
        faults.add(
            at,
            "minProtocolVersion is above maxProtocolVersion",
            "exchange them",
        );
    }
}

/// Certificates that are known beforehand are those of clients.
fn check_pins(tls: &ServerTlsSettings, mode: ServerTlsMode, at: &Path<'_>, faults: &mut Faults) {
    let asks = matches!(
        mode,
        ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual | ServerTlsMode::IstioMutual
    );
    let is_hex = |text: &String| {
        let digits = text.replace(':', "");
        digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let is_base64 = |text: &String| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded.is_ok_and(|bytes| bytes.len() == 32)
    };
    let hashes = tls.verify_certificate_hash.iter().map(is_hex);
    let keys = tls.verify_certificate_spki.iter().map(is_base64);
    let (hashes, keys): (Vec<bool>, Vec<bool>) = (hashes.collect(), keys.collect());
    if !tls.ca_crl.is_empty() && !asks {
        faults.add(
            &at.field("caCrl"),
            format!("{mode} TLS asks no client for a certificate"),
            "use mode MUTUAL, or remove it",
        );
    }
    for (name, digests, how) in [
        ("verifyCertificateHash", hashes, "64 hexadecimal digits"),
        ("verifyCertificateSpki", keys, "the 32 bytes in base64"),
    ] {
        if !digests.is_empty() && !asks {
            faults.add(
                &at.field(name),
                format!("{mode} TLS asks no client for a certificate"),
                "use mode MUTUAL, or remove it",
            );
        }
        for (n, is_digest) in digests.iter().enumerate() {
            if !is_digest {
                let help = format!("write {how}");
                faults.add(&at.field(name).index(n), "is no SHA-256", help);
            }
        }
    }
}

fn check_credentials(
    tls: &ServerTlsSettings,
    mode: ServerTlsMode,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let secret = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    let files = !tls.server_certificate.is_empty() || !tls.tls_certificates.is_empty();
    if !secret && !files {
        faults.add(
            at,
            format!("{mode} TLS needs a certificate"),
            "set credentialName to a Secret, or serverCertificate and privateKey to files",
        );
    }
    if !tls.server_certificate.is_empty() && tls.private_key.is_empty() {
        faults.add(
            &at.field("privateKey"),
            "Required value",
            "name the file of the key",
        );
    }
    if mode == ServerTlsMode::Mutual
        && !secret
        && tls.ca_certificates.is_empty()
        && tls.tls_certificates.is_empty()
    {
        faults.add(
            &at.field("caCertificates"),
            "Required value",
            "MUTUAL needs the client roots",
        );
    }
    if secret && files {
        faults.add(
            at,
            "credentialName and certificate files cannot be set together",
            "keep one",
        );
    }
}
