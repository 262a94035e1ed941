//! The header list of a message, and of its trailers: one block of bytes and an index into it.
//!
//! Reading a field allocates nothing. An edit writes to the end of the block and changes the index;
//! what it replaces stays in the block until the message is gone. Order and case of the fields are
//! those of the sender.

mod edit;
mod name;
mod spares;
mod value;

use std::borrow::Cow;
use std::fmt;

use crate::names::Known;
pub use name::FieldName;
pub use value::{InvalidHeader, Value};
pub(crate) use value::{decimal, is_token, is_value};

/// What stands between the name of a field and its value.
const COLON: &[u8] = b": ";
/// What stands behind the value.
const LINE_END: &[u8] = b"\r\n";

/// A piece of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub(crate) const EMPTY: Span = Span {
        start: 0,
        length: 0,
    };
}

#[derive(Debug, Clone, Copy)]
struct Field {
    name: u32,
    value: u32,
    value_length: u32,
    name_length: u16,
    known: Known,
    marks: u8,
}

/// A field must not enter a compression table (RFC 7541, 7.1.3).
const SENSITIVE: u8 = 1;
/// A field lies in the block as HTTP/1 writes it, as `name: value` and the end of its line. Then
/// fields that lie side by side leave in one piece.
const WRITTEN: u8 = 2;

impl Field {
    fn is_sensitive(&self) -> bool {
        self.marks & SENSITIVE != 0
    }
}

/// One field as it stands in the list.
#[derive(Debug, Clone, Copy)]
pub struct FieldRef<'a> {
    /// The name in the sender's case.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// True where the sender asked that it enter no compression table.
    pub sensitive: bool,
    known: Known,
}

impl FieldRef<'_> {
    /// The interned name, where it has one.
    #[inline]
    pub fn known(&self) -> Option<Known> {
        (!self.known.is_none()).then_some(self.known)
    }

    /// True for this well-known name.
    #[inline]
    pub fn is(&self, name: Known) -> bool {
        self.known == name
    }
}

/// An ordered list of fields. Names are compared without regard to case.
#[derive(Default)]
pub struct Headers {
    block: Vec<u8>,
    fields: Vec<Field>,
    /// A bit for each well-known name that was ever in the list, so that to look for what is not
    /// there, which is what most looks are for, costs nothing.
    seen: u128,
}

impl Headers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list with room for so many bytes and fields.
    pub fn with_capacity(bytes: usize, fields: usize) -> Self {
        let mut headers = spares::take();
        headers.block.reserve(bytes);
        headers.fields.reserve(fields);
        headers
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True where there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// True where a field of that name exists.
    pub fn contains(&self, name: impl FieldName) -> bool {
        self.find(name).is_some()
    }

    /// The first value of that name, where it is UTF-8.
    pub fn get(&self, name: impl FieldName) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// The bytes of the first value of that name.
    pub fn bytes(&self, name: impl FieldName) -> Option<&[u8]> {
        Some(self.value_of(&self.fields[self.find(name)?]))
    }

    /// The first value of that name, copied out.
    pub fn value(&self, name: impl FieldName) -> Option<Value> {
        Some(Value::copied(self.bytes(name)?))
    }

    /// All values of that name.
    pub fn all<'a, N: FieldName>(&'a self, name: N) -> impl Iterator<Item = &'a [u8]> + use<'a, N> {
        let known = name.known();
        let fields = if self.may_have(known) {
            self.fields.as_slice()
        } else {
            &[]
        };
        fields
            .iter()
            .filter(move |field| self.is(field, known, name.text()))
            .map(|field| self.value_of(field))
    }

    /// All values of that name joined by commas, as matching sees a repeated field: bytes, since a
    /// value need not be UTF-8 to be there.
    pub fn joined(&self, name: impl FieldName) -> Option<Cow<'_, [u8]>> {
        let mut all = self.all(name);
        let mut bytes = Cow::Borrowed(all.next()?);
        for value in all {
            let owned = bytes.to_mut();
            owned.push(b',');
            owned.extend_from_slice(value);
        }
        Some(bytes)
    }

    /// Every field in order, names in the sender's case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields().map(|field| {
            let name = std::str::from_utf8(field.name).expect("a token is ASCII");
            (name, field.value)
        })
    }

    /// Every field in order.
    pub fn fields(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.fields.iter().map(|field| FieldRef {
            name: self.name_of(field),
            value: self.value_of(field),
            sensitive: field.is_sensitive(),
            known: field.known,
        })
    }

    /// Writes the fields as HTTP/1 has them; those that say how a body is framed where they are
    /// wanted, by their name and value.
    pub(crate) fn write(&self, mut wanted: impl FnMut(Known, &[u8]) -> bool, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for field in &self.fields {
            if matches!(
                field.known,
                Known::CONTENT_LENGTH | Known::TRANSFER_ENCODING
            ) && !wanted(field.known, self.value_of(field))
            {
                continue;
            }
            let start = field.name as usize;
            let end = field.value as usize + field.value_length as usize + LINE_END.len();
            let written = field.marks & WRITTEN != 0;
            if written && start == run.end {
                run.end = end;
                continue;
            }
            out.extend_from_slice(&self.block[std::mem::take(&mut run)]);
            if written {
                run = start..end;
            } else {
                for part in [self.name_of(field), COLON, self.value_of(field), LINE_END] {
                    out.extend_from_slice(part);
                }
            }
        }
        out.extend_from_slice(&self.block[run]);
    }

    /// A piece of the block by its place.
    pub(crate) fn span(&self, range: std::ops::Range<usize>) -> Span {
        debug_assert!(range.end <= self.block.len());
        Span {
            start: offset(range.start),
            length: offset(range.len()),
        }
    }

    /// Where the first value of that name lies.
    pub(crate) fn span_of(&self, name: Known) -> Option<Span> {
        let field = &self.fields[self.find(name)?];
        Some(Span {
            start: field.value,
            length: field.value_length,
        })
    }

    pub(crate) fn stored(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.block[start..start + span.length as usize]
    }

    #[inline]
    fn find(&self, name: impl FieldName) -> Option<usize> {
        let known = name.known();
        if !self.may_have(known) {
            return None;
        }
        self.fields
            .iter()
            .position(|field| self.is(field, known, name.text()))
    }

    /// False where a well-known name is certainly not in the list.
    #[inline]
    fn may_have(&self, known: Option<Known>) -> bool {
        known.is_none_or(|known| self.seen & bit(known) != 0)
    }

    #[inline]
    fn is(&self, field: &Field, known: Option<Known>, text: &[u8]) -> bool {
        is_name(&self.block, field, known, text)
    }

    fn name_of(&self, field: &Field) -> &[u8] {
        let start = field.name as usize;
        &self.block[start..start + usize::from(field.name_length)]
    }

    fn value_of(&self, field: &Field) -> &[u8] {
        let start = field.value as usize;
        &self.block[start..start + field.value_length as usize]
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut headers = Headers::with_capacity(self.block.len(), self.fields.len());
        headers.block.extend_from_slice(&self.block);
        headers.fields.extend_from_slice(&self.fields);
        headers.seen = self.seen;
        headers
    }
}

/// The bit of a well-known name; none for other names.
#[inline]
fn bit(known: Known) -> u128 {
    (1 << known.number()) & !1
}

/// A known name is told by its number; only unknown ones are compared as texts.
#[inline(always)]
fn is_name(block: &[u8], field: &Field, known: Option<Known>, text: &[u8]) -> bool {
    if field.known != known.unwrap_or(Known::NONE) {
        return false;
    }
    if known.is_some() {
        return true;
    }
    if usize::from(field.name_length) != text.len() {
        return false;
    }
    let name = &block[field.name as usize..][..text.len()];
    // Mostly in small letters on both sides.
    name == text || name.eq_ignore_ascii_case(text)
}

/// Heads are bounded far below 4 GiB, and so is what edits add to them.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("heads are bounded")
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields().map(|field| {
            (
                String::from_utf8_lossy(field.name),
                String::from_utf8_lossy(field.value),
            )
        });
        f.debug_map().entries(fields).finish()
    }
}

#[cfg(test)]
mod tests;
