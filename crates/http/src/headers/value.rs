//! Which bytes a field may have, and its value where it stands alone.

use bytes::Bytes;

/// A header name or value that cannot be represented on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid header {0:?}")]
pub struct InvalidHeader(pub String);

impl InvalidHeader {
    pub(crate) fn new(text: &[u8]) -> Self {
        InvalidHeader(String::from_utf8_lossy(text).into_owned())
    }
}

/// A header value; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(Bytes);

impl Value {
    /// A value from bytes that hold no control character but tab.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidHeader> {
        if is_value(bytes) {
            Ok(Value(Bytes::copy_from_slice(bytes)))
        } else {
            Err(InvalidHeader::new(bytes))
        }
    }

    /// A value that stands in a list already.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Value(Bytes::copy_from_slice(bytes))
    }

    /// A value known when the program is compiled. Panics on a control character.
    pub const fn from_static(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(is_value_byte(bytes[at]), "a control character in a value");
            at += 1;
        }
        Value(Bytes::from_static(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, where it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        let mut digits = [0; 20];
        Value(Bytes::copy_from_slice(decimal(number, &mut digits)))
    }
}

/// The digits of a number, in the end of the space for them.
pub(crate) fn decimal(mut number: u64, space: &mut [u8; 20]) -> &[u8] {
    let mut at = space.len();
    loop {
        at -= 1;
        // One digit.
        space[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &space[at..];
        }
    }
}

const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| is_value_byte(*byte))
}

/// RFC 9110, 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Which bytes a token may have, as a table.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}
