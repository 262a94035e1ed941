//! Small messages that occur everywhere.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lateen_route::{
    Fraction, HeaderMutation, HeaderOption, Prefix, RegexRewrite, StringMatch, StringTest,
};
use lateen_telemetry::access_log::Format;
use lateen_xds::types::{core, kind, matcher, wkt};

use super::{DecodeError, Result};
use crate::unread::Kind::{Harmless, In, Whole};
use crate::unread::Reads;

pub(crate) fn duration(value: Option<&wkt::Duration>) -> Option<Duration> {
    let value = value?;
    let seconds = u64::try_from(value.seconds).unwrap_or(0);
    Some(Duration::new(
        seconds,
        u32::try_from(value.nanos).unwrap_or(0).min(999_999_999),
    ))
}

/// The address of a listener, and whether it takes datagrams.
///
/// # Errors
/// On addresses of other kinds; they name `field`.
pub(crate) fn listener_address(
    field: &str,
    value: Option<&core::Address>,
) -> Result<(SocketAddr, bool)> {
    if let Some(core::address::Address::SocketAddress(socket)) =
        value.and_then(|address| address.address.as_ref())
        && is_udp(socket)
    {
        return Ok((ip_address(field, socket)?, true));
    }
    Ok((address(field, value)?, false))
}

/// A TCP socket address.
///
/// # Errors
/// On addresses of other kinds; they name `field`.
pub fn address(field: &str, value: Option<&core::Address>) -> Result<SocketAddr> {
    use core::address::Address;
    match value.and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => socket_address(field, socket),
        Some(Address::Pipe(_)) => Err(DecodeError::unsupported(field, "a pipe address")),
        Some(Address::EnvoyInternalAddress(_)) => {
            Err(DecodeError::unsupported(field, "an internal address"))
        }
        None => Err(DecodeError::new(field, "is required")),
    }
}

pub(super) fn socket_address(field: &str, socket: &core::SocketAddress) -> Result<SocketAddr> {
    refuse_udp(field, socket)?;
    ip_address(field, socket)
}

fn ip_address(field: &str, socket: &core::SocketAddress) -> Result<SocketAddr> {
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        DecodeError::new(field, format!("{:?} is not an IP address", socket.address))
    })?;
    Ok(SocketAddr::new(ip, number(field, socket)?))
}

/// The port of a TCP socket address.
pub(super) fn port(field: &str, socket: &core::SocketAddress) -> Result<u16> {
    refuse_udp(field, socket)?;
    number(field, socket)
}

fn is_udp(socket: &core::SocketAddress) -> bool {
    socket.protocol == core::socket_address::Protocol::Udp as i32
}

fn refuse_udp(field: &str, socket: &core::SocketAddress) -> Result<()> {
    match is_udp(socket) {
        true => Err(DecodeError::unsupported(field, "UDP")),
        false => Ok(()),
    }
}

fn number(field: &str, socket: &core::SocketAddress) -> Result<u16> {
    use core::socket_address::PortSpecifier;
    match &socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port)
            .map_err(|_| DecodeError::new(field, format!("port {port} is out of range"))),
        Some(PortSpecifier::NamedPort(name)) => Err(DecodeError::unsupported(
            field,
            format!("the named port {name:?}"),
        )),
        None => Ok(0),
    }
}

pub(super) fn prefix(field: &str, range: &core::CidrRange) -> Result<Prefix> {
    let fault = || {
        DecodeError::new(
            field,
            format!("{:?} is not a network", range.address_prefix),
        )
    };
    let ip: IpAddr = range.address_prefix.parse().map_err(|_| fault())?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    Prefix::new(ip, u8::try_from(length).map_err(|_| fault())?).map_err(|_| fault())
}

pub(super) fn string_match(
    field: &str,
    value: &matcher::StringMatcher,
) -> Result<(StringMatch, bool)> {
    use matcher::string_matcher::MatchPattern;
    let pattern = match &value.match_pattern {
        Some(MatchPattern::Exact(text)) => StringMatch::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => StringMatch::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => StringMatch::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => StringMatch::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) => StringMatch::Regex(regex.regex.clone()),
        Some(_) => return Err(DecodeError::unsupported(field, "this string matcher")),
        None => return Err(DecodeError::new(field, "has no pattern")),
    };
    Ok((pattern, value.ignore_case))
}

pub(super) fn string_test(field: &str, value: &matcher::StringMatcher) -> Result<StringTest> {
    let (spec, ignore_case) = string_match(field, value)?;
    Ok(StringTest::new(field, spec, ignore_case)?)
}

pub(super) fn regex_rewrite(
    field: &str,
    value: &matcher::RegexMatchAndSubstitute,
) -> Result<RegexRewrite> {
    let pattern = value
        .pattern
        .as_ref()
        .map_or("", |pattern| pattern.regex.as_str());
    Ok(RegexRewrite::new(field, pattern, &value.substitution)?)
}

/// A share of requests; absent means all.
pub(super) fn fraction(value: Option<&kind::FractionalPercent>) -> Fraction {
    use kind::fractional_percent::DenominatorType;
    let Some(value) = value else {
        return Fraction::ALL;
    };
    let per = match value.denominator() {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Fraction {
        millionths: value.numerator.saturating_mul(per),
    }
}

pub(super) fn header_options(
    field: &str,
    list: &[core::HeaderValueOption],
) -> Result<Vec<HeaderMutation>> {
    use core::header_value_option::HeaderAppendAction;
    list.iter()
        .map(|item| {
            let header = item
                .header
                .as_ref()
                .ok_or_else(|| DecodeError::new(field, "has no header"))?;
            let option = match (item.append.as_ref(), item.append_action()) {
                (Some(append), _) if !append.value => HeaderOption::Overwrite,
                (_, HeaderAppendAction::AppendIfExistsOrAdd) => HeaderOption::Append,
                (_, HeaderAppendAction::AddIfAbsent) => HeaderOption::AddIfAbsent,
                (_, HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderOption::Overwrite,
                (_, HeaderAppendAction::OverwriteIfExists) => HeaderOption::OverwriteIfPresent,
            };
            Format::parse(&header.value)
                .map_err(|error| DecodeError::new(field, error.to_string()))?;
            let name = header.key.to_ascii_lowercase();
            Ok(HeaderMutation {
                name,
                value: header.value.clone(),
                option,
            })
        })
        .collect()
}

/// Bytes that stand in the configuration or where it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// Here.
    Inline(Vec<u8>),
    /// In a file.
    File(String),
    /// In a variable of the environment.
    Env(String),
}

impl Data {
    /// Where a source says that its bytes are.
    pub(crate) fn of(field: &str, source: &core::DataSource) -> Result<Self> {
        use core::data_source::Specifier;
        match &source.specifier {
            Some(Specifier::InlineBytes(bytes)) => Ok(Data::Inline(bytes.clone())),
            Some(Specifier::InlineString(text)) => Ok(Data::Inline(text.clone().into_bytes())),
            Some(Specifier::Filename(path)) => Ok(Data::File(path.clone())),
            Some(Specifier::EnvironmentVariable(name)) => Ok(Data::Env(name.clone())),
            None => Err(DecodeError::new(field, "names no source")),
        }
    }

    pub(crate) fn required(field: &str, source: Option<&core::DataSource>) -> Result<Self> {
        let source = source.ok_or_else(|| DecodeError::new(field, "is required"))?;
        Data::of(field, source)
    }

    /// The bytes, read now.
    ///
    /// # Errors
    /// Where the file or the variable cannot be read; they name `field`.
    pub fn read(&self, field: &str) -> Result<Vec<u8>> {
        match self {
            Data::Inline(bytes) => Ok(bytes.clone()),
            Data::File(path) => std::fs::read(path)
                .map_err(|error| DecodeError::new(field, format!("{path}: {error}"))),
            Data::Env(name) => std::env::var(name)
                .map(String::into_bytes)
                .map_err(|error| DecodeError::new(field, format!("{name}: {error}"))),
        }
    }

    /// The bytes as text, read now.
    ///
    /// # Errors
    /// As with [`Data::read`], and on bytes that are not UTF-8.
    pub fn text(&self, field: &str) -> Result<String> {
        String::from_utf8(self.read(field)?).map_err(|_| DecodeError::new(field, "is not UTF-8"))
    }
}

/// A value of a `Struct` by a path of keys.
pub fn struct_path<'a>(root: &'a wkt::Struct, path: &[&str]) -> Option<&'a wkt::Value> {
    let (first, rest) = path.split_first()?;
    let value = root.fields.get(*first)?;
    if rest.is_empty() {
        return Some(value);
    }
    match &value.kind {
        Some(wkt::value::Kind::StructValue(inner)) => struct_path(inner, rest),
        _ => None,
    }
}

/// Reads plain values out of a protobuf `Value`.
pub trait FormatValue {
    /// The text, where it is one.
    fn text(&self) -> Option<&str>;
    /// The list, where it is one.
    fn list(&self) -> &[wkt::Value];
    /// The object, where it is one.
    fn object(&self) -> Option<&wkt::Struct>;
}

impl FormatValue for wkt::Value {
    fn text(&self) -> Option<&str> {
        match &self.kind {
            Some(wkt::value::Kind::StringValue(text)) => Some(text),
            _ => None,
        }
    }

    fn list(&self) -> &[wkt::Value] {
        match &self.kind {
            Some(wkt::value::Kind::ListValue(list)) => &list.values,
            _ => &[],
        }
    }

    fn object(&self) -> Option<&wkt::Struct> {
        match &self.kind {
            Some(wkt::value::Kind::StructValue(object)) => Some(object),
            _ => None,
        }
    }
}

pub(crate) static ADDRESS: Reads = Reads::of(
    "envoy.config.core.v3.Address",
    &[
        (1, "socket_address", In(&SOCKET_ADDRESS)),
        (2, "pipe", Whole),
        (3, "envoy_internal_address", Whole),
    ],
);

pub(crate) static SOCKET_ADDRESS: Reads = Reads::of(
    "envoy.config.core.v3.SocketAddress",
    &[
        (1, "protocol", Whole),
        (2, "address", Whole),
        (3, "port_value", Whole),
        (4, "named_port", Whole),
    ],
);

pub(crate) static CIDR_RANGE: Reads = Reads::of(
    "envoy.config.core.v3.CidrRange",
    &[(1, "address_prefix", Whole), (2, "prefix_len", Whole)],
);

pub(crate) static DATA_SOURCE: Reads = Reads::of(
    "envoy.config.core.v3.DataSource",
    &[
        (1, "filename", Whole),
        (2, "inline_bytes", Whole),
        (3, "inline_string", Whole),
        (4, "environment_variable", Whole),
    ],
);

pub(crate) static STRING_MATCHER: Reads = Reads::of(
    "envoy.type.matcher.v3.StringMatcher",
    &[
        (1, "exact", Whole),
        (2, "prefix", Whole),
        (3, "suffix", Whole),
        (5, "safe_regex", In(&REGEX)),
        (6, "ignore_case", Whole),
        (7, "contains", Whole),
        (8, "custom", Whole),
    ],
);

pub(crate) static REGEX: Reads = Reads::of(
    "envoy.type.matcher.v3.RegexMatcher",
    &[(1, "google_re2", Harmless), (2, "regex", Whole)],
);

pub(crate) static REGEX_REWRITE: Reads = Reads::of(
    "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    &[(1, "pattern", In(&REGEX)), (2, "substitution", Whole)],
);

pub(crate) static RUNTIME_FRACTION: Reads = Reads::of(
    "envoy.config.core.v3.RuntimeFractionalPercent",
    &[
        (1, "default_value", In(&FRACTION)),
        (2, "runtime_key", Harmless),
    ],
);

pub(crate) static FRACTION: Reads = Reads::of(
    "envoy.type.v3.FractionalPercent",
    &[(1, "numerator", Whole), (2, "denominator", Whole)],
);

pub(crate) static HEADER_OPTION: Reads = Reads::of(
    "envoy.config.core.v3.HeaderValueOption",
    &[
        (1, "header", In(&HEADER_VALUE)),
        (2, "append", Whole),
        (3, "append_action", Whole),
    ],
);

pub(crate) static HEADER_VALUE: Reads = Reads::of(
    "envoy.config.core.v3.HeaderValue",
    &[(1, "key", Whole), (2, "value", Whole)],
);

pub(crate) static CONFIG_SOURCE: Reads = Reads::of(
    "envoy.config.core.v3.ConfigSource",
    &[
        (3, "ads", Harmless),
        (4, "initial_fetch_timeout", Harmless),
        (6, "resource_api_version", Harmless),
    ],
);
