//! One encoding for one content.
//!
//! Map fields are encoded in the order of a randomly seeded hash map, so two encodings of the same
//! message may differ. Versions are hashes of encodings and must be equal after a restart of the
//! control plane; this sorts the entries of every map, inside `Any`s too. Lengths do not change.

use prost_reflect::{Kind, MessageDescriptor};

use crate::json;
use crate::names::PREFIX;

/// The encoding of the same message with map entries sorted; unknown types stay as they are.
pub(crate) fn canonical(full_name: &str, bytes: &[u8]) -> Vec<u8> {
    match json::descriptor(full_name) {
        Ok(descriptor) => message(&descriptor, bytes).unwrap_or_else(|| bytes.to_vec()),
        Err(_) => bytes.to_vec(),
    }
}

/// One field of an encoded message: its number, and where header and whole field end.
struct Field {
    number: u32,
    /// Where the value starts, for a field with a length.
    body: Option<usize>,
    start: usize,
    end: usize,
}

/// `None` when the bytes are not a well-formed message.
fn message(descriptor: &MessageDescriptor, bytes: &[u8]) -> Option<Vec<u8>> {
    let is_any = descriptor.full_name() == "google.protobuf.Any";
    let any_type = if is_any { packed_type(bytes) } else { None };
    let mut out = Vec::with_capacity(bytes.len());
    let mut position = 0;
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    while position < bytes.len() {
        let field = next_field(bytes, position)?;
        position = field.end;
        let known = descriptor.get_field(field.number);
        let is_map = known.as_ref().is_some_and(|f| f.is_map());
        let inner = match known.as_ref().map(|f| f.kind()) {
            Some(Kind::Message(inner)) => Some(inner),
            _ if is_any && field.number == 2 => any_type.clone(),
            _ => None,
        };
        let encoded = rewritten(bytes, &field, inner.as_ref())?;
        if entries
            .last()
            .is_some_and(|(number, _)| !is_map || *number != field.number)
        {
            flush(&mut entries, &mut out);
        }
        if is_map {
            entries.push((field.number, encoded));
        } else {
            out.extend(encoded);
        }
    }
    flush(&mut entries, &mut out);
    Some(out)
}

/// The field with the message in it made canonical.
fn rewritten(bytes: &[u8], field: &Field, inner: Option<&MessageDescriptor>) -> Option<Vec<u8>> {
    match (field.body, inner) {
        (Some(body), Some(inner)) => {
            let mut encoded = bytes[field.start..body].to_vec();
            encoded.extend(message(inner, &bytes[body..field.end])?);
            Some(encoded)
        }
        _ => Some(bytes[field.start..field.end].to_vec()),
    }
}

fn flush(entries: &mut Vec<(u32, Vec<u8>)>, out: &mut Vec<u8>) {
    entries.sort();
    for (_, entry) in entries.drain(..) {
        out.extend(entry);
    }
}

fn packed_type(any: &[u8]) -> Option<MessageDescriptor> {
    let mut position = 0;
    while position < any.len() {
        let field = next_field(any, position)?;
        if field.number == 1 {
            let url = std::str::from_utf8(&any[field.body?..field.end]).ok()?;
            return json::descriptor(url.strip_prefix(PREFIX)?).ok();
        }
        position = field.end;
    }
    None
}

fn next_field(bytes: &[u8], start: usize) -> Option<Field> {
    let (key, mut position) = varint(bytes, start)?;
    let mut body = None;
    match key & 7 {
        0 => position = varint(bytes, position)?.1,
        1 => position += 8,
        2 => {
            let (length, at) = varint(bytes, position)?;
            body = Some(at);
            position = at.checked_add(usize::try_from(length).ok()?)?;
        }
        5 => position += 4,
        _ => return None,
    }
    (position <= bytes.len()).then_some(Field {
        number: u32::try_from(key >> 3).ok()?,
        body,
        start,
        end: position,
    })
}

fn varint(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, start + i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};

    use super::*;
    use crate::types::cluster::Cluster;
    use crate::types::core::Metadata;
    use crate::types::wkt;

    fn cluster() -> Cluster {
        let entry = |i: u32| (format!("key{i}"), wkt::Struct::default());
        let metadata = Metadata {
            filter_metadata: (0..20).map(entry).collect(),
            ..Metadata::default()
        };
        let packed = |i: u32| (format!("ext{i}"), crate::pack_any(&metadata));
        Cluster {
            name: "c".into(),
            metadata: Some(metadata.clone()),
            typed_extension_protocol_options: (0..20).map(packed).collect(),
            ..Cluster::default()
        }
    }

    #[test]
    fn two_encodings_of_one_message_become_one() {
        let canonical = |c: &Cluster| canonical(&Cluster::full_name(), &c.encode_to_vec());
        let one = canonical(&cluster());
        assert_eq!(one, canonical(&cluster()));
        let decoded = Cluster::decode(one.as_slice()).expect("still a cluster");
        assert_eq!(decoded.metadata, cluster().metadata);
    }

    #[test]
    fn what_is_not_a_message_stays() {
        for bad in [&[0xff, 0xff][..], &[0x0a, 0x05, 0x01], &[0x0b]] {
            assert_eq!(canonical(&Cluster::full_name(), bad), bad);
        }
    }
}
