//! What every request goes through before it is routed: its address, scheme, identifier and
//! certificate headers are settled, and what a client may not claim is taken out.

use lateen_decode::CertHeader;
use lateen_http::{Known, RequestHead, Scheme, Value};

use super::Hcm;
use super::path::normalize;
use crate::listener::Connection;
use crate::worker::Shared;

/// A request that cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// No authority.
    NoAuthority,
    /// The path climbs above its root.
    Path,
}

/// Prepares a head.
pub(crate) fn prepare(
    shared: &Shared,
    hcm: &Hcm,
    connection: &Connection,
    head: &mut RequestHead,
) -> Result<(), Malformed> {
    if !head.has_authority() {
        return Err(Malformed::NoAuthority);
    }
    authority(hcm, connection, head);
    path(hcm, head)?;
    forwarded(hcm, connection, head);
    request_id(hcm, head);
    client_cert(shared, hcm, connection, head);
    expectation(head);
    Ok(())
}

fn authority(hcm: &Hcm, connection: &Connection, head: &mut RequestHead) {
    if !hcm.spec.strip_any_port && !hcm.spec.strip_matching_port {
        return;
    }
    let authority = head.authority();
    let Some((host, port)) = authority.rsplit_once(':') else {
        return;
    };
    let Ok(port) = port.parse::<u16>() else {
        return;
    };
    if hcm.spec.strip_any_port || (hcm.spec.strip_matching_port && port == connection.local.port())
    {
        let host = host.to_owned();
        // A part of a valid value is valid.
        let _ = head.set_authority(&host);
    }
}

fn path(hcm: &Hcm, head: &mut RequestHead) -> Result<(), Malformed> {
    if !hcm.spec.normalize_path && !hcm.spec.merge_slashes {
        return Ok(());
    }
    let new = match normalize(head.path(), hcm.spec.merge_slashes).ok_or(Malformed::Path)? {
        std::borrow::Cow::Borrowed(_) => return Ok(()),
        std::borrow::Cow::Owned(path) => match head.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        },
    };
    head.set_target(&new).map_err(|_| Malformed::Path)
}

fn forwarded(hcm: &Hcm, connection: &Connection, head: &mut RequestHead) {
    if hcm.spec.use_remote_address && !hcm.spec.skip_xff_append {
        let address = connection.texts.remote(connection.remote);
        let joined = head.headers.joined(Known::X_FORWARDED_FOR);
        let joined = joined.map(|before| append(&before, address));
        // Both parts are valid header text.
        let value = joined.as_deref().unwrap_or(address.as_bytes());
        let _ = head.headers.set(Known::X_FORWARDED_FOR, value);
    }
    if hcm.spec.use_remote_address {
        // Clients at the edge may not speak for the mesh.
        for name in [
            Known::X_ENVOY_INTERNAL,
            Known::X_ENVOY_ORIGINAL_DST_HOST,
            Known::X_ENVOY_ORIGINAL_PATH,
            Known::X_ENVOY_RETRY_ON,
            Known::X_ENVOY_MAX_RETRIES,
            Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
            Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
            Known::X_ENVOY_ATTEMPT_COUNT,
            Known::X_ENVOY_DECORATOR_OPERATION,
        ] {
            head.headers.remove(name);
        }
    }
    let trusted = !hcm.spec.use_remote_address || hcm.spec.trusted_hops > 0;
    let known = matches!(
        head.headers.bytes(Known::X_FORWARDED_PROTO),
        Some(b"http" | b"https")
    );
    if !(trusted && known) {
        let secure = connection.tls.is_some();
        let scheme = Value::from_static(if secure { "https" } else { "http" });
        head.headers.set_value(Known::X_FORWARDED_PROTO, &scheme);
    }
    head.scheme = match head.headers.bytes(Known::X_FORWARDED_PROTO) {
        Some(b"https") => Some(Scheme::Https),
        _ => Some(Scheme::Http),
    };
}

fn request_id(hcm: &Hcm, head: &mut RequestHead) {
    if !hcm.spec.generate_request_id {
        return;
    }
    let outside = hcm.spec.use_remote_address && !hcm.spec.preserve_external_request_id;
    if outside || !head.headers.contains(Known::X_REQUEST_ID) {
        let mut text = [0; 36];
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
        let id = id.as_hyphenated().encode_lower(&mut text);
        // An identifier is hexadecimal digits and hyphens.
        let _ = head.headers.set(Known::X_REQUEST_ID, id.as_bytes());
    }
}

fn client_cert(shared: &Shared, hcm: &Hcm, connection: &Connection, head: &mut RequestHead) {
    const NAME: Known = Known::X_FORWARDED_CLIENT_CERT;
    let mutual = connection.is_mutual();
    let own_element = || {
        let make = || element(shared, hcm, connection);
        connection.texts.client_cert.get_or_init(make).as_deref()
    };
    match hcm.spec.cert_header {
        CertHeader::AlwaysForward => {}
        CertHeader::ForwardOnly if mutual => {}
        CertHeader::Sanitize | CertHeader::ForwardOnly => {
            head.headers.remove(NAME);
        }
        CertHeader::AppendForward | CertHeader::SanitizeSet if !mutual => {
            head.headers.remove(NAME);
        }
        CertHeader::AppendForward => {
            if let Some(element) = own_element() {
                let joined = head.headers.joined(NAME);
                let joined = joined.map(|before| append(&before, element));
                let value = joined.as_deref().unwrap_or(element.as_bytes());
                let _ = head.headers.set(NAME, value);
            }
        }
        CertHeader::SanitizeSet => {
            head.headers.remove(NAME);
            if let Some(element) = own_element() {
                let _ = head.headers.set(NAME, element);
            }
        }
    }
}

/// What the engine answers itself when the body is wanted is not passed on, as Envoy has it: the
/// upstream would be asked for a word that nobody waits for.
fn expectation(head: &mut RequestHead) {
    if head.expects_continue() {
        head.headers.remove(Known::EXPECT);
    }
}

/// One more element of a list.
fn append(list: &[u8], element: &str) -> Vec<u8> {
    [list, b",", element.as_bytes()].concat()
}

/// Our entry: who we are, and what the peer's verified certificate says.
fn element(shared: &Shared, hcm: &Hcm, connection: &Connection) -> Option<String> {
    let peer = connection.tls.as_ref()?.peer.as_ref()?;
    let own = shared.secrets.identity().current().ok();
    let own = own.and_then(|own| own.spiffe().map(ToString::to_string));
    let mut parts = Vec::new();
    if let Some(own) = own {
        parts.push(format!("By={own}"));
    }
    parts.push(format!("Hash={}", peer.sha256()));
    let escaped = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    if hcm.spec.cert_pem {
        parts.push(format!("Cert=\"{}\"", escaped(&peer.pem())));
    }
    if hcm.spec.cert_chain {
        parts.push(format!("Chain=\"{}\"", escaped(&peer.pem())));
    }
    if hcm.spec.cert_subject {
        parts.push(format!("Subject=\"{}\"", peer.subject.replace('"', "\\\"")));
    }
    if hcm.spec.cert_uri {
        parts.extend(peer.uris.iter().map(|uri| format!("URI={uri}")));
    }
    if hcm.spec.cert_dns {
        parts.extend(peer.dns.iter().map(|name| format!("DNS={name}")));
    }
    Some(parts.join(";"))
}
