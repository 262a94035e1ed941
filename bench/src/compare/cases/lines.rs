//! Request lines, targets, and where lines end.

use super::Case;

const REST: &str = "\r\nHost: a.test\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in LINES {
        cases.push(Case::new("line", line, format!("{line}{REST}")));
    }
    for version in VERSIONS {
        let bytes = format!("GET /case {version}{REST}");
        cases.push(Case::new("version", version, bytes));
    }
    for target in TARGETS {
        let bytes = format!("GET {target} HTTP/1.1{REST}");
        cases.push(Case::new("target", target, bytes));
    }
    // Each byte that is no visible character, and some above.
    for byte in (0..=32).chain([127, 128, 160, 255]) {
        let mut bytes = b"GET /case/".to_vec();
        bytes.push(byte);
        bytes.extend_from_slice(format!("x HTTP/1.1{REST}").as_bytes());
        cases.push(Case::new("target-byte", &format!("{byte:02x}"), bytes));
    }
    for (name, text) in ENDS {
        cases.push(Case::new("end", name, *text));
    }
    cases
}

const LINES: &[&str] = &[
    "GET /case HTTP/1.1",
    "get /case HTTP/1.1",
    "Get /case HTTP/1.1",
    "FOO /case HTTP/1.1",
    "M-SEARCH /case HTTP/1.1",
    "GET! /case HTTP/1.1",
    "G'T /case HTTP/1.1",
    "G\"T /case HTTP/1.1",
    "G(T /case HTTP/1.1",
    "G,T /case HTTP/1.1",
    "G/T /case HTTP/1.1",
    "G:T /case HTTP/1.1",
    "G@T /case HTTP/1.1",
    "G\u{e9}T /case HTTP/1.1",
    "123 /case HTTP/1.1",
    "PROPFIND /case HTTP/1.1",
    "DELETE /case HTTP/1.1",
    "OPTIONS /case HTTP/1.1",
    "TRACE /case HTTP/1.1",
    "PATCH /case HTTP/1.1",
    "PRI * HTTP/2.0",
    "PRI /case HTTP/1.1",
    "AVERYVERYVERYVERYVERYVERYVERYLONGMETHODNAMEOFFIFTYANDMORE /case HTTP/1.1",
    " GET /case HTTP/1.1",
    "\tGET /case HTTP/1.1",
    "GET  /case HTTP/1.1",
    "GET\t/case HTTP/1.1",
    "GET \t/case HTTP/1.1",
    "GET /case  HTTP/1.1",
    "GET /case\tHTTP/1.1",
    "GET /case HTTP/1.1 ",
    "GET /case HTTP/1.1\t",
    "GET /case HTTP/1.1 x",
    "GET /case x HTTP/1.1",
    "GET /case HTTP/1.1 HTTP/1.1",
    "GET /case",
    "GET /case ",
    "GET",
    "GET ",
    "GET  HTTP/1.1",
    "GET HTTP/1.1",
    "/case HTTP/1.1",
    " /case HTTP/1.1",
    "GET /case HTTP/1.1\r",
    "GET /case\r HTTP/1.1",
    "GET\x0b/case HTTP/1.1",
    "GET\x0c/case\x0cHTTP/1.1",
    "\u{feff}GET /case HTTP/1.1",
    "\0GET /case HTTP/1.1",
    "G\0ET /case HTTP/1.1",
    "HTTP/1.1 200 OK",
    ": GET /case HTTP/1.1",
];

const VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/1.9",
    "HTTP/2.0",
    "HTTP/2",
    "HTTP/3.0",
    "HTTP/1",
    "HTTP/1.",
    "HTTP/.1",
    "HTTP/1.10",
    "HTTP/1.01",
    "HTTP/01.1",
    "HTTP/11.1",
    "HTTP/1.1.1",
    "HTTP/-1.1",
    "HTTP/+1.1",
    "http/1.1",
    "Http/1.1",
    "HTTP 1.1",
    "HTTP/ 1.1",
    "HTTP /1.1",
    "HTTP/1 .1",
    "HTTP/1,1",
    "HTTP/1.x",
    "HTTP/x.1",
    "HTTP",
    "HTTP/",
    "HTTPS/1.1",
    "HTTP/1.1\u{b5}",
    "XTTP/1.1",
    "1.1",
    "ICY/1.0",
];

const TARGETS: &[&str] = &[
    "/",
    "//case",
    "/case//x",
    "/case/../x",
    "/case/..",
    "/../case",
    "/./case",
    "/case/.",
    "/case/%2e%2e/x",
    "/case/%2E%2E%2Fx",
    "/case/.%2e/x",
    "/case%2fx",
    "/case%2Fx",
    "/case%5cx",
    "/case%5C..%5Cx",
    "/case\\x",
    "/case\\..\\x",
    "\\case",
    "/case%00",
    "/case%00/x",
    "/case%0d%0aX:1",
    "/case%0a",
    "/case%20x",
    "/case%",
    "/case%1",
    "/case%zz",
    "/case%u0041",
    "/case%61",
    "/c%61se",
    "/case%25%32%65",
    "/case;x=1",
    "/case/..;/x",
    "/case?",
    "/case?x=1",
    "/case?x=/../y",
    "/case??",
    "/case?a=%00",
    "/case#x",
    "/case?x#y",
    "/case%23x",
    "#case",
    "/case\"x",
    "/case<x>",
    "/case{x}",
    "/case|x",
    "/case^x",
    "/case`x",
    "/case'x",
    "/case[x]",
    "/case:80",
    "/case@x",
    "/case\u{e9}",
    "/case/\u{ff0f}",
    "case",
    "?case",
    ":case",
    "a.test",
    "a.test:80",
    "a.test/case",
    "//a.test/case",
    "*",
    "/*",
    "http://a.test/case",
    "http://a.test",
    "http://a.test?x=1",
    "http://a.test#x",
    "http://a.test/case#x",
    "http://b.test/case",
    "http://a.test:80/case",
    "http://a.test:/case",
    "http://a.test:x/case",
    "http://a.test:99999/case",
    "http://A.TEST/case",
    "HTTP://a.test/case",
    "hTTp://a.test/case",
    "https://a.test/case",
    "ftp://a.test/case",
    "ws://a.test/case",
    "file:///case",
    "http:///case",
    "http://",
    "http:/case",
    "http:case",
    "http:",
    "http//a.test/case",
    "http://user@a.test/case",
    "http://user:pw@a.test/case",
    "http://a.test@b.test/case",
    "http://a.test\\@b.test/case",
    "http://[::1]/case",
    "http://[::1/case",
    "http://a.test,b.test/case",
    "http://a.test/case?http://b.test",
    "http://a%2etest/case",
    "http://a.test/../case",
    "urn:x:case",
    "mailto:x@a.test",
    "javascript:case",
];

const ENDS: &[(&str, &str)] = &[
    ("LF everywhere", "GET /case HTTP/1.1\nHost: a.test\n\n"),
    (
        "LF after the request line",
        "GET /case HTTP/1.1\nHost: a.test\r\n\r\n",
    ),
    (
        "LF after a field",
        "GET /case HTTP/1.1\r\nHost: a.test\nX: 1\r\n\r\n",
    ),
    (
        "LF as the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\n",
    ),
    (
        "LF before the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\n\r\n",
    ),
    ("CR everywhere", "GET /case HTTP/1.1\rHost: a.test\r\r"),
    (
        "CR after the request line",
        "GET /case HTTP/1.1\rHost: a.test\r\n\r\n",
    ),
    (
        "CR after a field",
        "GET /case HTTP/1.1\r\nHost: a.test\rX: 1\r\n\r\n",
    ),
    (
        "CR as the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\r\n",
    ),
    (
        "CR CR LF after the request line",
        "GET /case HTTP/1.1\r\r\nHost: a.test\r\n\r\n",
    ),
    (
        "CR CR LF after a field",
        "GET /case HTTP/1.1\r\nHost: a.test\r\r\nX: 1\r\n\r\n",
    ),
    (
        "CR CR LF as the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\r\n\r\n",
    ),
    (
        "LF CR after a field",
        "GET /case HTTP/1.1\r\nHost: a.test\n\rX: 1\r\n\r\n",
    ),
    (
        "one empty line before",
        "\r\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "two empty lines before",
        "\r\n\r\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "ten empty lines before",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "an LF before",
        "\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "a CR before",
        "\rGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "CR CR LF before",
        "\r\r\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "a space line before",
        " \r\nGET /case HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "an empty line after",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n",
    ),
    (
        "an LF after",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n\n",
    ),
    (
        "a NUL after",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n\0",
    ),
    (
        "a space after",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\n ",
    ),
    (
        "bytes after",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\r\nabc",
    ),
    (
        "a space line as the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n \r\n\r\n",
    ),
    (
        "a tab line as the empty line",
        "GET /case HTTP/1.1\r\nHost: a.test\r\n\t\r\n\r\n",
    ),
    (
        "NEL after a field",
        "GET /case HTTP/1.1\r\nHost: a.test\u{85}X: 1\r\n\r\n",
    ),
    ("HTTP/0.9", "GET /case\r\n"),
    ("HTTP/0.9 with LF", "GET /case\n"),
];
