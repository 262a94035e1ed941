//! Shorthand for the messages that every generator builds.

use std::collections::BTreeMap;
use std::fmt::Display;

use lateen_api as api;
use lateen_xds::names;
use lateen_xds::types::core::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
    Metadata, Pipe, SocketAddress, TransportSocket, address, api_config_source, config_source,
    grpc_service, socket_address, transport_socket,
};
use lateen_xds::types::kind::{FractionalPercent, fractional_percent};
use lateen_xds::types::listener::{self, Filter, ListenerFilter};
use lateen_xds::types::matcher::{RegexMatcher, StringMatcher, string_matcher};
use lateen_xds::types::tls::RawBuffer;
use lateen_xds::types::wkt::{self, BoolValue, ListValue, Struct, UInt32Value, Value, value};
use lateen_xds::{Any, pack_any};

/// The static cluster through which a proxy gets its workload's certificates from its agent.
const AGENT_SECRETS_CLUSTER: &str = "sds-grpc";

pub(crate) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(crate) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn duration(of: api::Duration) -> wkt::Duration {
    let (seconds, nanos) = of.to_parts();
    wkt::Duration { seconds, nanos }
}

pub(crate) fn seconds(seconds: i64) -> Option<wkt::Duration> {
    Some(wkt::Duration { seconds, nanos: 0 })
}

pub(crate) fn socket_address(host: impl Display, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..SocketAddress::default()
        })),
    }
}

/// An address on the network, or after `unix://` the path of a socket.
pub(crate) fn address(at: &str, port: u16) -> Address {
    let Some(path) = at.strip_prefix(names::UNIX) else {
        return socket_address(at, port);
    };
    Address {
        address: Some(address::Address::Pipe(Pipe {
            path: path.to_owned(),
            ..Pipe::default()
        })),
    }
}

/// Resources that come on the same stream as everything else.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        // Without a limit: a proxy that waits is better than one that goes on with half of it.
        initial_fetch_timeout: seconds(0),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
            AggregatedConfigSource {},
        )),
        ..ConfigSource::default()
    }
}

/// Secrets that the agent beside the proxy serves.
pub(crate) fn agent_secrets() -> ConfigSource {
    let envoy_grpc = grpc_service::EnvoyGrpc {
        cluster_name: AGENT_SECRETS_CLUSTER.into(),
        ..grpc_service::EnvoyGrpc::default()
    };
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        initial_fetch_timeout: seconds(0),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
            ApiConfigSource {
                api_type: api_config_source::ApiType::Grpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                set_node_on_first_message_only: true,
                grpc_services: vec![GrpcService {
                    target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(envoy_grpc)),
                    ..GrpcService::default()
                }],
                ..ApiConfigSource::default()
            },
        )),
        ..ConfigSource::default()
    }
}

pub(crate) fn transport_socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}

pub(crate) fn raw_buffer() -> TransportSocket {
    transport_socket(
        "envoy.transport_sockets.raw_buffer",
        pack_any(&RawBuffer::default()),
    )
}

pub(crate) fn network_filter(name: &str, config: Any) -> Filter {
    Filter {
        name: name.into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(config)),
    }
}

pub(crate) fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.into(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

pub(crate) fn text(value: impl Into<String>) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(value.into())),
    }
}

/// Any JSON.
pub(crate) fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => value::Kind::NullValue(0),
        Json::Bool(truth) => value::Kind::BoolValue(truth),
        Json::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(of) => return text(of),
        Json::Array(items) => return list(items.into_iter().map(value).collect()),
        Json::Object(fields) => {
            return structure(record(fields.into_iter().map(|(k, v)| (k, value(v)))));
        }
    };
    Value { kind: Some(kind) }
}

pub(crate) fn list(values: Vec<Value>) -> Value {
    Value {
        kind: Some(value::Kind::ListValue(ListValue { values })),
    }
}

pub(crate) fn record<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Struct {
    Struct {
        fields: fields.into_iter().map(|(k, v)| (k.into(), v)).collect(),
    }
}

pub(crate) fn structure(of: Struct) -> Value {
    Value {
        kind: Some(value::Kind::StructValue(of)),
    }
}

pub(crate) fn metadata(entries: impl IntoIterator<Item = (&'static str, Struct)>) -> Metadata {
    let entries = entries.into_iter();
    Metadata {
        filter_metadata: entries.map(|(k, v)| (k.to_owned(), v)).collect(),
        ..Metadata::default()
    }
}

/// Envoy compares against whole parts; a million of them keeps four decimals of a percent.
pub(crate) fn percent(value: f64) -> FractionalPercent {
    FractionalPercent {
        numerator: (value.clamp(0.0, 100.0) * 10_000.0).round() as u32,
        denominator: fractional_percent::DenominatorType::Million.into(),
    }
}

pub(crate) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.into(),
        ..RegexMatcher::default()
    }
}

pub(crate) fn exact(value: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(value.into())),
        ..StringMatcher::default()
    }
}

pub(crate) fn prefix(value: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Prefix(value.into())),
        ..StringMatcher::default()
    }
}

/// `None` for a match that asks only for presence.
pub(crate) fn string_match(of: &api::networking::StringMatch) -> Option<StringMatcher> {
    use api::networking::StringMatch;
    let pattern = match of {
        StringMatch::Present => return None,
        StringMatch::Exact(v) => string_matcher::MatchPattern::Exact(v.clone()),
        // Envoy refuses an empty prefix, which any value has.
        StringMatch::Prefix(v) if v.is_empty() => return None,
        StringMatch::Prefix(v) => string_matcher::MatchPattern::Prefix(v.clone()),
        StringMatch::Regex(v) => string_matcher::MatchPattern::SafeRegex(regex(v)),
    };
    Some(StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    })
}

/// The labels of a workload as a filter of endpoints.
pub(crate) fn selects(wanted: &BTreeMap<String, String>, labels: &lateen_core::Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.value(key) == Some(value))
}
