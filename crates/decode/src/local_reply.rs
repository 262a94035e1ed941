//! What becomes of answers of the proxy's own: `local_reply_config`.

use bytes::Bytes;
use lateen_core::Reason;
use lateen_route::{Fraction, HeaderMutations, HeaderTest};
use lateen_telemetry::access_log::Shape;
use lateen_xds::types::network::hcm as pb;
use lateen_xds::types::{accesslog, core};

use super::common::{Data, fraction, header_options};
use super::{DecodeError, Result, access_log, route};
use crate::common::{DATA_SOURCE, FRACTION, HEADER_OPTION};
use crate::route::reads::HEADER_MATCHER;
use crate::unread::Kind::{Harmless, In, Whole, Words};
use crate::unread::Reads;

/// Envoy's names of response flags, as filters have them.
const FLAGS: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC",
    "URX", "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR",
    "UDO",
];
/// What answers of this proxy's own may say of themselves. Other flags are of what it does not do:
/// filters may name them, and find none.
const SET: [Reason; 14] = [
    Reason::DownstreamConnectionTermination,
    Reason::UpstreamProtocolError,
    Reason::UpstreamConnectionFailure,
    Reason::UpstreamConnectionTermination,
    Reason::UpstreamRemoteReset,
    Reason::NoHealthyUpstream,
    Reason::NoRouteFound,
    Reason::NoClusterFound,
    Reason::UpstreamOverflow,
    Reason::DnsResolutionFailed,
    Reason::UpstreamRequestTimeout,
    Reason::UpstreamRetryLimitExceeded,
    Reason::DelayInjected,
    Reason::FaultInjected,
];
/// Codes that an answer may be given.
const CODES: std::ops::Range<u32> = 200..600;

/// How answers of the proxy's own are changed.
#[derive(Debug)]
pub struct LocalReplySpec {
    /// The first one that an answer passes changes it.
    pub mappers: Vec<ReplyMapper>,
    /// What an answer says, where its mapper does not say it.
    pub format: Option<ReplyFormat>,
}

/// Changes answers of one kind.
#[derive(Debug)]
pub struct ReplyMapper {
    /// Which answers.
    pub filter: LogFilter,
    /// Their status from now on.
    pub status: Option<u16>,
    /// Their text from now on.
    pub body: Option<Bytes>,
    /// What they say.
    pub format: Option<ReplyFormat>,
    /// Headers that they get.
    pub headers: HeaderMutations,
}

/// What an answer says.
#[derive(Debug)]
pub struct ReplyFormat {
    /// The text, or the JSON object.
    pub shape: Shape,
    /// Its `content-type`.
    pub content_type: String,
    /// What is not known is left out rather than said to be so.
    pub omits: bool,
}

/// Which exchanges something is for.
#[derive(Debug, Clone)]
pub enum LogFilter {
    /// Those of these status codes.
    Status(Comparison, u32),
    /// Those that took as long, in milliseconds.
    Duration(Comparison, u32),
    /// A share.
    Share(Fraction),
    /// Those that pass all of these.
    All(Vec<LogFilter>),
    /// Those that pass one of these.
    Any(Vec<LogFilter>),
    /// Those whose request passes.
    Header(HeaderTest),
    /// Those with one of these response flags, or with any where none is named.
    Flags(Vec<String>),
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is this one.
    Equal,
    /// It is another one.
    Other,
    /// It is at least this.
    AtLeast,
    /// It is at most this.
    AtMost,
}

impl Comparison {
    /// Whether a number compares so with the one of the configuration.
    pub fn holds(self, number: u64, with: u32) -> bool {
        let with = u64::from(with);
        match self {
            Comparison::Equal => number == with,
            Comparison::Other => number != with,
            Comparison::AtLeast => number >= with,
            Comparison::AtMost => number <= with,
        }
    }
}

/// Compiles the answers' changes; `None` where nothing changes.
pub(super) fn local_reply(spec: Option<&pb::LocalReplyConfig>) -> Result<Option<LocalReplySpec>> {
    const AT: &str = "local_reply_config";
    let is_idle =
        |spec: &&pb::LocalReplyConfig| spec.mappers.is_empty() && spec.body_format.is_none();
    let Some(spec) = spec.filter(|spec| !is_idle(spec)) else {
        return Ok(None);
    };
    let mapper = |(n, spec)| mapper(&format!("{AT}.mappers[{n}]"), spec);
    let format = spec.body_format.as_ref();
    let format = format.map(|spec| reply_format(&format!("{AT}.body_format"), spec));
    Ok(Some(LocalReplySpec {
        mappers: spec
            .mappers
            .iter()
            .enumerate()
            .map(mapper)
            .collect::<Result<_>>()?,
        format: format.transpose()?,
    }))
}

fn mapper(field: &str, spec: &pb::ResponseMapper) -> Result<ReplyMapper> {
    let at = |name: &str| format!("{field}.{name}");
    let wanted = spec.filter.as_ref();
    let wanted = wanted.ok_or_else(|| DecodeError::new(at("filter"), "is required"))?;
    let code = spec.status_code.as_ref().map(|code| code.value);
    if let Some(code) = code.filter(|code| !CODES.contains(code)) {
        let what = format!("{code} is none of 200 to 599");
        return Err(DecodeError::new(at("status_code"), what));
    }
    let bytes = |source: &core::DataSource| -> Result<Bytes> {
        Ok(Data::of(&at("body"), source)?.read(&at("body"))?.into())
    };
    let format = spec.body_format_override.as_ref();
    let format = format.map(|spec| reply_format(&at("body_format_override"), spec));
    Ok(ReplyMapper {
        filter: filter(&at("filter"), wanted)?,
        status: code.and_then(|code| u16::try_from(code).ok()),
        body: spec.body.as_ref().map(bytes).transpose()?,
        format: format.transpose()?,
        headers: HeaderMutations {
            response_add: header_options(&at("headers_to_add"), &spec.headers_to_add)?,
            ..HeaderMutations::default()
        },
    })
}

fn reply_format(field: &str, spec: &core::SubstitutionFormatString) -> Result<ReplyFormat> {
    if !spec.formatters.is_empty() {
        let at = format!("{field}.formatters");
        return Err(DecodeError::unsupported(at, "a command by an extension"));
    }
    if spec.format.is_none() {
        return Err(DecodeError::new(field, "has no format"));
    }
    let shape = access_log::shape(field, spec)?;
    let is_json = matches!(shape, Shape::Json(_));
    if is_json && spec.omit_empty_values {
        let at = format!("{field}.omit_empty_values");
        return Err(DecodeError::unsupported(at, "leaving fields of JSON out"));
    }
    let usual = if is_json {
        "application/json"
    } else {
        "text/plain"
    };
    Ok(ReplyFormat {
        shape,
        content_type: match spec.content_type.as_str() {
            "" => usual.to_owned(),
            given => given.to_owned(),
        },
        omits: spec.omit_empty_values,
    })
}

fn filter(field: &str, spec: &accesslog::AccessLogFilter) -> Result<LogFilter> {
    use accesslog::access_log_filter::FilterSpecifier as Kind;
    let unsupported = |what: &str| Err(DecodeError::unsupported(field, what));
    let all = |list: &[accesslog::AccessLogFilter]| {
        let one = |(n, spec)| filter(&format!("{field}.filters[{n}]"), spec);
        list.iter().enumerate().map(one).collect::<Result<Vec<_>>>()
    };
    Ok(match &spec.filter_specifier {
        None => return Err(DecodeError::new(field, "is required")),
        Some(Kind::StatusCodeFilter(of)) => {
            let (how, with) = comparison(field, of.comparison.as_ref())?;
            LogFilter::Status(how, with)
        }
        Some(Kind::DurationFilter(of)) => {
            let (how, with) = comparison(field, of.comparison.as_ref())?;
            LogFilter::Duration(how, with)
        }
        // No request is one of a health check's here.
        Some(Kind::NotHealthCheckFilter(_)) => LogFilter::All(Vec::new()),
        Some(Kind::RuntimeFilter(of)) => {
            // No share at all is none.
            let share = of.percent_sampled.unwrap_or_default();
            LogFilter::Share(fraction(Some(&share)))
        }
        Some(Kind::AndFilter(of)) => LogFilter::All(all(&of.filters)?),
        Some(Kind::OrFilter(of)) => LogFilter::Any(all(&of.filters)?),
        Some(Kind::HeaderFilter(of)) => {
            let test = of.header.as_ref();
            let test = test.ok_or_else(|| DecodeError::new(field, "has no header"))?;
            LogFilter::Header(route::header_test(test)?)
        }
        Some(Kind::ResponseFlagFilter(of)) => {
            if let Some(unknown) = of.flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
                return Err(DecodeError::new(
                    field,
                    format!("{unknown:?} is no response flag"),
                ));
            }
            LogFilter::Flags(of.flags.clone())
        }
        Some(Kind::TraceableFilter(_)) => return unsupported("a filter by traces"),
        Some(Kind::GrpcStatusFilter(_)) => return unsupported("a filter by gRPC's status"),
        Some(Kind::ExtensionFilter(_)) => return unsupported("a filter of an extension"),
        Some(Kind::MetadataFilter(_)) => return unsupported("a filter by metadata"),
        Some(Kind::LogTypeFilter(_)) => return unsupported("a filter by the type of a log"),
    })
}

fn comparison(
    field: &str,
    spec: Option<&accesslog::ComparisonFilter>,
) -> Result<(Comparison, u32)> {
    use accesslog::comparison_filter::Op;
    let spec = spec.ok_or_else(|| DecodeError::new(field, "has no comparison"))?;
    let value = spec.value.as_ref();
    let value = value.ok_or_else(|| DecodeError::new(field, "compares with nothing"))?;
    let how = match spec.op() {
        Op::Eq => Comparison::Equal,
        Op::Ne => Comparison::Other,
        Op::Ge => Comparison::AtLeast,
        Op::Le => Comparison::AtMost,
    };
    Ok((how, value.default_value))
}

pub(crate) static LOCAL_REPLY: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig",
    &[
        (1, "mappers[]", In(&MAPPER)),
        (2, "body_format", In(&REPLY_FORMAT)),
    ],
);

pub(crate) static MAPPER: Reads = Reads::of(
    "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper",
    &[
        (1, "filter", In(&FILTER)),
        (2, "status_code", Whole),
        (3, "body", In(&DATA_SOURCE)),
        (4, "body_format_override", In(&REPLY_FORMAT)),
        (5, "headers_to_add[]", In(&HEADER_OPTION)),
    ],
);

pub(crate) static REPLY_FORMAT: Reads = Reads::of(
    "envoy.config.core.v3.SubstitutionFormatString",
    &[
        (1, "text_format", Whole),
        (2, "json_format", Whole),
        (3, "omit_empty_values", Whole),
        (4, "content_type", Whole),
        (5, "text_format_source", In(&DATA_SOURCE)),
        (6, "formatters[]", Whole),
    ],
);

// Of keys of the runtime the default is what counts, as nobody sets another one.
pub(crate) static FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.AccessLogFilter",
    &[
        (1, "status_code_filter", In(&STATUS_FILTER)),
        (2, "duration_filter", In(&DURATION_FILTER)),
        (3, "not_health_check_filter", Whole),
        (4, "traceable_filter", Whole),
        (5, "runtime_filter", In(&RUNTIME_FILTER)),
        (6, "and_filter", In(&AND_FILTER)),
        (7, "or_filter", In(&OR_FILTER)),
        (8, "header_filter", In(&HEADER_FILTER)),
        (9, "response_flag_filter", In(&FLAG_FILTER)),
        (10, "grpc_status_filter", Whole),
        (11, "extension_filter", Whole),
        (12, "metadata_filter", Whole),
        (13, "log_type_filter", Whole),
    ],
);

pub(crate) static RUNTIME_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.RuntimeFilter",
    &[
        (1, "runtime_key", Harmless),
        (2, "percent_sampled", In(&FRACTION)),
    ],
);

pub(crate) static STATUS_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.StatusCodeFilter",
    &[(1, "comparison", In(&COMPARISON))],
);

pub(crate) static DURATION_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.DurationFilter",
    &[(1, "comparison", In(&COMPARISON))],
);

pub(crate) static COMPARISON: Reads = Reads::of(
    "envoy.config.accesslog.v3.ComparisonFilter",
    &[(1, "op", Whole), (2, "value", In(&RUNTIME_UINT32))],
);

pub(crate) static RUNTIME_UINT32: Reads = Reads::of(
    "envoy.config.core.v3.RuntimeUInt32",
    &[(2, "default_value", Whole), (3, "runtime_key", Harmless)],
);

pub(crate) static AND_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.AndFilter",
    &[(1, "filters[]", In(&FILTER))],
);

pub(crate) static OR_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.OrFilter",
    &[(2, "filters[]", In(&FILTER))],
);

pub(crate) static HEADER_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.HeaderFilter",
    &[(1, "header", In(&HEADER_MATCHER))],
);

pub(crate) static FLAG_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.ResponseFlagFilter",
    &[(1, "flags[]", Words(never_set))],
);

/// The flag, where no answer of the proxy's own ever has it.
fn never_set(flag: &str) -> Vec<String> {
    let is_set = SET.iter().any(|reason| reason.flag() == flag);
    if is_set {
        Vec::new()
    } else {
        vec![flag.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Result<Option<LocalReplySpec>> {
        let spec: pb::LocalReplyConfig = lateen_xds::json::from_value(spec).expect("the message");
        local_reply(Some(&spec))
    }

    #[test]
    fn what_is_written_is_read() {
        let code = json!({ "status_code_filter": { "comparison": { "op": "NE",
            "value": { "default_value": 503, "runtime_key": "a" } } } });
        let spec = read(json!({
            "mappers": [
                { "filter": { "or_filter": { "filters": [code, { "not_health_check_filter": {} }] } },
                  "status_code": 418, "body": { "inline_string": "a" } },
            ],
            "body_format": { "json_format": { "a": "%RESPONSE_CODE%" } },
        }));
        let spec = spec.expect("supported").expect("there");
        let mapper = &spec.mappers[0];
        assert_eq!(
            (mapper.status, mapper.body.as_deref()),
            (Some(418), Some(&b"a"[..]))
        );
        let LogFilter::Any(filters) = &mapper.filter else {
            panic!("{:?}", mapper.filter)
        };
        assert!(matches!(
            filters[0],
            LogFilter::Status(Comparison::Other, 503)
        ));
        assert_eq!(spec.format.expect("there").content_type, "application/json");
        assert!(local_reply(None).expect("nothing").is_none());
        assert!(read(json!({})).expect("nothing").is_none());
        for flag in FLAGS {
            let filter = json!({ "response_flag_filter": { "flags": [flag] } });
            read(json!({ "mappers": [{ "filter": filter }] })).expect(flag);
        }
        assert!(SET.iter().all(|reason| FLAGS.contains(&reason.flag())));
        assert_eq!((never_set("NR"), never_set("RLSE").len()), (Vec::new(), 1));
        for (how, holds) in [
            (Comparison::Equal, [false, true, false]),
            (Comparison::Other, [true, false, true]),
            (Comparison::AtLeast, [false, true, true]),
            (Comparison::AtMost, [true, true, false]),
        ] {
            assert_eq!([4, 5, 6].map(|n| how.holds(n, 5)), holds, "{how:?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let mapper = |filter: Value| json!({ "mappers": [{ "filter": filter }] });
        for (spec, field) in [
            (
                mapper(json!({ "grpc_status_filter": {} })),
                "mappers[0].filter",
            ),
            (
                mapper(json!({ "metadata_filter": {} })),
                "mappers[0].filter",
            ),
            (
                mapper(json!({ "response_flag_filter": { "flags": ["XX"] } })),
                "mappers[0].filter",
            ),
            (
                mapper(json!({ "and_filter": { "filters": [{ "traceable_filter": {} }] } })),
                "mappers[0].filter.filters[0]",
            ),
            (
                json!({ "mappers": [{ "status_code": 500 }] }),
                "mappers[0].filter",
            ),
            (
                json!({ "mappers": [{ "filter": { "not_health_check_filter": {} },
                    "status_code": 99 }] }),
                "mappers[0].status_code",
            ),
            (
                json!({ "body_format": { "json_format": {}, "omit_empty_values": true } }),
                "body_format.omit_empty_values",
            ),
            (
                json!({ "body_format": { "text_format": "a", "formatters": [{ "name": "b" }] } }),
                "body_format.formatters",
            ),
            (
                json!({ "body_format": { "text_format": "%A" } }),
                "body_format",
            ),
        ] {
            let error = read(spec.clone()).expect_err("refused").to_string();
            let field = format!("local_reply_config.{field}");
            assert!(error.contains(&field), "{spec}: {error}");
        }
    }
}
