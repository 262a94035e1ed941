//! Access logs: Envoy's format strings, compiled once, and a writer that never blocks a request.

mod sink;

use std::borrow::Cow;

pub use sink::Sink;

/// Istio's default text format.
pub const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% \
%PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% \
%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" \
%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Where the values come from.
pub trait LogSource {
    /// A request header or pseudo-header, by its name in lower case.
    fn request_header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A response header.
    fn response_header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// Anything else, by the command's name, such as `RESPONSE_CODE`, and its argument.
    fn value(&self, command: &str, argument: &str) -> Option<Cow<'_, str>>;
}

/// A format string, taken apart.
#[derive(Debug, Clone)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Command { kind: Kind, max: Option<usize> },
}

#[derive(Debug, Clone)]
enum Kind {
    Request(String, Option<String>),
    Response(String, Option<String>),
    Other(String, String),
}

/// A format string with a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad format string at {0:?}")]
pub struct FormatError(pub String);

impl Format {
    /// Takes a format string apart; `%%` is a percent sign.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('%') {
            literal.push_str(&rest[..start]);
            rest = &rest[start + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = command_end(rest).ok_or_else(|| FormatError(format!("%{rest}")))?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(command(&rest[..end])?);
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Format { parts })
    }

    /// The text itself where nothing is to be filled in.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills in the values; what is missing is `missing`.
    pub fn write(&self, source: &dyn LogSource, missing: &str, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Command { kind, max } => match kind.value(source) {
                    None => out.push_str(missing),
                    Some(value) => {
                        let end = max.map_or(value.len(), |max| floor_boundary(&value, max));
                        out.push_str(&value[..end]);
                    }
                },
            }
        }
    }
}

impl Kind {
    fn value<'a>(&'a self, source: &'a dyn LogSource) -> Option<Cow<'a, str>> {
        match self {
            Kind::Request(name, other) => source
                .request_header(name)
                .or_else(|| source.request_header(other.as_deref()?)),
            Kind::Response(name, other) => source
                .response_header(name)
                .or_else(|| source.response_header(other.as_deref()?)),
            Kind::Other(name, argument) => source.value(name, argument),
        }
    }
}

fn floor_boundary(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0)
}

/// The end of a command: a percent sign outside of parentheses.
fn command_end(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    text.char_indices().find_map(|(index, c)| match c {
        '(' => {
            depth += 1;
            None
        }
        ')' => {
            depth = depth.saturating_sub(1);
            None
        }
        '%' if depth == 0 => Some(index),
        _ => None,
    })
}

fn command(text: &str) -> Result<Part, FormatError> {
    let fault = || FormatError(format!("%{text}%"));
    let (name, rest) = match text.split_once('(') {
        None => (text.split(':').next().unwrap_or(text), None),
        Some((name, rest)) => (name, Some(rest)),
    };
    let (argument, after) = match rest {
        None => ("", text.get(name.len()..).unwrap_or("")),
        Some(rest) => {
            let end = rest.rfind(')').ok_or_else(fault)?;
            (&rest[..end], &rest[end + 1..])
        }
    };
    let max = match after.strip_prefix(':') {
        None if after.is_empty() => None,
        None => return Err(fault()),
        Some(max) => Some(max.parse().map_err(|_| fault())?),
    };
    let valid = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        return Err(fault());
    }
    let headers = || {
        let (first, other) = argument.split_once('?').unwrap_or((argument, ""));
        let other = (!other.is_empty()).then(|| other.to_ascii_lowercase());
        (first.to_ascii_lowercase(), other)
    };
    let kind = match name {
        "REQ" => {
            let (first, other) = headers();
            Kind::Request(first, other)
        }
        "RESP" => {
            let (first, other) = headers();
            Kind::Response(first, other)
        }
        name => Kind::Other(name.to_owned(), argument.to_owned()),
    };
    Ok(Part::Command { kind, max })
}

/// The shape of an access log's lines.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A text line.
    Text(Format),
    /// A JSON object of these keys.
    Json(Vec<(String, Template)>),
}

/// A value of a JSON line.
#[derive(Debug, Clone)]
pub enum Template {
    /// What the format gives.
    Text(Format),
    /// An object.
    Object(Vec<(String, Template)>),
    /// An array.
    List(Vec<Template>),
    /// Always the same: a number, a truth value, or null.
    Fixed(serde_json::Value),
}

impl Template {
    fn fill(&self, source: &dyn LogSource) -> serde_json::Value {
        match self {
            Template::Text(format) => json_value(format, source),
            Template::Object(fields) => fill_all(fields, source),
            Template::List(items) => items.iter().map(|item| item.fill(source)).collect(),
            Template::Fixed(value) => value.clone(),
        }
    }
}

fn fill_all(fields: &[(String, Template)], source: &dyn LogSource) -> serde_json::Value {
    let filled = fields
        .iter()
        .map(|(key, template)| (key.clone(), template.fill(source)));
    serde_json::Value::Object(filled.collect())
}

impl Shape {
    /// Istio's default text line.
    pub fn istio() -> Self {
        Shape::Text(Format::parse(TEXT).expect("the default format is valid"))
    }

    /// One line, with its newline.
    pub fn line(&self, source: &dyn LogSource) -> String {
        let mut out = String::with_capacity(512);
        match self {
            Shape::Text(format) => {
                format.write(source, "-", &mut out);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
            Shape::Json(fields) => {
                out = fill_all(fields, source).to_string();
                out.push('\n');
            }
        }
        out
    }
}

/// A single number stays a number, and what is missing is null.
fn json_value(format: &Format, source: &dyn LogSource) -> serde_json::Value {
    if let [Part::Command { kind, .. }] = format.parts.as_slice() {
        let Some(value) = kind.value(source) else {
            return serde_json::Value::Null;
        };
        let number = matches!(kind, Kind::Other(name, _) if is_number(name));
        if number && let Ok(number) = value.parse::<u64>() {
            return number.into();
        }
        return value.into();
    }
    let mut text = String::new();
    format.write(source, "-", &mut text);
    text.into()
}

fn is_number(command: &str) -> bool {
    matches!(
        command,
        "RESPONSE_CODE" | "BYTES_RECEIVED" | "BYTES_SENT" | "DURATION" | "RESPONSE_DURATION"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl LogSource for Fixed {
        fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
            match name {
                ":path" => Some("/productpage".into()),
                "user-agent" => Some("curl".into()),
                _ => None,
            }
        }
        fn response_header(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
        fn value(&self, command: &str, argument: &str) -> Option<Cow<'_, str>> {
            match (command, argument) {
                ("RESPONSE_CODE", _) => Some("200".into()),
                ("START_TIME", "%Y") => Some("2026".into()),
                _ => None,
            }
        }
    }

    #[test]
    fn commands_are_filled_in() {
        let check = |format: &str, expect: &str| {
            let mut out = String::new();
            Format::parse(format)
                .expect("valid")
                .write(&Fixed, "-", &mut out);
            assert_eq!(out, expect, "{format}");
        };
        check("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/productpage");
        check("%REQ(:PATH):5% 100%%", "/prod 100%");
        check("\"%REQ(X-NONE)%\" %RESPONSE_CODE%", "\"-\" 200");
        check("%START_TIME(%Y)%", "2026");
        assert!(Format::parse("%REQ(").is_err());
        assert!(Format::parse("%lower%").is_err());
        assert!(Format::parse("50% of").is_err());
        let line = Shape::istio().line(&Fixed);
        assert!(
            line.contains("\"- /productpage -\" 200 - - - \"-\""),
            "{line}"
        );
    }

    #[test]
    fn json_keeps_numbers_and_nulls() {
        let format = |text: &str| Template::Text(Format::parse(text).expect("valid"));
        let shape = Shape::Json(vec![
            ("code".into(), format("%RESPONSE_CODE%")),
            ("none".into(), format("%RESP(X)%")),
            ("both".into(), format("%RESPONSE_CODE% %REQ(USER-AGENT)%")),
            (
                "nested".into(),
                Template::Object(vec![(
                    "list".into(),
                    Template::List(vec![format("%REQ(:PATH)%"), Template::Fixed(true.into())]),
                )]),
            ),
        ]);
        assert_eq!(
            shape.line(&Fixed),
            "{\"code\":200,\"none\":null,\"both\":\"200 curl\",\
             \"nested\":{\"list\":[\"/productpage\",true]}}\n"
        );
    }
}
