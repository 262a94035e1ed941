//! The Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical: the lengths alone define it, and both tables are computed from them when
//! this is compiled. Decoding looks twelve bits ahead, which settles two of the usual characters, or
//! one of all printable ones but a few, in one step; longer codes are found by comparing with the
//! first code of each length.

use super::HpackError;

/// The length in bits of the code of each byte, and of the end of string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const EOS: usize = 256;
const LONGEST: usize = 30;
/// Bits that one step of the decoder looks at.
const AHEAD: usize = 12;

/// The code itself and what finding a symbol by its code needs.
struct Code {
    /// The code of each symbol, in its low bits.
    codes: [u32; 257],
    /// The symbols in the order of their codes.
    order: [u16; 257],
    /// For each length: the first code, and where its symbol stands in `order`.
    first: [(u32, u16); LONGEST + 2],
}

static CODE: Code = build();
/// Symbol and length by the next bits; length zero where the code is longer.
static SHORT: [(u8, u8); 1 << AHEAD] = short(&build());
/// The same for one or two symbols at once.
static PAIRS: [Pair; 1 << AHEAD] = pairs(&short(&build()));

/// What some bits begin with: one or two symbols; none where the code is longer.
#[derive(Clone, Copy)]
struct Pair {
    symbols: [u8; 2],
    n_symbols: u8,
    n_bits: u8,
}

const fn build() -> Code {
    let mut code = Code {
        codes: [0; 257],
        order: [0; 257],
        first: [(0, 0); LONGEST + 2],
    };
    let (mut next, mut placed, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = (next, placed as u16);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.order[placed] = symbol as u16;
                next += 1;
                placed += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    // The code is complete: one past the last code of 30 bits ends every search.
    code.first[LONGEST + 1] = (next << 1, placed as u16);
    code
}

const fn short(code: &Code) -> [(u8, u8); 1 << AHEAD] {
    let mut table = [(0, 0); 1 << AHEAD];
    let mut symbol = 0;
    while symbol < EOS {
        let length = LENGTHS[symbol] as usize;
        if length <= AHEAD {
            let start = (code.codes[symbol] as usize) << (AHEAD - length);
            let mut at = start;
            while at < start + (1 << (AHEAD - length)) {
                table[at] = (symbol as u8, length as u8);
                at += 1;
            }
        }
        symbol += 1;
    }
    table
}

const fn pairs(short: &[(u8, u8); 1 << AHEAD]) -> [Pair; 1 << AHEAD] {
    let nothing = Pair {
        symbols: [0; 2],
        n_symbols: 0,
        n_bits: 0,
    };
    let mut table = [nothing; 1 << AHEAD];
    let mut at = 0;
    while at < table.len() {
        let (first, length) = short[at];
        if length > 0 {
            // The bits behind the first code, of which the last ones are not known.
            let (second, more) = short[(at << length) & ((1 << AHEAD) - 1)];
            let two = more > 0 && (length + more) as usize <= AHEAD;
            table[at] = Pair {
                symbols: [first, second],
                n_symbols: if two { 2 } else { 1 },
                n_bits: if two { length + more } else { length },
            };
        }
        at += 1;
    }
    table
}

/// Appends the decoded string.
///
/// # Errors
/// [`HpackError::Huffman`] where the padding is not the start of the end-of-string code, or is a
/// byte or more, or where that code itself is in the string (RFC 7541, section 5.2).
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // Room for the longest outcome is made at once, and what was not needed is cut off.
    let start = out.len();
    out.resize(start + input.len() * 8 / 5 + 1, 0);
    let mut symbols = Symbols {
        space: &mut out[start..],
        length: 0,
    };
    let outcome = decode_to(input, &mut symbols);
    let length = symbols.length;
    out.truncate(start + length);
    outcome
}

/// The decoded string: no code has fewer than five bits, so that the space suffices, with one byte
/// for the second half of the last pair.
struct Symbols<'a> {
    space: &'a mut [u8],
    length: usize,
}

impl Symbols<'_> {
    #[inline]
    fn push(&mut self, symbol: u8) {
        self.space[self.length] = symbol;
        self.length += 1;
    }

    /// Writes both; what is not a symbol is written over by the next.
    #[inline]
    fn push_pair(&mut self, pair: Pair) {
        self.space[self.length..self.length + 2].copy_from_slice(&pair.symbols);
        self.length += usize::from(pair.n_symbols);
    }
}

fn decode_to(input: &[u8], out: &mut Symbols<'_>) -> Result<(), HpackError> {
    let mut window = Window {
        input,
        bits: 0,
        n_bits: 0,
    };
    loop {
        window.refill();
        while window.n_bits >= AHEAD {
            let pair = PAIRS[(window.bits >> (64 - AHEAD)) as usize];
            if pair.n_symbols == 0 {
                if !long(&mut window, out)? {
                    break;
                }
                continue;
            }
            out.push_pair(pair);
            window.take(usize::from(pair.n_bits));
        }
        if window.input.is_empty() && window.n_bits < AHEAD {
            return tail(&mut window, out);
        }
    }
}

/// The next bits of the input, left-aligned; bits beyond `n_bits` are zero.
struct Window<'a> {
    input: &'a [u8],
    bits: u64,
    n_bits: usize,
}

impl Window<'_> {
    #[inline]
    fn refill(&mut self) {
        if let Some(chunk) = self.input.first_chunk::<8>() {
            let n_bytes = (64 - self.n_bits) / 8;
            let whole = u64::from_be_bytes(*chunk);
            // Only whole bytes count; the rest of the word would be taken twice.
            let keep = if n_bytes == 8 {
                whole
            } else {
                whole & !(u64::MAX >> (n_bytes * 8))
            };
            self.bits |= keep >> self.n_bits;
            self.n_bits += n_bytes * 8;
            self.input = &self.input[n_bytes..];
            return;
        }
        while self.n_bits <= 56 {
            let Some((&byte, rest)) = self.input.split_first() else {
                return;
            };
            self.bits |= u64::from(byte) << (56 - self.n_bits);
            self.n_bits += 8;
            self.input = rest;
        }
    }

    #[inline]
    fn take(&mut self, n: usize) {
        self.bits <<= n;
        self.n_bits -= n;
    }
}

/// Decodes a code that is longer than what one step sees. False where its end is not in the window yet.
#[cold]
fn long(window: &mut Window<'_>, out: &mut Symbols<'_>) -> Result<bool, HpackError> {
    for length in AHEAD + 1..=LONGEST {
        let value = (window.bits >> (64 - length)) as u32;
        let (first, place) = CODE.first[length];
        let n_codes = u32::from(CODE.first[length + 1].1 - place);
        if value >= first && value - first < n_codes {
            if length > window.n_bits {
                break;
            }
            let symbol = CODE.order[usize::from(place) + (value - first) as usize];
            let symbol = u8::try_from(symbol).map_err(|_| HpackError::Huffman)?;
            out.push(symbol);
            window.take(length);
            return Ok(true);
        }
    }
    if !window.input.is_empty() {
        return Ok(false);
    }
    // What is left is no code: too long for a padding.
    Err(HpackError::Huffman)
}

/// The last bits: short codes, then a padding of fewer than eight ones.
fn tail(window: &mut Window<'_>, out: &mut Symbols<'_>) -> Result<(), HpackError> {
    while window.n_bits > 0 {
        let (symbol, length) = SHORT[(window.bits >> (64 - AHEAD)) as usize];
        let length = usize::from(length);
        if length == 0 || length > window.n_bits {
            break;
        }
        out.push(symbol);
        window.take(length);
    }
    let ones = !(u64::MAX.checked_shr(window.n_bits as u32).unwrap_or(0));
    if window.n_bits < 8 && window.bits == ones {
        return Ok(());
    }
    Err(HpackError::Huffman)
}

/// The length of `input` when encoded, in bytes.
pub(super) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|&byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the encoded string.
pub fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut n_bits) = (0u64, 0u32);
    for &byte in input {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = (bits << length) | u64::from(CODE.codes[usize::from(byte)]);
        n_bits += length;
        if n_bits >= 32 {
            n_bits -= 32;
            out.extend_from_slice(&((bits >> n_bits) as u32).to_be_bytes());
        }
    }
    while n_bits >= 8 {
        n_bits -= 8;
        out.push((bits >> n_bits) as u8);
    }
    if n_bits > 0 {
        let padding = (1u64 << (8 - n_bits)) - 1;
        out.push(((bits << (8 - n_bits)) | padding) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives() {
        for length in 0..40 {
            for byte in 0..=255u8 {
                let input = vec![byte; length];
                let mut encoded = Vec::new();
                encode(&input, &mut encoded);
                assert_eq!(encoded.len(), encoded_len(&input));
                let mut output = Vec::new();
                assert_eq!(decode(&encoded, &mut output), Ok(()), "{byte} × {length}");
                assert_eq!(output, input);
            }
        }
    }

    #[test]
    fn strings_of_the_specification() {
        // RFC 7541, appendices C.4 and C.6.
        for (text, hex) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                "d07abe941054d444a8200595040b8166e082a62d1bff",
            ),
        ] {
            let mut encoded = Vec::new();
            encode(text.as_bytes(), &mut encoded);
            let shown: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(shown, hex);
        }
    }

    #[test]
    fn bad_padding_and_end_of_string() {
        for bytes in [
            // `a` with a padding of eleven bits, of zeros, then what is no code or its end.
            &[0x1f, 0xff][..],
            &[0xff],
            &[0x18],
            &[0xff, 0xff, 0xff, 0xff],
            &[0x3f, 0xff, 0xff, 0xff, 0xff],
            &[0xff; 12],
            &[0xfe],
        ] {
            assert_eq!(
                decode(bytes, &mut Vec::new()),
                Err(HpackError::Huffman),
                "{bytes:x?}"
            );
        }
    }
}
