//! Places in documents, as `--set` and overlays write them.

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A field.
    Field(String),
    /// An item of a list, from 0.
    Index(usize),
    /// Items of a list by one of their fields: `[name:discovery]`.
    Matching(String, String),
    /// An item of a list by its value: `[:value]`.
    Equal(String),
}

/// `a.b[0]`, `a.[name:x].c`, with `\.` for a dot in a name.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut chars = text.chars().peekable();
    let mut name = String::new();
    let end = |name: &mut String, steps: &mut Vec<Step>| {
        if !name.is_empty() {
            steps.push(Step::Field(std::mem::take(name)));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.extend(chars.next()),
            '.' => end(&mut name, &mut steps),
            '[' => {
                end(&mut name, &mut steps);
                let mut inner = String::new();
                let mut closed = false;
                for c in chars.by_ref() {
                    if c == ']' {
                        closed = true;
                        break;
                    }
                    inner.push(c);
                }
                if !closed {
                    return Err(format!("{text:?} has a [ without its ]"));
                }
                steps.push(bracket(&inner).ok_or_else(|| {
                    format!("[{inner}] in {text:?} is neither an index nor [field:value]")
                })?);
            }
            c => name.push(c),
        }
    }
    end(&mut name, &mut steps);
    if steps.is_empty() {
        return Err("the path is empty".into());
    }
    Ok(steps)
}

fn bracket(inner: &str) -> Option<Step> {
    if let Ok(index) = inner.parse() {
        return Some(Step::Index(index));
    }
    let (field, value) = inner.split_once(':')?;
    Some(match field {
        "" => Step::Equal(value.to_owned()),
        field => Step::Matching(field.to_owned(), value.to_owned()),
    })
}

/// What is at a path.
pub(crate) fn get<'a>(document: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(document, |at, step| match step {
        Step::Field(name) => at.get(name),
        step => {
            let items = at.as_array()?;
            items.get(position(items, step)?)
        }
    })
}

/// Puts a value at a path, making what is missing on the way. An item of a list can be the next one,
/// but not one further.
pub(crate) fn set(document: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *document = value;
        return Ok(());
    };
    set(child(document, step)?, rest, value)
}

fn child<'a>(document: &'a mut Value, step: &Step) -> Result<&'a mut Value, String> {
    match step {
        Step::Field(name) => {
            if document.is_null() {
                *document = Value::Object(Map::new());
            }
            let fields = document.as_object_mut();
            let fields = fields.ok_or_else(|| format!("{name} is asked of what has no fields"))?;
            Ok(fields.entry(name).or_insert(Value::Null))
        }
        step => {
            if document.is_null() {
                *document = Value::Array(Vec::new());
            }
            let items = document.as_array_mut();
            let items = items.ok_or("an item is asked of what is no list")?;
            let at = position(items, step).unwrap_or(items.len());
            if at > items.len() {
                return Err(format!(
                    "the list has {} items, not {}",
                    items.len(),
                    at + 1
                ));
            }
            if at == items.len() {
                items.push(new_item(step));
            }
            Ok(&mut items[at])
        }
    }
}

fn position(items: &[Value], step: &Step) -> Option<usize> {
    match step {
        Step::Index(index) => Some(*index),
        Step::Matching(field, value) => items.iter().position(|item| text(&item[field]) == *value),
        Step::Equal(value) => items.iter().position(|item| text(item) == *value),
        Step::Field(_) => None,
    }
}

fn new_item(step: &Step) -> Value {
    match step {
        Step::Matching(field, value) => Value::Object(Map::from_iter([(
            field.clone(),
            Value::from(value.as_str()),
        )])),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Takes away what is at a path; says whether anything was.
pub(crate) fn remove(document: &mut Value, steps: &[Step]) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return false;
    };
    let at = match step {
        Step::Field(name) => {
            let Some(fields) = document.as_object_mut() else {
                return false;
            };
            if rest.is_empty() {
                return fields.shift_remove(name).is_some();
            }
            fields.get_mut(name)
        }
        step => {
            let Some(items) = document.as_array_mut() else {
                return false;
            };
            let at = position(items, step).filter(|at| *at < items.len());
            if let (Some(at), true) = (at, rest.is_empty()) {
                items.remove(at);
                return true;
            }
            at.and_then(|at| items.get_mut(at))
        }
    };
    at.is_some_and(|at| remove(at, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    #[test]
    fn paths_are_read() {
        let containers = [
            field("containers"),
            Step::Matching("name".into(), "discovery".into()),
            field("args"),
            Step::Index(2),
        ];
        for text in [
            "containers.[name:discovery].args.[2]",
            "containers[name:discovery].args[2]",
        ] {
            assert_eq!(parse(text).expect("a path"), containers, "{text}");
        }
        assert_eq!(
            parse(r"labels.istio\.io/rev").expect("a path"),
            [field("labels"), field("istio.io/rev")]
        );
        for text in ["", ".", "a[", "a[x]"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_put_and_taken_away() {
        let mut document = json!({"args": ["a", "b"], "env": [{"name": "X", "value": "1"}]});
        let mut put =
            |path: &str, value: Value| set(&mut document, &parse(path).expect("a path"), value);
        put("args[1]", json!("c")).expect("replaced");
        put("args[2]", json!("d")).expect("added");
        put("env.[name:X].value", json!("2")).expect("replaced");
        put("env.[name:Y].value", json!("3")).expect("added");
        put("new.field", json!(true)).expect("made");
        put("args[9]", json!("z")).expect_err("no gap is filled");
        put("new.field.x", json!(1)).expect_err("true has no fields");
        let env = json!([{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]);
        let want = json!({"args": ["a", "c", "d"], "env": env, "new": {"field": true}});
        assert_eq!(document, want);
        for path in ["args.[:c]", "env[name:X]", "new.field"] {
            assert!(
                remove(&mut document, &parse(path).expect("a path")),
                "{path}"
            );
        }
        assert!(!remove(&mut document, &parse("args[7]").expect("a path")));
        let want = json!({"args": ["a", "d"], "env": [{"name": "Y", "value": "3"}], "new": {}});
        assert_eq!(document, want);
    }
}
