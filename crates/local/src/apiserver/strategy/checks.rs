//! Checks that many kinds share.

use serde_json::Value;

use super::names;
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

/// A member must be one of these if it is there.
pub(super) fn one_of(
    object: &Value,
    name: &str,
    field: &str,
    allowed: &[&str],
    errors: &mut Vec<FieldError>,
) {
    if let Some(value) = object.get(name)
        && !allowed.iter().any(|one| value == one)
    {
        let at = format!("{field}.{name}");
        errors.push(FieldError::unsupported(at, value, allowed));
    }
}

/// A member must not be below zero if it is there.
pub(super) fn non_negative(object: &Value, name: &str, field: &str, errors: &mut Vec<FieldError>) {
    if let Some(number) = object.get(name).and_then(Value::as_i64)
        && number < 0
    {
        errors.push(FieldError::invalid(
            format!("{field}.{name}"),
            &number.into(),
            "must be greater than or equal to 0",
        ));
    }
}

/// Checks a label selector in an object: `matchLabels` and `matchExpressions`.
pub(super) fn validate_selector(
    selector: Option<&Value>,
    field: &str,
    errors: &mut Vec<FieldError>,
) {
    let Some(selector) = selector else { return };
    let labels = selector.get("matchLabels");
    names::validate_labels(labels, &format!("{field}.matchLabels"), errors);
    for (index, one) in meta::list(selector, "/matchExpressions").iter().enumerate() {
        let at = |name: &str| format!("{field}.matchExpressions[{index}].{name}");
        let key = meta::text(one, "/key").unwrap_or_default();
        names::validate_label_key(key, &at("key"), errors);
        let has_values = !meta::list(one, "/values").is_empty();
        match meta::text(one, "/operator") {
            Some("In" | "NotIn") if !has_values => errors.push(FieldError::required(
                at("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            Some("Exists" | "DoesNotExist") if has_values => errors.push(FieldError::forbidden(
                at("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            Some("In" | "NotIn" | "Exists" | "DoesNotExist") => {}
            _ => errors.push(FieldError::invalid(
                at("operator"),
                &one["operator"],
                "not a valid selector operator",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors() {
        let check = |selector: Value, expect: &[&str]| {
            let mut errors = Vec::new();
            validate_selector(Some(&selector), "s", &mut errors);
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors, expect, "{selector}");
        };
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        check(expression("In", json!(["x"])), &[]);
        check(
            expression("In", json!([])),
            &[
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ],
        );
        check(
            expression("Exists", json!(["x"])),
            &[
                "s.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        );
        check(
            expression("Like", json!([])),
            &[
                "s.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
            ],
        );
    }
}
