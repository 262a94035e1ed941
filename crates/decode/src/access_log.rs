//! Access logs.

use lateen_telemetry::access_log::{Format, Shape, Template};
use lateen_xds::TypeUrl;
use lateen_xds::envoy::extensions::access_loggers::{file::v3 as file, stream::v3 as stream};
use lateen_xds::types::{accesslog as pb, core, wkt};

use super::common::Data;
use super::{DecodeError, Result, typed};
use crate::common::DATA_SOURCE;
use crate::unread::Kind::{Harmless, In, Packed, Whole};
use crate::unread::{Reads, Types};

/// One access log.
#[derive(Debug, Clone)]
pub struct AccessLogSpec {
    /// What its lines are.
    pub shape: Shape,
    /// The file that they go to.
    pub path: String,
    /// Only what ended with a response flag.
    pub only_flagged: bool,
}

/// Compiles the access logs of a listener or filter; loggers that are not files are refused.
pub(super) fn access_logs(list: &[pb::AccessLog]) -> Result<Vec<AccessLogSpec>> {
    list.iter().map(access_log).collect()
}

fn access_log(spec: &pb::AccessLog) -> Result<AccessLogSpec> {
    use file::file_access_log::AccessLogFormat;
    use stream::stdout_access_log::AccessLogFormat as StreamFormat;
    let field = format!("access_log[{}]", spec.name);
    let only_flagged = match &spec.filter {
        None => false,
        Some(filter) => match &filter.filter_specifier {
            Some(pb::access_log_filter::FilterSpecifier::ResponseFlagFilter(_)) => true,
            Some(_) => return Err(DecodeError::unsupported(field, "this filter")),
            None => false,
        },
    };
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &spec.config_type else {
        return Err(DecodeError::new(field, "has no typed config"));
    };
    let (path, shape) = match TypeUrl::new(&any.type_url).message() {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            let log: file::FileAccessLog = typed(&field, any)?;
            #[allow(deprecated)]
            let shape = match &log.access_log_format {
                None => Shape::istio(),
                Some(AccessLogFormat::Format(text)) => text_shape(&field, text)?,
                Some(AccessLogFormat::LogFormat(format)) => shape(&field, format)?,
                Some(
                    AccessLogFormat::JsonFormat(json) | AccessLogFormat::TypedJsonFormat(json),
                ) => json_shape(&field, json)?,
            };
            (log.path, shape)
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: stream::StdoutAccessLog = typed(&field, any)?;
            let shape = match &log.access_log_format {
                None => Shape::istio(),
                Some(StreamFormat::LogFormat(format)) => shape(&field, format)?,
            };
            ("/dev/stdout".to_owned(), shape)
        }
        kind => {
            return Err(DecodeError::unsupported(
                field,
                format!("the logger type {kind}"),
            ));
        }
    };
    Ok(AccessLogSpec {
        shape,
        path,
        only_flagged,
    })
}

fn text_shape(field: &str, text: &str) -> Result<Shape> {
    if text.is_empty() {
        return Ok(Shape::istio());
    }
    Ok(Shape::Text(format(field, text)?))
}

fn format(field: &str, text: &str) -> Result<Format> {
    Format::parse(text).map_err(|error| DecodeError::new(field, error.to_string()))
}

pub(super) fn shape(field: &str, spec: &core::SubstitutionFormatString) -> Result<Shape> {
    use core::substitution_format_string::Format as Kind;
    match &spec.format {
        Some(Kind::TextFormat(text)) => text_shape(field, text),
        Some(Kind::TextFormatSource(source)) => {
            let bytes = Data::of(field, source)?.read(field)?;
            text_shape(field, &String::from_utf8_lossy(&bytes))
        }
        Some(Kind::JsonFormat(json)) => json_shape(field, json),
        None => Ok(Shape::istio()),
    }
}

fn json_shape(field: &str, json: &wkt::Struct) -> Result<Shape> {
    Ok(Shape::Json(fields(field, json)?))
}

fn fields(field: &str, json: &wkt::Struct) -> Result<Vec<(String, Template)>> {
    let one = |(key, value): (&String, &wkt::Value)| Ok((key.clone(), template(field, value)?));
    let mut fields = json.fields.iter().map(one).collect::<Result<Vec<_>>>()?;
    // The message has them in no order; by name is Envoy's.
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(fields)
}

fn template(field: &str, value: &wkt::Value) -> Result<Template> {
    use wkt::value::Kind;
    Ok(match &value.kind {
        Some(Kind::StringValue(text)) => Template::Text(format(field, text)?),
        Some(Kind::StructValue(json)) => Template::Object(fields(field, json)?),
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(|value| template(field, value));
            Template::List(items.collect::<Result<_>>()?)
        }
        Some(Kind::NumberValue(number)) => Template::Fixed((*number).into()),
        Some(Kind::BoolValue(truth)) => Template::Fixed((*truth).into()),
        Some(Kind::NullValue(_)) | None => Template::Fixed(serde_json::Value::Null),
    })
}

pub(crate) static ACCESS_LOG: Reads = Reads::of(
    "envoy.config.accesslog.v3.AccessLog",
    &[
        (1, "name", Harmless),
        (2, "filter", In(&ACCESS_LOG_FILTER)),
        (
            4,
            "typed_config",
            Packed(Types::of(&[&FILE_LOG, &STDOUT_LOG])),
        ),
    ],
);

// All others are refused.
pub(crate) static ACCESS_LOG_FILTER: Reads = Reads::of(
    "envoy.config.accesslog.v3.AccessLogFilter",
    &[
        (1, "status_code_filter", Whole),
        (2, "duration_filter", Whole),
        (3, "not_health_check_filter", Whole),
        (4, "traceable_filter", Whole),
        (5, "runtime_filter", Whole),
        (6, "and_filter", Whole),
        (7, "or_filter", Whole),
        (8, "header_filter", Whole),
        (9, "response_flag_filter", In(&FLAG_FILTER)),
        (10, "grpc_status_filter", Whole),
        (11, "extension_filter", Whole),
        (12, "metadata_filter", Whole),
        (13, "log_type_filter", Whole),
    ],
);

pub(crate) static FLAG_FILTER: Reads =
    Reads::of("envoy.config.accesslog.v3.ResponseFlagFilter", &[]);

pub(crate) static FILE_LOG: Reads = Reads::of(
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    &[
        (1, "path", Whole),
        (2, "format", Whole),
        (3, "json_format", Whole),
        (4, "typed_json_format", Whole),
        (5, "log_format", In(&LOG_FORMAT)),
    ],
);

pub(crate) static STDOUT_LOG: Reads = Reads::of(
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    &[(1, "log_format", In(&LOG_FORMAT))],
);

pub(crate) static LOG_FORMAT: Reads = Reads::of(
    "envoy.config.core.v3.SubstitutionFormatString",
    &[
        (1, "text_format", Whole),
        (2, "json_format", Whole),
        (5, "text_format_source", In(&DATA_SOURCE)),
    ],
);
