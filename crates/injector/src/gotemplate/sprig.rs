//! Functions of the Sprig library that public templates use.
//!
//! Left out is what reads the time, makes keys or random texts, asks the network, or changes a map in
//! place: what a pod becomes must depend on what it is made of alone.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    exec::is_true,
    format::text,
    functions::{one, same, two},
};

mod lists;
mod maps;
mod numbers;
mod texts;

type Outcome = Result<Value, String>;

/// Whether there is one of this name.
pub(super) fn has(name: &str) -> bool {
    GENERAL.contains(&name)
        || texts::NAMES.contains(&name)
        || lists::NAMES.contains(&name)
        || maps::NAMES.contains(&name)
        || numbers::NAMES.contains(&name)
}

/// Calls it; `None` where there is none.
pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    general(name, args)
        .or_else(|| texts::call(name, args))
        .or_else(|| lists::call(name, args))
        .or_else(|| maps::call(name, args))
        .or_else(|| numbers::call(name, args))
}

const GENERAL: [&str; 22] = [
    "default",
    "coalesce",
    "empty",
    "ternary",
    "all",
    "any",
    "fail",
    "kindOf",
    "kindIs",
    "typeOf",
    "toString",
    "toJson",
    "toPrettyJson",
    "toRawJson",
    "fromJson",
    "mustToJson",
    "mustFromJson",
    "toYaml",
    "fromYaml",
    "b64enc",
    "b64dec",
    "required",
];

fn general(name: &str, args: &[Value]) -> Option<Outcome> {
    let done = match name {
        "default" => two(args).map(|(default, value)| {
            let chosen = if is_true(value) { value } else { default };
            chosen.clone()
        }),
        "coalesce" => Ok(args
            .iter()
            .find(|value| is_true(value))
            .cloned()
            .unwrap_or_default()),
        "empty" => one(args).map(|value| (!is_true(value)).into()),
        "all" => Ok(args.iter().all(is_true).into()),
        "any" => Ok(args.iter().any(is_true).into()),
        "ternary" => match args {
            [yes, no, which] => Ok(if is_true(which) { yes } else { no }.clone()),
            _ => Err("takes three arguments".to_owned()),
        },
        "fail" => Err(args.iter().map(text).collect()),
        "required" => two(args).and_then(|(why, value)| match value {
            Value::Null => Err(text(why)),
            Value::String(empty) if empty.is_empty() => Err(text(why)),
            value => Ok(value.clone()),
        }),
        "kindOf" | "typeOf" => one(args).map(|value| kind(value).into()),
        "kindIs" => two(args).map(|(wanted, value)| (wanted == kind(value)).into()),
        "toString" => one(args).map(|value| text(value).into()),
        "toJson" | "toRawJson" | "mustToJson" => one(args).map(|value| value.to_string().into()),
        "toPrettyJson" => one(args).map(|value| format!("{value:#}").into()),
        "fromJson" | "mustFromJson" => one(args).and_then(|value| {
            serde_json::from_str(&text(value)).map_err(|error| format!("not JSON: {error}"))
        }),
        "toYaml" => one(args).and_then(|value| to_yaml(value).map(|yaml| yaml.trim_end().into())),
        "fromYaml" => one(args).and_then(|value| {
            lateen_yaml::from_str(&text(value)).map_err(|error| format!("not YAML: {error}"))
        }),
        "b64enc" => one(args).map(|value| STANDARD.encode(text(value)).into()),
        "b64dec" => one(args).and_then(|value| {
            let bytes = STANDARD
                .decode(text(value))
                .map_err(|error| error.to_string())?;
            let decoded = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            Ok(decoded.into())
        }),
        _ => return None,
    };
    Some(done)
}

/// With the end of its last line.
pub(crate) fn to_yaml(value: &Value) -> Result<String, String> {
    lateen_yaml::to_string(value).map_err(|error| error.to_string())
}

/// As Go names it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn items(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(&[]),
        Value::String(text) if text.is_empty() => Ok(&[]),
        other => Err(format!("{other} is not a list")),
    }
}

fn map(value: &Value) -> Result<&Map<String, Value>, String> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(&EMPTY),
        Value::String(text) if text.is_empty() => Ok(&EMPTY),
        other => Err(format!("{other} is not a map")),
    }
}

/// A number, or a text or a truth value that stands for one.
fn integer(value: &Value) -> i64 {
    match value {
        #[allow(clippy::cast_possible_truncation)]
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64))
            .unwrap_or_default(),
        Value::String(text) => text.trim().parse().unwrap_or_default(),
        Value::Bool(true) => 1,
        _ => 0,
    }
}

/// A number of bytes or items, from 0.
fn count(value: &Value) -> usize {
    usize::try_from(integer(value)).unwrap_or_default()
}
