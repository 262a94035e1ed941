//! What a route makes of a request: its time, its path, its authority, its hash.

use std::borrow::Cow;
use std::time::Duration;

use lateen_balance::hash_bytes;
use lateen_http::{Known, RequestHead};
use lateen_route::{Forward, HashPolicy, HostRewrite};

use super::forward::Place;
use crate::listener::Connection;

/// The bound on the exchange: the route's, or the client's own where gRPC names a shorter one.
pub(super) fn timeout(action: &Forward, head: &RequestHead) -> Option<Duration> {
    let own = (!action.timeout.is_zero()).then_some(action.timeout);
    let Some(max) = action.grpc_timeout_max else {
        return own;
    };
    let Some(asked) = head.headers.get(Known::GRPC_TIMEOUT).and_then(grpc_timeout) else {
        return own;
    };
    Some(if max.is_zero() { asked } else { asked.min(max) })
}

/// The header `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Changes path and authority as the route says.
pub(super) fn rewrite(head: &mut RequestHead, place: Place<'_>, weighted_host: Option<&str>) {
    // By which path the host is chosen, where it is by that.
    let asked = match &place.action.host {
        Some(HostRewrite::PathRegex(_)) => head.path().to_owned(),
        _ => String::new(),
    };
    if let Some(rewrite) = &place.action.path {
        let old = head.target().to_owned();
        let new = rewrite.apply(&place.route.matcher.path, head.path(), head.query());
        match head.set_target(&new) {
            Ok(()) => {
                // The old target was a valid one.
                let _ = head.headers.set(Known::X_ENVOY_ORIGINAL_PATH, &old);
            }
            Err(error) => tracing::debug!(%error, "a rewritten path is no path"),
        }
    }
    let new_host = match (weighted_host, &place.action.host) {
        (Some(host), _) => Some(host.to_owned()),
        (None, Some(HostRewrite::Literal(host))) => Some(host.clone()),
        (None, Some(HostRewrite::Header(name))) => head.headers.get(name).map(str::to_owned),
        (None, Some(HostRewrite::PathRegex(regex))) => Some(regex.apply(&asked)),
        (None, Some(HostRewrite::Auto) | None) => None,
    };
    if let Some(host) = new_host.filter(|host| !host.is_empty()) {
        // A host that is no header text leaves the old one.
        let _ = head.set_authority(&host);
    }
}

/// What consistent hashing takes from a request, and the cookies by which the client will be known
/// the next time.
pub(super) fn hash_of(
    action: &Forward,
    head: &RequestHead,
    connection: &Connection,
) -> (Option<u64>, Vec<String>) {
    let owned = |text: String| Cow::Owned(text.into_bytes());
    let mut hash: Option<u64> = None;
    let mut cookies = Vec::new();
    for policy in &action.hash {
        let value = match policy {
            HashPolicy::Header(name) => head.headers.joined(name),
            HashPolicy::Cookie {
                name,
                ttl,
                path,
                attributes,
            } => match (cookie(head, name), ttl) {
                (None, Some(ttl)) => {
                    let value = client_name(connection);
                    cookies.push(set_cookie(name, &value, *ttl, path, attributes));
                    Some(owned(value))
                }
                (found, _) => found.map(owned),
            },
            HashPolicy::SourceIp => Some(owned(connection.remote.ip().to_string())),
            HashPolicy::Query(name) => head.query().and_then(|query| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| Cow::Borrowed(value.as_bytes()))
            }),
        };
        if let Some(value) = value {
            let new = hash_bytes(&value);
            hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
        }
    }
    (hash, cookies)
}

/// A name for the client of a connection, as Envoy makes it: a hash of both its ends.
fn client_name(connection: &Connection) -> String {
    let ends = format!("{}{}", connection.remote, connection.local);
    format!("{:016x}", hash_bytes(ends.as_bytes()))
}

/// The value of `set-cookie`. A lifetime of zero is the browser's session.
pub(super) fn set_cookie(
    name: &str,
    value: &str,
    ttl: Duration,
    path: &str,
    attributes: &[(String, String)],
) -> String {
    let mut text = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        text.push_str(&match value.is_empty() {
            true => format!("; {name}"),
            false => format!("; {name}={value}"),
        });
    }
    text.push_str("; HttpOnly");
    text
}

pub(super) fn cookie(head: &RequestHead, name: &str) -> Option<String> {
    let all = head
        .headers
        .all("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok());
    let mut pairs = all
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let attributes = [("SameSite".to_owned(), "Strict".to_owned())];
        let text = set_cookie("user", "ab", Duration::from_secs(60), "/app", &attributes);
        let expect = "user=\"ab\"; Max-Age=60; Path=/app; SameSite=Strict; HttpOnly";
        assert_eq!(text, expect);
        let text = set_cookie("user", "ab", Duration::ZERO, "", &[]);
        assert_eq!(text, "user=\"ab\"; HttpOnly");
    }

    #[test]
    fn grpc_timeouts() {
        assert_eq!(grpc_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("999999999S"), None);
        assert_eq!(grpc_timeout("S"), None);
        assert_eq!(grpc_timeout("5"), None);
    }
}
