//! Maps. They are changed as copies.

use serde_json::Map;

use super::{Outcome, Value, is_true, map, one, text, two};

pub(super) const NAMES: [&str; 12] = [
    "dict",
    "get",
    "hasKey",
    "keys",
    "values",
    "pick",
    "omit",
    "merge",
    "mergeOverwrite",
    "dig",
    "deepCopy",
    "pluck",
];

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    let done = match name {
        "dict" => Ok(dict(args)),
        "get" => two(args).and_then(|(of, key)| {
            let found = map(of)?.get(&text(key)).cloned();
            Ok(found.unwrap_or_else(|| "".into()))
        }),
        "hasKey" => two(args).and_then(|(of, key)| Ok(map(of)?.contains_key(&text(key)).into())),
        "keys" => all(args).map(|all| {
            let keys = all.iter().flat_map(|map| map.keys());
            keys.cloned().collect::<Vec<_>>().into()
        }),
        "values" => all(args).map(|all| {
            let values = all.iter().flat_map(|map| map.values());
            values.cloned().collect::<Vec<_>>().into()
        }),
        "pluck" => match args.split_first() {
            Some((key, maps)) => all(maps).map(|all| {
                let found = all.iter().filter_map(|map| map.get(&text(key)));
                found.cloned().collect::<Vec<_>>().into()
            }),
            None => Err("takes a key".to_owned()),
        },
        "pick" => chosen(args, true),
        "omit" => chosen(args, false),
        "merge" => all(args).map(|all| laid(&all, false)),
        "mergeOverwrite" => all(args).map(|all| laid(&all, true)),
        "deepCopy" => one(args).cloned(),
        "dig" => dig(args),
        _ => return None,
    };
    Some(done)
}

/// Keys and values in turn; a last key alone has an empty text.
fn dict(args: &[Value]) -> Value {
    let pairs = args.chunks(2);
    let pair = |pair: &[Value]| {
        (
            text(&pair[0]),
            pair.get(1).cloned().unwrap_or_else(|| "".into()),
        )
    };
    pairs.map(pair).collect()
}

fn all(args: &[Value]) -> Result<Vec<&Map<String, Value>>, String> {
    args.iter().map(map).collect()
}

fn chosen(args: &[Value], named: bool) -> Outcome {
    let (of, keys) = args.split_first().ok_or("takes a map")?;
    let keys: Vec<String> = keys.iter().map(text).collect();
    let entries = map(of)?.iter();
    let stay = entries.filter(|(key, _)| keys.contains(key) == named);
    Ok(stay
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect())
}

/// One map of all: the first counts, or the last.
fn laid(maps: &[&Map<String, Value>], last_counts: bool) -> Value {
    let mut out = Map::new();
    for map in maps {
        lay(&mut out, map, last_counts);
    }
    out.into()
}

fn lay(out: &mut Map<String, Value>, over: &Map<String, Value>, last_counts: bool) {
    for (key, value) in over {
        match (out.get_mut(key), value) {
            (Some(Value::Object(held)), Value::Object(value)) => lay(held, value, last_counts),
            (Some(held), value) if last_counts || !is_true(held) => *held = value.clone(),
            (Some(_), _) => {}
            (None, value) => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Keys one below the other, what is meant where one is missing, and the map.
fn dig(args: &[Value]) -> Outcome {
    let [keys @ .., default, of] = args else {
        return Err("takes a key, a default and a map".to_owned());
    };
    let mut at = of;
    for key in keys {
        match map(at)?.get(&text(key)) {
            Some(found) => at = found,
            None => return Ok(default.clone()),
        }
    }
    Ok(at.clone())
}
