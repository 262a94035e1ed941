//! WebSocket's handshake, as far as it differs between HTTP/1 (RFC 6455) and HTTP/2 (RFC 8441).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::{Headers, Known, Value};

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key for a request of our own: sixteen random bytes (RFC 6455, 4.1).
pub(crate) fn key() -> Value {
    let text = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    Value::new(text.as_bytes()).expect("base64 has no control characters")
}

/// The answer that proves that a server has understood a client's key.
pub(crate) fn accept(key: &[u8]) -> Value {
    let mut hash = Sha1::new();
    hash.update(key.trim_ascii());
    hash.update(GUID);
    let text = STANDARD.encode(hash.finalize());
    Value::new(text.as_bytes()).expect("base64 has no control characters")
}

/// Makes the fields of an answer to an extended CONNECT those of the 101 that an HTTP/1 client
/// waits for. `asked` are the fields of its request.
pub(crate) fn to_switch(protocol: &str, asked: &Headers, fields: &mut Headers) {
    fields.set_value(Known::CONNECTION, &Value::from_static("upgrade"));
    if let Ok(protocol) = Value::new(protocol.as_bytes()) {
        fields.set_value(Known::UPGRADE, &protocol);
    }
    let is_websocket = protocol.eq_ignore_ascii_case("websocket");
    if is_websocket && let Some(key) = asked.bytes(Known::SEC_WEBSOCKET_KEY) {
        fields.set_value(Known::SEC_WEBSOCKET_ACCEPT, &accept(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        let value = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(value.as_str(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn only_websocket_has_a_key() {
        let mut asked = Headers::new();
        asked
            .append("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .expect("valid");
        let mut fields = Headers::new();
        to_switch("other", &asked, &mut fields);
        assert_eq!(fields.get(Known::UPGRADE), Some("other"));
        assert!(!fields.contains(Known::SEC_WEBSOCKET_ACCEPT));
        to_switch("WebSocket", &asked, &mut fields);
        assert!(fields.contains(Known::SEC_WEBSOCKET_ACCEPT));
    }
}
