//! Lists.

use super::{Outcome, Value, count, integer, is_true, items, map, one, same, text, two};

pub(super) const NAMES: [&str; 19] = [
    "list",
    "tuple",
    "first",
    "last",
    "rest",
    "initial",
    "append",
    "push",
    "prepend",
    "concat",
    "reverse",
    "uniq",
    "without",
    "has",
    "compact",
    "sortAlpha",
    "until",
    "untilStep",
    "seq",
];
/// How long a list may be that is made of numbers.
const MAX_ITEMS: usize = 100_000;

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    let done = match name {
        "list" | "tuple" => Ok(args.to_vec().into()),
        "first" => of_list(args, &|items| items.first().cloned().unwrap_or_default()),
        "last" => of_list(args, &|items| items.last().cloned().unwrap_or_default()),
        "rest" => of_list(args, &|items| {
            items.get(1..).unwrap_or_default().to_vec().into()
        }),
        "initial" => of_list(args, &|items| {
            let n = items.len().saturating_sub(1);
            items[..n].to_vec().into()
        }),
        "append" | "push" => two(args).and_then(|(list, item)| {
            let mut all = items(list)?.to_vec();
            all.push(item.clone());
            Ok(all.into())
        }),
        "prepend" => two(args).and_then(|(list, item)| {
            let mut all = vec![item.clone()];
            all.extend_from_slice(items(list)?);
            Ok(all.into())
        }),
        "concat" => args
            .iter()
            .map(items)
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat().into()),
        "reverse" => of_list(args, &|items| items.iter().rev().cloned().collect()),
        "uniq" => of_list(args, &uniq),
        "compact" => of_list(args, &|items| {
            items.iter().filter(|item| is_true(item)).cloned().collect()
        }),
        "without" => match args.split_first() {
            Some((list, out)) => items(list).map(|list| {
                let stay = list.iter().filter(|item| !out.contains(item));
                stay.cloned().collect()
            }),
            None => Err("takes a list".to_owned()),
        },
        "has" => two(args).and_then(|(wanted, list)| match list {
            Value::Object(_) => Ok(map(list)?.contains_key(&text(wanted)).into()),
            list => Ok(items(list)?.iter().any(|item| same(item, wanted)).into()),
        }),
        "sortAlpha" => of_list(args, &|items| {
            let mut texts: Vec<String> = items.iter().map(text).collect();
            texts.sort();
            texts.into()
        }),
        "until" => one(args).map(|n| (0..count(n).min(MAX_ITEMS)).map(Value::from).collect()),
        "untilStep" => match args {
            [from, to, step] => Ok(steps(integer(from), integer(to), integer(step))),
            _ => Err("takes three arguments".to_owned()),
        },
        "seq" => match args {
            [to] => Ok(seq(1, integer(to), 1)),
            [from, to] => Ok(seq(integer(from), integer(to), 1)),
            [from, step, to] => Ok(seq(integer(from), integer(to), integer(step))),
            _ => Err("takes one to three arguments".to_owned()),
        },
        _ => return None,
    };
    Some(done)
}

fn of_list(args: &[Value], change: &dyn Fn(&[Value]) -> Value) -> Outcome {
    Ok(change(items(one(args)?)?))
}

fn uniq(items: &[Value]) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for item in items {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all.into()
}

/// Without the last bound.
fn steps(from: i64, to: i64, step: i64) -> Value {
    let mut all = Vec::new();
    let mut at = from;
    while all.len() < MAX_ITEMS && ((step > 0 && at < to) || (step < 0 && at > to)) {
        all.push(Value::from(at));
        at = at.saturating_add(step);
    }
    all.into()
}

/// As the shell's command: with the last bound, as a text.
fn seq(from: i64, to: i64, step: i64) -> Value {
    let up = if from <= to {
        step.saturating_abs()
    } else {
        step.saturating_abs().saturating_neg()
    };
    let end = to.saturating_add(up.signum());
    let Value::Array(all) = steps(from, end, up) else {
        return Value::Null;
    };
    let texts: Vec<String> = all.iter().map(text).collect();
    texts.join(" ").into()
}
