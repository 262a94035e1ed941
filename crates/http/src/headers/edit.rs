//! Edits of a list.

use super::{
    COLON, Field, FieldName, Headers, InvalidHeader, LINE_END, SENSITIVE, Span, Value, WRITTEN,
    bit, decimal, is_name, is_token, is_value, offset,
};
use crate::names::{Known, lookup};

impl Headers {
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
