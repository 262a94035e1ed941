//! Rows of custom resources, by the columns of their definition.

use serde_json::{Value, json};

use super::{Column, age, column, object_age};
use crate::apiserver::crd::CustomVersion;
use crate::apiserver::meta;

pub(super) fn columns(custom: &CustomVersion) -> Vec<Column> {
    let mut columns = vec![column("Name", 0)];
    for given in &custom.columns {
        let text = |pointer: &str| meta::text(given, pointer).unwrap_or_default().to_owned();
        columns.push(Column {
            name: text("/name"),
            kind: text("/type"),
            format: text("/format"),
            description: text("/description"),
            priority: given["priority"].as_u64().unwrap_or(0),
        });
    }
    if custom.columns.is_empty() {
        columns.push(column("Age", 0));
    }
    columns
}

pub(super) fn cells(custom: &CustomVersion, object: &Value) -> Vec<Value> {
    let mut cells = vec![Value::from(meta::name(object))];
    for given in &custom.columns {
        let found = find(object, meta::text(given, "/jsonPath").unwrap_or_default());
        cells.push(cell(found, meta::text(given, "/type").unwrap_or_default()));
    }
    if custom.columns.is_empty() {
        cells.push(object_age(object));
    }
    cells
}

fn cell(found: Option<Value>, kind: &str) -> Value {
    match (kind, found) {
        (_, None) => Value::Null,
        ("date", Some(value)) => age(value.as_str()).into(),
        ("string", Some(value @ (Value::Array(_) | Value::Object(_)))) => value.to_string().into(),
        ("string", Some(value)) if !value.is_string() => value.to_string().into(),
        (_, Some(value)) => value,
    }
}

/// Evaluates the simple paths that definitions use: `.a.b`, `.a['b.c']`, `.a[0]`, `.a[*].b` and
/// `.a[?(@.type=="Ready")].status`; of several values the first is taken, of `*` all in a list.
fn find(object: &Value, path: &str) -> Option<Value> {
    let mut values = vec![object];
    let mut all = false;
    let mut rest = path.trim().trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']')?;
            let step = &inner[..end];
            rest = &inner[end + 1..];
            values = index(&values, step);
            all |= step == "*";
        } else {
            let step = rest.strip_prefix('.').unwrap_or(rest);
            // A dot may stand in a key behind a backslash.
            let mut key = String::new();
            let mut letters = step.char_indices();
            let mut end = step.len();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '\\' => key.extend(letters.next().map(|(_, letter)| letter)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    letter => key.push(letter),
                }
            }
            rest = &step[end..];
            values = values
                .into_iter()
                .filter_map(|value| value.get(&key))
                .collect();
        }
    }
    match all {
        true => Some(json!(values)),
        false => values.first().map(|value| (*value).clone()),
    }
}

fn index<'a>(values: &[&'a Value], step: &str) -> Vec<&'a Value> {
    let unquote = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
    if let Some(filter) = step
        .strip_prefix("?(@.")
        .and_then(|filter| filter.strip_suffix(')'))
    {
        let (key, wanted) = filter.split_once("==").unwrap_or((filter, ""));
        let (key, wanted) = (key.trim().to_owned(), unquote(wanted));
        let items = values
            .iter()
            .flat_map(|value| value.as_array().into_iter().flatten());
        return items.filter(|item| item[&key] == wanted.as_str()).collect();
    }
    if step == "*" {
        return values
            .iter()
            .flat_map(|value| value.as_array().into_iter().flatten())
            .collect();
    }
    match step.parse::<usize>() {
        Ok(at) => values.iter().filter_map(|value| value.get(at)).collect(),
        Err(_) => values
            .iter()
            .filter_map(|value| value.get(unquote(step)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let object = json!({"spec": {"hosts": ["a", "b"], "x.y": 1},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let check =
            |path: &str, expect: Option<Value>| assert_eq!(find(&object, path), expect, "{path}");
        check(".spec.hosts", Some(json!(["a", "b"])));
        check(".spec.hosts[1]", Some(json!("b")));
        check(".spec.x\\.y", Some(json!(1)));
        check(".spec['x.y']", Some(json!(1)));
        check(
            ".status.conditions[?(@.type==\"Ready\")].status",
            Some(json!("True")),
        );
        check(".status.nothing", None);
    }
}
