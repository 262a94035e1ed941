//! Whether a Secret holds a certificate and its key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Names of the certificate and of the key, as Secrets have them.
const NAMES: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];

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
    if !certificate.contains("-----BEGIN CERTIFICATE-----") {
        return Some("its certificate is not in PEM".to_owned());
    }
    (!key.contains("PRIVATE KEY-----")).then(|| "its key is not in PEM".to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
