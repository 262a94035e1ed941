//! Label and field selectors, as they come in query strings and in objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::ApiError;
use super::kinds::Resource;
use super::meta;

/// A conjunction of conditions on labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<(String, Condition)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Parses `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// 400 with the part that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut conditions = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                conditions.push(parse_condition(part).ok_or_else(|| {
                    ApiError::bad_request(format!(
                        "unable to parse requirement: {part:?} in label selector {text:?}"
                    ))
                })?);
            }
        }
        Ok(Self(conditions))
    }

    /// Reads `{matchLabels, matchExpressions}`; `None` or an empty one matches everything.
    #[must_use]
    pub(crate) fn from_object(selector: Option<&Value>) -> Self {
        let Some(selector) = selector else {
            return Self::default();
        };
        let mut conditions = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                conditions.push((key.clone(), Condition::In(vec![value])));
            }
        }
        for expression in meta::list(selector, "/matchExpressions") {
            let key = meta::text(expression, "/key")
                .unwrap_or_default()
                .to_owned();
            let values = meta::list(expression, "/values")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let condition = match meta::text(expression, "/operator") {
                Some("In") => Condition::In(values),
                Some("NotIn") => Condition::NotIn(values),
                Some("DoesNotExist") => Condition::Absent,
                _ => Condition::Exists,
            };
            conditions.push((key, condition));
        }
        Self(conditions)
    }

    /// Whether there is no condition.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's labels satisfy every condition.
    #[must_use]
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.0.iter().all(|(key, condition)| {
            let value = labels
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str);
            condition.holds(value)
        })
    }
}

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::In(set), Some(value)) => set.iter().any(|one| one == value),
            (Self::NotIn(set), Some(value)) => !set.iter().any(|one| one == value),
            (Self::Exists, Some(_)) | (Self::Absent | Self::NotIn(_), None) => true,
            (Self::Greater(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|value| value > *bound)
            }
            (Self::Less(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|value| value < *bound)
            }
            (Self::In(_) | Self::Exists | Self::Greater(_) | Self::Less(_), None)
            | (Self::Absent, Some(_)) => false,
        }
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

fn is_value(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn parse_condition(part: &str) -> Option<(String, Condition)> {
    if let Some(key) = part.strip_prefix('!') {
        let key = key.trim();
        return is_key(key).then(|| (key.to_owned(), Condition::Absent));
    }
    for (operator, positive) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(operator) {
            let (key, value) = (key.trim(), value.trim().to_owned());
            let valid = is_key(key) && is_value(&value);
            let condition = if positive {
                Condition::In(vec![value])
            } else {
                Condition::NotIn(vec![value])
            };
            return valid.then(|| (key.to_owned(), condition));
        }
    }
    for (operator, make) in [
        (">", Condition::Greater as fn(i64) -> Condition),
        ("<", Condition::Less),
    ] {
        if let Some((key, value)) = part.split_once(operator) {
            return Some((key.trim().to_owned(), make(value.trim().parse().ok()?)));
        }
    }
    if let Some(body) = part.strip_suffix(')') {
        let (head, values) = body.split_once('(')?;
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?, words.next()?);
        let values: Vec<_> = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let condition = match operator {
            "in" => Condition::In(values),
            "notin" => Condition::NotIn(values),
            _ => return None,
        };
        return (is_key(key) && words.next().is_none()).then(|| (key.to_owned(), condition));
    }
    is_key(part).then(|| (part.to_owned(), Condition::Exists))
}

/// A conjunction of conditions on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<FieldCondition>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldCondition {
    path: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Parses `metadata.name=a,status.phase!=Running`.
    ///
    /// # Errors
    /// 400 if it cannot be read or names a field that this kind does not index.
    pub(crate) fn parse(text: &str, resource: &Resource) -> Result<Self, ApiError> {
        let mut conditions = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (path, value, true)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid field selector {part:?}; can't understand the requirement"
                )));
            };
            if !is_selectable(resource, path) {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {path}"
                )));
            }
            conditions.push(FieldCondition {
                path: path.to_owned(),
                value: value.to_owned(),
                equal,
            });
        }
        Ok(Self(conditions))
    }

    /// Whether an object satisfies every condition.
    #[must_use]
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0
            .iter()
            .all(|condition| (field(object, &condition.path) == condition.value) == condition.equal)
    }
}

fn is_selectable(resource: &Resource, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    let paths: &[&str] = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "secrets") => &["type"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    };
    paths.contains(&path)
        || resource
            .custom
            .as_ref()
            .is_some_and(|custom| custom.selectable_fields.iter().any(|one| one == path))
}

fn field(object: &Value, path: &str) -> String {
    // Stored events have the core group's field names.
    let path = path.replacen("regarding.", "involvedObject.", 1);
    let value = match path.as_str() {
        "source" => object
            .pointer("/source/component")
            .or_else(|| object.pointer("/reportingComponent")),
        "reportingController" => object.pointer("/reportingComponent"),
        "status.successful" => object.pointer("/status/succeeded"),
        path => object.pointer(&format!("/{}", path.replace('.', "/"))),
    };
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None
            if matches!(path.as_str(), "spec.unschedulable" | "spec.hostNetwork") =>
        {
            "false".into()
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Both selectors of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    /// `labelSelector`.
    pub labels: LabelSelector,
    /// `fieldSelector`.
    pub fields: FieldSelector,
}

impl Selectors {
    /// Parses the query parameters.
    ///
    /// # Errors
    /// 400 if one cannot be read.
    pub(crate) fn parse(
        query: &BTreeMap<String, String>,
        resource: &Resource,
    ) -> Result<Self, ApiError> {
        let text = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
        Ok(Self {
            labels: LabelSelector::parse(text("labelSelector"))?,
            fields: FieldSelector::parse(text("fieldSelector"), resource)?,
        })
    }

    /// Whether an object satisfies both.
    #[must_use]
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::Kinds;
    use super::*;

    fn check(selector: &str, labels: Value, expect: bool) {
        let parsed = LabelSelector::parse(selector).expect(selector);
        let object = json!({"metadata": {"labels": labels}});
        assert_eq!(parsed.matches(&object), expect, "{selector} on {object}");
    }

    #[test]
    fn labels() {
        check("", json!({}), true);
        check("app=a", json!({"app": "a"}), true);
        check("app==a", json!({"app": "b"}), false);
        check("app!=a", json!({}), true);
        check("app in (a, b),!gone", json!({"app": "b"}), true);
        check("app notin (a,b)", json!({"app": "b"}), false);
        check("app notin (a,b)", json!({}), true);
        check("app", json!({}), false);
        check("n>3,n<5", json!({"n": "4"}), true);
        assert!(LabelSelector::parse("a in b").is_err());
        assert!(LabelSelector::parse("a b=c").is_err());
    }

    #[test]
    fn fields() {
        let kinds = Kinds::new(&[]);
        let pods = kinds.find("", "v1", "pods").expect("builtin");
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        let parse = |text| FieldSelector::parse(text, &pods);
        assert!(
            parse("metadata.name=a,status.phase!=Failed")
                .expect("parses")
                .matches(&pod)
        );
        assert!(!parse("spec.nodeName=x").expect("parses").matches(&pod));
        assert!(parse("spec.nope=x").is_err());
        assert!(parse("oops").is_err());
    }
}
