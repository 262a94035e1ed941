mod definitions;

use serde_json::json;

use super::*;

fn schema(rules: &[(&str, &str)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect();
    json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "min": {"type": "integer"},
            "max": {"type": "integer"},
            "share": {"type": "number"},
            "names": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "a-b": {"type": "string"},
            "namespace": {"type": "string"},
        },
        RULES: rules,
    }}})
}

#[track_caller]
fn check(rule: &str, spec: Value, expect: &[&str]) {
    let schema = schema(&[(rule, "no")]);
    assert_eq!(faults(&schema, "schema"), [], "{rule}");
    let found: Vec<String> = Rules::of(&schema)
        .check(&schema, &json!({"spec": spec}))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expect, "{rule} of {spec}");
}

const NO: &str = "spec: Invalid value: \"object\": no";

#[test]
fn rules_hold_or_refuse() {
    for (rule, good, bad) in [
        (
            "self.min <= self.max",
            json!({"min": 1, "max": 2}),
            json!({"min": 2, "max": 1}),
        ),
        (
            "!has(self.share) || self.share < 1.0",
            json!({}),
            json!({"share": 1}),
        ),
        (
            "self.names.all(n, n.startsWith('a'))",
            json!({"names": ["a", "ab"]}),
            json!({"names": ["a", "b"]}),
        ),
        (
            "self.names.all(a, self.names.exists_one(b, a == b))",
            json!({"names": ["a", "b"]}),
            json!({"names": ["a", "a"]}),
        ),
        (
            "self.labels.all(k, !k.contains('*')) && size(self.labels) < 2",
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"*": "1"}}),
        ),
        (
            "self.names[0].matches('^[a-c]+$') && self.names[0].substring(1) == 'b'",
            json!({"names": ["ab"]}),
            json!({"names": ["ac"]}),
        ),
        (
            "isIP(self.names[0]) || isCIDR(self.names[0])",
            json!({"names": ["10.0.0.0/8"]}),
            json!({"names": ["ten"]}),
        ),
        (
            "has(self.a__dash__b) && self.__namespace__ == 'x'",
            json!({"a-b": "c", "namespace": "x"}),
            json!({"namespace": "x"}),
        ),
    ] {
        check(rule, good, &[]);
        check(rule, bad, &[NO]);
    }
}

#[test]
fn a_rule_that_fails_to_run_refuses() {
    let schema = schema(&[("self.names[3] == 'a'", "no")]);
    let errors = Rules::of(&schema).check(&schema, &json!({"spec": {"names": []}}));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].detail.contains("evaluating rule"),
        "{}",
        errors[0]
    );
}

#[test]
fn rules_about_changes_run_on_changes() {
    let schema = schema(&[("self.min == oldSelf.min", "min is immutable")]);
    let rules = Rules::of(&schema);
    let (one, two) = (json!({"spec": {"min": 1}}), json!({"spec": {"min": 2}}));
    assert_eq!(rules.check(&schema, &two), []);
    assert_eq!(rules.check_change(&schema, &one, &one), []);
    let errors = rules.check_change(&schema, &one, &two);
    assert_eq!(
        errors[0].to_string(),
        "spec: Invalid value: \"object\": min is immutable"
    );
}

#[test]
fn what_does_not_compile_is_named() {
    for (rule, wants) in [
        ("self.min <=", "compilation failed"),
        ("self.mni > 0", "undefined field 'mni'"),
        ("self.names.all(n, m == n)", "undeclared reference to 'm'"),
        ("quantity('1Gi').isInteger()", "not supported"),
        ("self.names.exists(n, n.nothing())", "not supported"),
        ("", "rule is not specified"),
    ] {
        let errors = faults(&schema(&[(rule, "no")]), "schema");
        let found = errors.first().map(ToString::to_string).unwrap_or_default();
        assert!(found.contains(wants), "{rule}: {found}");
        assert!(
            found.starts_with("schema.properties[spec].x-kubernetes-validations[0].rule: "),
            "{found}"
        );
    }
}
