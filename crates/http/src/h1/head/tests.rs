use bytes::BytesMut;

use super::*;

fn request(text: &str) -> Result<ParsedRequest, ParseError> {
    let mut input = BytesMut::from(text.as_bytes());
    let parsed = HeadParser::default().request(&mut input, &Limits::default())?;
    parsed.ok_or(ParseError::Truncated)
}

fn response(text: &str, method: &Method) -> Result<ParsedResponse, ParseError> {
    let mut input = BytesMut::from(text.as_bytes());
    let parsed = HeadParser::default().response(&mut input, &Limits::default(), method)?;
    parsed.ok_or(ParseError::Truncated)
}

#[test]
fn a_head_keeps_case_and_order() {
    let parsed =
        request("GET /a?b HTTP/1.1\r\nX-One:1\r\nhOst: h:1 \r\nAccept:  x\ty\t\r\n\r\nrest");
    let head = parsed.expect("valid").head;
    let fields: Vec<_> = head.headers.iter().collect();
    assert_eq!(
        fields,
        [("X-One", &b"1"[..]), ("hOst", b"h:1"), ("Accept", b"x\ty")]
    );
    assert_eq!((head.authority(), head.target()), ("h:1", "/a?b"));
    assert_eq!((head.path(), head.query()), ("/a", Some("b")));
}

#[test]
fn framing_and_persistence_of_requests() {
    let check = |text: &str, framing, keep_alive| {
        let parsed = request(text).expect(text);
        assert_eq!(
            (parsed.framing, parsed.keep_alive),
            (framing, keep_alive),
            "{text}"
        );
    };
    let get = "GET / HTTP/1.1\r\nHost: h\r\n";
    check(&format!("{get}\r\n"), Framing::None, true);
    check(
        &format!("{get}Content-Length: 0\r\n\r\n"),
        Framing::None,
        true,
    );
    check(
        &format!("{get}Content-Length: 7\r\n\r\n"),
        Framing::Length(7),
        true,
    );
    check(
        &format!("{get}Transfer-Encoding: Chunked\r\n\r\n"),
        Framing::Chunked,
        true,
    );
    check(
        &format!("{get}Connection: x, Close\r\n\r\n"),
        Framing::None,
        false,
    );
    check("GET / HTTP/1.0\r\n\r\n", Framing::None, false);
    check(
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        Framing::None,
        true,
    );
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use ParseError::*;
    let get = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (text, error) in [
        (
            format!("{get}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            BothLengths,
        ),
        (
            format!("{get}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            ContentLength,
        ),
        (format!("{get}Content-Length: 1, 1\r\n\r\n"), ContentLength),
        (format!("{get}Content-Length: +1\r\n\r\n"), ContentLength),
        (format!("{get}Content-Length: 0x1\r\n\r\n"), ContentLength),
        (format!("{get}Content-Length:\r\n\r\n"), ContentLength),
        (
            format!("{get}Content-Length: 9223372036854775808\r\n\r\n"),
            ContentLength,
        ),
        (
            format!("{get}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            TransferEncoding,
        ),
        (
            format!("{get}Transfer-Encoding: identity\r\n\r\n"),
            ChunkedNotLast,
        ),
        (
            format!("{get}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            TransferEncoding,
        ),
        (
            format!("{get}Transfer-Encoding: \"chunked\"\r\n\r\n"),
            ChunkedNotLast,
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            ChunkedNotLast,
        ),
        (format!("{get}A : 1\r\n\r\n"), Field),
        (format!("{get}A: 1\r\n folded\r\n\r\n"), Field),
        (format!("{get} A: 1\r\n\r\n"), Field),
        (format!("{get}A\r\n\r\n"), Field),
        (format!("{get}: 1\r\n\r\n"), Field),
        (format!("{get}A: a\0b\r\n\r\n"), Field),
        (format!("{get}A: 1\n\r\n"), LineEnd),
        ("GET / HTTP/1.1\nHost: h\n\n".to_owned(), LineEnd),
        (format!("{get}\n"), LineEnd),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n".to_owned(),
            Host,
        ),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), Host),
        ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n".to_owned(), Host),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), Host),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(), Version),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n".to_owned(), Version),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Target),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Target),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Target),
        (
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            Target,
        ),
        ("CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Target),
        ("CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Target),
        (
            "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            RequestLine,
        ),
        ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), LineEnd),
    ] {
        assert_eq!(request(&text).map(|_| ()), Err(error), "{text:?}");
    }
    for text in [
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        assert!(request(text).is_err(), "{text:?}");
    }
}

#[test]
fn targets_have_four_forms() {
    let check = |line: &str, authority, target| {
        let head = request(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .expect(line)
            .head;
        assert_eq!(
            (head.authority(), head.target()),
            (authority, target),
            "{line}"
        );
        if authority != "h" && head.method != Method::CONNECT {
            assert_eq!(head.headers.get("host"), Some(authority));
        }
    };
    check("GET /a", "h", "/a");
    check("OPTIONS *", "h", "*");
    check("GET http://o:1/a?b", "o:1", "/a?b");
    check("GET HTTP://o", "o", "/");
    check("GET http://o?q", "o", "/?q");
    check("OPTIONS http://o", "o", "*");
    check("CONNECT o:443", "o:443", "");
}

#[test]
fn framing_of_responses() {
    let check = |text: &str, method: Method, framing, keep_alive| {
        let parsed = response(text, &method).expect(text);
        assert_eq!(
            (parsed.framing, parsed.keep_alive),
            (framing, keep_alive),
            "{text}"
        );
    };
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Method::GET,
        Framing::Length(5),
        true,
    );
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Method::HEAD,
        Framing::None,
        true,
    );
    check(
        "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n",
        Method::GET,
        Framing::None,
        true,
    );
    check("HTTP/1.1 204\r\n\r\n", Method::GET, Framing::None, true);
    check(
        "HTTP/1.1 200 OK\r\n\r\n",
        Method::GET,
        Framing::UntilClose,
        false,
    );
    check(
        "HTTP/1.1 200 OK\r\n\r\n",
        Method::CONNECT,
        Framing::None,
        true,
    );
    check(
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
        Method::GET,
        Framing::Length(1),
        false,
    );
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Method::GET,
        Framing::Chunked,
        true,
    );
    check(
        "HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n",
        Method::GET,
        Framing::None,
        true,
    );
    for (text, error) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            ParseError::BothLengths,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            ParseError::ChunkedNotLast,
        ),
        ("HTTP/1.1 099 OK\r\n\r\n", ParseError::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", ParseError::StatusLine),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ParseError::Field),
    ] {
        assert_eq!(
            response(text, &Method::GET).map(|_| ()),
            Err(error),
            "{text:?}"
        );
    }
}

#[test]
fn heads_are_bounded() {
    let limits = Limits {
        max_bytes: 64,
        max_fields: 2,
    };
    let check = |text: &str| {
        let mut input = BytesMut::from(text.as_bytes());
        HeadParser::default()
            .request(&mut input, &limits)
            .map(|parsed| parsed.is_some())
    };
    let start = "GET / HTTP/1.1\r\nHost: h\r\n";
    assert_eq!(check(&format!("{start}a: 1\r\n\r\n")), Ok(true));
    assert_eq!(
        check(&format!("{start}a: 1\r\nb: 2\r\n\r\n")),
        Err(ParseError::TooManyFields)
    );
    assert_eq!(
        check(&format!("{start}a: {}", "x".repeat(60))),
        Err(ParseError::HeadTooLarge)
    );
    assert_eq!(
        check(&format!("{start}a: {}\r\n\r\n", "x".repeat(60))),
        Err(ParseError::HeadTooLarge)
    );
    // Whether its end is there already makes no difference.
    assert_eq!(
        check(&format!("{start}a: {}\n", "x".repeat(60))),
        Err(ParseError::HeadTooLarge)
    );
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let text = b"\r\nPOST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let mut parser = HeadParser::default();
    let mut input = BytesMut::new();
    let mut found = None;
    for byte in text {
        input.extend_from_slice(&[*byte]);
        if found.is_none() {
            found = parser
                .request(&mut input, &Limits::default())
                .expect("valid");
        }
    }
    assert_eq!(found.expect("complete").framing, Framing::Length(3));
    assert_eq!(&input[..], b"abc");
}
