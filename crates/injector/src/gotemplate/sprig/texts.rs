//! Texts.

use super::{Outcome, Value, count, integer, items, json, one, text, two};

pub(super) const NAMES: [&str; 45] = [
    "quote",
    "squote",
    "upper",
    "lower",
    "title",
    "untitle",
    "trim",
    "trimAll",
    "trimPrefix",
    "trimSuffix",
    "trimall",
    "trunc",
    "abbrev",
    "replace",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "join",
    "split",
    "splitList",
    "splitn",
    "indent",
    "nindent",
    "nospace",
    "repeat",
    "substr",
    "cat",
    "initials",
    "plural",
    "snakecase",
    "kebabcase",
    "camelcase",
    "regexMatch",
    "regexFind",
    "regexFindAll",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "regexSplit",
    "regexQuoteMeta",
    "toStrings",
    "wrap",
    "base",
    "dir",
    "ext",
    "clean",
];

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    if !NAMES.contains(&name) {
        return None;
    }
    if name.starts_with("regex") {
        return Some(regular(name, args));
    }
    let texts: Vec<String> = args.iter().map(text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let done = match (name, &texts[..]) {
        ("quote", _) => Ok(quoted(args, &|text| Value::from(text).to_string())),
        ("squote", _) => Ok(quoted(args, &|text| format!("'{text}'"))),
        ("upper", [of]) => Ok(of.to_uppercase()),
        ("lower", [of]) => Ok(of.to_lowercase()),
        ("title", [of]) => Ok(words(of, &|first| first.to_uppercase().collect())),
        ("untitle", [of]) => Ok(words(of, &|first| first.to_lowercase().collect())),
        ("trim", [of]) => Ok(of.trim().to_owned()),
        ("trimAll" | "trimall", [cut, of]) => Ok(of.trim_matches(|c| cut.contains(c)).to_owned()),
        ("trimPrefix", [cut, of]) => Ok(of.strip_prefix(cut).unwrap_or(of).to_owned()),
        ("trimSuffix", [cut, of]) => Ok(of.strip_suffix(cut).unwrap_or(of).to_owned()),
        ("trunc", [_, of]) => Ok(truncated(integer(&args[0]), of)),
        ("abbrev", [_, of]) => Ok(abbreviated(count(&args[0]), of)),
        ("replace", [old, new, of]) => Ok(of.replace(old, new)),
        ("contains", [part, of]) => return Some(Ok(of.contains(part).into())),
        ("hasPrefix", [part, of]) => return Some(Ok(of.starts_with(part).into())),
        ("hasSuffix", [part, of]) => return Some(Ok(of.ends_with(part).into())),
        ("join", [between, _]) => items_as_texts(&args[1]).map(|all| all.join(between)),
        ("split", [at, of]) => return Some(Ok(numbered(of.split(at)))),
        ("splitList", [at, of]) => return Some(Ok(of.split(at).collect::<Vec<_>>().into())),
        ("splitn", [at, _, of]) => return Some(Ok(numbered(of.splitn(count(&args[1]), at)))),
        ("toStrings", [_]) => return Some(items_as_texts(&args[0]).map(|all| json!(all))),
        ("indent", [_, of]) => Ok(indented(count(&args[0]), of)),
        ("nindent", [_, of]) => Ok(format!("\n{}", indented(count(&args[0]), of))),
        ("nospace", [of]) => Ok(of.split_whitespace().collect()),
        ("repeat", [_, of]) => Ok(of.repeat(count(&args[0]).min(10_000))),
        ("substr", [_, _, of]) => Ok(part(integer(&args[0]), integer(&args[1]), of)),
        ("cat", all) => Ok(all.join(" ")),
        ("initials", [of]) => Ok(of
            .split_whitespace()
            .filter_map(|word| word.chars().next())
            .collect()),
        ("plural", [one, many, _]) => {
            Ok(if integer(&args[2]) == 1 { one } else { many }.to_string())
        }
        ("snakecase", [of]) => Ok(parts(of).join("_")),
        ("kebabcase", [of]) => Ok(parts(of).join("-")),
        ("camelcase", [of]) => Ok(parts(of)
            .iter()
            .map(|word| words(word, &|c| c.to_uppercase().collect()))
            .collect()),
        ("base", [of]) => Ok(of
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()),
        ("dir", [of]) => Ok(of.rsplit_once('/').map_or(".", |(dir, _)| dir).to_owned()),
        ("ext", [of]) => Ok(of.rfind('.').map_or("", |at| &of[at..]).to_owned()),
        ("clean", [of]) => Ok(of
            .split('/')
            .filter(|part| !["", "."].contains(part))
            .collect::<Vec<_>>()
            .join("/")),
        ("wrap", [_, of]) => Ok(wrapped(count(&args[0]), of)),
        _ => Err(format!("does not take {} arguments", args.len())),
    };
    Some(done.map(Value::from))
}

/// Nothing stays nothing.
fn quoted(args: &[Value], quote: &dyn Fn(&str) -> String) -> String {
    let there = args.iter().filter(|value| !value.is_null());
    let quoted: Vec<String> = there.map(|value| quote(&text(value))).collect();
    quoted.join(" ")
}

fn words(of: &str, change: &dyn Fn(char) -> String) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in of.chars() {
        if begins {
            out.push_str(&change(c));
        } else {
            out.push(c);
        }
        begins = c.is_whitespace();
    }
    out
}

/// The first, or with a negative number the last characters.
fn truncated(n: i64, of: &str) -> String {
    let length = of.chars().count();
    let most = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    if n < 0 {
        of.chars().skip(length.saturating_sub(most)).collect()
    } else {
        of.chars().take(most).collect()
    }
}

fn abbreviated(most: usize, of: &str) -> String {
    if most < 4 || of.chars().count() <= most {
        return of.to_owned();
    }
    let kept: String = of.chars().take(most - 3).collect();
    kept + "..."
}

fn items_as_texts(value: &Value) -> Result<Vec<String>, String> {
    let there = items(value)?.iter().filter(|value| !value.is_null());
    Ok(there.map(text).collect())
}

/// `_0`, `_1`, as Sprig names the parts.
fn numbered<'a>(parts: impl Iterator<Item = &'a str>) -> Value {
    let parts = parts.enumerate();
    parts
        .map(|(n, part)| (format!("_{n}"), json!(part)))
        .collect()
}

fn indented(by: usize, of: &str) -> String {
    let pad = " ".repeat(by.min(1000));
    let lines: Vec<String> = of.split('\n').map(|line| format!("{pad}{line}")).collect();
    lines.join("\n")
}

/// A negative bound is the end of the text.
fn part(from: i64, to: i64, of: &str) -> String {
    let from = usize::try_from(from).unwrap_or_default();
    let to = usize::try_from(to).unwrap_or(usize::MAX);
    of.chars()
        .skip(from)
        .take(to.saturating_sub(from))
        .collect()
}

/// In small letters, divided where words begin.
fn parts(of: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut was_small = false;
    let mut begins = true;
    for c in of.chars() {
        if !c.is_alphanumeric() {
            begins = true;
            continue;
        }
        if begins || (c.is_uppercase() && was_small) {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut() {
            last.extend(c.to_lowercase());
        }
        begins = false;
        was_small = c.is_lowercase() || c.is_numeric();
    }
    parts
}

fn wrapped(width: usize, of: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in of.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn regular(name: &str, args: &[Value]) -> Outcome {
    if name == "regexQuoteMeta" {
        return one(args).map(|of| regex::escape(&text(of)).into());
    }
    let (expression, rest) = args.split_first().ok_or("takes an expression")?;
    let expression = regex::Regex::new(&text(expression));
    let expression = expression.map_err(|error| format!("not a regular expression: {error}"))?;
    let of = rest.first().map(text).unwrap_or_default();
    match name {
        "regexMatch" => two(args).map(|_| expression.is_match(&of).into()),
        "regexFind" => two(args).map(|_| expression.find(&of).map_or("", |m| m.as_str()).into()),
        "regexFindAll" | "regexSplit" => {
            let limit = rest.get(1).ok_or("takes three arguments")?;
            let limit = usize::try_from(integer(limit)).unwrap_or(usize::MAX);
            let found: Vec<&str> = if name == "regexFindAll" {
                expression
                    .find_iter(&of)
                    .map(|m| m.as_str())
                    .take(limit)
                    .collect()
            } else if limit == usize::MAX {
                expression.split(&of).collect()
            } else {
                expression.splitn(&of, limit).collect()
            };
            Ok(found.into())
        }
        _ => {
            let with = rest.get(1).map(text).ok_or("takes three arguments")?;
            Ok(if name == "regexReplaceAll" {
                // Go's `${1}` is ours.
                expression.replace_all(&of, with.as_str()).into_owned()
            } else {
                expression
                    .replace_all(&of, regex::NoExpand(&with))
                    .into_owned()
            }
            .into())
        }
    }
}
