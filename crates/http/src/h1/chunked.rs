//! The chunked coding (RFC 9112, 7.1), as a machine that takes bytes as they come.

use bytes::{Buf, Bytes, BytesMut};

use super::ParseError;
use crate::Headers;
use crate::headers::{is_token, is_value};

/// Bytes that a chunk's line may have, its extension included.
const MAX_LINE: usize = 1024;
/// Bytes of extensions in one body; nobody uses them but attackers (CVE-2023-39326 and others).
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
/// Fields of a trailer section.
const MAX_TRAILER_FIELDS: usize = 64;

/// What came out.
pub(super) enum Piece {
    Data(Bytes),
    Trailers(Headers),
    End,
    /// More input is needed.
    More,
}

#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
    trailers: Option<Headers>,
    trailer_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    /// The line end behind the data.
    DataEnd,
    Trailers,
    Done,
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Piece, ParseError> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(input, MAX_LINE, ParseError::ChunkExtensions)?
                    else {
                        return Ok(Piece::More);
                    };
                    let (size, extension) = parse_size(&line)?;
                    self.extensions += extension;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(ParseError::ChunkExtensions);
                    }
                    self.state = match size {
                        0 => State::Trailers,
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(Piece::More);
                    }
                    let take = usize::try_from(left).map_or(input.len(), |n| n.min(input.len()));
                    let left = left - take as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                    return Ok(Piece::Data(input.split_to(take).freeze()));
                }
                State::DataEnd => match (input.first(), input.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(Piece::More),
                    _ => return Err(ParseError::Chunk),
                },
                State::Trailers => match self.trailer(input)? {
                    Some(piece) => return Ok(piece),
                    None => continue,
                },
                State::Done => return Ok(Piece::End),
            }
        }
    }

    /// One line of the trailer section; `None` where another may follow.
    fn trailer(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, ParseError> {
        let room = MAX_TRAILERS - self.trailer_bytes;
        let Some(line) = take_line(input, room, ParseError::HeadTooLarge)? else {
            return Ok(Some(Piece::More));
        };
        self.trailer_bytes += line.len();
        if line.is_empty() {
            self.state = State::Done;
            return Ok(Some(match self.trailers.take() {
                Some(trailers) => Piece::Trailers(trailers),
                None => Piece::End,
            }));
        }
        let colon = memchr::memchr(b':', &line).ok_or(ParseError::Field)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) || !is_value(value) {
            return Err(ParseError::Field);
        }
        // Of what is cut here, a value can have blanks and tabs alone.
        let value = value.trim_ascii();
        let trailers = self.trailers.get_or_insert_default();
        if trailers.len() == MAX_TRAILER_FIELDS {
            return Err(ParseError::TooManyFields);
        }
        trailers.push(name, value, false);
        Ok(None)
    }
}

/// A line without its end, where it is complete.
fn take_line(
    input: &mut BytesMut,
    limit: usize,
    too_long: ParseError,
) -> Result<Option<BytesMut>, ParseError> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > limit {
            Err(too_long)
        } else {
            Ok(None)
        };
    };
    // First of all, since it is what a line in pieces is refused for before it ends.
    if end > limit {
        return Err(too_long);
    }
    if end == 0 || input[end - 1] != b'\r' {
        return Err(ParseError::LineEnd);
    }
    let mut line = input.split_to(end + 1);
    line.truncate(end - 1);
    if memchr::memchr(b'\r', &line).is_some() {
        return Err(ParseError::LineEnd);
    }
    Ok(Some(line))
}

/// The size of a chunk, and how many bytes its extension has.
fn parse_size(line: &[u8]) -> Result<(u64, usize), ParseError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = digits.count();
    if digits == 0 || digits > 16 {
        return Err(ParseError::Chunk);
    }
    let (size, rest) = line.split_at(digits);
    let text = std::str::from_utf8(size).map_err(|_| ParseError::Chunk)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| ParseError::Chunk)?;
    if i64::try_from(size).is_err() {
        return Err(ParseError::Chunk);
    }
    // White space is allowed before a semicolon alone (RFC 9112, 7.1.1).
    match rest.trim_ascii_start() {
        [] if rest.is_empty() => Ok((size, 0)),
        [b';', ..] if is_value(rest) => Ok((size, rest.len())),
        _ => Err(ParseError::Chunk),
    }
}
