//! Header blocks to fields.

use super::integer;
use super::name::NameId;
use super::static_table;
use super::table::{Entry, Table};
use super::{DEFAULT_TABLE_SIZE, HpackError, huffman};

/// A decoded field.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The number of the name.
    pub id: NameId,
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Sent as "never indexed": it must be sent on in the same way (RFC 7541, section 7.1.3).
    pub sensitive: bool,
    /// The name is a token in lower case (after a colon, if any), the value has no control
    /// character but tab and neither begins nor ends with white space (RFC 9113, section 8.2.1).
    pub well_formed: bool,
}

/// Takes the fields of a block, in order.
pub trait Sink {
    /// One field.
    fn field(&mut self, field: Field<'_>);
}

/// What an entry remembers so that it need not be found out again.
#[derive(Debug, Clone, Copy)]
struct Facts {
    id: NameId,
    name_fits: bool,
    well_formed: bool,
}

/// How many size updates may begin a block (RFC 7541, section 4.2: the smallest, then the final).
const MAX_SIZE_UPDATES: usize = 2;

/// The decoding side of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table<Facts>,
    /// The largest size that the peer may choose: our setting, once acknowledged.
    limit: usize,
    /// We lowered the limit below what the peer used: the next block must begin with an update.
    update_due: bool,
    /// Where Huffman strings that enter no table are decoded.
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with the default table size, which holds until a setting is acknowledged.
    pub fn new() -> Self {
        Decoder {
            table: Table::new(DEFAULT_TABLE_SIZE),
            limit: DEFAULT_TABLE_SIZE,
            update_due: false,
            scratch: Vec::new(),
        }
    }

    /// The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE. Growing changes only what the peer
    /// may ask for; shrinking obliges it to say so at the start of its next block.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        if limit < self.table.max() {
            self.update_due = true;
        }
    }

    /// Decodes one whole block.
    ///
    /// # Errors
    /// Any error leaves the table out of step: the connection must end with COMPRESSION_ERROR.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), HpackError> {
        let mut at = 0;
        self.size_updates(block, &mut at)?;
        while let Some(&first) = block.get(at) {
            if first & 0x80 != 0 {
                let index = integer::decode(block, &mut at, 7)?;
                self.indexed(index, sink)?;
            } else if first & 0xc0 == 0x40 {
                self.insert(block, &mut at, sink)?;
            } else if first & 0xe0 == 0x20 {
                // A size update after a field.
                return Err(HpackError::SizeUpdate);
            } else {
                self.literal(block, &mut at, first & 0x10 != 0, sink)?;
            }
        }
        Ok(())
    }

    fn size_updates(&mut self, block: &[u8], at: &mut usize) -> Result<(), HpackError> {
        let mut n_updates = 0;
        while block.get(*at).is_some_and(|first| first & 0xe0 == 0x20) {
            let size = integer::decode(block, at, 5)?;
            n_updates += 1;
            if size > self.limit || n_updates > MAX_SIZE_UPDATES {
                return Err(HpackError::SizeUpdate);
            }
            self.table.set_max(size);
        }
        if std::mem::take(&mut self.update_due) && n_updates == 0 {
            return Err(HpackError::SizeUpdate);
        }
        Ok(())
    }

    #[inline]
    fn indexed(&self, index: usize, sink: &mut impl Sink) -> Result<(), HpackError> {
        if index > static_table::LEN {
            let entry = self.entry(index)?;
            let (name, value) = self.table.field(entry);
            sink.field(Field {
                id: entry.extra.id,
                name,
                value,
                sensitive: false,
                well_formed: entry.extra.well_formed,
            });
            return Ok(());
        }
        let slot = index.checked_sub(1).ok_or(HpackError::Index)?;
        let (name, value) = static_table::ENTRIES[slot];
        sink.field(Field {
            id: static_table::id(slot),
            name: name.as_bytes(),
            value: value.as_bytes(),
            sensitive: false,
            well_formed: true,
        });
        Ok(())
    }

    #[inline]
    fn entry(&self, index: usize) -> Result<&Entry<Facts>, HpackError> {
        self.table
            .entry(index - static_table::LEN - 1)
            .ok_or(HpackError::Index)
    }

    /// A literal that enters the table: both strings are decoded right where they will live.
    fn insert(
        &mut self,
        block: &[u8],
        at: &mut usize,
        sink: &mut impl Sink,
    ) -> Result<(), HpackError> {
        let index = integer::decode(block, at, 6)?;
        let pending = self.table.begin();
        let start = self.table.tail().len();
        let (id, name_fits) = match index {
            0 => {
                append_string(block, at, self.table.tail())?;
                let name = &self.table.tail()[start..];
                (NameId::of(name), is_name(name))
            }
            index if index <= static_table::LEN => {
                let name = static_table::ENTRIES[index - 1].0;
                self.table.tail().extend_from_slice(name.as_bytes());
                (static_table::id(index - 1), true)
            }
            index => {
                let entry = *self.entry(index)?;
                self.table.append_name(entry);
                (entry.extra.id, entry.extra.name_fits)
            }
        };
        let name_len = self.table.tail().len() - start;
        append_string(block, at, self.table.tail())?;
        let (name, value) = self.table.pending(&pending, name_len);
        let facts = Facts {
            id,
            name_fits,
            well_formed: name_fits && is_field_value(value),
        };
        sink.field(Field {
            id,
            name,
            value,
            sensitive: false,
            well_formed: facts.well_formed,
        });
        self.table.finish(pending, name_len, facts);
        Ok(())
    }

    /// A literal that enters no table: strings without Huffman code are not copied at all.
    fn literal(
        &mut self,
        block: &[u8],
        at: &mut usize,
        sensitive: bool,
        sink: &mut impl Sink,
    ) -> Result<(), HpackError> {
        let index = integer::decode(block, at, 4)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let result = self.literal_with(block, at, (index, sensitive), &mut scratch, sink);
        self.scratch = scratch;
        result
    }

    fn literal_with(
        &self,
        block: &[u8],
        at: &mut usize,
        (index, sensitive): (usize, bool),
        scratch: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), HpackError> {
        let name_text = if index == 0 {
            Some(string(block, at)?.decode_to(scratch)?)
        } else {
            None
        };
        let value_text = string(block, at)?.decode_to(scratch)?;
        let (id, name, name_fits) = match name_text {
            Some(text) => {
                let name = text.bytes(scratch);
                (NameId::of(name), name, is_name(name))
            }
            None if index <= static_table::LEN => (
                static_table::id(index - 1),
                static_table::ENTRIES[index - 1].0.as_bytes(),
                true,
            ),
            None => {
                let entry = self.entry(index)?;
                (
                    entry.extra.id,
                    self.table.field(entry).0,
                    entry.extra.name_fits,
                )
            }
        };
        let value = value_text.bytes(scratch);
        sink.field(Field {
            id,
            name,
            value,
            sensitive,
            well_formed: name_fits && is_field_value(value),
        });
        Ok(())
    }

    /// Gives back memory that no entry needs.
    pub fn shrink(&mut self) {
        self.table.shrink();
        self.scratch = Vec::new();
    }

    /// Bytes of memory owned.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.scratch.capacity()
    }
}

/// A string literal as it stands in the block.
struct Literal<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

/// A string that is in the block itself, or decoded in the scratch space.
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded(std::ops::Range<usize>),
}

impl<'a> Literal<'a> {
    #[inline]
    fn decode_to(self, scratch: &mut Vec<u8>) -> Result<Text<'a>, HpackError> {
        if !self.huffman {
            return Ok(Text::Plain(self.bytes));
        }
        let start = scratch.len();
        huffman::decode(self.bytes, scratch)?;
        Ok(Text::Decoded(start..scratch.len()))
    }
}

impl<'a> Text<'a> {
    #[inline]
    fn bytes(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(range) => &scratch[range],
        }
    }
}

#[inline]
fn string<'a>(block: &'a [u8], at: &mut usize) -> Result<Literal<'a>, HpackError> {
    let huffman = block.get(*at).ok_or(HpackError::Truncated)? & 0x80 != 0;
    let length = integer::decode(block, at, 7)?;
    let bytes = block[*at..].get(..length).ok_or(HpackError::Truncated)?;
    *at += length;
    Ok(Literal { bytes, huffman })
}

fn append_string(block: &[u8], at: &mut usize, out: &mut Vec<u8>) -> Result<(), HpackError> {
    let text = string(block, at)?;
    if text.huffman {
        return huffman::decode(text.bytes, out);
    }
    out.extend_from_slice(text.bytes);
    Ok(())
}

/// Bytes of a name in lower case: tokens of RFC 9110, section 5.6.2, without capitals.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            )
            || matches!(b, b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// True for a name that HTTP/2 may carry; one colon may begin it.
fn is_name(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b":").unwrap_or(name);
    !rest.is_empty() && rest.iter().all(|byte| NAME_BYTES[usize::from(*byte)])
}

/// True for a value without control characters but tab, and without white space around it.
#[inline]
fn is_field_value(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if space(value.first()) || space(value.last()) {
        return false;
    }
    // No early exit, so that it is done with vectors.
    let bad = value.iter().fold(false, |bad, &byte| {
        bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    });
    !bad
}
