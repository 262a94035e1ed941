//! Lengths, codings, chunks, trailers.

use super::{Case, request};

/// A request that must stay a part of the body that it is in.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (fields, eats) in LENGTHS {
        let text = format!("{}\r\n", fields);
        let case = Case::new("length", fields, request("POST", &text, "hello"));
        cases.push(if *eats { case.eats() } else { case });
    }
    for coding in CODINGS {
        let text = format!("Transfer-Encoding:{coding}\r\n");
        let case = Case::new(
            "coding",
            coding,
            request("POST", &text, "5\r\nhello\r\n0\r\n\r\n"),
        );
        cases.push(case);
    }
    for fields in BOTH {
        let text = format!("{fields}\r\n");
        let body = format!("0\r\n\r\n{INNER}");
        cases.push(Case::new("both", fields, request("POST", &text, &body)));
    }
    for version in ["HTTP/1.0"] {
        for fields in [
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nConnection: keep-alive",
            "Content-Length: 5",
            "Content-Length: 5\r\nConnection: keep-alive",
        ] {
            let head = format!("POST /case {version}\r\nHost: a.test\r\n{fields}\r\n\r\n");
            let body = if fields.starts_with("Transfer") {
                "0\r\n\r\n"
            } else {
                "hello"
            };
            cases.push(Case::new("old", fields, head + body));
        }
    }
    for chunks in CHUNKS {
        let bytes = request("POST", "Transfer-Encoding: chunked\r\n", chunks);
        let case = Case::new("chunk", chunks, bytes);
        cases.push(case);
    }
    for trailer in TRAILERS {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        for (group, fields) in [
            ("trailer", ""),
            ("trailer-named", "TE: trailers\r\nTrailer: X\r\n"),
        ] {
            let fields = format!("Transfer-Encoding: chunked\r\n{fields}");
            cases.push(Case::new(group, trailer, request("POST", &fields, &body)));
        }
    }
    for (name, length) in [("1,000 extensions", 20), ("long extension", 5000)] {
        let body = match length {
            20 => format!("1;{}\r\na\r\n", "x".repeat(length)).repeat(1000) + "0\r\n\r\n",
            _ => format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length)),
        };
        cases.push(Case::new(
            "chunk-limit",
            name,
            request("POST", "Transfer-Encoding: chunked\r\n", &body),
        ));
    }
    for method in [
        "GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PUT", "PATCH", "FOO",
    ] {
        let framings = [
            ("length", "Content-Length: 43\r\n", INNER.to_owned() + "abc"),
            (
                "chunks",
                "Transfer-Encoding: chunked\r\n",
                format!("2a\r\n{INNER}\r\n0\r\n\r\n"),
            ),
            ("nothing", "", String::new()),
            ("length 0", "Content-Length: 0\r\n", String::new()),
        ];
        for (name, fields, body) in framings {
            let body = if name == "length" {
                body[..43].to_owned()
            } else {
                body
            };
            cases.push(Case::new(
                "method",
                &format!("{method} with {name}"),
                request(method, fields, &body),
            ));
        }
    }
    cases
}

/// Beside each: whether a part of the marker is a part of the body.
const LENGTHS: &[(&str, bool)] = &[
    ("Content-Length: 5", false),
    ("Content-Length:5", false),
    ("content-length: 5", false),
    ("Content-Length: 5 ", false),
    ("Content-Length:\t5", false),
    ("Content-Length: 05", false),
    ("Content-Length: 0000000000000000000000005", false),
    ("Content-Length: 3", false),
    ("Content-Length: 100", true),
    ("Content-Length: 5\r\nContent-Length: 5", false),
    ("Content-Length: 5\r\nContent-Length: 6", false),
    ("Content-Length: 0\r\nContent-Length: 5", false),
    ("Content-Length: 5\r\nContent-Length: 0", false),
    ("Content-Length: 5\r\nX: 1\r\ncontent-length: 5", false),
    ("Content-Length: 5\r\nContent-Length:", false),
    ("Content-Length: 5, 5", false),
    ("Content-Length: 5,5", false),
    ("Content-Length: 5, 6", false),
    ("Content-Length: 5,", false),
    ("Content-Length: ,5", false),
    ("Content-Length: 5;5", false),
    ("Content-Length: 5 5", false),
    ("Content-Length:", false),
    ("Content-Length: ", false),
    ("Content-Length: +5", false),
    ("Content-Length: -5", false),
    ("Content-Length: -0", false),
    ("Content-Length: 0x5", false),
    ("Content-Length: 5h", false),
    ("Content-Length: 5.0", false),
    ("Content-Length: 5e0", false),
    ("Content-Length: 5_0", false),
    ("Content-Length: \"5\"", false),
    ("Content-Length: '5'", false),
    ("Content-Length: five", false),
    ("Content-Length: 5\0", false),
    ("Content-Length: 5\x0b", false),
    ("Content-Length: \x0b5", false),
    ("Content-Length: 5\x0c", false),
    ("Content-Length: 5\u{a0}", false),
    ("Content-Length: \u{665}", false),
    ("Content-Length : 5", false),
    ("Content-Length\t: 5", false),
    (" Content-Length: 5", false),
    ("Content-Length:\r\n 5", false),
    ("Content-Length: 5\r\n 0", false),
    ("X: 1\r\n Content-Length: 5", false),
    ("Content-Length: 9223372036854775807", true),
    ("Content-Length: 9223372036854775808", true),
    ("Content-Length: 18446744073709551615", true),
    ("Content-Length: 18446744073709551616", true),
    ("Content-Length: 18446744073709551621", true),
    ("Content-Length: 99999999999999999999999999", true),
    ("Content-Length: 4294967301", true),
    ("Content-Length: 2147483653", true),
];

const CODINGS: &[&str] = &[
    " chunked",
    "chunked",
    "\tchunked",
    " chunked ",
    " chunked\t",
    " Chunked",
    " CHUNKED",
    " chunKed",
    " chunked,",
    " ,chunked",
    " , chunked",
    " chunked, ",
    " chunked;",
    " chunked;x=1",
    " chunked, chunked",
    " chunked\r\nTransfer-Encoding: chunked",
    " chunked\r\nTransfer-Encoding: identity",
    " identity\r\nTransfer-Encoding: chunked",
    " chunked\r\nTransfer-Encoding:",
    " chunked\r\nTransfer-encoding: x",
    " identity",
    " identity, chunked",
    " chunked, identity",
    " gzip, chunked",
    " gzip",
    " chunked, gzip",
    " deflate, chunked",
    " \"chunked\"",
    " 'chunked'",
    " chunked\x0b",
    " \x0bchunked",
    " \x0cchunked",
    " chunked\0",
    " \u{a0}chunked",
    " chunk",
    " chunkedx",
    " xchunked",
    " x chunked",
    " chunked x",
    " cow",
    "",
    " ",
    " ,",
    "\r\n chunked",
    " chunked\r\n x",
    " x\r\n chunked",
    " trailers, chunked",
    " c\u{212a}unked",
    " chun\u{212a}ed",
];

const BOTH: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    "Transfer-Encoding: chunked\r\nContent-Length: 45",
    "Transfer-Encoding: chunked\r\nContent-Length: x",
    "Transfer-Encoding: identity\r\nContent-Length: 45",
    "Transfer-Encoding:\r\nContent-Length: 45",
    "Transfer-Encoding: x\r\nContent-Length: 45",
    "Transfer-Encoding : chunked\r\nContent-Length: 45",
    "Transfer-Encoding\t: chunked\r\nContent-Length: 45",
    " Transfer-Encoding: chunked\r\nContent-Length: 45",
    "X: 1\r\n Transfer-Encoding: chunked\r\nContent-Length: 45",
    "X: 1\nTransfer-Encoding: chunked\r\nContent-Length: 45",
    "X: 1\rTransfer-Encoding: chunked\r\nContent-Length: 45",
    "Transfer-Encoding: \x0bchunked\r\nContent-Length: 45",
    "Transfer-Encoding: xchunked\r\nContent-Length: 45",
    "Transfer_Encoding: chunked\r\nContent-Length: 45",
    "Transfer-Encoding\0: chunked\r\nContent-Length: 45",
    "\0Transfer-Encoding: chunked\r\nContent-Length: 45",
    "\x0bTransfer-Encoding: chunked\r\nContent-Length: 45",
    "Transfer-Encoding:chunked\r\nConnection: content-length\r\nContent-Length: 5",
];

const CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "005\r\nhello\r\n0\r\n\r\n",
    "000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n00\r\n\r\n",
    "5\r\nhello\r\n000000000000000000000\r\n\r\n",
    "A\r\nhellohello\r\n0\r\n\r\n",
    "a\r\nhellohello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\t5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0 \r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "0X5\r\nhello\r\n0\r\n\r\n",
    "x5\r\nhello\r\n0\r\n\r\n",
    "5x\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "5_\r\nhello\r\n0\r\n\r\n",
    "5,\r\nhello\r\n0\r\n\r\n",
    "5\0\r\nhello\r\n0\r\n\r\n",
    "5\x0b\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;x\r\nhello\r\n0\r\n\r\n",
    "5;x=y\r\nhello\r\n0\r\n\r\n",
    "5;x=\"y\"\r\nhello\r\n0\r\n\r\n",
    "5;x=\"\r\nhello\r\n0\r\n\r\n",
    "5;x=\"a;b\"\r\nhello\r\n0\r\n\r\n",
    "5;x=y;z\r\nhello\r\n0\r\n\r\n",
    "5 ;x\r\nhello\r\n0\r\n\r\n",
    "5\t;x\r\nhello\r\n0\r\n\r\n",
    "5; x\r\nhello\r\n0\r\n\r\n",
    "5;x \r\nhello\r\n0\r\n\r\n",
    "5 x\r\nhello\r\n0\r\n\r\n",
    "5;;\r\nhello\r\n0\r\n\r\n",
    "5;x\ny\r\nhello\r\n0\r\n\r\n",
    "5;x\ry\r\nhello\r\n0\r\n\r\n",
    "5;x\n0\r\n\r\nhello\r\n0\r\n\r\n",
    "5;\0\r\nhello\r\n0\r\n\r\n",
    "5;\u{e9}\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0;x\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\n0\n\n",
    "5\nhello\n0\n\n",
    "5\r\nhello\r\n0\r\r\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "5\r\nhello!\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "\r\n",
    "\n",
    ";\r\nhello\r\n0\r\n\r\n",
    "hello",
    "g\r\nhello\r\n0\r\n\r\n",
    "5.0\r\nhello\r\n0\r\n\r\n",
    "7fffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "8000000000000000\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffe\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "100000005\r\nhello\r\n0\r\n\r\n",
    "80000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nabc",
    "5\r\nhello\r\n0\r\n\r\n\r\n",
    "5\r\nhello\r\n-0\r\n\r\n",
    "5\r\nhello\r\n+0\r\n\r\n",
    "5\r\nhello\r\n0x0\r\n\r\n",
];

const TRAILERS: &[&str] = &[
    "X: 1",
    "X: 1\r\nY: 2",
    "x:1",
    "X:",
    "X : 1",
    " X: 1",
    "X",
    ": 1",
    "X: 1\r\n Y: 2",
    "X: a\0b",
    "X: a\rb",
    "X: 1\nY: 2",
    "X\0: 1",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Host: b.test",
    "Trailer: X",
    "TE: trailers",
    "Connection: close",
    "Upgrade: x",
    "Authorization: Basic eA==",
    "Content-Type: text/x",
    "Content-Encoding: gzip",
    "Cookie: a=1",
    "X-Forwarded-For: 1.2.3.4",
    "X_Y: 1",
    "GET /smuggled HTTP/1.1",
];
