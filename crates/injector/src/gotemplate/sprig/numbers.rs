//! Numbers.

use super::{Outcome, Value, integer, one, text};

pub(super) const NAMES: [&str; 17] = [
    "int",
    "int64",
    "atoi",
    "float64",
    "add",
    "add1",
    "sub",
    "mul",
    "div",
    "mod",
    "max",
    "min",
    "ceil",
    "floor",
    "round",
    "biggest",
    "toDecimal",
];

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    if !NAMES.contains(&name) {
        return None;
    }
    let numbers: Vec<i64> = args.iter().map(integer).collect();
    let fold = |change: fn(i64, i64) -> Option<i64>| {
        let mut numbers = numbers.iter().copied();
        let first = numbers.next().ok_or("takes numbers")?;
        let mut all = numbers;
        let result = all.try_fold(first, change);
        let result = result.ok_or("the number is too great, or divided by zero")?;
        Ok(result.into())
    };
    Some(match name {
        "int" | "int64" | "atoi" => one(args).map(|value| integer(value).into()),
        "toDecimal" => one(args).map(|value| {
            i64::from_str_radix(&text(value), 8)
                .unwrap_or_default()
                .into()
        }),
        "float64" => one(args).map(|value| float(value).into()),
        "add" => fold(i64::checked_add),
        "add1" => one(args).map(|value| integer(value).saturating_add(1).into()),
        "sub" => fold(i64::checked_sub),
        "mul" => fold(i64::checked_mul),
        "div" => fold(i64::checked_div),
        "mod" => fold(i64::checked_rem),
        "max" | "biggest" => fold(|a, b| Some(a.max(b))),
        "min" => fold(|a, b| Some(a.min(b))),
        "ceil" => one(args).map(|value| float(value).ceil().into()),
        "floor" => one(args).map(|value| float(value).floor().into()),
        _ => match args {
            [value, digits] => {
                let digits = i32::try_from(integer(digits)).unwrap_or_default();
                let scale = 10f64.powi(digits);
                Ok(((float(value) * scale).round() / scale).into())
            }
            _ => Err("takes two arguments".to_owned()),
        },
    })
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        other => text(other).trim().parse().unwrap_or_default(),
    }
}
