//! Bodies and encoding: tables, and properties over any split of the input.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::{Headers, Method, RequestHead, ResponseHead, Version};

/// Everything that a decoder makes of pieces of input.
fn decode(
    framing: Framing,
    pieces: &[&[u8]],
) -> Result<(Vec<u8>, Option<Headers>, bool), ParseError> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input)? {
                Decoded::Data(bytes) => data.extend_from_slice(&bytes),
                Decoded::Trailers(fields) => trailers = Some(fields),
                Decoded::End => return Ok((data, trailers, true)),
                Decoded::More => break,
            }
        }
    }
    Ok((data, trailers, decoder.is_done()))
}

#[test]
fn chunks() {
    let check = |text: &str, expect: &str| {
        let (data, _, done) = decode(Framing::Chunked, &[text.as_bytes()]).expect(text);
        assert_eq!(
            (data.as_slice(), done),
            (expect.as_bytes(), true),
            "{text:?}"
        );
    };
    check("0\r\n\r\n", "");
    check("3\r\nabc\r\n0\r\n\r\n", "abc");
    check("A;x=y\r\n0123456789\r\n0;last\r\n\r\n", "0123456789");
    check("1 \t;x\r\na\r\n000\r\n\r\n", "a");
    let (_, trailers, done) = decode(
        Framing::Chunked,
        &[b"1\r\na\r\n0\r\nX-T: 1\r\ny:2 \r\n\r\n"],
    )
    .expect("valid");
    let trailers = trailers.expect("there are some");
    assert!(done);
    assert_eq!(
        (trailers.get("x-t"), trailers.get("Y")),
        (Some("1"), Some("2"))
    );
}

#[test]
fn bad_chunks_are_refused() {
    for (text, error) in [
        ("\r\n", ParseError::Chunk),
        ("g\r\n", ParseError::Chunk),
        ("-1\r\n", ParseError::Chunk),
        ("0x1\r\n", ParseError::Chunk),
        (" 1\r\n", ParseError::Chunk),
        ("1 \r\na\r\n", ParseError::Chunk),
        ("8000000000000000\r\n", ParseError::Chunk),
        ("11111111111111111\r\n", ParseError::Chunk),
        ("1\na\r\n", ParseError::LineEnd),
        ("1;a\rb\r\na\r\n", ParseError::LineEnd),
        ("1\r\nab\r\n", ParseError::Chunk),
        ("1\r\na\n", ParseError::Chunk),
        ("1;\x01\r\na\r\n", ParseError::Chunk),
        ("1\x0c;x\r\na\r\n", ParseError::Chunk),
        ("0\r\na:\x0c1\r\n\r\n", ParseError::Field),
        ("0\r\na: 1\x0c\r\n\r\n", ParseError::Field),
        ("0\r\nbad name: 1\r\n\r\n", ParseError::Field),
        ("0\r\nname\r\n\r\n", ParseError::Field),
        ("0\r\n folded: 1\r\n\r\n", ParseError::Field),
        ("0\r\na: 1\n\r\n", ParseError::LineEnd),
    ] {
        let result = decode(Framing::Chunked, &[text.as_bytes()]).map(|_| ());
        assert_eq!(result, Err(error), "{text:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let long = format!("1;{}", "x".repeat(2000));
    assert_eq!(
        decode(Framing::Chunked, &[long.as_bytes()]).map(|_| ()),
        Err(ParseError::ChunkExtensions)
    );
    let many = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20);
    assert_eq!(
        decode(Framing::Chunked, &[many.as_bytes()]).map(|_| ()),
        Err(ParseError::ChunkExtensions)
    );
    let fields = format!("0\r\n{}", "a: 1\r\n".repeat(100));
    assert_eq!(
        decode(Framing::Chunked, &[fields.as_bytes()]).map(|_| ()),
        Err(ParseError::TooManyFields)
    );
    let bytes = format!("0\r\na: {}", "x".repeat(20_000));
    assert_eq!(
        decode(Framing::Chunked, &[bytes.as_bytes()]).map(|_| ()),
        Err(ParseError::HeadTooLarge)
    );
}

#[test]
fn a_line_is_refused_for_the_same_in_one_piece_and_in_several() {
    let line = format!("1;{}\na\r\n", "x".repeat(2000));
    for at in [1, 1024, 1100, line.len()] {
        let (start, rest) = line.as_bytes().split_at(at);
        let result = decode(Framing::Chunked, &[start, rest]).map(|_| ());
        assert_eq!(result, Err(ParseError::ChunkExtensions), "cut at {at}");
    }
}

#[test]
fn lengths_leave_what_follows() {
    let mut decoder = BodyDecoder::new(Framing::Length(3));
    let mut input = BytesMut::from(&b"abcGET"[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Data(data)) if data == "abc"));
    assert!(decoder.is_done());
    assert_eq!(&input[..], b"GET");
    let mut decoder = BodyDecoder::new(Framing::Length(3));
    assert_eq!(decoder.end_of_input(), Err(ParseError::Truncated));
    assert_eq!(BodyDecoder::new(Framing::UntilClose).end_of_input(), Ok(()));
    assert_eq!(
        BodyDecoder::new(Framing::Chunked).end_of_input(),
        Err(ParseError::Truncated)
    );
}

fn encoded_request(head: &RequestHead, framing: Framing) -> String {
    let mut out = Vec::new();
    encode_request(head, framing, &mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn requests_say_the_framing_once() {
    let mut head = RequestHead::new(Method::POST, "h", "/p").expect("valid");
    head.headers.append("Content-Length", "3").expect("valid");
    head.headers.append("X", "1").expect("valid");
    let start = "POST /p HTTP/1.1\r\nhost: h\r\n";
    assert_eq!(
        encoded_request(&head, Framing::Length(3)),
        format!("{start}Content-Length: 3\r\nX: 1\r\n\r\n")
    );
    assert_eq!(
        encoded_request(&head, Framing::Length(4)),
        format!("{start}X: 1\r\ncontent-length: 4\r\n\r\n")
    );
    assert_eq!(
        encoded_request(&head, Framing::Chunked),
        format!("{start}X: 1\r\ntransfer-encoding: chunked\r\n\r\n")
    );
    assert_eq!(
        encoded_request(&head, Framing::None),
        format!("{start}X: 1\r\ncontent-length: 0\r\n\r\n")
    );
    head.headers.append("Host", "h").expect("valid");
    head.headers
        .append("Transfer-Encoding", "gzip")
        .expect("valid");
    head.method = Method::GET;
    assert_eq!(
        encoded_request(&head, Framing::None),
        "GET /p HTTP/1.1\r\nX: 1\r\nHost: h\r\n\r\n"
    );
}

#[test]
fn responses_without_body_keep_or_lose_their_length() {
    let check = |status, method: Method, framing, expect: &str| {
        let mut head = ResponseHead::new(status);
        head.headers.append("content-length", "9").expect("valid");
        let mut out = Vec::new();
        encode_response(&head, framing, &method, Version::Http11, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        let (_, fields) = text.split_once("\r\n").expect("a line");
        assert_eq!(fields, expect, "{status} {method:?}");
    };
    check(
        200,
        Method::HEAD,
        Framing::None,
        "content-length: 9\r\n\r\n",
    );
    check(304, Method::GET, Framing::None, "content-length: 9\r\n\r\n");
    check(204, Method::GET, Framing::None, "\r\n");
    check(204, Method::HEAD, Framing::None, "\r\n");
    check(200, Method::CONNECT, Framing::None, "\r\n");
    check(200, Method::GET, Framing::None, "content-length: 0\r\n\r\n");
    check(200, Method::GET, Framing::UntilClose, "\r\n");
    check(
        200,
        Method::GET,
        Framing::Length(9),
        "content-length: 9\r\n\r\n",
    );
}

fn field_name() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9-]{0,12}".prop_filter("framing is not for tests to say", |name| {
        let name = name.to_ascii_lowercase();
        !["host", "content-length", "transfer-encoding", "connection"].contains(&name.as_str())
    })
}

fn field_value() -> impl Strategy<Value = String> {
    "([!-~]([ -~\t]{0,20}[!-~])?)?"
}

/// Cuts bytes at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places
        .iter()
        .map(|place| place.index(bytes.len() + 1))
        .collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    /// Encoding then parsing is the identity, however the bytes are split.
    #[test]
    fn heads_survive_any_split(
        fields in prop::collection::vec((field_name(), field_value()), 0..20),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut head = RequestHead::new(Method::GET, "example:80", "/a?b=c").expect("valid");
        for (name, value) in &fields {
            head.headers.append(name, value).expect("valid");
        }
        let mut out = Vec::new();
        encode_request(&head, Framing::None, &mut out);
        let mut parser = HeadParser::default();
        let mut input = BytesMut::new();
        let mut parsed = None;
        for piece in cut(&out, &places) {
            input.extend_from_slice(piece);
            if parsed.is_none() {
                parsed = parser.request(&mut input, &Limits::default()).expect("valid");
            }
        }
        let parsed = parsed.expect("complete");
        prop_assert_eq!(parsed.head.target(), "/a?b=c");
        prop_assert_eq!(parsed.head.authority(), "example:80");
        let seen: Vec<(String, String)> = parsed.head.headers.iter().skip(1)
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        prop_assert_eq!(seen, fields);
    }

    /// A chunked body survives any cut into chunks and any split of the bytes.
    #[test]
    fn chunked_bodies_survive_any_split(
        data in prop::collection::vec(any::<u8>(), 0..300),
        chunks in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        trailer in prop::option::of(field_value()),
    ) {
        let mut out = Vec::new();
        for chunk in cut(&data, &chunks).into_iter().filter(|chunk| !chunk.is_empty()) {
            encode_chunk_start(chunk.len(), &mut out);
            out.extend_from_slice(chunk);
            encode_chunk_end(&mut out);
        }
        let trailers = trailer.as_ref().map(|value| {
            let mut trailers = Headers::new();
            trailers.append("x-sum", value).expect("valid");
            trailers
        });
        encode_last_chunk(trailers.as_ref(), &mut out);
        let (seen, seen_trailers, done) = decode(Framing::Chunked, &cut(&out, &places)).expect("valid");
        prop_assert!(done);
        prop_assert_eq!(seen, data);
        prop_assert_eq!(
            seen_trailers.as_ref().and_then(|fields| fields.get("x-sum")).map(str::to_owned),
            trailer
        );
    }

    /// Whatever comes in, the parsers neither panic nor loop.
    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = HeadParser::default().request(&mut BytesMut::from(&bytes[..]), &Limits::default());
        let _ = HeadParser::default().response(
            &mut BytesMut::from(&bytes[..]), &Limits::default(), &Method::GET);
        let _ = decode(Framing::Chunked, &[&bytes]);
    }
}
