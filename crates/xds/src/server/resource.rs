//! An encoded resource and its version.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost::{Message, Name as MessageName};
use xxhash_rust::xxh3::xxh3_64;

use super::name::Name;
use super::versions::Versions;
use crate::Any;
use crate::canonical::canonical;

/// `resources` has this number in both protocols' responses, and so has the `Any` in a delta
/// response's resource.
const RESOURCES: u32 = 2;
const ANY: u32 = 2;
const VERSION: u32 = 1;
const NAME: u32 = 3;
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// One resource, encoded once and shared by all clients that see it.
///
/// It is kept as the field that a delta response carries it in, with the body at the end:
/// `resources: { version, name, resource: Any { type_url, value } }`. A state-of-the-world response
/// carries the `Any` in a field of the same number, which is the end of those bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name, unique in its type.
    pub name: Name,
    /// A hash of its content: equal content has an equal version, on every replica and after a
    /// restart. Never 0.
    pub(super) hash: u64,
    delta: Bytes,
    /// Where the `Any`'s field starts.
    any_at: usize,
    /// Where the type is.
    type_at: usize,
    type_end: usize,
    /// Where the message starts.
    value_at: usize,
}

impl Resource {
    /// Encodes a message.
    pub fn new<M: Message + MessageName>(name: impl AsRef<str>, message: &M) -> Self {
        let mut value = message.encode_to_vec();
        canonical(&M::full_name(), &mut value);
        Resource::of_bytes(name, &M::type_url(), &value)
    }

    /// A message in which other resources are the entries of a repeated field (a route table and its
    /// virtual hosts): their encodings one after the other, behind those of the other fields.
    pub fn composed<'a, M: Message + MessageName>(
        name: impl AsRef<str>,
        others: &M,
        field: u32,
        parts: impl Iterator<Item = &'a Resource>,
    ) -> Self {
        let mut value = others.encode_to_vec();
        canonical(&M::full_name(), &mut value);
        for part in parts {
            encode_key(field, WireType::LengthDelimited, &mut value);
            encode_varint(part.value().len() as u64, &mut value);
            value.extend_from_slice(part.value());
        }
        Resource::of_bytes(name, &M::type_url(), &value)
    }

    /// A resource whose body is not a message: it is carried as it is.
    pub fn of_bytes(name: impl AsRef<str>, type_url: &str, value: &[u8]) -> Self {
        let name = Name::new(name);
        let hash = xxh3_64(value).max(1);
        let version = version(hash);

        let any_len = field_len(type_url.len()) + field_len(value.len());
        let body_len = field_len(version.len()) + field_len(name.len()) + field_len(any_len);
        let mut out = BytesMut::with_capacity(field_len(body_len));
        put_header(&mut out, RESOURCES, body_len);
        put(&mut out, VERSION, version.as_bytes());
        put(&mut out, NAME, name.as_bytes());
        let any_at = out.len();
        put_header(&mut out, ANY, any_len);
        put(&mut out, TYPE_URL, type_url.as_bytes());
        let type_end = out.len();
        put_header(&mut out, VALUE, value.len());
        let value_at = out.len();
        out.put_slice(value);
        Resource {
            name,
            hash,
            delta: out.freeze(),
            any_at,
            type_at: type_end - type_url.len(),
            type_end,
            value_at,
        }
    }

    /// Its version as clients see it.
    pub fn version(&self) -> String {
        version(self.hash)
    }

    /// A copy of the message and its type.
    pub fn body(&self) -> Any {
        Any {
            type_url: String::from_utf8_lossy(self.type_url()).into_owned(),
            value: self.value().to_vec(),
        }
    }

    /// The encoded message.
    pub fn value(&self) -> &[u8] {
        &self.delta[self.value_at..]
    }

    /// The `Any`'s type.
    pub(super) fn type_url(&self) -> &[u8] {
        &self.delta[self.type_at..self.type_end]
    }

    /// The field of a delta response.
    pub(super) fn delta_field(&self) -> Bytes {
        self.delta.clone()
    }

    /// The field of a state-of-the-world response.
    pub(super) fn any_field(&self) -> Bytes {
        self.delta.slice(self.any_at..)
    }
}

/// The text of a version.
fn version(hash: u64) -> String {
    format!("{hash:016x}")
}

/// The version of a text; 0, which no resource has, for what was not made here.
pub(super) fn parse_version(text: &str) -> u64 {
    match (text.len(), u64::from_str_radix(text, 16)) {
        (16, Ok(hash)) => hash,
        _ => 0,
    }
}

fn field_len(len: usize) -> usize {
    // All field numbers here are below 16, which makes their keys one byte.
    1 + encoded_len_varint(len as u64) + len
}

fn put_header(out: &mut BytesMut, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn put(out: &mut BytesMut, field: u32, value: &[u8]) {
    put_header(out, field, value.len());
    out.put_slice(value);
}

/// Which resources of a type a client asks for.
#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    /// All that there are, and these by name.
    All(&'a NameSet),
    /// These only.
    Only(&'a NameSet),
}

impl Names<'_> {
    /// Whether this asks for everything of a type, or for a name.
    pub fn contains(&self, name: &Name) -> bool {
        match self {
            Names::All(_) => true,
            Names::Only(names) => names.contains(name),
        }
    }
}

/// A set of names. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NameSet(pub(super) Versions);

impl NameSet {
    /// Whether a name is in it.
    pub fn contains(&self, name: &Name) -> bool {
        self.0.get(name).is_some()
    }

    /// The names, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|entry| &entry.name)
    }

    /// Whether it is the very same set. A copy of it then changes nothing.
    pub(super) fn is_same(&self, other: &NameSet) -> bool {
        self.0.digest() == other.0.digest()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};
    use crate::types::endpoint::ClusterLoadAssignment;

    #[test]
    fn one_encoding_serves_both_protocols() {
        let message = ClusterLoadAssignment {
            cluster_name: "c".repeat(300),
            ..ClusterLoadAssignment::default()
        };
        let resource = Resource::new("a", &message);
        let delta = DeltaDiscoveryResponse::decode(resource.delta_field());
        let delta = delta.expect("a response").resources.remove(0);
        assert_eq!(delta.name, "a");
        assert_eq!(parse_version(&delta.version), resource.hash);
        assert_eq!(delta.version, resource.version());
        let all = DiscoveryResponse::decode(resource.any_field()).expect("a response");
        assert_eq!(delta.resource.as_ref(), all.resources.first());
        assert_eq!(all.resources[0], resource.body());
        assert_eq!(all.resources[0], crate::pack_any(&message));
        assert_eq!(resource.value(), message.encode_to_vec());
    }

    #[test]
    fn versions_do_not_depend_on_the_build() {
        let message = ClusterLoadAssignment {
            cluster_name: "a".into(),
            ..ClusterLoadAssignment::default()
        };
        // A replica of another release must come to the same.
        assert_eq!(Resource::new("x", &message).version(), "3716a010c7a345cb");
        assert_eq!(parse_version("made elsewhere"), 0);
    }
}
