//! Integers with a prefix of some bits (RFC 7541, section 5.1).

use super::HpackError;

/// Reads the integer whose first byte, cut to `prefix` bits, is at `block[*at]`.
#[inline]
pub(super) fn decode(block: &[u8], at: &mut usize, prefix: u32) -> Result<usize, HpackError> {
    let mask = (1usize << prefix) - 1;
    let first = usize::from(*block.get(*at).ok_or(HpackError::Truncated)?) & mask;
    *at += 1;
    if first < mask {
        return Ok(first);
    }
    rest(block, at, mask)
}

/// The bytes after a full prefix. Five of them hold any 32-bit value; more is an attack or a fault.
fn rest(block: &[u8], at: &mut usize, mask: usize) -> Result<usize, HpackError> {
    let mut value = mask as u64;
    for shift in [0u32, 7, 14, 21, 28] {
        let byte = *block.get(*at).ok_or(HpackError::Truncated)?;
        *at += 1;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value)
                .map(|value| value as usize)
                .map_err(|_| HpackError::Integer);
        }
    }
    Err(HpackError::Integer)
}

/// Appends `value` with `prefix` bits, the others of the first byte being `pattern`.
#[inline]
pub(super) fn encode(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push(0x80 | (left & 0x7f) as u8);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_the_specification() {
        // RFC 7541, appendix C.1.
        for (value, prefix, bytes) in [
            (10, 5, &[10u8][..]),
            (1337, 5, &[31, 154, 10]),
            (42, 8, &[42]),
        ] {
            let mut out = Vec::new();
            encode(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(decode(bytes, &mut 0, prefix), Ok(value));
        }
    }

    #[test]
    fn bad_integers() {
        for (bytes, error) in [
            (&[][..], HpackError::Truncated),
            (&[0x7f], HpackError::Truncated),
            (&[0x7f, 0x80, 0x80], HpackError::Truncated),
            (
                &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                HpackError::Integer,
            ),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], HpackError::Integer),
        ] {
            assert_eq!(decode(bytes, &mut 0, 7), Err(error), "{bytes:?}");
        }
    }
}
