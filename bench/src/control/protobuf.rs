//! The wire format of protocol buffers, read field by field and written by hand: five thousand clients
//! on the cores of what they measure must not decode what they are sent.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed width, which nothing here reads.
    Fixed,
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            Field::Number(_) | Field::Fixed => &[],
        }
    }

    /// The text in it; empty where it is none.
    pub(super) fn text(self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

/// The first field in `bytes`, its tag's number, and how long it is; `None` while it is not complete.
/// What is not of the format reads as never complete.
pub(super) fn field(bytes: &[u8]) -> Option<(u64, Field<'_>, usize)> {
    let (tag, at) = varint(bytes)?;
    let rest = bytes.get(at..)?;
    let (field, length) = match tag & 7 {
        0 => {
            let (value, length) = varint(rest)?;
            (Field::Number(value), length)
        }
        2 => {
            let (length, start) = varint(rest)?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (Field::Bytes(rest.get(start..end)?), end)
        }
        1 => (Field::Fixed, rest.get(..8)?.len()),
        5 => (Field::Fixed, rest.get(..4)?.len()),
        _ => return None,
    };
    Some((tag >> 3, field, at + length))
}

/// All fields of a complete message.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let (number, value, length) = field(bytes)?;
        bytes = &bytes[length..];
        Some((number, value))
    })
}

/// The last field with this number, as text.
pub(super) fn text_of(bytes: &[u8], number: u64) -> &str {
    fields(bytes)
        .filter(|(found, _)| *found == number)
        .last()
        .map_or("", |(_, field)| field.text())
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a field of bytes, text or a message.
pub(super) fn put(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an entry of a `map<string, string>`.
pub(super) fn put_entry(out: &mut Vec<u8>, number: u64, key: &str, value: &str) {
    let size = |text: &str| 1 + varint_size(text.len() as u64) + text.len();
    put_varint(out, number << 3 | 2);
    put_varint(out, (size(key) + size(value)) as u64);
    put(out, 1, key.as_bytes());
    put(out, 2, value.as_bytes());
}

fn varint_size(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_round_trip_and_wait_for_their_end() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, &[7; 300]);
        put_entry(&mut bytes, 16, "key", "value");
        bytes.extend_from_slice(&[0x08, 0x96, 0x01]);
        let found: Vec<_> = fields(&bytes).collect();
        assert_eq!(found[0], (3, Field::Bytes(&[7; 300])));
        assert_eq!(found[1].0, 16);
        assert_eq!(text_of(found[1].1.bytes(), 1), "key");
        assert_eq!(text_of(found[1].1.bytes(), 2), "value");
        assert_eq!(found[2], (1, Field::Number(150)));
        let (_, _, length) = field(&bytes).expect("whole");
        assert!(field(&bytes[..length - 1]).is_none());
    }

    #[test]
    fn nonsense_ends_the_reading() {
        assert_eq!(fields(&[0x0f, 1, 2]).count(), 0);
        assert_eq!(fields(&[0xff; 20]).count(), 0);
    }
}
