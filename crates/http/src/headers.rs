//! The header list of a message, and of its trailers: one block of bytes and an index into it.
//!
//! Reading a field allocates nothing. An edit writes to the end of the block and changes the index;
//! what it replaces stays in the block until the message is gone. Order and case of the fields are
//! those of the sender.

mod value;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use crate::names::{Known, lookup};
pub use value::{InvalidHeader, Value};
pub(crate) use value::{decimal, is_token, is_value};

/// What can name a field: a text in any case, or a well-known name.
pub trait FieldName: Copy {
    /// The interned name, where the text has one.
    #[doc(hidden)]
    fn known(self) -> Option<Known>;
    /// The text.
    #[doc(hidden)]
    fn text(&self) -> &[u8];
}

impl FieldName for Known {
    #[inline]
    fn known(self) -> Option<Known> {
        Some(self)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl FieldName for &str {
    #[inline]
    fn known(self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl FieldName for &String {
    fn known(self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

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
        let mut headers = SPARES
            .try_with(|spares| spares.borrow_mut().pop())
            .ok()
            .flatten()
            .unwrap_or_default();
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

    /// Replaces all fields of that name by one, which takes the place of the first.
    pub fn set(
        &mut self,
        name: impl FieldName,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        check(name, value.as_ref())?;
        self.put(name, value.as_ref());
        Ok(())
    }

    /// Replaces all fields of a name by one with a value that is known to be valid. Panics where
    /// the name is no token.
    pub fn set_value(&mut self, name: impl FieldName, value: &Value) {
        assert!(
            name.known().is_some() || is_token(name.text()),
            "a field name is a token"
        );
        self.put(name, value.as_bytes());
    }

    /// Replaces all fields of a well-known name by a number.
    pub fn set_number(&mut self, name: Known, number: u64) {
        self.put(name, decimal(number, &mut [0; 20]));
    }

    /// Adds a field after the others.
    pub fn append(
        &mut self,
        name: impl FieldName,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        check(name, value.as_ref())?;
        self.push(name.text(), value.as_ref(), false);
        Ok(())
    }

    /// Removes every field of that name; true where there was one.
    pub fn remove(&mut self, name: impl FieldName) -> bool {
        let Some(first) = self.find(name) else {
            return false;
        };
        self.remove_from(first, name);
        true
    }

    /// Removes every field of that name; the first value is returned.
    pub fn take(&mut self, name: impl FieldName) -> Option<Value> {
        let first = self.find(name)?;
        let value = self.value_of(&self.fields[first]);
        let value = Value::copied(value);
        self.remove_from(first, name);
        Some(value)
    }

    /// Keeps the fields that the predicate accepts by name.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let block = &self.block;
        self.fields.retain(|field| {
            let start = field.name as usize;
            let name = &block[start..start + usize::from(field.name_length)];
            keep(std::str::from_utf8(name).expect("a token is ASCII"))
        });
    }

    /// Removes the hop-by-hop fields of RFC 9110, section 7.6.1, and those that `Connection` names.
    /// `TE: trailers` stays, since gRPC needs it.
    pub fn remove_hop_by_hop(&mut self) {
        self.remove_named_by_connection();
        let trailers = self
            .bytes(Known::TE)
            .is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
        self.fields.retain(|field| match field.known {
            Known::CONNECTION
            | Known::HTTP2_SETTINGS
            | Known::KEEP_ALIVE
            | Known::PROXY_CONNECTION
            | Known::TRANSFER_ENCODING
            | Known::UPGRADE => false,
            Known::TE => trailers,
            _ => true,
        });
    }

    /// Most connections name nothing but themselves; those that do, name few. What proxies say of a
    /// request stays: a client could take away by its name what was added for the next hop.
    fn remove_named_by_connection(&mut self) {
        let mut named = Vec::new();
        for value in self.all(Known::CONNECTION) {
            for token in value.split(|byte| *byte == b',') {
                let token = token.trim_ascii();
                let standard = token.is_empty()
                    || [&b"close"[..], b"keep-alive", b"upgrade", b"te"]
                        .iter()
                        .any(|known| token.eq_ignore_ascii_case(known));
                if !standard && !is_of_proxies(token) {
                    named.push(token.to_ascii_lowercase());
                }
            }
        }
        for name in named {
            let known = Known::of(&name);
            let block = std::mem::take(&mut self.block);
            self.fields
                .retain(|field| !is_name(&block, field, known, &name));
            self.block = block;
        }
    }

    /// Adds a field that was checked already.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        self.push_known(lookup(name), name, value, sensitive);
    }

    /// The same for a name that was looked up already; `known` is [`Known::NONE`] for others.
    #[inline]
    pub(crate) fn push_known(&mut self, known: Known, name: &[u8], value: &[u8], sensitive: bool) {
        let name_length = u16::try_from(name.len()).expect("heads are bounded");
        let start = offset(self.block.len());
        self.block
            .reserve(name.len() + COLON.len() + value.len() + LINE_END.len());
        for part in [name, COLON, value, LINE_END] {
            self.block.extend_from_slice(part);
        }
        self.seen |= bit(known);
        self.fields.push(Field {
            name: start,
            value: start + offset(name.len() + COLON.len()),
            value_length: offset(value.len()),
            name_length,
            known,
            marks: WRITTEN | if sensitive { SENSITIVE } else { 0 },
        });
    }

    /// Adds a field whose name and value lie in the block already.
    pub(crate) fn push_stored(&mut self, name: std::ops::Range<usize>, value: Span) {
        let known = lookup(&self.block[name.clone()]);
        let (start, end) = (value.start as usize, (value.start + value.length) as usize);
        let written = self.block.get(name.end..start) == Some(COLON)
            && self.block[end..].starts_with(LINE_END);
        self.seen |= bit(known);
        self.fields.push(Field {
            name: offset(name.start),
            value: value.start,
            value_length: value.length,
            name_length: u16::try_from(name.len()).expect("heads are bounded"),
            known,
            marks: if written { WRITTEN } else { 0 },
        });
    }

    /// Writes bytes into the block.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Span {
        let start = offset(self.block.len());
        self.block.extend_from_slice(bytes);
        Span {
            start,
            length: offset(bytes.len()),
        }
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

    fn put(&mut self, name: impl FieldName, value: &[u8]) {
        let Some(first) = self.find(name) else {
            let known = name.known().unwrap_or(Known::NONE);
            return self.push_known(known, name.text(), value, false);
        };
        self.replace(first, value);
        self.remove_from(first + 1, name);
    }

    /// Writes a field anew, with its name as it was.
    fn replace(&mut self, at: usize, value: &[u8]) {
        let field = &mut self.fields[at];
        let name = field.name as usize;
        field.name = offset(self.block.len());
        self.block
            .extend_from_within(name..name + usize::from(field.name_length));
        self.block.extend_from_slice(COLON);
        field.value = offset(self.block.len());
        field.value_length = offset(value.len());
        field.marks |= WRITTEN;
        self.block.extend_from_slice(value);
        self.block.extend_from_slice(LINE_END);
    }

    fn remove_from(&mut self, start: usize, name: impl FieldName) {
        let known = name.known();
        let mut kept = start;
        for at in start..self.fields.len() {
            if !self.is(&self.fields[at], known, name.text()) {
                self.fields[kept] = self.fields[at];
                kept += 1;
            }
        }
        self.fields.truncate(kept);
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

thread_local! {
    /// Lists that are not used any more, with their memory. Each message needs two pieces that are
    /// too large for what allocators are quick at.
    static SPARES: RefCell<Vec<Headers>> = const { RefCell::new(Vec::new()) };
}

/// How many lists a thread keeps, and what one of them may have room for.
const SPARE_LISTS: usize = 256;
const SPARE_BYTES: usize = 4 * 1024;
const SPARE_FIELDS: usize = 64;

impl Drop for Headers {
    fn drop(&mut self) {
        let fits = self.block.capacity() <= SPARE_BYTES && self.fields.capacity() <= SPARE_FIELDS;
        if self.block.capacity() == 0 || !fits {
            return;
        }
        // Not `with`: the thread may be ending, and its variables with it.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE_LISTS {
                self.block.clear();
                self.fields.clear();
                spares.push(Headers {
                    block: std::mem::take(&mut self.block),
                    fields: std::mem::take(&mut self.fields),
                    seen: 0,
                });
            }
        });
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

fn check(name: impl FieldName, value: &[u8]) -> Result<(), InvalidHeader> {
    let text = name.text();
    // The well-known ones are tokens.
    if name.known().is_none() && (!is_token(text) || text.len() > usize::from(u16::MAX)) {
        return Err(InvalidHeader::new(text));
    }
    if !is_value(value) {
        return Err(InvalidHeader::new(value));
    }
    Ok(())
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

/// Fields that proxies write for those behind them.
fn is_of_proxies(name: &[u8]) -> bool {
    let starts = |start: &[u8]| {
        let head = name.get(..start.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    name.eq_ignore_ascii_case(b"host")
        || name.eq_ignore_ascii_case(b"x-request-id")
        || starts(b"x-forwarded-")
        || starts(b"x-envoy-")
}

#[cfg(test)]
mod tests;
