//! Blocks of headers, which SPDY compresses with a dictionary that both sides know.
//!
//! A block is a count, and then names and values, each after its length; all numbers have four bytes, the
//! highest first. Each direction of a connection is one zlib stream, flushed after each block.

use std::collections::HashMap;
use std::io;

use flate2::{Decompress, FlushDecompress};

/// The longest block that is taken, decompressed: clients send a handful of short headers.
const MAX_BLOCK: usize = 16 << 10;
/// What is decompressed at once.
const CHUNK: usize = 1 << 10;

/// The words of the dictionary that are preceded by their length, in its order (SPDY/3, section 2.6.10.1).
const WORDS: [&str; 63] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
];

/// More of them.
const LATER_WORDS: [&str; 2] = ["keep-alive", "origin"];

/// What follows the words.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(super) fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in WORDS.iter().chain(&LATER_WORDS) {
        dictionary.extend(length(word.len()));
        dictionary.extend(word.as_bytes());
    }
    dictionary.extend(TAIL.as_bytes());
    dictionary
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads the blocks of one direction, in their order.
#[derive(Debug)]
pub(super) struct Decoder {
    zlib: Decompress,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }

    /// The headers of the next block, by their names.
    pub(super) fn decode(&mut self, block: &[u8]) -> io::Result<HashMap<String, String>> {
        parse(&self.inflate(block)?).ok_or_else(|| invalid("a block of headers is cut short"))
    }

    fn inflate(&mut self, mut block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let (taken, given) = (self.zlib.total_in(), self.zlib.total_out());
            let outcome = self
                .zlib
                .decompress(block, &mut chunk, FlushDecompress::Sync);
            let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let taken = moved(self.zlib.total_in(), taken);
            let given = moved(self.zlib.total_out(), given);
            block = block.get(taken..).unwrap_or_default();
            plain.extend_from_slice(&chunk[..given]);
            match outcome {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.zlib.set_dictionary(&dictionary());
                    set.map_err(|_| invalid("headers are compressed with another dictionary"))?;
                    continue;
                }
                Err(error) => return Err(invalid(&error.to_string())),
            }
            if plain.len() > MAX_BLOCK {
                return Err(invalid("a block of headers is too long"));
            }
            if given < CHUNK && (block.is_empty() || taken == 0) {
                return Ok(plain);
            }
        }
    }
}

fn parse(plain: &[u8]) -> Option<HashMap<String, String>> {
    let mut rest = plain;
    let mut headers = HashMap::new();
    for _ in 0..number(&mut rest)? {
        let name = text(&mut rest)?;
        headers.insert(name, text(&mut rest)?);
    }
    Some(headers)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = number(rest)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A block without a header, as the first of a direction: a zlib stream may hold bytes as they are.
pub(super) fn first_empty_block() -> Vec<u8> {
    // RFC 1950: deflate with a window of 32 KiB, without a dictionary.
    let mut block = vec![0x78, 0x01];
    block.extend(empty_block());
    block
}

/// The same later in a direction.
pub(super) fn empty_block() -> Vec<u8> {
    // RFC 1951, 3.2.4: not the last, stored as it is, four bytes; these are the number 0. What is stored
    // after that, nothing, is how a reader knows that it has everything.
    vec![0, 4, 0, !4, !0, 0, 0, 0, 0, 0, 0, 0, !0, !0]
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// As a client compresses: one stream, flushed after each block.
    struct Encoder(Compress);

    impl Encoder {
        fn new() -> Self {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(&dictionary()).unwrap();
            Self(zlib)
        }

        fn encode(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
            let mut plain = length(headers.len()).to_vec();
            for text in headers.iter().flat_map(|(name, value)| [name, value]) {
                plain.extend(length(text.len()));
                plain.extend(text.as_bytes());
            }
            let mut block = Vec::with_capacity(plain.len() + 100);
            let flush = FlushCompress::Sync;
            self.0.compress_vec(&plain, &mut block, flush).unwrap();
            block
        }
    }

    #[test]
    fn the_dictionary_is_that_of_the_protocol() {
        let all = dictionary();
        assert_eq!(all.len(), 1423);
        let set = Compress::new(Compression::fast(), true).set_dictionary(&all);
        assert_eq!(set.unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_are_read_in_their_order() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let long = "x".repeat(5000);
        for headers in [
            &[("streamtype", "error"), ("port", "8080")][..],
            &[],
            &[
                ("streamtype", "data"),
                ("port", "8080"),
                ("requestid", &long),
            ],
        ] {
            let block = encoder.encode(headers);
            let read = decoder.decode(&block).unwrap();
            assert_eq!(read.len(), headers.len());
            for (name, value) in headers {
                assert_eq!(read[*name], *value);
            }
        }
    }

    #[test]
    fn what_is_too_long_or_cut_short_is_refused() {
        let huge = "y".repeat(1 << 20);
        let block = Encoder::new().encode(&[("a", &huge)]);
        assert!(block.len() < 10_000);
        let error = Decoder::new().decode(&block).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
        let block = Encoder::new().encode(&[("streamtype", "data")]);
        // The last bytes are but the flush.
        for cut in 0..block.len() - 8 {
            assert!(Decoder::new().decode(&block[..cut]).is_err(), "{cut}");
        }
        assert!(Decoder::new().decode(b"not zlib").is_err());
    }

    #[test]
    fn empty_blocks_are_read_as_such() {
        let mut decoder = Decoder::new();
        assert!(decoder.decode(&first_empty_block()).unwrap().is_empty());
        assert!(decoder.decode(&empty_block()).unwrap().is_empty());
    }
}
