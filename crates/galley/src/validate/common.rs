//! Checks that several kinds share.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use lateen_api::{Duration, networking::StringMatch};

use crate::fault::{Faults, Path};

pub(super) fn port(number: u32, at: &Path<'_>, faults: &mut Faults) {
    if !(1..=65535).contains(&number) {
        faults.add(
            at,
            "port must be between 1-65535",
            format!("{number} is not a port"),
        );
    }
}

pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS name; a trailing dot is allowed.
pub(super) fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    (1..=255).contains(&text.len()) && text.split('.').all(is_label)
}

/// A DNS name whose first label may be, or start with, a star.
pub(super) fn is_wildcard_name(text: &str) -> bool {
    match text.strip_prefix('*') {
        None => is_dns_name(text),
        Some("") => true,
        Some(rest) => {
            let rest = rest
                .strip_prefix('.')
                .unwrap_or_else(|| rest.trim_start_matches('-'));
            is_dns_name(rest)
        }
    }
}

pub(super) fn host(text: &str, at: &Path<'_>, faults: &mut Faults) {
    if text.is_empty() {
        faults.add(at, "host is empty", "write a host name");
    } else if text.parse::<IpAddr>().is_ok() {
        // An address is a DNS name by its form; some kinds allow it, and so it is not refused here.
    } else if !is_wildcard_name(text) {
        faults.add(
            at,
            format!("invalid host {text:?}"),
            "write a DNS name, or * alone or as the first label",
        );
    }
}

/// The host of a destination: a name without wildcard.
pub(super) fn destination_host(text: &str, at: &Path<'_>, faults: &mut Faults) {
    if text.is_empty() {
        faults.add(
            at,
            "destination has no host",
            "name the service, as in reviews",
        );
    } else if text.contains('*') {
        faults.add(
            at,
            format!("destination host {text:?} is a wildcard"),
            "name one service",
        );
    } else {
        host(text, at, faults);
    }
}

pub(super) fn is_subnet(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok()
}

pub(super) fn subnet(text: &str, at: &Path<'_>, faults: &mut Faults) {
    if !is_subnet(text) {
        faults.add(
            at,
            format!("{text:?} is neither an address nor a CIDR"),
            "write 10.0.0.1 or 10.0.0.0/16",
        );
    }
}

pub(super) fn regex(text: &str, at: &Path<'_>, faults: &mut Faults) {
    if text.is_empty() {
        return faults.add(
            at,
            "regex is empty",
            "write an expression, or leave the match out",
        );
    }
    if let Err(error) = regex::Regex::new(text) {
        // The library draws a picture over several lines; the last one says what it is.
        let full = error.to_string();
        let cause = full
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        faults.add(
            at,
            format!("invalid regex {:?}: {cause}", shortened(text)),
            match error {
                regex::Error::CompiledTooBig(_) => "write a smaller one, with fewer repetitions",
                _ => "write an RE2 expression",
            },
        );
    }
}

/// As much of a text as a message can bear.
fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

pub(super) fn string_match(value: &StringMatch, at: &Path<'_>, faults: &mut Faults) {
    match value {
        StringMatch::Regex(text) => regex(text, &at.field("regex"), faults),
        StringMatch::Prefix(text) if text.is_empty() => {
            faults.add(
                &at.field("prefix"),
                "prefix is empty",
                "write a prefix, or leave the match out",
            );
        }
        _ => {}
    }
}

/// What names of headers and cookies are made of (RFC 9110, 5.6.2).
pub(crate) fn is_token(name: &str) -> bool {
    let is_mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut bytes = name.bytes();
    !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

pub(super) fn header_name(name: &str, at: &Path<'_>, faults: &mut Faults) {
    // `:method` and the like can be matched, not set.
    let plain = name.strip_prefix(':').unwrap_or(name);
    if !is_token(plain) {
        faults.add(
            at,
            format!("{name:?} is not a header name"),
            "use letters, digits and dashes",
        );
    }
}

pub(super) fn percent(value: f64, at: &Path<'_>, faults: &mut Faults) {
    if !(0.0..=100.0).contains(&value) {
        faults.add(
            at,
            format!("percentage {value} is out of range"),
            "write 0 to 100",
        );
    }
}

pub(super) fn positive(value: Option<Duration>, at: &Path<'_>, faults: &mut Faults) {
    if let Some(value) = value
        && value < Duration::from_millis(1)
    {
        faults.add(
            at,
            format!("duration {value} must be greater than 1ms"),
            "write 1ms or more",
        );
    }
}

pub(super) fn not_negative(value: Option<Duration>, at: &Path<'_>, faults: &mut Faults) {
    if value.is_some_and(Duration::is_negative) {
        faults.add(at, "duration must not be negative", "write zero or more");
    }
}

pub(super) fn export_to(list: &[String], at: &Path<'_>, faults: &mut Faults) {
    for (n, namespace) in list.iter().enumerate() {
        if !matches!(namespace.as_str(), "." | "*" | "~") && !is_label(namespace) {
            faults.add(
                &at.index(n),
                format!("{namespace:?} is not a namespace"),
                "write a namespace, . for this one or * for all",
            );
        }
        if list[..n].contains(namespace) {
            faults.add(
                &at.index(n),
                format!("{namespace:?} is listed twice"),
                "remove one",
            );
        }
    }
    if list.len() > 1 && list.iter().any(|n| n == "*" || n == "~") {
        faults.add(
            at,
            "* and ~ stand for themselves alone",
            "remove the other namespaces",
        );
    }
}

pub(super) fn labels(labels: &BTreeMap<String, String>, at: &Path<'_>, faults: &mut Faults) {
    for (key, value) in labels {
        let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
        if !is_label_part(name) || name.is_empty() || !(prefix.is_empty() || is_dns_name(prefix)) {
            faults.add(
                &at.key(key),
                format!("{key:?} is not a label"),
                "use letters, digits, -, _ and .",
            );
        }
        if !is_label_part(value) {
            faults.add(
                &at.key(key),
                format!("{value:?} is not a label value"),
                "use up to 63 letters, digits, -, _ and .",
            );
        }
    }
}

fn is_label_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.chars().all(inner)
        && text.chars().next().is_none_or(edge)
        && text.chars().last().is_none_or(edge)
}

/// Labels that select workloads: wildcards look as if they worked, and do not.
pub(super) fn selector(selector: &BTreeMap<String, String>, at: &Path<'_>, faults: &mut Faults) {
    for (key, value) in selector {
        if key.is_empty() {
            faults.add(at, "a selector has an empty key", "name the label");
        }
        if key.contains('*') || value.contains('*') {
            faults.add(
                &at.key(key),
                "wildcard is not supported in selector",
                "write the whole value",
            );
        }
    }
}

/// The path of a socket in the file system, or the name of one that is in none.
pub(super) fn socket_path(path: &str, at: &Path<'_>, faults: &mut Faults) {
    if !path.starts_with('/') && !path.starts_with('@') {
        faults.add(
            at,
            "UDS must be an absolute path or abstract socket",
            "write unix:///path or unix://@name",
        );
    }
    if path.ends_with('/') {
        faults.add(at, "UDS may not be a dir", "name the socket");
    } else if path.starts_with('/')
        && let Some(reason) = lateen_core::pipe::refusal(path)
    {
        faults.add(at, reason, "name a socket of the application's");
    }
}
