//! Heads, bodies and trailers as messages: what is taken, what is malformed, what is sent.

use lateen_http::h2::{CannotSend, Code, Config, Event, ResetBy};
use lateen_http::{Method, RequestHead, ResponseHead, Scheme, Version};

use crate::raw::*;

fn request(fields: &[(&str, &str)]) -> Option<RequestHead> {
    let mut peer = Peer::server();
    peer.ok(&head(1, true, fields));
    match peer.events().pop() {
        Some(Event::RequestHead {
            head, end: true, ..
        }) => Some(head),
        None => {
            assert_eq!(rst_code(&peer.output(), 1), Some(Code::PROTOCOL_ERROR));
            assert_eq!(peer.connection.active_streams(), 0);
            None
        }
        other => panic!("{other:?}"),
    }
}

fn with(more: &[(&'static str, &'static str)]) -> Option<RequestHead> {
    request(&[&GET[..], more].concat())
}

#[test]
fn a_request_head_has_its_parts() {
    let head = with(&[
        ("x-a", "1"),
        ("accept", "*/*"),
        ("x-a", "2"),
        ("host", "example.com"),
    ]);
    let head = head.expect("well-formed");
    assert_eq!(head.method, Method::GET);
    assert_eq!(head.version, Version::Http2);
    assert_eq!(head.scheme, Some(Scheme::Http));
    assert_eq!((head.authority(), head.target()), ("example.com", "/"));
    let order: Vec<&str> = head.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(order, ["x-a", "accept", "x-a", "host"]);
    let head = request(&[GET[0], GET[1], GET[2], ("host", "b")]).expect("well-formed");
    assert_eq!(head.authority(), "b");
}

#[test]
fn malformed_fields() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("host", "other.example"),
        ("host", "exa mple.com"),
        ("content-length", "1"),
        ("content-length", "+0"),
        ("content-length", "0x0"),
        ("content-length", ""),
        ("content-length", "99999999999999999999"),
        ("content-length", "0, 0"),
        ("Upper", "1"),
        ("sp ace", "1"),
        ("", "1"),
        ("co:lon", "1"),
        ("nul", "a\0b"),
        ("line", "a\nb"),
        ("return", "a\rb"),
        ("front", " a"),
        ("back", "a\t"),
        ("delete", "\x7f"),
        (":", "x"),
        (":path", "/again"),
        (":unknown", "x"),
    ] {
        assert!(with(&[(name, value)]).is_none(), "{name}: {value:?}");
    }
    assert!(with(&[("content-length", "0"), ("content-length", "0")]).is_none());
    assert!(with(&[("host", "example.com"), ("host", "example.com")]).is_none());
    for (name, value) in [
        ("te", "trailers"),
        ("host", "EXAMPLE.com"),
        ("content-length", "0"),
        ("tab", "a\tb"),
        ("empty", ""),
        ("utf-8", "ä"),
        ("_under.score", "1"),
    ] {
        assert!(with(&[(name, value)]).is_some(), "{name}: {value:?}");
    }
}

#[test]
fn pseudo_headers() {
    let check = |fields: &[(&str, &str)], expect: bool| {
        assert_eq!(request(fields).is_some(), expect, "{fields:?}");
    };
    let (method, scheme, path, authority) = (GET[0], GET[1], GET[2], GET[3]);
    check(&[method, scheme, path], true);
    check(&[method, scheme], false);
    check(&[(":method", "G T"), scheme, path], false);
    check(&[(":method", ""), scheme, path], false);
    // CVE-2023-35944.
    let head = request(&[method, (":scheme", "HtTpS"), path]).expect("well-formed");
    assert_eq!(head.scheme, Some(Scheme::Https));
    check(&[method, (":scheme", "ftp"), path], false);
    for target in ["a", "", "/a b", "/a#b", "/\n", "http://a/"] {
        check(&[method, scheme, (":path", target), authority], false);
    }
    check(&[method, scheme, (":path", "*"), authority], false);
    check(
        &[(":method", "OPTIONS"), scheme, (":path", "*"), authority],
        true,
    );
    for host in ["user@a", "a/b", "a b", "a\\b"] {
        check(&[method, scheme, path, (":authority", host)], false);
    }
}

#[test]
fn connect_and_extended_connect() {
    let check = |fields: &[(&str, &str)], expect: bool| {
        assert_eq!(request(fields).is_some(), expect, "{fields:?}");
    };
    let connect = (":method", "CONNECT");
    let protocol = (":protocol", "websocket");
    check(&[connect, (":authority", "a:80")], true);
    check(&[connect], false);
    check(&[connect, GET[1], GET[2], GET[3]], false);
    check(&[connect, GET[1], GET[2], GET[3], protocol], true);
    check(&[connect, GET[3], protocol], false);
    check(&[GET[0], GET[1], GET[2], GET[3], protocol], false);
    let head = request(&[connect, GET[1], GET[2], GET[3], protocol]).expect("well-formed");
    assert_eq!(head.protocol(), Some("websocket"));
    let mut peer = Peer::server_with(Config {
        enable_connect_protocol: false,
        ..Config::default()
    });
    peer.ok(&crate::raw::head(
        1,
        false,
        &[connect, GET[1], GET[2], GET[3], protocol],
    ));
    assert_eq!(rst_code(&peer.output(), 1), Some(Code::PROTOCOL_ERROR));
}

#[test]
fn a_client_asks_for_extended_connect_only_where_it_is_offered() {
    let mut peer = Peer::client();
    let mut request = RequestHead::new(Method::CONNECT, "example.com", "/chat").expect("valid");
    request.set_protocol(Some("websocket")).expect("valid");
    let sent = peer.connection.send_request(&request, false);
    assert!(matches!(sent, Err(CannotSend::Unsendable(_))), "{sent:?}");
    peer.ok(&frame(SETTINGS, 0, 0, &setting(8, 1)));
    peer.output();
    let id = peer
        .connection
        .send_request(&request, false)
        .expect("offered");
    let wrote = peer.output();
    let mut server = Peer::server();
    server.ok(&frame(HEADERS, wrote[0].flags, id.get(), &wrote[0].payload));
    let events = server.events();
    let [Event::RequestHead { head, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(head.protocol(), Some("websocket"));
    assert_eq!(head.target(), "/chat");
}

/// What a server gets of a request that came by HTTP/1.
#[test]
fn what_belongs_to_http_1_is_not_sent() {
    let mut peer = Peer::client();
    let mut request = RequestHead::new(Method::GET, "example.com", "/p?q").expect("valid");
    for (name, value) in [
        ("Host", "example.com"),
        ("Connection", "keep-alive"),
        ("Keep-Alive", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "x"),
        ("TE", "gzip"),
        ("X-Mixed-Case", "Kept"),
        ("Accept", " */* "),
        ("te", "trailers"),
    ] {
        request.headers.append(name, value).expect("valid");
    }
    peer.connection.send_request(&request, true).expect("sent");
    let wrote = peer.output();
    let mut server = Peer::server();
    server.ok(&frame(HEADERS, wrote[0].flags, 1, &wrote[0].payload));
    let events = server.events();
    let [Event::RequestHead { head, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    let got: Vec<(&str, &[u8])> = head.headers.iter().collect();
    let expect: [(&str, &[u8]); 3] = [
        ("x-mixed-case", b"Kept"),
        ("accept", b"*/*"),
        ("te", b"trailers"),
    ];
    assert_eq!(got, expect);
    assert_eq!((head.authority(), head.target()), ("example.com", "/p?q"));
}

#[test]
fn secrets_are_never_indexed() {
    let mut peer = Peer::client();
    let mut request = RequestHead::new(Method::GET, "a", "/").expect("valid");
    request
        .headers
        .append("authorization", "Bearer x")
        .expect("valid");
    request.headers.append("cookie", "a=b").expect("valid");
    for _ in 0..3 {
        peer.connection.send_request(&request, true).expect("sent");
    }
    for frame in peer.output() {
        let at = |text: &[u8]| {
            let found = frame.payload.windows(text.len()).position(|w| w == text);
            found.expect("in the block")
        };
        // 0001xxxx with the static indices 23 and 32, then a length.
        assert_eq!(frame.payload[at(b"Bearer x") - 3..][..3], [0x1f, 8, 8]);
        assert_eq!(frame.payload[at(b"a=b") - 3..][..3], [0x1f, 17, 3]);
    }
}

#[test]
fn a_never_indexed_field_is_sent_on_as_such() {
    let mut server = Peer::server();
    let block = [&block(&GET)[..], &[0x10, 1, b'k', 6], b"secret"].concat();
    server.ok(&frame(HEADERS, 5, 1, &block));
    let Some(Event::RequestHead { head, .. }) = server.events().pop() else {
        panic!("no request");
    };
    let mut client = Peer::client();
    client.connection.send_request(&head, true).expect("sent");
    let wrote = client.output();
    assert!(wrote[0].payload.ends_with(&block[block.len() - 10..]));
}

fn response(method: &str, frames: &[Vec<u8>]) -> (Vec<Event>, Vec<Wrote>) {
    let mut peer = Peer::client();
    peer.get(method);
    peer.output();
    peer.ok(&frames.concat());
    (peer.events(), peer.output())
}

#[test]
fn responses() {
    let ok = (":status", "200");
    let (events, _) = response(
        "GET",
        &[
            head(1, false, &[(":status", "100")]),
            head(1, false, &[(":status", "103"), ("link", "</a>")]),
            head(1, false, &[ok, ("content-length", "4")]),
            frame(DATA, 0, 1, b"body"),
            head(1, true, &[("grpc-status", "0")]),
        ],
    );
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match event {
            Event::Informational { .. } => "1xx",
            Event::ResponseHead { end: false, .. } => "head",
            Event::Data { end: false, .. } => "data",
            Event::Trailers { .. } => "trailers",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["1xx", "1xx", "head", "data", "trailers"]);

    let check = |method: &str, frames: &[Vec<u8>], expect: bool| {
        let (events, wrote) = response(method, frames);
        let fault = events.iter().find_map(|event| match event {
            Event::Reset { code, by, .. } => Some((*code, *by)),
            _ => None,
        });
        if expect {
            assert_eq!(fault, None, "{method} {frames:?}");
            return;
        }
        let malformed = Some((Code::PROTOCOL_ERROR, ResetBy::Malformed));
        assert_eq!(fault, malformed, "{method} {frames:?}");
        assert_eq!(rst_code(&wrote, 1), Some(Code::PROTOCOL_ERROR));
    };
    let length = ("content-length", "4");
    check("HEAD", &[head(1, true, &[ok, length])], true);
    check("GET", &[head(1, true, &[ok, length])], false);
    check("GET", &[head(1, true, &[(":status", "304"), length])], true);
    let with_body =
        |fields: &[(&str, &str)]| vec![head(1, false, fields), frame(DATA, 1, 1, b"body")];
    check("GET", &with_body(&[ok, length]), true);
    check("HEAD", &with_body(&[ok]), false);
    check("GET", &with_body(&[(":status", "204")]), false);
    check("GET", &with_body(&[(":status", "304")]), false);
    check("GET", &[frame(DATA, 1, 1, b"body")], false);
    for status in ["101", "099", "20", "2000", "+20", "", "200 OK"] {
        check("GET", &[head(1, false, &[(":status", status)])], false);
    }
    check("GET", &[head(1, true, &[(":status", "103")])], false);
    check("GET", &[head(1, true, &[("a", "b")])], false);
    check("GET", &[head(1, true, &[ok, ok])], false);
    check("GET", &[head(1, true, &[ok, (":path", "/")])], false);
    check(
        "GET",
        &[head(1, true, &[ok, ("connection", "close")])],
        false,
    );
    // CVE-2026-73513.
    check(
        "GET",
        &[head(1, false, &[ok]), head(1, false, &[("a", "b")])],
        false,
    );
    let trailer = |field| vec![head(1, false, &[ok]), head(1, true, &[field])];
    check("GET", &trailer(("a", "b")), true);
    check("GET", &trailer(length), false);
    check("GET", &trailer(("host", "a")), false);
    check("GET", &trailer(("transfer-encoding", "chunked")), false);
}

#[test]
fn responses_out_of_order_are_refused() {
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &GET));
    let id = 1.into();
    let (ok, hint) = (ResponseHead::new(200), ResponseHead::new(103));
    let data = || bytes::Bytes::from_static(b"x");
    let order = |result: Result<(), CannotSend>| {
        assert!(matches!(result, Err(CannotSend::Order(_))), "{result:?}");
    };
    order(peer.connection.send_data(id, data(), false));
    order(peer.connection.send_trailers(id, &fields(&[("a", "b")])));
    assert!(peer.connection.send_response(id, &hint, true).is_err());
    assert!(peer.connection.send_informational(id, &ok).is_err());
    peer.connection.send_informational(id, &hint).expect("103");
    peer.connection.send_response(id, &ok, false).expect("200");
    order(peer.connection.send_informational(id, &hint));
    order(peer.connection.send_response(id, &ok, false));
    peer.connection.send_data(id, data(), false).expect("body");
    peer.connection
        .send_trailers(id, &fields(&[("a", "b")]))
        .expect("end");
    let late = peer.connection.send_data(id, data(), false);
    assert_eq!(late, Err(CannotSend::Ended));
}

#[test]
fn large_heads_are_split_and_come_together() {
    let mut client = Peer::client();
    let mut request = RequestHead::new(Method::GET, "a", "/").expect("valid");
    for n in 0..40 {
        let value = format!("{n:04}").repeat(250);
        request.headers.append("x-large", value).expect("valid");
    }
    client
        .connection
        .send_request(&request, true)
        .expect("sent");
    let wrote = client.output();
    let kinds: Vec<(u8, u8)> = wrote
        .iter()
        .map(|frame| (frame.kind, frame.flags))
        .collect();
    let expect = [
        (HEADERS, END_STREAM),
        (CONTINUATION, 0),
        (CONTINUATION, END_HEADERS),
    ];
    assert_eq!(kinds, expect);
    let mut server = Peer::server();
    for frame in wrote {
        server.ok(&crate::raw::frame(
            frame.kind,
            frame.flags,
            frame.id,
            &frame.payload,
        ));
    }
    let events = server.events();
    let [
        Event::RequestHead {
            head, end: true, ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(head.headers.len(), 40);
}

#[test]
fn the_peers_table_size_is_kept_to() {
    for size in [0, 100, 4096, 1 << 20] {
        let mut client = Peer::client();
        client.ok(&frame(SETTINGS, 0, 0, &setting(1, size)));
        client.output();
        let mut server = Peer::server_with(Config {
            header_table_size: size,
            ..Config::default()
        });
        for n in 0..10 {
            let mut request =
                RequestHead::new(Method::GET, "example.com", "/a/path").expect("valid");
            request
                .headers
                .append("x-repeated", "value")
                .expect("valid");
            client
                .connection
                .send_request(&request, true)
                .expect("sent");
            for frame in client.output() {
                server.ok(&crate::raw::frame(
                    frame.kind,
                    frame.flags,
                    frame.id,
                    &frame.payload,
                ));
            }
            let Some(Event::RequestHead { head, .. }) = server.events().pop() else {
                panic!("{size}: no request {n}");
            };
            assert_eq!(head.target(), "/a/path");
        }
    }
}
