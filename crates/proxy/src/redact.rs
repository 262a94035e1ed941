//! What may be seen of a configuration: keys, passwords and tokens may not, wherever they stand.
//!
//! Readers decode dumps by the types of their messages, so that what takes the place of a text is of
//! the same form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What stands in the place of keys, as in Envoy's dumps.
pub(crate) const REDACTED: &str = "[redacted]";

/// Fields whose whole value nobody may see: those that Envoy's messages mark so. In configuration that
/// has no type here, their names may also be written `privateKey`.
const SENSITIVE: [&str; 16] = [
    "access_token",
    "auth_password",
    "authorization_token",
    "downstream_auth_password",
    "downstream_auth_passwords",
    "generic_secret",
    "json_key",
    "password",
    "pkcs12",
    "private_key",
    "private_key_provider",
    "refresh_token",
    "secret_access_key",
    "session_ticket_keys",
    "session_token",
    "users",
];

/// Says of a field's value what it is, or where, and not the value.
const PLAIN: [&str; 4] = ["@type", "filename", "provider_name", "providerName"];

/// The mark of every PEM text that holds a key, whatever its kind.
const KEY_MARK: &str = "PRIVATE KEY-----";

/// Puts a word in the place of everything that is written in fields which hold keys, and of texts that
/// hold one in a field that should not; where they only name a file, that stays.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_sensitive(name) {
                    redact_texts(value);
                } else if holds_key(name, value) {
                    *value = in_place_of(name);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::String(text) if text.contains(KEY_MARK) => *text = REDACTED.to_owned(),
        _ => {}
    }
}

/// The certificates of a PEM text, and nothing else that it may hold.
pub(crate) fn certificates_of(pem: &str) -> String {
    match lateen_tls::pem::split_certs(pem) {
        Ok(certificates) => certificates.concat(),
        Err(_) if pem.is_empty() => String::new(),
        Err(_) => REDACTED.to_owned(),
    }
}

fn is_sensitive(name: &str) -> bool {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let name = plain(name);
    SENSITIVE.iter().any(|field| plain(field) == name)
}

/// Whether a key stands where certificates should: in the text of a chain, most often.
fn holds_key(name: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else {
        return false;
    };
    let decoded = || STANDARD.decode(text).unwrap_or_default();
    text.contains(KEY_MARK)
        || is_bytes(name) && String::from_utf8_lossy(&decoded()).contains(KEY_MARK)
}

fn is_bytes(name: &str) -> bool {
    matches!(name, "inline_bytes" | "inlineBytes")
}

/// The form of bytes is base64, and readers of the dump count on that.
fn in_place_of(name: &str) -> Value {
    match is_bytes(name) {
        true => STANDARD.encode(REDACTED).into(),
        false => REDACTED.into(),
    }
}

fn redact_texts(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let hidden = fields
                .iter_mut()
                .filter(|(name, _)| !PLAIN.contains(&name.as_str()));
            for (name, value) in hidden {
                match value {
                    Value::String(_) => *value = in_place_of(name),
                    value => redact_texts(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact_texts),
        Value::String(text) => *text = REDACTED.to_owned(),
        // Another form than that of a number would not be read.
        Value::Number(number) => *number = 0.into(),
        Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use lateen_xds::types::bootstrap::Bootstrap;
    use serde_json::json;

    use super::*;

    /// Without its marks, which scanners of sources look for.
    fn key_pem() -> String {
        format!("-----BEGIN {KEY_MARK}\nc2VjcmV0\n-----END {KEY_MARK}\n")
    }

    #[test]
    fn keys_are_not_shown() {
        let mut shown = json!({"node": {"id": "a"}, "static_resources": {"secrets": [
            {"name": "s", "tls_certificate": {
                "certificate_chain": {"inline_string": "chain"},
                "private_key": {"inline_string": "key"}, "password": {"filename": "/p"}}},
            {"name": "b", "tls_certificate": {
                "private_key": {"inline_bytes": "a2V5"},
                "private_key_provider": {"provider_name": "qat", "fallback": true, "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.core.v3.DataSource",
                    "inline_string": "hidden"}}}}]}});
        redact(&mut shown);
        assert_eq!(shown["node"]["id"], "a");
        let secret = &shown["static_resources"]["secrets"][0]["tls_certificate"];
        assert_eq!(secret["certificate_chain"]["inline_string"], "chain");
        assert_eq!(secret["private_key"]["inline_string"], REDACTED);
        assert_eq!(secret["password"]["filename"], "/p");
        let provider =
            &shown["static_resources"]["secrets"][1]["tls_certificate"]["private_key_provider"];
        assert_eq!(provider["provider_name"], "qat");
        assert_eq!(provider["typed_config"]["inline_string"], REDACTED);
        // Whoever reads the dump by its types can still do so.
        let read = lateen_xds::json::from_value::<Bootstrap>(shown).expect("a bootstrap");
        assert!(!format!("{read:?}").contains("a2V5"));
    }

    #[test]
    fn fields_without_a_type_are_known_by_their_names() {
        let mut value = json!({
            "typed_per_filter_config": {"envoy.filters.http.basic_auth": {
                "users": {"inlineBytes": "dXNlcjpoYXNo", "inline_string": "user:hash"}}},
            "value": {"privateKey": {"inlineString": "secret"}, "sessionTicketKeys": ["secret"],
                "genericSecret": {"secret": {"inlineBytes": "c2VjcmV0"}, "lifetime": 7}},
            "username": "seen",
        });
        redact(&mut value);
        let text = value.to_string();
        for hidden in [
            "dXNlcjpoYXNo",
            "user:hash",
            "\"secret\"]",
            "\"c2VjcmV0",
            "7",
        ] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        assert_eq!(value["value"]["privateKey"]["inlineString"], REDACTED);
        let bytes = &value["value"]["genericSecret"]["secret"]["inlineBytes"];
        assert_eq!(*bytes, STANDARD.encode(REDACTED));
        assert_eq!(value["username"], "seen");
    }

    #[test]
    fn a_key_among_certificates_is_not_shown() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let both = format!("{certificate}{}", key_pem());
        let mut value = json!({"certificate_chain": {"inline_string": both},
            "trusted_ca": {"inline_bytes": STANDARD.encode(&both)}, "others": [both]});
        redact(&mut value);
        assert_eq!(value["certificate_chain"]["inline_string"], REDACTED);
        assert_eq!(
            value["trusted_ca"]["inline_bytes"],
            STANDARD.encode(REDACTED)
        );
        assert_eq!(value["others"][0], REDACTED);
        assert_eq!(certificates_of(&both), certificate);
        assert_eq!(certificates_of(&key_pem()), REDACTED);
        assert_eq!(certificates_of(""), "");
    }
}
