//! What a backend may answer. Bodies that must not reach anybody say POISON.

use std::time::Duration;

use super::{Case, request};
use crate::compare::recorder::{Piece, Script};

const EXTRA: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in ANSWERS {
        cases.push(scripted(
            "answer",
            name,
            "GET",
            &[Piece::Bytes(text.as_bytes().to_vec())],
        ));
        let closing = [Piece::Bytes(text.as_bytes().to_vec()), Piece::Close];
        cases.push(scripted("answer-closed", name, "GET", &closing));
    }
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "FOO"] {
        let mut case = scripted("broken", method, method, &[Piece::Close]);
        case.bytes = request(method, "Content-Length: 5\r\n", "hello");
        cases.push(case);
        let name = format!("{method} after 103");
        let pieces = [
            Piece::Bytes("HTTP/1.1 103 Early Hints\r\n\r\n".into()),
            Piece::Close,
        ];
        let mut case = scripted("broken", &name, method, &pieces);
        case.begun = true;
        cases.push(case);
    }
    for (name, text) in WITHOUT_BODY {
        for method in ["GET", "HEAD"] {
            let pieces = [Piece::Bytes(text.as_bytes().to_vec())];
            cases.push(scripted(
                "bodiless",
                &format!("{method} {name}"),
                method,
                &pieces,
            ));
        }
    }
    for (name, text) in BEFORE_EXTRA {
        let together = format!("{text}{EXTRA}");
        cases.push(scripted(
            "extra",
            name,
            "GET",
            &[Piece::Bytes(together.into())],
        ));
        let pieces = [
            Piece::Bytes(text.as_bytes().to_vec()),
            Piece::Pause(Duration::from_millis(20)),
            Piece::Bytes(EXTRA.into()),
        ];
        let mut case = scripted("extra-late", name, "GET", &pieces);
        // With another request behind it, the bytes would be the answer to that.
        case.bytes = request("GET", "Connection: close\r\n", "");
        case.alone = true;
        cases.push(case);
    }
    let storm = "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n".repeat(500);
    let pieces = [Piece::Bytes(
        (storm + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").into(),
    )];
    cases.push(scripted("interim", "500 of them", "GET", &pieces));
    for (name, text) in INTERIM {
        cases.push(scripted(
            "interim",
            name,
            "GET",
            &[Piece::Bytes(text.as_bytes().to_vec())],
        ));
    }
    for (name, text) in EARLY {
        let mut case = scripted(
            "early",
            name,
            "POST",
            &[Piece::Bytes(text.as_bytes().to_vec())],
        );
        case.bytes = request("POST", "Content-Length: 500\r\n", "abc");
        case.eats = true;
        if let Some(script) = &mut case.script {
            script.early = true;
        }
        cases.push(case);
    }
    for status in [
        "0", "99", "100", "199", "600", "999", "1000", "-200", "2x0", "20", "",
    ] {
        let text = format!("HTTP/1.1 {status} OK\r\nContent-Length: 2\r\n\r\nok");
        cases.push(scripted(
            "status",
            status,
            "GET",
            &[Piece::Bytes(text.into())],
        ));
    }
    cases
}

fn scripted(group: &str, name: &str, method: &str, pieces: &[Piece]) -> Case {
    let mut case = Case::new(group, name, request(method, "", ""));
    case.script = Some(Script {
        pieces: pieces.to_vec(),
        early: false,
    });
    case
}

const ANSWERS: &[(&str, &str)] = &[
    ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "chunks with trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
    ),
    ("neither", "HTTP/1.1 200 OK\r\n\r\nok"),
    ("nothing", ""),
    ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (
        "HTTP/1.0 kept",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "HTTP/1.0 chunks",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/0.9", "ok"),
    ("another protocol", "SSH-2.0-x\r\n"),
    ("ICY", "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    (
        "an empty phrase",
        "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a phrase with NUL",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a phrase with CR",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "two spaces",
        "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a space before",
        " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "an empty line before",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    ("LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    (
        "LF in a field",
        "HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "CR in a field",
        "HTTP/1.1 200 OK\r\nX: 1\rY: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "NUL in a field",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a space before the colon",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    ),
    (
        "a folded line",
        "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "no colon",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a name with a space",
        "HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "no name",
        "HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "two lengths alike",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "two lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\nok",
    ),
    (
        "a list of lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    ),
    ("a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    (
        "a negative length",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    ),
    (
        "a hex length",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    ),
    (
        "no digits",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
    ),
    (
        "an empty length",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
    ),
    (
        "a huge length",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
    ),
    (
        "too short",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    ),
    (
        "a length and chunks",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "chunks and a length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "two codings",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    ),
    (
        "an unknown coding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "CHUNKED",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "a bad chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nok\r\n0\r\n\r\n",
    ),
    (
        "a chunk with LF",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
    ),
    (
        "a chunk without end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokok\r\n0\r\n\r\n",
    ),
    (
        "a chunk that is too large",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n",
    ),
    (
        "a length as trailer",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
    ),
    (
        "chunks without end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ),
    ("half a head", "HTTP/1.1 200 OK\r\nX: 1\r\n"),
    (
        "an upgrade that nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ),
    (
        "101 without its fields",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ),
    (
        "Connection names the length",
        "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "close",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "a head that is too large",
        concat!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ", "\r\n\r\nok"),
    ),
];

const WITHOUT_BODY: &[(&str, &str)] = &[
    ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
    (
        "204 with a length",
        "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nPOISON",
    ),
    (
        "204 with length 0",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "204 with chunks",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    ),
    (
        "205 with a length",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    ),
    ("304", "HTTP/1.1 304 Not Modified\r\n\r\n"),
    (
        "304 with a length",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
    ),
    (
        "304 with a body",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nPOISON",
    ),
    (
        "304 with chunks",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    ),
    (
        "304 and a response",
        concat!(
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
        ),
    ),
];

const BEFORE_EXTRA: &[(&str, &str)] = &[
    ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("304", "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ("an error", "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"),
];

const INTERIM: &[(&str, &str)] = &[
    (
        "100",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "100 twice",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "102",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "103",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "103 with a length",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "103 with chunks",
        "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    ("103 alone", "HTTP/1.1 103 Early Hints\r\n\r\n"),
    (
        "103 and 101",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
    ),
    (
        "103 in HTTP/1.0",
        "HTTP/1.0 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
];

const EARLY: &[(&str, &str)] = &[
    ("200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (
        "413",
        "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
    ),
    (
        "413 and close",
        "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    ),
    ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
];
