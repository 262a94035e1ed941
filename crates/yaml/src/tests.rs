use serde_json::json;

use super::*;

#[test]
fn words_and_numbers_are_those_of_version_1_1() {
    let check = |text: &str, want: Value| {
        let found: Value = from_str(&format!("a: {text}")).expect(text);
        assert_eq!(found["a"], want, "{text}");
    };
    for text in [
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True",
    ] {
        check(text, json!(true));
    }
    for text in [
        "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False",
    ] {
        check(text, json!(false));
    }
    for text in ["", "~", "null", "Null", "NULL"] {
        check(text, json!(null));
    }
    check("0644", json!(420));
    check("-010", json!(-8));
    check("0o644", json!(420));
    check("0x1F", json!(31));
    check("0b11", json!(3));
    check("1_000", json!(1000));
    check("+5", json!(5));
    check("1.5", json!(1.5));
    for text in [
        "1:30",
        "2020-01-01",
        "1.2.3",
        "yess",
        "0644x",
        "'0644'",
        "\"on\"",
        "!!str on",
    ] {
        assert!(
            from_str::<Value>(&format!("a: {text}")).expect(text)["a"].is_string(),
            "{text}"
        );
    }
}

#[test]
fn maps_are_merged_and_the_last_of_two_keys_counts() {
    let text = "base: &base {a: 1, b: 2}\nover:\n  <<: *base\n  b: 3\ntwice: 1\ntwice: 2\n";
    let found: Value = from_str(text).expect("YAML");
    assert_eq!(found["over"], json!({"a": 1, "b": 3}));
    assert_eq!(found["twice"], 2);
}

/// Texts that a reader of some version takes for something else, and texts that are hard to lay out.
const TEXTS: [&str; 74] = [
    "",
    " ",
    "a",
    "a b",
    " a",
    "a ",
    "on",
    "On",
    "ON",
    "off",
    "yes",
    "Yes",
    "no",
    "NO",
    "y",
    "Y",
    "n",
    "N",
    "true",
    "TRUE",
    "false",
    "null",
    "Null",
    "~",
    "0644",
    "-0644",
    "0o17",
    "0x1F",
    "0b1",
    "1",
    "-1",
    "+1",
    "1_000",
    "1__0",
    "1.5",
    ".5",
    "1.",
    "1e3",
    "1e+3",
    ".inf",
    "-.INF",
    ".nan",
    "089",
    "1:30",
    "190:20:30",
    "2020-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "<<",
    "=",
    "-",
    "- a",
    "?",
    "? a",
    ": a",
    "a: b",
    "a:",
    "a #b",
    "#a",
    "&a",
    "*a",
    "!a",
    "%a",
    "@a",
    "`a",
    "{a}",
    "[a]",
    "|",
    "> a",
    "'a'",
    "\"a\"",
    "a\\nb",
    "---",
    "...",
    "é\u{85}\u{feff}\u{7}",
];

#[test]
fn what_is_written_is_read_as_it_was() {
    let long = "word ".repeat(60);
    let lines = [
        "a\nb",
        "a\nb\n",
        "a\n\n",
        "\na",
        "  a\nb",
        "a\n  b\n",
        "\n",
        "\n\n",
        "a \n b ",
        "a\tb",
        "a\r\nb",
        "on\n",
        "# a\n",
        "---\na\n",
        "a: b\nc: on\n",
        "\tx\ny",
        "a\n\n  \nb",
        &long,
        "\t",
        "\t\n",
        "\n\tx",
        " \tx\ny",
        "a\n\tb\n",
        "a\n\t\nb",
        "a\n \tb",
    ];
    for text in TEXTS.iter().chain(&lines) {
        let value = json!({
            "value": text, "list": [text, [text], {"in": text, "more": {"deep": text}}],
            "keys": {(*text): text}, "last": text,
        });
        let written = to_string(&value).expect(text);
        let back: Value = from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(back, value, "{text:?}:\n{written}");
        // A parser that is not the writer's own.
        let back: Value = serde_yaml_ng::from_str(&written).expect(&written);
        assert_eq!(back, value, "{text:?}:\n{written}");
    }
}

/// A value or a key that stands bare is one for every reader, not for the one here alone.
#[test]
fn what_version_1_1_takes_for_something_else_is_in_quotes() {
    let bare = |text: &str| {
        let value = to_string(&json!({"k": text})).expect(text) == format!("k: {text}\n");
        let key = to_string(&json!({(text): 1})).expect(text) == format!("{text}: 1\n");
        assert_eq!(value, is_plain(text), "{text}");
        (value, key)
    };
    for text in [
        "on",
        "On",
        "OFF",
        "yes",
        "No",
        "y",
        "N",
        "0644",
        "1_000",
        "1__0",
        "1:30",
        "2020-01-01",
        "<<",
        "=",
        "0b1",
        "1e3",
        "null",
        "~",
        "",
    ] {
        assert_eq!(bare(text), (false, false), "{text:?}");
    }
    for text in [
        "istio-proxy",
        "app.kubernetes.io/name",
        "v1",
        "only",
        "noon",
        "docker.io/a/b:1.2",
    ] {
        assert!(bare(text).0, "{text:?}");
    }
}

#[test]
fn documents_come_one_by_one() {
    let found = documents("a: 1\n---\n---\n# nothing\n---\n- on\n---\nnull\n").expect("YAML");
    assert_eq!(found, [json!({"a": 1}), json!([true])]);
    assert_eq!(documents("").expect("nothing"), Vec::<Value>::new());
    let error = documents("a: 1\n---\nb: [")
        .expect_err("refused")
        .to_string();
    assert!(
        error.starts_with("document 2 is not valid YAML: ") && error.contains("line 3"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_file_looks_as_people_write_it() {
    let value = json!({
        "kind": "Pod",
        "spec": {"containers": [
            {"name": "a", "args": ["-x", "b c"], "env": []},
            {"name": "b", "resources": {}, "script": "one\ntwo\n", "mode": 420},
        ]},
    });
    let want = "kind: Pod
spec:
  containers:
  - name: a
    args:
    - -x
    - b c
    env: []
  - name: b
    resources: {}
    script: |
      one
      two
    mode: 420
";
    assert_eq!(to_string(&value).expect("YAML"), want);
}
