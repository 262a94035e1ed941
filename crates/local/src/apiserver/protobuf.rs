//! Reads the binary form in which `kubectl create` sends what it makes itself.
//!
//! Clients accept JSON answers but some of them insist on sending protobuf. Only the messages
//! that `kubectl` builds without a file are known; a field beyond them is refused by number, since
//! dropping it silently would store something else than was asked for.

mod messages;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use messages::{Field, Kind, message};

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Decodes a body into the JSON form of the same object.
pub(super) fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or("the body does not begin as Kubernetes' protobuf does")?;
    let mut object = Map::new();
    let mut raw: &[u8] = &[];
    let mut reader = Reader(envelope);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => object = type_meta(bytes)?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let kind = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let fields =
        message(&kind).ok_or_else(|| format!("protobuf for kind {kind:?} is not supported"))?;
    object.extend(read_message(&kind, fields, raw)?);
    Ok(Value::Object(object))
}

fn type_meta(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        let key = if number == 1 { "apiVersion" } else { "kind" };
        object.insert(key.into(), text(wire)?.into());
    }
    Ok(object)
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| truncated())?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(truncated)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            other => return Err(format!("protobuf wire type {other} is not supported")),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a protobuf number is too long".into())
    }
}

fn truncated() -> String {
    "the protobuf body ends too early".into()
}

fn text(wire: Wire<'_>) -> Result<String, String> {
    match wire {
        Wire::Bytes(bytes) => {
            String::from_utf8(bytes.to_vec()).map_err(|_| "a protobuf text is not UTF-8".into())
        }
        Wire::Number(_) => Err("a protobuf field has another type than expected".into()),
    }
}

fn read_message(name: &str, fields: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = fields.iter().find(|field| field.number == number) else {
            // What is unset is sent all the same where the type has no absent value.
            if is_blank(&wire) {
                continue;
            }
            return Err(format!(
                "protobuf field {number} of {name} is not supported"
            ));
        };
        put(&mut object, field, wire)?;
    }
    Ok(object)
}

/// Whether a value is zero, empty, or a message of nothing but such.
fn is_blank(wire: &Wire<'_>) -> bool {
    match wire {
        Wire::Number(number) => *number == 0,
        Wire::Bytes(bytes) => {
            let mut reader = Reader(bytes);
            loop {
                match reader.next() {
                    Ok(None) => return true,
                    Ok(Some((_, inner))) if is_blank(&inner) => {}
                    _ => return false,
                }
            }
        }
    }
}

fn put(object: &mut Map<String, Value>, field: &Field, wire: Wire<'_>) -> Result<(), String> {
    let key = field.name.to_owned();
    if let Kind::Texts | Kind::Messages(_) = field.kind {
        let item = match (field.kind, wire) {
            (Kind::Messages(name), Wire::Bytes(bytes)) => Value::Object(read_known(name, bytes)?),
            (_, wire) => text(wire)?.into(),
        };
        if let Value::Array(items) = object
            .entry(key)
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            items.push(item);
        }
        return Ok(());
    }
    if let Kind::TextMap | Kind::BytesMap | Kind::QuantityMap = field.kind {
        let (entry, value) = map_entry(field.kind, wire)?;
        if let Value::Object(members) = object
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()))
        {
            members.insert(entry, value);
        }
        return Ok(());
    }
    if let (Kind::Inline(name), Wire::Bytes(bytes)) = (field.kind, &wire) {
        object.extend(read_known(name, bytes)?);
        return Ok(());
    }
    if let Some(value) = single(field.kind, wire)? {
        object.insert(key, value);
    }
    Ok(())
}

fn read_known(name: &str, bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let fields =
        message(name).ok_or_else(|| format!("protobuf message {name:?} is not supported"))?;
    read_message(name, fields, bytes)
}

/// A value that occurs once; nothing if it only stands for "unset".
fn single(kind: Kind, wire: Wire<'_>) -> Result<Option<Value>, String> {
    Ok(match (kind, wire) {
        (Kind::Text, wire) => Some(text(wire)?)
            .filter(|text| !text.is_empty())
            .map(Value::String),
        (Kind::Flag, Wire::Number(value)) => {
            Some(Value::Bool(value != 0)).filter(|flag| *flag == Value::Bool(true))
        }
        (Kind::PresentFlag, Wire::Number(value)) => Some(Value::Bool(value != 0)),
        // Negative numbers are sent as their 64-bit complement.
        (Kind::Number, Wire::Number(value)) => Some(value.cast_signed())
            .filter(|value| *value != 0)
            .map(Value::from),
        (Kind::PresentNumber, Wire::Number(value)) => Some(Value::from(value.cast_signed())),
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        // Times are the server's to set.
        (Kind::Time, Wire::Bytes(_)) => None,
        (Kind::Message(name), Wire::Bytes(bytes)) => Some(read_known(name, bytes)?)
            .filter(|object| !object.is_empty())
            .map(Value::Object),
        _ => return Err("a protobuf field has another type than expected".into()),
    })
}

fn int_or_string(bytes: &[u8]) -> Result<Option<Value>, String> {
    let (mut is_text, mut value) = (false, Value::from(0));
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(number)) if !is_text => value = number.cast_signed().into(),
            (3, wire) if is_text => value = text(wire)?.into(),
            _ => {}
        }
    }
    Ok(Some(value).filter(|value| *value != 0))
}

fn map_entry(kind: Kind, wire: Wire<'_>) -> Result<(String, Value), String> {
    let Wire::Bytes(bytes) = wire else {
        return Err("a protobuf map has an odd entry".into());
    };
    let (mut key, mut value) = (String::new(), Value::String(String::new()));
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, kind, wire) {
            (1, _, wire) => key = text(wire)?,
            (2, Kind::BytesMap, Wire::Bytes(bytes)) => value = STANDARD.encode(bytes).into(),
            (2, Kind::QuantityMap, Wire::Bytes(bytes)) => {
                if let Some((1, wire)) = Reader(bytes).next()? {
                    value = text(wire)?.into();
                }
            }
            (2, _, wire) => value = text(wire)?.into(),
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("short")];
        out.extend(bytes);
        out
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
    }

    #[test]
    fn a_namespace() {
        let metadata = [
            field(1, b"team"),
            field(2, b""),
            field(8, b""),
            field(11, &[field(1, b"a"), field(2, b"b")].concat()),
        ]
        .concat();
        let raw = [field(1, &metadata), field(2, b""), field(3, b"")].concat();
        assert_eq!(
            decode(&body("Namespace", &raw)),
            Ok(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"a": "b"}}})
            )
        );
    }

    #[test]
    fn an_ingress() {
        let port = field(2, &[0x10, 80]);
        let service = field(4, &[field(1, b"web"), port].concat());
        let path = [field(1, b"/bar"), field(2, &service), field(3, b"Exact")].concat();
        let paths = field(1, &field(1, &path));
        let rule = [field(1, b"foo.com"), field(2, &paths)].concat();
        let raw = [field(1, &field(1, b"in")), field(2, &field(3, &rule))].concat();
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path = json!({"path": "/bar", "backend": backend, "pathType": "Exact"});
        assert_eq!(
            decode(&body("Ingress", &raw)).expect("known")["spec"],
            json!({"rules": [{"host": "foo.com", "http": {"paths": [path]}}]})
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error = decode(&body("Namespace", &field(9, b"x"))).expect_err("no such field");
        assert_eq!(error, "protobuf field 9 of Namespace is not supported");
        assert!(decode(&body("Odd", b"")).is_err());
        assert!(decode(b"{}").is_err());
        assert!(decode(&body("Namespace", &[0x0a, 0x70])).is_err());
    }
}
