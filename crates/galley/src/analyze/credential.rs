//! Whether a Secret holds a certificate and its key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Names of the certificate and of the key, as Secrets have them.
const NAMES: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];

/// What shows that a text is a certificate, and that one is a key of whatever kind.
const MARKS: [&str; 2] = ["-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----"];

/// Takes out of a Secret what it keeps secret: of its values no more is left than analysis asks about,
/// which is of what form they are. Other objects stay as they are.
pub fn without_secrets(object: &mut Value) {
    if object["kind"] != "Secret" || object["apiVersion"] != "v1" {
        return;
    }
    for field in ["data", "stringData"] {
        let Some(values) = object.get_mut(field).and_then(Value::as_object_mut) else {
            continue;
        };
        for value in values.values_mut() {
            let text = value.as_str().unwrap_or_default();
            let text = match field {
                "data" => decoded(text).unwrap_or_default(),
                _ => text.to_owned(),
            };
            let left = MARKS.into_iter().find(|mark| text.contains(mark));
            let left = left.unwrap_or_default();
            *value = match field {
                "data" => STANDARD.encode(left).into(),
                _ => left.into(),
            };
        }
    }
}

/// What is wrong with a Secret of a server, in words.
pub(super) fn fault(secret: &Value) -> Option<String> {
    let held = |name: &str| {
        let plain = secret["stringData"][name].as_str().map(str::to_owned);
        plain.or_else(|| decoded(secret["data"][name].as_str()?))
    };
    let found = NAMES
        .iter()
        .find_map(|(cert, key)| Some((held(cert)?, held(key)?)));
    let Some((certificate, key)) = found else {
        return Some("it has neither tls.crt and tls.key nor cert and key".to_owned());
    };
    let [is_certificate, is_key] = MARKS;
    if !certificate.contains(is_certificate) {
        return Some("its certificate is not in PEM".to_owned());
    }
    (!key.contains(is_key)).then(|| "its key is not in PEM".to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_judgement_is_the_same_without_what_is_secret() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = format!("-----BEGIN EC {0}\nc2VjcmV0\n-----END EC {0}\n", MARKS[1]);
        let of = |field: &str, cert: &str, key: &str| {
            let form = |text: &str| match field {
                "data" => STANDARD.encode(text),
                _ => text.to_owned(),
            };
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
                field: {"tls.crt": form(cert), "tls.key": form(key), "cluster": form("kubeconfig")}})
        };
        for field in ["data", "stringData"] {
            for (cert, key) in [
                (certificate, key.as_str()),
                (certificate, "no key"),
                ("none", &key),
                ("", ""),
            ] {
                let whole = of(field, cert, key);
                let mut left = whole.clone();
                without_secrets(&mut left);
                assert_eq!(fault(&left), fault(&whole), "{field} {cert} {key}");
                let text = left.to_string();
                for hidden in ["c2VjcmV0", "kubeconfig", &STANDARD.encode(key), "AAAA"] {
                    assert!(
                        hidden.is_empty() || !text.contains(hidden),
                        "{hidden} in {text}"
                    );
                }
                assert!(left[field].get("cluster").is_some(), "{text}");
            }
        }
        let mut other = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        without_secrets(&mut other);
        assert_eq!(other["data"]["a"], "b");
    }
}
