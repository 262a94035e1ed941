//! What belongs to one connection: options, expectations, upgrades, tunnels, several requests.

use super::{Case, request};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for fields in CONNECTION {
        let text = format!("{fields}\r\n");
        cases.push(Case::new(
            "connection",
            fields,
            request("POST", &(text + "Content-Length: 5\r\n"), "hello"),
        ));
    }
    for fields in EXPECT {
        let text = format!("{fields}\r\nContent-Length: 5\r\n");
        cases.push(Case::new("expect", fields, request("POST", &text, "hello")));
        cases.push(Case::new(
            "expect-get",
            fields,
            request("GET", &format!("{fields}\r\n"), ""),
        ));
    }
    for fields in UPGRADE {
        let text = format!("{fields}\r\n");
        cases.push(Case::new("upgrade", fields, request("GET", &text, "")));
        let text = format!("{fields}\r\nContent-Length: 5\r\n");
        cases.push(Case::new(
            "upgrade-body",
            fields,
            request("POST", &text, "hello"),
        ));
    }
    for (name, text) in CONNECT {
        // Where it opens a tunnel, what follows is a part of that.
        cases.push(Case::new("connect", name, *text).eats());
    }
    for (name, text, requests) in SEVERAL {
        let mut case = Case::new("several", name, *text);
        case.requests = *requests;
        cases.push(case);
    }
    cases
}

const CONNECTION: &[&str] = &[
    "Connection: keep-alive",
    "Connection: Keep-Alive\r\nKeep-Alive: timeout=5",
    "Connection: close",
    "Connection: CLOSE",
    "Connection: close, keep-alive",
    "Connection: keep-alive\r\nConnection: close",
    "Connection:",
    "Connection: ,",
    "Connection: ,close",
    "Connection: x",
    "Connection: x\r\nX: 1",
    "Connection: X\r\nx: 1",
    "Connection: x, y\r\nX: 1\r\nY: 2",
    "Connection: x\r\nConnection: y\r\nX: 1\r\nY: 2",
    "Connection: host",
    "Connection: Host",
    "Connection: content-length",
    "Connection: Content-Length, close",
    "Connection: transfer-encoding",
    "Connection: authorization\r\nAuthorization: Basic eA==",
    "Connection: cookie\r\nCookie: a=1",
    "Connection: x-forwarded-for",
    "Connection: x-forwarded-proto",
    "Connection: x-request-id\r\nX-Request-Id: abc",
    "Connection: connection",
    "Connection: te\r\nTE: trailers",
    "Connection: upgrade",
    "Connection: :path",
    "Connection: \"x\"\r\nX: 1",
    "Connection: x y\r\nX: 1",
    "Connection: close;x",
    "Proxy-Connection: close",
    "Proxy-Connection: keep-alive",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "TE: gzip",
    "TE: trailers, gzip",
    "TE: chunked",
    "Trailer: X",
    "Trailer: Content-Length",
];

const EXPECT: &[&str] = &[
    "Expect: 100-continue",
    "Expect: 100-Continue",
    "Expect: 100-continue, x",
    "Expect: 100-continue\r\nExpect: 100-continue",
    "Expect: x",
    "Expect:",
    "Expect: 200-ok",
    "Expect: 100-continue;x=1",
    "Connection: expect\r\nExpect: 100-continue",
];

const UPGRADE: &[&str] = &[
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Connection: Upgrade\r\nUpgrade: h2c",
    "Connection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Upgrade: h2c",
    "Connection: Upgrade\r\nUpgrade: H2C",
    "Connection: Upgrade\r\nUpgrade: h2c, websocket",
    "Connection: Upgrade\r\nUpgrade: h2",
    "Connection: Upgrade\r\nUpgrade: TLS/1.2",
    "Connection: Upgrade\r\nUpgrade: x",
    "Connection: Upgrade\r\nUpgrade:",
    "Upgrade: websocket",
    "Connection: keep-alive\r\nUpgrade: websocket",
    "Connection: Upgrade",
];

const CONNECT: &[(&str, &str)] = &[
    (
        "authority",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
    ),
    (
        "another Host",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: b.test\r\n\r\n",
    ),
    ("without Host", "CONNECT a.test:80 HTTP/1.1\r\n\r\n"),
    (
        "without port",
        "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    ("a path", "CONNECT /case HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (
        "absolute",
        "CONNECT http://a.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "with length",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "with chunks",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "in small letters",
        "connect a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
    ),
    ("star", "CONNECT * HTTP/1.1\r\nHost: a.test\r\n\r\n"),
];

const SEVERAL: &[(&str, &str, usize)] = &[
    (
        "two",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\nGET /case/2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        2,
    ),
    (
        "two with bodies",
        "POST /case HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcPOST /case/2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\ndef",
        2,
    ),
    (
        "chunks and a length",
        "POST /case HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST /case/2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\ndef",
        2,
    ),
    (
        "an empty line between",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n\r\nGET /case/2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        2,
    ),
    (
        "the second is bad",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\nGET /case/2 HTTP/1.1\r\nHost : a.test\r\n\r\n",
        1,
    ),
    (
        "the first closes",
        "GET /case HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        1,
    ),
    (
        "HTTP/1.0 closes",
        "GET /case HTTP/1.0\r\nHost: a.test\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        1,
    ),
    (
        "HTTP/1.0 kept",
        "GET /case HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\nGET /case/2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        2,
    ),
    (
        "HEAD first",
        "HEAD /case HTTP/1.1\r\nHost: a.test\r\n\r\nGET /case/2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        2,
    ),
    (
        "the preface of HTTP/2 behind",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        1,
    ),
    (
        "five",
        concat!(
            "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /case/2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /case/3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /case/4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /case/5 HTTP/1.1\r\nHost: a.test\r\n\r\n"
        ),
        5,
    ),
];
