//! The functions that Go's templates have by themselves, but for `and` and `or`, which do not look at
//! all of their arguments.

use std::cmp::Ordering;

use serde_json::Value;

use super::{exec::is_true, format};

const NAMES: [&str; 19] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "eq", "ne", "lt", "le", "gt", "ge", "call",
];

pub(super) fn has(name: &str) -> bool {
    NAMES.contains(&name) && name != "call"
}

pub(super) fn call(name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let done = match name {
        "not" => one(args).map(|value| (!is_true(value)).into()),
        "len" => one(args).and_then(len),
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(format::print(args).into()),
        "println" => Ok(format::println(args).into()),
        "printf" => match args.split_first() {
            Some((Value::String(format), rest)) => format::printf(format, rest).map(Value::from),
            _ => Err("the format is a text".to_owned()),
        },
        "html" => Ok(escape(args, &html).into()),
        "js" => Ok(escape(args, &js).into()),
        "urlquery" => Ok(escape(args, &query).into()),
        "eq" => equal(args).map(Value::from),
        "ne" => two(args).map(|(a, b)| (!same(a, b)).into()),
        "lt" | "le" | "gt" | "ge" => order(args).map(|order| {
            let holds = match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            };
            holds.into()
        }),
        _ => return None,
    };
    Some(done)
}

/// The only argument.
pub(super) fn one(args: &[Value]) -> Result<&Value, String> {
    match args {
        [one] => Ok(one),
        _ => Err(format!("takes one argument, not {}", args.len())),
    }
}

/// The two arguments.
pub(super) fn two(args: &[Value]) -> Result<(&Value, &Value), String> {
    match args {
        [a, b] => Ok((a, b)),
        _ => Err(format!("takes two arguments, not {}", args.len())),
    }
}

fn len(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        other => Err(format!("{other} has no length")),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let (first, keys) = args.split_first().ok_or("takes what is looked into")?;
    let mut at = first;
    static NOTHING: Value = Value::Null;
    for key in keys {
        at = match (at, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).unwrap_or(&NOTHING),
            (Value::Array(items), Value::Number(n)) => {
                let n = n.as_u64().and_then(|n| usize::try_from(n).ok());
                let found = n.and_then(|n| items.get(n));
                found.ok_or_else(|| format!("there is no item {key} of {}", items.len()))?
            }
            // A map that is not there has nothing in it.
            (Value::Null, Value::String(_)) => &NOTHING,
            (Value::String(text), Value::String(_)) if text.is_empty() => &NOTHING,
            (_, key) => return Err(format!("there is nothing to look {key} up in")),
        };
    }
    Ok(at.clone())
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let (first, bounds) = args.split_first().ok_or("takes what is cut")?;
    let bound = |n: usize, or: usize| match bounds.get(n) {
        None => Ok(or),
        Some(bound) => {
            let bound = bound.as_u64().and_then(|n| usize::try_from(n).ok());
            bound.ok_or("a bound is a number from 0")
        }
    };
    let length = len(first)?.as_u64().unwrap_or_default();
    let length = usize::try_from(length).unwrap_or_default();
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    let out_of_range = || format!("{from} to {to} is not within 0 to {length}");
    match first {
        Value::String(text) => text.get(from..to).map(Value::from),
        Value::Array(items) => items.get(from..to).map(|items| items.to_vec().into()),
        _ => None,
    }
    .ok_or_else(out_of_range)
}

/// The first is one of the others.
fn equal(args: &[Value]) -> Result<bool, String> {
    match args {
        [first, others @ ..] if !others.is_empty() => {
            Ok(others.iter().any(|other| same(first, other)))
        }
        _ => Err("takes two arguments or more".to_owned()),
    }
}

/// A field that is not set is Go's zero value of its type, which the other side tells.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let is_unset = |value: &Value| value.is_null() || value == "";
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (unset, Value::Bool(false)) | (Value::Bool(false), unset) if is_unset(unset) => true,
        (unset, Value::Number(n)) | (Value::Number(n), unset) if is_unset(unset) => {
            n.as_f64() == Some(0.0)
        }
        (a, b) => a == b || (is_unset(a) && is_unset(b)),
    }
}

fn order(args: &[Value]) -> Result<Ordering, String> {
    let (a, b) = two(args)?;
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            let order = a.as_f64().partial_cmp(&b.as_f64());
            order.ok_or_else(|| "these numbers have no order".to_owned())
        }
        (a, b) => Err(format!("{a} and {b} have no order")),
    }
}

fn escape(args: &[Value], escape: &dyn Fn(char) -> Option<String>) -> String {
    let text = format::print(args);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match escape(c) {
            Some(escaped) => out.push_str(&escaped),
            None => out.push(c),
        }
    }
    out
}

fn html(c: char) -> Option<String> {
    let escaped = match c {
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        _ => return None,
    };
    Some(escaped.to_owned())
}

fn js(c: char) -> Option<String> {
    match c {
        '\\' | '\'' | '"' => Some(format!("\\{c}")),
        '<' | '>' | '&' | '=' => Some(format!("\\u{:04X}", u32::from(c))),
        c if c.is_control() => Some(format!("\\u{:04X}", u32::from(c))),
        _ => None,
    }
}

fn query(c: char) -> Option<String> {
    match c {
        ' ' => Some("+".to_owned()),
        c if c.is_ascii_alphanumeric() || ['-', '_', '.', '~'].contains(&c) => None,
        c => {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            Some(bytes.map(|byte| format!("%{byte:02X}")).collect())
        }
    }
}
