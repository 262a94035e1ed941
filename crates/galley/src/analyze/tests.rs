use std::path::Path;

use lateen_registry::Documents;
use lateen_testkit::conformance;
use serde_json::json;

use super::*;

mod cases;

fn read(name: &str, text: &str) -> Vec<Written> {
    let (written, faults) = Written::read(&Documents::file(name, text));
    assert_eq!(faults, Vec::<String>::new(), "{name}");
    written
}

fn yaml(dir: &Path, name: &Value) -> Value {
    let Some(name) = name.as_str() else {
        return Value::Null;
    };
    let text = std::fs::read_to_string(dir.join(name)).expect(name);
    serde_saphyr::from_str(&text).expect(name)
}

/// What one public case expects and what is found, as `code resource`.
fn case(dir: &Path, case: &Value) -> (Vec<String>, Vec<String>) {
    let mut objects = Vec::new();
    for name in object::texts(&case["input_files"]) {
        let text = std::fs::read_to_string(dir.join(name)).expect(name);
        objects.extend(read(name, &text));
    }
    let settings = Settings {
        mesh: yaml(dir, &case["mesh_config"]),
        networks: yaml(dir, &case["mesh_networks"]),
        only: vec![text(&case["analyzer"]).to_owned()],
        ..Settings::default()
    };
    let known = ANALYZERS.iter().any(|of| of.name == settings.only[0]);
    assert!(known, "no analyser {:?}", settings.only);
    let found = analyze(&objects, &settings);
    let mut found: Vec<_> = found
        .iter()
        .map(|m| format!("{} {}", m.code, m.origin()))
        .collect();
    let expected = object::list(&case["expected"]).iter();
    let mut expected: Vec<_> = expected
        .map(|of| {
            let code: Code = text(&of["code"])
                .parse()
                .expect("a code that is known here");
            assert_eq!(
                (code.name(), code.level().to_string().as_str()),
                (text(&of["name"]), text(&of["level"]))
            );
            format!("{code} {}", text(&of["resource"]))
        })
        .collect();
    found.sort();
    expected.sort();
    (expected, found)
}

#[test]
fn public_cases_hold() {
    let Some(dir) = conformance("analysis") else {
        return;
    };
    let cases = yaml(&dir, &json!("cases.json"));
    let cases = object::list(&cases);
    assert!(cases.len() > 50, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for of in cases {
        let (expected, found) = case(&dir, of);
        if expected != found {
            let (name, files) = (&of["name"], &of["input_files"]);
            wrong.push(format!(
                "{name} {files}:\n  expected {expected:#?}\n  found {found:#?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// Reports of all analysers on documents, as `code kind namespace/name field`.
#[track_caller]
fn check(documents: &str, only: &str, expect: &[&str]) {
    check_with(documents, only, Settings::default(), expect);
}

#[track_caller]
fn check_with(documents: &str, only: &str, settings: Settings, expect: &[&str]) {
    let settings = Settings {
        only: vec![only.to_owned()],
        ..settings
    };
    let mut all = ANALYZERS.iter().chain(PRECHECKS);
    let declared = all.find(|of| of.name == only).expect(only);
    let found = analyze(&read("a.yaml", documents), &settings);
    let found: Vec<_> = found
        .iter()
        .map(|m| {
            assert!(declared.codes.contains(&m.code), "{m}");
            format!("{} {} {}", m.code, m.origin(), m.field)
                .trim_end()
                .to_owned()
        })
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn messages_say_where() {
    let text = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
  namespace: shop
spec:
  hosts: [web]
  http:
  - route:
    - destination:
        host: web
";
    let objects = read("f.yaml", text);
    let found = analyze(&objects, &Settings::default());
    let lines: Vec<_> = found.iter().map(|m| m.to_string()).collect();
    assert!(
        lines[0].starts_with(
            "Error [IST0101] (VirtualService shop/web f.yaml:15) Referenced host not found: \"web\""
        ),
        "{lines:#?}"
    );
    assert!(
        lines[1].starts_with("Info [IST0102] (Namespace shop f.yaml:3) "),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 2);
    let json = found[0].to_json();
    assert_eq!(json["reference"], "f.yaml:15");
    assert_eq!(
        json["documentationUrl"],
        "https://istio.io/latest/docs/reference/config/analysis/ist0101/"
    );
}

#[test]
fn objects_may_suppress_codes() {
    let text = |said: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, annotations: {{{SUPPRESS}: \"{said}\"}}}}\n"
        )
    };
    check(
        &text("IST0103"),
        "injection.Analyzer",
        &["IST0102 Namespace a metadata.labels"],
    );
    check(&text("IST0103, IST0102"), "injection.Analyzer", &[]);
    check(&text("*"), "injection.Analyzer", &[]);
}

#[test]
fn the_later_of_two_counts_and_revisions_are_told_apart() {
    let rule = |labels: &str, host: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: a, namespace: b, labels: {{{labels}}}}}\nspec: {{host: {host}}}\n"
        )
    };
    let hosts = "destinationrule.PodNotSelectedAnalyzer";
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: here, namespace: b}\nspec: {}\n";
    let two = rule("", "gone") + &rule("", "here") + service;
    check(&two, hosts, &[]);
    let two = rule("", "here") + &rule("", "gone") + service;
    check(&two, hosts, &["IST0174 DestinationRule b/a spec.host"]);
    let settings = |revision: &str| Settings {
        revision: revision.to_owned(),
        ..Settings::default()
    };
    let of_revision = rule("istio.io/rev: canary", "gone");
    check_with(&of_revision, hosts, settings("blue"), &[]);
    let found = ["IST0174 DestinationRule b/a spec.host"];
    check_with(&of_revision, hosts, settings("canary"), &found);
}

/// What is told of a cluster or of an analyser, and not of objects.
const OF_NO_ANALYSER: [Code; 4] = [
    Code::InternalError,
    Code::InsufficientPermissions,
    Code::UnsupportedKubernetesVersion,
    Code::UnknownUpgradeCompatibility,
];

#[test]
fn each_code_is_some_analysers() {
    for code in Code::ALL {
        let all = ANALYZERS.iter().chain(PRECHECKS);
        let n = all.filter(|of| of.codes.contains(code)).count();
        let is_told = n > 0 || OF_NO_ANALYSER.contains(code);
        assert!(is_told, "{code} {}", code.name());
        assert_eq!(code.to_string().parse::<Code>().expect("a code"), *code);
    }
    assert!("IST9999".parse::<Code>().is_err());
}

/// One that fails is told, and keeps the others from nothing.
#[test]
fn an_analyser_that_fails_is_told() {
    let failing = Analyzer {
        name: "test.Analyzer",
        about: "",
        codes: &[],
        run: |_, _| panic!("no such field"),
    };
    let settings = Settings::default();
    let index = Index::new(Vec::new(), &settings);
    let mut findings = Findings::default();
    run(&failing, &index, &mut findings);
    let (message, _) = &findings.0[0];
    let told = message.to_string();
    let expect =
        "Error [IST0001] (Analyzer test.Analyzer) the analyser failed (no such field): this is";
    assert!(told.starts_with(expect), "{told}");
}
