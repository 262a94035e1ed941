//! Field names, values, folding, Host.

use super::{Case, request};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // All that no letter, digit or hyphen is.
    let odd = (0..=255_u8).filter(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'-'));
    for byte in odd.filter(|byte| *byte <= 128 || [0xa0, 0xff].contains(byte)) {
        let line = [b"X", &[byte][..], b"Y: 1"].concat();
        cases.push(raw("name-byte", &format!("{byte:02x}"), &line));
    }
    let odd = (0..32_u8).chain([127, 128, 160, 173, 255]);
    for byte in odd {
        let line = [b"X: a", &[byte][..], b"b"].concat();
        cases.push(raw("value-byte", &format!("{byte:02x}"), &line));
    }
    for line in LINES {
        cases.push(raw("field", line, line.as_bytes()));
    }
    for host in HOSTS {
        let bytes = format!("GET /case HTTP/1.1\r\n{host}\r\n");
        cases.push(Case::new("host", host.trim_end(), bytes));
    }
    for (name, version, target, host) in HOSTS_AND_TARGETS {
        let bytes = format!("GET {target} {version}\r\n{host}\r\n");
        cases.push(Case::new("host-target", name, bytes));
    }
    for (name, size, n_fields) in [
        ("60 fields", 10, 60),
        ("99 fields", 10, 98),
        ("101 fields", 10, 101),
        ("200 fields", 10, 200),
        ("a value of 7 KiB", 7 * 1024, 1),
        ("a value of 20 KiB", 20 * 1024, 1),
        ("a value of 59 KiB", 59 * 1024, 1),
        ("a value of 70 KiB", 70 * 1024, 1),
    ] {
        let fields: String = (0..n_fields)
            .map(|n| format!("x-{n}: {}\r\n", "v".repeat(size)))
            .collect();
        cases.push(Case::new("limit", name, request("GET", &fields, "")));
    }
    let target = "/case/".to_owned() + &"x".repeat(9000);
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    cases.push(Case::new("limit", "a target of 9 KB", bytes));
    let name = "x".repeat(9000);
    cases.push(Case::new(
        "limit",
        "a name of 9 KB",
        request("GET", &format!("{name}: 1\r\n"), ""),
    ));
    cases
}

fn raw(group: &str, name: &str, line: &[u8]) -> Case {
    let mut bytes = b"GET /case HTTP/1.1\r\nHost: a.test\r\n".to_vec();
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(b"\r\n\r\n");
    Case::new(group, name, bytes)
}

const LINES: &[&str] = &[
    "X",
    "X Y",
    ":",
    ": 1",
    " : 1",
    "X:",
    "X: ",
    "X:1",
    "X:\t1",
    "X:  1  ",
    "X: 1\t",
    "X : 1",
    "X\t: 1",
    " X: 1",
    "\tX: 1",
    "X:: 1",
    "X: 1: 2",
    "X: 1\r\n Y: 2",
    "X: 1\r\n\tY: 2",
    "X: 1\r\n  ",
    "X:\r\n 1",
    "X\r\n : 1",
    "X: 1\n Y: 2",
    "X: 1\r Y: 2",
    "X: a\u{e9}",
    "X: \u{1f600}",
    "X\u{e9}: 1",
    "X_Y: 1",
    "X.Y: 1",
    "X-Y: 1",
    "x-y: 1\r\nX_Y: 2",
    "X: 1\r\nX: 2",
    "X: 1\r\nx: 2",
    "X: \"a\r\nb\"",
    "Transfer_Encoding: chunked",
    "Content_Length: 5",
    "Content.Length: 5",
    "Content Length: 5",
    "Content-Length\u{a0}: 5",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: b.test",
    "X-Request-Id: abc",
    "X-Envoy-Original-Path: /admin",
    "X-Envoy-Internal: true",
    "X-Envoy-Retry-On: 5xx",
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "X-HTTP-Method-Override: DELETE",
    "Forwarded: for=1.2.3.4",
    "Cookie: a=1; b=2",
    "Cookie: a=1\r\nCookie: b=2",
    "Range: bytes=0-1",
    "Max-Forwards: 0",
    "Proxy-Authorization: Basic eA==",
    "Proxy: http://b.test",
    ":path: /smuggled",
    ":authority: b.test",
    ":method: POST",
];

const HOSTS: &[&str] = &[
    "",
    "Host:\r\n",
    "Host: a.test\r\nHost: a.test\r\n",
    "Host: a.test\r\nHost: b.test\r\n",
    "Host: a.test\r\nhost: b.test\r\n",
    "Host: a.test\r\nX: 1\r\nHost:\r\n",
    "Host: a.test,b.test\r\n",
    "Host: a.test, b.test\r\n",
    "Host: a.test b.test\r\n",
    "Host: a.test\tb.test\r\n",
    "Host: user@a.test\r\n",
    "Host: a.test@b.test\r\n",
    "Host: http://a.test\r\n",
    "Host: a.test/case\r\n",
    "Host: a.test?x\r\n",
    "Host: a.test#x\r\n",
    "Host: a.test\\x\r\n",
    "Host: a.test:\r\n",
    "Host: a.test:80\r\n",
    "Host: a.test:080\r\n",
    "Host: a.test:0\r\n",
    "Host: a.test:65536\r\n",
    "Host: a.test:99999999999\r\n",
    "Host: a.test:x\r\n",
    "Host: a.test:-1\r\n",
    "Host: a.test: 80\r\n",
    "Host: a.test:80:80\r\n",
    "Host: :80\r\n",
    "Host: .\r\n",
    "Host: ..\r\n",
    "Host: a.test.\r\n",
    "Host: a..test\r\n",
    "Host: -a.test\r\n",
    "Host: A.TEST\r\n",
    "Host: a_b.test\r\n",
    "Host: a%2etest\r\n",
    "Host: a%00.test\r\n",
    "Host: a%zz.test\r\n",
    "Host: a\0.test\r\n",
    "Host: \u{e9}.test\r\n",
    "Host: xn--9ca.test\r\n",
    "Host: 127.0.0.1\r\n",
    "Host: 127.1\r\n",
    "Host: 0x7f.1\r\n",
    "Host: [::1]\r\n",
    "Host: [::1]:80\r\n",
    "Host: ::1\r\n",
    "Host: [::1\r\n",
    "Host: ::1]\r\n",
    "Host: [x]\r\n",
    "Host: [::1]x\r\n",
    "Host: [fe80::1%25lo]\r\n",
    "Host: *\r\n",
    "Host: a*.test\r\n",
    "Host: \"a.test\"\r\n",
    "Host: <a.test>\r\n",
    "Host: a|b\r\n",
    "Host: {a}\r\n",
    "Host: a;b\r\n",
    "Host : a.test\r\n",
    " Host: a.test\r\n",
    "Host: a.test\r\n b.test\r\n",
    "X: 1\r\nHost: a.test\r\n",
    "HOST: a.test\r\n",
    "Hos\u{1e97}: a.test\r\n",
];

const HOSTS_AND_TARGETS: &[(&str, &str, &str, &str)] = &[
    ("1.0 without Host", "HTTP/1.0", "/case", ""),
    (
        "1.0 with two",
        "HTTP/1.0",
        "/case",
        "Host: a.test\r\nHost: b.test\r\n",
    ),
    ("1.0 with an empty one", "HTTP/1.0", "/case", "Host:\r\n"),
    (
        "1.0 absolute without Host",
        "HTTP/1.0",
        "http://a.test/case",
        "",
    ),
    (
        "absolute without Host",
        "HTTP/1.1",
        "http://a.test/case",
        "",
    ),
    (
        "absolute and another",
        "HTTP/1.1",
        "http://a.test/case",
        "Host: b.test\r\n",
    ),
    (
        "absolute and an empty one",
        "HTTP/1.1",
        "http://a.test/case",
        "Host:\r\n",
    ),
    (
        "absolute and two",
        "HTTP/1.1",
        "http://a.test/case",
        "Host: a.test\r\nHost: b.test\r\n",
    ),
    (
        "absolute and a bad one",
        "HTTP/1.1",
        "http://a.test/case",
        "Host: a b\r\n",
    ),
    (
        "absolute with port and without",
        "HTTP/1.1",
        "http://a.test:80/case",
        "Host: a.test\r\n",
    ),
    (
        "absolute with user and without",
        "HTTP/1.1",
        "http://u@a.test/case",
        "Host: a.test\r\n",
    ),
];
