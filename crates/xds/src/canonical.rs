//! One encoding for one content.
//!
//! Map fields are encoded in the order of a randomly seeded hash map, so two encodings of the same
//! message may differ. Versions are hashes of encodings and must be equal on every replica; this
//! sorts the entries of every map, inside `Any`s too, in place: lengths do not change.
//!
//! What is where is asked of the descriptors once. After that a message is walked by tables that
//! know only the fields behind which there is a map or an `Any`; all others are stepped over.

use std::collections::HashMap;
use std::sync::OnceLock;

use prost_reflect::{Kind, MessageDescriptor};

use crate::json;
use crate::names::PREFIX;

/// Sorts the map entries of an encoded message; unknown types stay as they are.
pub(crate) fn canonical(full_name: &str, bytes: &mut [u8]) {
    let tables = TABLES.get_or_init(Tables::new);
    if let Some(table) = tables.by_name.get(full_name) {
        // What is not well formed stays, as far as it could not be read.
        let _ = tables.message(*table, bytes);
    }
}

static TABLES: OnceLock<Tables> = OnceLock::new();

/// For every type, the fields that matter.
struct Tables {
    by_name: HashMap<String, usize>,
    tables: Vec<Table>,
}

#[derive(Default)]
struct Table {
    is_any: bool,
    fields: Vec<(u32, Inner)>,
}

/// A field to look into.
#[derive(Clone, Copy)]
struct Inner {
    is_map: bool,
    /// The table of its messages; for a map, of its entries.
    table: usize,
}

impl Tables {
    fn new() -> Tables {
        let all = json::messages();
        let names = all.iter().enumerate();
        let by_name: HashMap<String, usize> =
            names.map(|(i, m)| (m.full_name().to_owned(), i)).collect();
        let mut tables: Vec<Table> = all.iter().map(|m| Table::of(m, &by_name)).collect();
        keep_what_matters(&mut tables);
        Tables { by_name, tables }
    }

    /// `None` when the bytes are not a well-formed message.
    fn message(&self, table: usize, bytes: &mut [u8]) -> Option<()> {
        let table = &self.tables[table];
        if table.is_any {
            return self.any(bytes);
        }
        let mut position = 0;
        let mut entries: Entries = Entries::default();
        while position < bytes.len() {
            let field = next_field(bytes, position)?;
            position = field.end;
            let inner = table.fields.iter().find(|(n, _)| *n == field.number);
            let (Some(body), Some((_, inner))) = (field.body, inner) else {
                entries.sort(bytes);
                continue;
            };
            self.message(inner.table, &mut bytes[body..field.end])?;
            if !inner.is_map || entries.number != field.number {
                entries.sort(bytes);
            }
            if inner.is_map {
                entries.number = field.number;
                entries.spans.push((field.start, field.end));
            }
        }
        entries.sort(bytes);
        Some(())
    }

    fn any(&self, bytes: &mut [u8]) -> Option<()> {
        let mut packed = None;
        let mut position = 0;
        while position < bytes.len() {
            let field = next_field(bytes, position)?;
            position = field.end;
            match (field.number, field.body) {
                (1, Some(body)) => {
                    let url = std::str::from_utf8(&bytes[body..field.end]).ok()?;
                    packed = self.by_name.get(url.strip_prefix(PREFIX)?).copied();
                }
                (2, Some(body)) => self.message(packed?, &mut bytes[body..field.end])?,
                _ => {}
            }
        }
        Some(())
    }
}

impl Table {
    fn of(message: &MessageDescriptor, by_name: &HashMap<String, usize>) -> Table {
        let mut fields = Vec::new();
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind()
                && let Some(table) = by_name.get(inner.full_name()).copied()
            {
                let is_map = field.is_map();
                fields.push((field.number(), Inner { is_map, table }));
            }
        }
        Table {
            is_any: message.full_name() == "google.protobuf.Any",
            fields,
        }
    }
}

/// Drops the fields behind which there is neither a map nor an `Any`. Types may contain themselves,
/// so this goes round until nothing is added.
fn keep_what_matters(tables: &mut [Table]) {
    let mut matters: Vec<bool> = tables
        .iter()
        .map(|table| table.is_any || table.fields.iter().any(|(_, inner)| inner.is_map))
        .collect();
    loop {
        let mut added = false;
        for (i, table) in tables.iter().enumerate() {
            if !matters[i] && table.fields.iter().any(|(_, inner)| matters[inner.table]) {
                matters[i] = true;
                added = true;
            }
        }
        if !added {
            break;
        }
    }
    for table in tables {
        table
            .fields
            .retain(|(_, inner)| inner.is_map || matters[inner.table]);
    }
}

/// Neighbouring entries of one map.
#[derive(Default)]
struct Entries {
    number: u32,
    spans: Vec<(usize, usize)>,
}

impl Entries {
    fn sort(&mut self, bytes: &mut [u8]) {
        let whole = match self.spans[..] {
            [(start, _), .., (_, end)] => start..end,
            _ => return self.spans.clear(),
        };
        let entry = |(start, end): &(usize, usize)| &bytes[*start..*end];
        if !self.spans.is_sorted_by_key(entry) {
            let mut sorted = self.spans.clone();
            sorted.sort_by_key(entry);
            let sorted: Vec<u8> = sorted.iter().flat_map(entry).copied().collect();
            bytes[whole].copy_from_slice(&sorted);
        }
        self.spans.clear();
    }
}

/// One field of an encoded message: its number, and where header and whole field end.
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Where the value starts, for a field with a length.
    pub(crate) body: Option<usize>,
    start: usize,
    pub(crate) end: usize,
}

/// The field that starts at a place; `None` where there is none that is well formed.
pub(crate) fn next_field(bytes: &[u8], start: usize) -> Option<Field> {
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
        let canonical = |c: &Cluster| {
            let mut bytes = c.encode_to_vec();
            canonical(&Cluster::full_name(), &mut bytes);
            bytes
        };
        let one = canonical(&cluster());
        assert_eq!(one, canonical(&cluster()));
        let decoded = Cluster::decode(one.as_slice()).expect("still a cluster");
        assert_eq!(decoded.metadata, cluster().metadata);
    }

    #[test]
    fn what_is_not_a_message_stays() {
        for bad in [&[0xff, 0xff][..], &[0x0a, 0x05, 0x01], &[0x0b]] {
            let mut bytes = bad.to_vec();
            canonical(&Cluster::full_name(), &mut bytes);
            assert_eq!(bytes, bad);
        }
    }
}
