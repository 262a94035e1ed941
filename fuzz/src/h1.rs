//! Messages of HTTP/1, as a server and as a client read them.
//!
//! The first line of the input says how the rest arrives. Its first byte stands for the method of
//! the request that is answered (`G`, `H`, `C`: GET, HEAD, CONNECT; others: POST), in small letters
//! for narrow limits; each byte behind it is the size of a piece, and they are taken in turn.
//!
//! Three things have to hold. Pieces make no difference. What is accepted can be sent on: encoded
//! and read again it is the same. And a second reader, written apart from the engine, frames
//! everything that is accepted in the same way, and nothing that is refused for its grammar.

mod oracle;
mod reader;

use lateen_http::h1::{
    Framing, Limits, ParseError, encode_chunk_end, encode_chunk_start, encode_informational,
    encode_last_chunk, encode_request, encode_response,
};
use lateen_http::{Headers, Method, Version};

use reader::{End, Head, Message, Side, Trace, read};

/// What a client sends: requests, one behind the other.
pub fn server(input: &[u8]) {
    let script = Script::new(input);
    check(&Side::Server, &script);
}

/// What a server sends: responses to requests of one method.
pub fn client(input: &[u8]) {
    let script = Script::new(input);
    check(&Side::Client(script.method.clone()), &script);
}

/// An input, taken apart.
struct Script<'a> {
    method: Method,
    limits: Limits,
    sizes: &'a [u8],
    wire: &'a [u8],
}

impl<'a> Script<'a> {
    fn new(input: &'a [u8]) -> Self {
        let end = input.iter().position(|byte| *byte == b'\n');
        let end = end.unwrap_or(input.len());
        let (line, wire) = (&input[..end], input.get(end + 1..).unwrap_or_default());
        let (&first, sizes) = line.split_first().unwrap_or((&b'G', &[]));
        let method = match first.to_ascii_uppercase() {
            b'G' => Method::GET,
            b'H' => Method::HEAD,
            b'C' => Method::CONNECT,
            _ => Method::POST,
        };
        let limits = if first.is_ascii_lowercase() {
            Limits {
                max_bytes: 128,
                max_fields: 4,
            }
        } else {
            Limits::default()
        };
        Script {
            method,
            limits,
            sizes,
            wire,
        }
    }

    /// The pieces in which the bytes arrive; single bytes where no size is said.
    fn pieces(&self) -> Vec<&'a [u8]> {
        let one = &b"\0"[..];
        let sizes = if self.sizes.is_empty() {
            one
        } else {
            self.sizes
        };
        let mut pieces = Vec::new();
        let mut rest = self.wire;
        for &size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let size = match usize::from(size) {
                small @ 0..128 => small % 64 + 1,
                large => (large - 127) * 16,
            };
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces
    }
}

fn check(side: &Side, script: &Script<'_>) {
    let whole = read(side, &script.limits, &[script.wire]);
    let pieces = read(side, &script.limits, &script.pieces());
    assert_eq!(whole, pieces, "pieces make a difference");
    judge(side, &whole, script.wire);
    for message in &whole.messages {
        send_on(side, message);
    }
}

/// Compares with what the second reader makes of the same bytes.
fn judge(side: &Side, trace: &Trace, wire: &[u8]) {
    let mut start = 0;
    for message in &trace.messages {
        let seen = oracle::message(side, wire, start);
        let seen = seen.unwrap_or_else(|fault| panic!("accepted {message:?}: {fault}"));
        seen.agrees(message);
        match message.end {
            Some(end) => start = end,
            // What was refused behind this place is nobody's body.
            None if trace.end != End::Truncated => assert!(seen.body.starts_with(&message.body)),
            None => assert_eq!((seen.end, &seen.body), (None, &message.body)),
        }
    }
    if let End::Refused(error) = trace.end
        && is_grammar(error)
        && let Ok(seen) = oracle::message(side, wire, start)
    {
        assert_eq!(seen.end, None, "refused for {error} without need");
    }
}

/// Not for a bound or a name that the engine does not take although it could be framed.
fn is_grammar(error: ParseError) -> bool {
    match error {
        ParseError::LineEnd
        | ParseError::StatusLine
        | ParseError::Field
        | ParseError::Version
        | ParseError::ContentLength
        | ParseError::ChunkedNotLast
        | ParseError::TransferEncoding
        | ParseError::BothLengths
        | ParseError::Chunk
        | ParseError::Truncated => true,
        ParseError::RequestLine
        | ParseError::Target
        | ParseError::Host
        | ParseError::HeadTooLarge
        | ParseError::TooManyFields
        | ParseError::ChunkExtensions => false,
    }
}

/// A proxy would write this message in its own way. It has to say the same, to us and to others.
fn send_on(side: &Side, message: &Message) {
    let wire = encode(side, message);
    let room = Limits {
        max_bytes: 1 << 20,
        max_fields: 200,
    };
    let trace = read(side, &room, &[&wire]);
    judge(side, &trace, &wire);
    let copy = trace.messages.first().expect("our own encoding is valid");
    assert_eq!(copy.head.line(), message.head.line());
    assert_eq!(end_to_end(&copy.head), end_to_end(&message.head));
    assert_eq!(copy.framing, message.framing);
    assert_eq!(copy.body, message.body);
    assert_eq!(copy.trailers, message.trailers);
    assert_eq!(copy.end.is_some(), message.end.is_some());
    if message.head.version() == Version::Http11 {
        assert_eq!(copy.keep_alive, message.keep_alive);
    }
    if let Some(end) = copy.end {
        assert_eq!(end, wire.len(), "something stands behind the message");
    }
}

/// The fields that an encoder passes on as they are. It writes framing by itself, and a `Host` where
/// there is none.
fn end_to_end(head: &Head) -> Vec<(String, Vec<u8>)> {
    let own = ["host", "content-length", "transfer-encoding"];
    let mut fields = head.fields();
    fields.retain(|(name, _)| !own.iter().any(|own| name.eq_ignore_ascii_case(own)));
    fields
}

fn encode(side: &Side, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    match (&message.head, side) {
        (Head::Request(head), _) => encode_request(head, message.framing, &mut out),
        (Head::Response(head), Side::Client(method)) if !head.is_informational() => {
            encode_response(head, message.framing, method, head.version, &mut out);
        }
        (Head::Response(head), _) => encode_informational(head, &mut out),
    }
    if message.framing != Framing::Chunked {
        out.extend_from_slice(&message.body);
        return out;
    }
    for chunk in message.body.chunks(100) {
        encode_chunk_start(chunk.len(), &mut out);
        out.extend_from_slice(chunk);
        encode_chunk_end(&mut out);
    }
    if message.end.is_some() {
        let mut trailers = Headers::new();
        for (name, value) in &message.trailers {
            trailers.append(name.as_str(), value).expect("it was read");
        }
        encode_last_chunk(Some(&trailers), &mut out);
    }
    out
}
