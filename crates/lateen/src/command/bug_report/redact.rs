//! Takes out what opens doors: the contents of Secrets, private keys, tokens, passwords.
//!
//! Objects are gone through by their fields; then every text by what keys and tokens look like, as they
//! may stand in a log, in a setting or in an address.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

mod blocks;
mod keys;

/// What stands in the place of what is taken out.
pub(super) const REDACTED: &str = "<redacted>";

/// What `kubectl apply` keeps of an object, its data included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations of Secrets that hold nothing of their data.
const HARMLESS: [&str; 3] = [
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account.uid",
    "networking.istio.io/cluster",
];

/// Takes the data out of a Secret, or out of those of a list, and the values out of environment
/// variables and flags whose names say that they are secret. Annotations of Secrets go too: tools keep
/// the whole object there, each under a name of its own.
pub(super) fn object(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_secret = fields.get("kind").is_some_and(|kind| kind == "Secret");
            let is_variable =
                (fields.get("name").and_then(Value::as_str)).is_some_and(is_secret_name);
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "data" | "stringData" if is_secret => every_text(value),
                    "value" if is_variable => every_text(value),
                    "metadata" if is_secret => annotations(value),
                    LAST_APPLIED => *value = REDACTED.into(),
                    _ => object(value),
                }
            }
        }
        Value::Array(values) => {
            arguments(values);
            values.iter_mut().for_each(object);
        }
        _ => {}
    }
}

fn annotations(metadata: &mut Value) {
    let all = metadata.get_mut("annotations");
    for (name, value) in all.and_then(Value::as_object_mut).into_iter().flatten() {
        if !HARMLESS.contains(&name.as_str()) {
            *value = REDACTED.into();
        }
    }
}

/// The argument after a flag whose name says that it is secret.
fn arguments(values: &mut [Value]) {
    let is_flag = |value: &Value| {
        value.as_str().is_some_and(|text| {
            text.starts_with('-') && !text.contains('=') && is_secret_name(text)
        })
    };
    for at in 1..values.len() {
        let is_next_flag = values[at]
            .as_str()
            .is_some_and(|text| text.starts_with("--"));
        if is_flag(&values[at - 1]) && values[at].is_string() && !is_next_flag {
            values[at] = REDACTED.into();
        }
    }
}

/// Keys stay: they say what there is.
fn every_text(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| every_text(value)),
        Value::Array(values) => values.iter_mut().for_each(every_text),
        Value::Null => {}
        other => *other = REDACTED.into(),
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    [
        "PASSWORD",
        "PASSWD",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "APIKEY",
        "PRIVATE_KEY",
        "ACCESS_KEY",
        "CREDENTIAL",
    ]
    .iter()
    .any(|part| name.contains(part))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is written here")
}

/// How names of fields, settings and flags end whose values are secret.
const NAMES: &str = "client-key-data|id-token|refresh-token|access_token|access-token|refresh_token|\
                     client_secret|client-secret|clientSecret|password|passwd|token|secret_key|\
                     secret-key|secretKey|api_key|api-key|apiKey|access_key|access-key|accessKey|\
                     privateKey|private-key|private_key|last-applied-configuration";
/// A JSON web token.
static TOKEN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"));
/// Credentials of a request.
static BEARER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9+/._~=-]{8,}"));
/// Fields and settings by name, in YAML, JSON or the environment's form.
static FIELD: LazyLock<Regex> = LazyLock::new(|| {
    // In quotes a value may hold anything; those of JSON within a text are escaped.
    let value = r#"\\"[^"\n]*?\\"|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|(?:\\?["'])?[^\s"'\\,;{}\[\]&<]+"#;
    pattern(&format!(
        r#"(?i)(\b[a-z0-9_.-]*(?:{NAMES})(?:\\?["'])?[ \t]*[:=][ \t]*)({value})"#
    ))
});
/// A flag and the argument after it, on a command line, or as items of a list in JSON or YAML.
static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)((?:^|[\s"'\[,])--?[a-z0-9_.-]*(?:{NAMES})(?:\\*["'])?(?:[ \t]+|\s*,\s*|\s*\n\s*-[ \t]+)(?:\\*["'])?)([^\s"'\\,;\[\]<][^\s"'\\,;\[\]]*)"#
    ))
});
/// A password in an address.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"([a-z][a-z0-9+.-]*://[^\s:/@"',]*:)[^\s/@"',]+@"#));

/// Takes out what looks like a key or a token, and what is named so.
pub(super) fn text(text: &str) -> String {
    let text = blocks::take_out(&keys::take_out(text));
    let text = TOKEN.replace_all(&text, REDACTED);
    let text = BEARER.replace_all(&text, format!("${{1}}{REDACTED}"));
    let text = FIELD.replace_all(&text, |found: &Captures<'_>| {
        let value = &found[2];
        if is_name(value.trim_matches(QUOTES)) {
            return found[0].to_owned();
        }
        let begin = value.len() - value.trim_start_matches(QUOTES).len();
        let end = value.trim_end_matches(QUOTES).len();
        // The quotes stay, so that JSON stays JSON.
        format!(
            "{}{}{REDACTED}{}",
            &found[1],
            &value[..begin],
            &value[end..]
        )
    });
    let text = FLAG.replace_all(&text, |found: &Captures<'_>| {
        match found[2].starts_with("--") {
            // Another flag: this one stood alone.
            true => found[0].to_owned(),
            false => format!("{}{REDACTED}", &found[1]),
        }
    });
    ADDRESS
        .replace_all(&text, format!("${{1}}{REDACTED}@"))
        .into_owned()
}

/// What a value may stand in, also escaped.
const QUOTES: [char; 3] = ['"', '\'', '\\'];

/// Values that are no secrets: of types, switches and nothing.
fn is_name(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "" | "string" | "true" | "false" | "null" | "none" | "object" | "array" | "|" | "-"
    )
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    /// Nothing that opens a door may be left, in whatever form it stands.
    #[test]
    fn keys_and_tokens_are_taken_out() {
        let body = "MHcCAQEEIOsecretsecret";
        let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n");
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl";
        let encoded = STANDARD.encode(&pem);
        let cut = &encoded[..encoded.len() - 7];
        for (given, gone) in [
            (pem.clone(), body),
            (pem.replace('\n', "\\n"), body),
            (pem[..60].to_owned(), "MHcCAQEEIO"),
            (format!("tls.key: {encoded}"), &encoded[..]),
            (format!("{{\"inline_bytes\":\"{cut}\"}}"), cut),
            (format!("token {jwt} end"), jwt),
            (format!("Authorization: Bearer {jwt}"), jwt),
            (
                "authorization: bearer 0123456789abcdef".to_owned(),
                "0123456789abcdef",
            ),
            ("    token: abc.def".to_owned(), "abc.def"),
            ("\"password\": \"hunter2\"".to_owned(), "hunter2"),
            ("{\\\"password\\\":\\\"hunter2\\\"}".to_owned(), "hunter2"),
            ("password: \"correct horse battery\"".to_owned(), "horse"),
            ("\"password\":\"a,hunter2\"".to_owned(), "hunter2"),
            ("x-api-key: 'a b'".to_owned(), " b"),
            ("AWS_SECRET_ACCESS_KEY=hunter2".to_owned(), "hunter2"),
            ("client-key-data: QUJD".to_owned(), "QUJD"),
            ("CONSUL_HTTP_TOKEN=hunter2 X=y".to_owned(), "hunter2"),
            ("redis://user:hunter2@cache:6379".to_owned(), "hunter2"),
            ("https://x/?access_token=hunter2&a=b".to_owned(), "hunter2"),
            ("db: {}\npassword: |\n  hunter2\n".to_owned(), "hunter2"),
            ("x --token hunter2 --y".to_owned(), "hunter2"),
            ("args: [\"--api-key\", \"hunter2\"]".to_owned(), "hunter2"),
            (
                "args:\n- --client-secret\n- hunter2\n".to_owned(),
                "hunter2",
            ),
            (
                r#""a": "[\"-password\",\"hunter2\"]""#.to_owned(),
                "hunter2",
            ),
            (
                r#""kubectl.kubernetes.io/last-applied-configuration":"{\"data\":\"hunter2\"}""#
                    .to_owned(),
                "hunter2",
            ),
        ] {
            let told = text(&given);
            assert!(
                !told.contains(gone) && told.contains(REDACTED),
                "{given} became {told}"
            );
        }
    }

    #[test]
    fn other_texts_stay() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for given in [
            certificate.to_owned(),
            STANDARD.encode(certificate),
            "serviceAccountToken:\n  expirationSeconds: 3600".to_owned(),
            "token:\n    type: string\n".to_owned(),
            r#"{"sidecar": "- serviceAccountToken:\n    audience: istio-ca"}"#.to_owned(),
            "password: {type: string}".to_owned(),
            "outbound|9080||reviews.default.svc.cluster.local".to_owned(),
            "http://10.0.0.1:80/a@b".to_owned(),
            "spiffe://cluster.local/ns/default/sa/x".to_owned(),
            "run --no-token --verbose".to_owned(),
            "args: [--require-token, --port=80]".to_owned(),
        ] {
            assert_eq!(text(&given), given);
        }
    }

    #[test]
    fn secrets_keep_their_keys_alone() {
        let mut list = json!({"kind": "List", "items": [
            {"kind": "Secret", "metadata": {"name": "s",
                "annotations": {LAST_APPLIED: "{\"data\": \"x\"}", "tool/applied": "eJy",
                    "kubernetes.io/service-account.name": "x"}},
             "data": {"tls.key": "a2V5"}, "stringData": {"p": "q"}, "type": "Opaque"},
            {"kind": "ConfigMap", "data": {"k": "v"}},
            {"kind": "Pod", "spec": {"containers": [{"name": "c", "env": [
                {"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "HOST", "value": "h"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "args": ["--db-password", "hunter2", "--token", "--port", "80"]}]}},
        ]});
        object(&mut list);
        let items = &list["items"];
        assert_eq!(items[0]["data"], json!({"tls.key": REDACTED}));
        assert_eq!(items[0]["stringData"], json!({"p": REDACTED}));
        assert_eq!(
            items[0]["metadata"]["annotations"],
            json!({LAST_APPLIED: REDACTED, "tool/applied": REDACTED,
                "kubernetes.io/service-account.name": "x"})
        );
        assert_eq!(items[0]["type"], "Opaque");
        assert_eq!(items[1]["data"], json!({"k": "v"}));
        let container = &items[2]["spec"]["containers"][0];
        let args = json!(["--db-password", REDACTED, "--token", "--port", "80"]);
        assert_eq!(container["args"], args);
        let env = &container["env"];
        assert_eq!(env[0]["value"], REDACTED);
        assert_eq!(env[1]["value"], "h");
        assert_eq!(env[2]["valueFrom"]["secretKeyRef"]["name"], "s");
    }
}
