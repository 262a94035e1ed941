//! The cases of h2spec (github.com/summerwind/h2spec) as a table: what a client may do wrong, and
//! what a server must answer. The real one runs through the whole proxy elsewhere.

use lateen_http::h2::{Code, Config, PREFACE};

use crate::raw::*;

/// What must happen.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// GOAWAY with this code.
    Connection(Code),
    /// RST_STREAM with this code, on stream 1.
    Stream(Code),
    /// Nothing: a PING after it is answered.
    Fine,
}

use Expect::{Connection, Fine, Stream};

const PROTOCOL: Code = Code::PROTOCOL_ERROR;
const CLOSED: Code = Code::STREAM_CLOSED;
const SIZE: Code = Code::FRAME_SIZE_ERROR;
const FLOW: Code = Code::FLOW_CONTROL_ERROR;
const COMPRESSION: Code = Code::COMPRESSION_ERROR;

fn check(case: &str, bytes: &[Vec<u8>], expect: Expect) {
    let mut peer = Peer::server();
    check_on(&mut peer, case, bytes, expect);
}

fn check_on(peer: &mut Peer, case: &str, bytes: &[Vec<u8>], expect: Expect) {
    let outcome = peer.send(&bytes.concat());
    let answer = peer.output();
    match expect {
        Connection(code) => {
            assert_eq!(outcome.map_err(|e| e.code), Err(code), "{case}");
            assert_eq!(goaway_code(&answer), Some(code), "{case}");
            assert!(peer.connection.is_closed(), "{case}");
            return;
        }
        Stream(code) => assert_eq!(rst_code(&answer, 1), Some(code), "{case}: {answer:?}"),
        Fine => assert_eq!(rst_code(&answer, 1), None, "{case}"),
    }
    assert_eq!(outcome, Ok(()), "{case}");
    peer.ok(&frame(PING, 0, 0, b"are well"));
    let answer = peer.output();
    let pong = answer.last().expect("an answer");
    assert_eq!((pong.kind, pong.flags), (PING, ACK), "{case}");
    assert_eq!(pong.payload, b"are well", "{case}");
}

fn get(more: &[(&'static str, &'static str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &with(&GET, more))
}

fn open() -> Vec<u8> {
    head(1, false, &POST)
}

fn ended() -> Vec<u8> {
    head(1, true, &GET)
}

#[test]
fn http2_3_5_connection_preface() {
    let mut peer = Peer::fresh(Config::default());
    let first = peer.output();
    assert_eq!((first[0].kind, first[0].flags), (SETTINGS, 0));
    let settings = frame(SETTINGS, 0, 0, &[]);
    check_on(&mut peer, "3.5/1", &[PREFACE.to_vec(), settings], Fine);
    let mut peer = Peer::fresh(Config::default());
    let invalid = b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec();
    check_on(&mut peer, "3.5/2", &[invalid], Connection(PROTOCOL));
    let mut peer = Peer::fresh(Config::default());
    let ping = frame(PING, 0, 0, &[0; 8]);
    check_on(
        &mut peer,
        "first is no SETTINGS",
        &[PREFACE.to_vec(), ping],
        Connection(PROTOCOL),
    );
    let mut peer = Peer::fresh(Config::default());
    let ack = frame(SETTINGS, ACK, 0, &[]);
    check_on(
        &mut peer,
        "first is an ACK",
        &[PREFACE.to_vec(), ack],
        Connection(PROTOCOL),
    );
}

#[test]
fn http2_4_frames() {
    check("4.1/1 unknown type", &[frame(0xff, 0, 0, &[0; 8])], Fine);
    check(
        "4.1/2 undefined flags",
        &[frame(PING, 0xfe, 0, &[0; 8])],
        Fine,
    );
    check(
        "4.1/3 reserved bit",
        &[frame(PING, 0, 1 << 31, &[0; 8])],
        Fine,
    );
    let largest = frame(DATA, END_STREAM, 1, &[0; 1 << 14]);
    check("4.2/1 largest frame", &[open(), largest], Fine);
    let larger = vec![0; (1 << 14) + 1];
    check(
        "4.2/2 larger DATA",
        &[open(), frame(DATA, END_STREAM, 1, &larger)],
        Connection(SIZE),
    );
    check(
        "4.2/3 larger HEADERS",
        &[frame(HEADERS, 5, 1, &larger)],
        Connection(SIZE),
    );
    check(
        "4.3/1 invalid block",
        &[frame(HEADERS, 5, 1, &[0x40])],
        Connection(COMPRESSION),
    );
    check(
        "4.3/2 PRIORITY inside a block",
        &[
            frame(HEADERS, END_STREAM, 1, &block(&GET)),
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]),
        ],
        Connection(PROTOCOL),
    );
    check(
        "4.3/3 HEADERS of another stream inside a block",
        &[
            frame(HEADERS, END_STREAM, 1, &block(&GET)),
            head(3, true, &GET),
        ],
        Connection(PROTOCOL),
    );
}

#[test]
fn http2_5_1_stream_states() {
    let update = |id| frame(WINDOW_UPDATE, 0, id, &word(100));
    let reset = |id| frame(RST_STREAM, 0, id, &word(8));
    let more = || frame(CONTINUATION, END_HEADERS, 1, &block(&[("a", "b")]));
    let data = || frame(DATA, END_STREAM, 1, b"test");
    check("5.1/1 idle: DATA", &[data()], Connection(PROTOCOL));
    check("5.1/2 idle: RST_STREAM", &[reset(1)], Connection(PROTOCOL));
    check(
        "5.1/3 idle: WINDOW_UPDATE",
        &[update(1)],
        Connection(PROTOCOL),
    );
    check("5.1/4 idle: CONTINUATION", &[more()], Connection(PROTOCOL));
    check(
        "5.1/5 half closed: DATA",
        &[ended(), data()],
        Stream(CLOSED),
    );
    check(
        "5.1/6 half closed: HEADERS",
        &[ended(), ended()],
        Stream(CLOSED),
    );
    check(
        "5.1/7 half closed: CONTINUATION",
        &[ended(), more()],
        Connection(PROTOCOL),
    );
    check("half closed: others", &[ended(), update(1), reset(1)], Fine);
    check(
        "5.1/8 reset: DATA",
        &[open(), reset(1), data()],
        Stream(CLOSED),
    );
    check(
        "5.1/9 reset: HEADERS",
        &[open(), reset(1), ended()],
        Connection(CLOSED),
    );
    check(
        "5.1/10 reset: CONTINUATION",
        &[open(), reset(1), more()],
        Connection(PROTOCOL),
    );
    check(
        "reset: others",
        &[open(), reset(1), update(1), reset(1)],
        Fine,
    );
    let answered = || {
        let mut peer = Peer::server();
        peer.ok(&ended());
        peer.respond(1, 200, true);
        peer.output();
        peer
    };
    check_on(
        &mut answered(),
        "5.1/11 closed: DATA",
        &[data()],
        Stream(CLOSED),
    );
    check_on(
        &mut answered(),
        "5.1/12 closed: HEADERS",
        &[ended()],
        Connection(CLOSED),
    );
    check_on(
        &mut answered(),
        "5.1/13 closed: CONTINUATION",
        &[more()],
        Connection(PROTOCOL),
    );
    check_on(
        &mut answered(),
        "closed: others",
        &[update(1), reset(1)],
        Fine,
    );
}

#[test]
fn http2_5_1_late_frames_on_a_stream_that_we_reset() {
    let mut peer = Peer::server();
    peer.ok(&open());
    peer.connection.reset(1.into(), Code::CANCEL);
    assert_eq!(rst_code(&peer.output(), 1), Some(Code::CANCEL));
    let late = [
        frame(DATA, 0, 1, b"late"),
        frame(WINDOW_UPDATE, 0, 1, &word(1)),
        head(1, true, &[("x", "y")]),
    ];
    check_on(&mut peer, "ignored", &late, Fine);
}

#[test]
fn http2_5_1_1_and_5_1_2_identifiers_and_concurrency() {
    check("5.1.1/1 even", &[head(2, true, &GET)], Connection(PROTOCOL));
    let lower = [head(5, true, &GET), head(3, true, &GET)];
    check("5.1.1/2 lower", &lower, Connection(PROTOCOL));
    let mut peer = Peer::server_with(Config {
        max_concurrent_streams: 2,
        ..Config::default()
    });
    let three: Vec<Vec<u8>> = [3, 5, 1].map(|id| head(id, true, &GET)).to_vec();
    peer.ok(&[&three[0][..], &three[1]].concat());
    let mut fourth = head(7, true, &GET);
    peer.ok(&fourth);
    assert_eq!(rst_code(&peer.output(), 7), Some(Code::REFUSED_STREAM));
    peer.respond(3, 204, true);
    fourth[8] = 9;
    peer.ok(&fourth);
    assert_eq!(rst_code(&peer.output(), 9), None);
    assert_eq!(peer.connection.active_streams(), 2);
}

#[test]
fn http2_5_3_to_5_5_priorities_errors_extensions() {
    let mut itself = vec![0, 0, 0, 1, 15];
    itself.extend_from_slice(&block(&GET));
    let flags = END_STREAM | END_HEADERS | PRIORITIZED;
    check(
        "5.3.1/1",
        &[frame(HEADERS, flags, 1, &itself)],
        Stream(PROTOCOL),
    );
    itself[3] = 3;
    check("other", &[frame(HEADERS, flags, 1, &itself)], Fine);
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15]);
    check("5.3.1/2", &[open(), priority.clone()], Stream(PROTOCOL));
    check("5.3.1/2 idle", &[priority], Connection(PROTOCOL));
    let wrong = frame(GOAWAY, 0, 1, &[0; 8]);
    check("5.4.1/1 invalid", &[wrong], Connection(PROTOCOL));
    check("5.5/1 unknown frame", &[frame(0x77, 1, 0, &[0; 9])], Fine);
    let inside = [
        frame(HEADERS, END_STREAM, 1, &block(&GET)),
        frame(0x77, 0, 1, &[]),
    ];
    check(
        "5.5/2 unknown inside a block",
        &inside,
        Connection(PROTOCOL),
    );
}

#[test]
fn http2_6_1_and_6_2_data_and_headers() {
    check("6.1/1", &[frame(DATA, 1, 0, b"x")], Connection(PROTOCOL));
    check("6.1/2", &[ended(), frame(DATA, 1, 1, b"x")], Stream(CLOSED));
    let padding = frame(DATA, END_STREAM | PADDED, 1, &[6, 1, 2, 3, 4, 5]);
    check("6.1/3 padding", &[open(), padding], Connection(PROTOCOL));
    let padded = frame(DATA, END_STREAM | PADDED, 1, &[5, 1, 0, 0, 0, 0, 0]);
    check("padding", &[open(), padded], Fine);
    let empty = frame(DATA, END_STREAM | PADDED, 1, &[]);
    check(
        "no room for the padding",
        &[open(), empty],
        Connection(PROTOCOL),
    );
    let cut = [
        frame(HEADERS, 1, 1, &block(&GET)),
        frame(PRIORITY, 0, 3, &[0; 5]),
    ];
    check("6.2/1", &cut, Connection(PROTOCOL));
    let cut = [frame(HEADERS, 1, 1, &block(&GET)), head(3, true, &GET)];
    check("6.2/2", &cut, Connection(PROTOCOL));
    check("6.2/3", &[head(0, true, &GET)], Connection(PROTOCOL));
    let mut padding = vec![200];
    padding.extend_from_slice(&block(&GET));
    check(
        "6.2/4",
        &[frame(HEADERS, 0xd, 1, &padding)],
        Connection(PROTOCOL),
    );
    padding[0] = 2;
    padding.extend_from_slice(&[0, 0]);
    check("padding", &[frame(HEADERS, 0xd, 1, &padding)], Fine);
    check(
        "short",
        &[frame(HEADERS, 0x25, 1, &[0; 4])],
        Connection(SIZE),
    );
}

#[test]
fn http2_6_3_to_6_5_priority_reset_settings() {
    check(
        "6.3/1",
        &[frame(PRIORITY, 0, 0, &[0; 5])],
        Connection(PROTOCOL),
    );
    check(
        "6.3/2",
        &[open(), frame(PRIORITY, 0, 1, &[0; 4])],
        Stream(SIZE),
    );
    check(
        "6.4/1",
        &[frame(RST_STREAM, 0, 0, &word(8))],
        Connection(PROTOCOL),
    );
    check(
        "6.4/2",
        &[frame(RST_STREAM, 0, 1, &word(8))],
        Connection(PROTOCOL),
    );
    check(
        "6.4/3",
        &[open(), frame(RST_STREAM, 0, 1, &[0; 3])],
        Connection(SIZE),
    );
    let settings = |payload: &[u8]| frame(SETTINGS, 0, 0, payload);
    check("6.5/1", &[frame(SETTINGS, ACK, 0, &[0])], Connection(SIZE));
    check(
        "6.5/2",
        &[frame(SETTINGS, 0, 1, &setting(3, 9))],
        Connection(PROTOCOL),
    );
    check("6.5/3", &[settings(&[0; 3])], Connection(SIZE));
    check("6.5.2/1", &[settings(&setting(2, 2))], Connection(PROTOCOL));
    check(
        "6.5.2/2",
        &[settings(&setting(4, 1 << 31))],
        Connection(FLOW),
    );
    check(
        "6.5.2/3",
        &[settings(&setting(5, (1 << 14) - 1))],
        Connection(PROTOCOL),
    );
    check(
        "6.5.2/4",
        &[settings(&setting(5, 1 << 24))],
        Connection(PROTOCOL),
    );
    check("6.5.2/5", &[settings(&setting(0xff, 1))], Fine);
    check("connect", &[settings(&setting(8, 2))], Connection(PROTOCOL));
    let back = [settings(&setting(8, 1)), settings(&setting(8, 0))];
    check("connect taken back", &back, Connection(PROTOCOL));
    let mut peer = Peer::server();
    peer.ok(&settings(&setting(3, 100)));
    let answer = peer.output();
    assert_eq!(
        (answer[0].kind, answer[0].flags),
        (SETTINGS, ACK),
        "6.5.3/2"
    );
}

#[test]
fn http2_6_5_3_the_last_value_of_a_setting_counts() {
    let mut peer = Peer::server();
    peer.ok(&frame(
        SETTINGS,
        0,
        0,
        &[setting(4, 100), setting(4, 1)].concat(),
    ));
    peer.ok(&ended());
    peer.respond(1, 200, false);
    let id = 1.into();
    peer.connection
        .send_data(id, "hello".into(), true)
        .expect("open");
    let sizes: Vec<usize> = peer
        .output()
        .iter()
        .filter(|frame| frame.kind == DATA)
        .map(|frame| frame.payload.len())
        .collect();
    assert_eq!(sizes, [1]);
}

#[test]
fn http2_6_6_to_6_8_push_ping_goaway() {
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]);
    check("8.2/1", &[open(), promise], Connection(PROTOCOL));
    check("6.7/1", &[frame(PING, 0, 0, b"12345678")], Fine);
    let mut peer = Peer::server();
    peer.ok(&frame(PING, ACK, 0, b"unasked!"));
    assert_eq!(peer.output(), [], "6.7/2: an ACK is not answered");
    check("6.7/3", &[frame(PING, 0, 1, &[0; 8])], Connection(PROTOCOL));
    check("6.7/4", &[frame(PING, 0, 0, &[0; 6])], Connection(SIZE));
    check(
        "6.8/1",
        &[frame(GOAWAY, 0, 1, &[0; 8])],
        Connection(PROTOCOL),
    );
    check("short", &[frame(GOAWAY, 0, 0, &[0; 7])], Connection(SIZE));
    let update = |id, payload: &[u8]| frame(PRIORITY_UPDATE, 0, id, payload);
    check("PRIORITY_UPDATE", &[update(0, b"\0\0\0\x01u=1")], Fine);
    check(
        "on a stream",
        &[update(1, b"\0\0\0\x01u=1")],
        Connection(PROTOCOL),
    );
    check("too short", &[update(0, b"\0\0\0")], Connection(SIZE));
}

#[test]
fn http2_6_9_window_update() {
    let update = |id, by| frame(WINDOW_UPDATE, 0, id, &word(by));
    let most = i32::MAX as u32;
    check("6.9/1", &[update(0, 0)], Connection(PROTOCOL));
    check("6.9/2", &[open(), update(1, 0)], Stream(PROTOCOL));
    check(
        "6.9/3",
        &[frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])],
        Connection(SIZE),
    );
    check(
        "6.9.1/2",
        &[update(0, most), update(0, most)],
        Connection(FLOW),
    );
    check(
        "6.9.1/3",
        &[open(), update(1, most), update(1, most)],
        Stream(FLOW),
    );
    let initial = |size| frame(SETTINGS, 0, 0, &setting(4, size));
    check("6.9.2/3", &[initial(1 << 31)], Connection(FLOW));
    let overflow = [open(), update(1, most - 65_535), initial(65_536)];
    check("a change overflows", &overflow, Connection(FLOW));
}

#[test]
fn http2_6_9_windows_are_kept() {
    let mut peer = Peer::server();
    let initial = |size| frame(SETTINGS, 0, 0, &setting(4, size));
    let sent = |peer: &mut Peer| -> usize {
        let frames = peer.output();
        let data = frames.iter().filter(|frame| frame.kind == DATA);
        data.map(|frame| frame.payload.len()).sum()
    };
    peer.ok(&[initial(3), ended()].concat());
    peer.respond(1, 200, false);
    let id = 1.into();
    let data = bytes::Bytes::from(vec![7; 40]);
    peer.connection.send_data(id, data, true).expect("open");
    assert_eq!(sent(&mut peer), 3);
    // 6.9.2/2: a lowered size makes the window negative.
    peer.ok(&initial(2));
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(1)));
    assert_eq!(sent(&mut peer), 0);
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(2)));
    assert_eq!(sent(&mut peer), 2);
    // 6.9.2/1: a raised size reaches open streams.
    peer.ok(&initial(12));
    assert_eq!(sent(&mut peer), 10);
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(1000)));
    assert_eq!(sent(&mut peer), 25);
    assert_eq!(peer.connection.active_streams(), 0);
}

#[test]
fn http2_6_10_continuation() {
    let block = block(&GET);
    let (a, rest) = block.split_at(10);
    let (b, c) = rest.split_at(10);
    let first = || frame(HEADERS, END_STREAM, 1, a);
    let more = |flags, id, part: &[u8]| frame(CONTINUATION, flags, id, part);
    let whole = [first(), more(0, 1, b), more(END_HEADERS, 1, c)];
    let mut peer = Peer::server();
    check_on(&mut peer, "6.10/1", &whole, Fine);
    assert_eq!(peer.events().len(), 1);
    let stray = [first(), more(END_HEADERS, 1, rest), more(END_HEADERS, 1, c)];
    check("6.10/2, 6.10/4", &stray, Connection(PROTOCOL));
    let data = [first(), frame(DATA, 1, 1, b"x")];
    check("6.10/5", &data, Connection(PROTOCOL));
    check(
        "6.10/3 stream 0",
        &[first(), more(4, 0, rest)],
        Connection(PROTOCOL),
    );
    check(
        "another",
        &[first(), more(4, 3, rest)],
        Connection(PROTOCOL),
    );
    check(
        "alone",
        &[open(), frame(DATA, 0, 1, b"x"), more(4, 1, rest)],
        Connection(PROTOCOL),
    );
}

#[test]
fn http2_8_1_malformed_requests() {
    let bad = |case: &str, fields: &[(&str, &str)]| {
        check(case, &[head(1, true, fields)], Stream(PROTOCOL))
    };
    check(
        "8.1/1 second HEADERS",
        &[open(), head(1, false, &[("a", "b")])],
        Stream(PROTOCOL),
    );
    bad(
        "8.1.2/1 capitals",
        &[&GET[..], &[("X-TEST", "ok")]].concat(),
    );
    bad(
        "8.1.2.1/1 unknown",
        &[&GET[..], &[(":test", "ok")]].concat(),
    );
    bad(
        "8.1.2.1/2 of responses",
        &[&GET[..], &[(":status", "200")]].concat(),
    );
    check(
        "8.1.2.1/3 in trailers",
        &[
            open(),
            frame(DATA, 0, 1, b"x"),
            head(1, true, &[(":method", "GET")]),
        ],
        Stream(PROTOCOL),
    );
    bad(
        "8.1.2.1/4 after a field",
        &[&[("x-test", "ok")][..], &GET].concat(),
    );
    bad(
        "8.1.2.2/1",
        &[&GET[..], &[("connection", "keep-alive")]].concat(),
    );
    bad(
        "8.1.2.2/2",
        &[&GET[..], &[("te", "trailers, deflate")]].concat(),
    );
    bad(
        "8.1.2.3/1 empty path",
        &[(":method", "GET"), (":scheme", "http"), (":path", "")],
    );
    bad("8.1.2.3/2", &[GET[1], GET[2], GET[3]]);
    bad("8.1.2.3/3", &[GET[0], GET[2], GET[3]]);
    bad("8.1.2.3/4", &[GET[0], GET[1], GET[3]]);
    for (n, field) in GET.iter().take(3).enumerate() {
        bad(
            &format!("8.1.2.3/{} twice", n + 5),
            &[&GET[..], &[*field]].concat(),
        );
    }
    let post = |length| [&POST[..], &[("content-length", length)]].concat();
    let data = |end, bytes: &[u8]| frame(DATA, end, 1, bytes);
    check(
        "8.1.2.6/1",
        &[head(1, false, &post("1")), data(1, b"test")],
        Stream(PROTOCOL),
    );
    let two = [head(1, false, &post("1")), data(0, b"te"), data(1, b"st")];
    check("8.1.2.6/2", &two, Stream(PROTOCOL));
    check(
        "too little",
        &[head(1, false, &post("5")), data(1, b"test")],
        Stream(PROTOCOL),
    );
    check("no body", &[head(1, true, &post("5"))], Stream(PROTOCOL));
    let trailers = [
        head(1, false, &post("5")),
        data(0, b"test"),
        head(1, true, &[("a", "b")]),
    ];
    check("trailers", &trailers, Stream(PROTOCOL));
    check(
        "exact",
        &[head(1, false, &post("4")), data(1, b"test")],
        Fine,
    );
}

#[test]
fn generic_requests_are_taken() {
    check("GET", &[get(&[])], Fine);
    check(
        "HEAD",
        &[head(
            1,
            true,
            &[(":method", "HEAD"), GET[1], GET[2], GET[3]],
        )],
        Fine,
    );
    check("POST", &[open(), frame(DATA, 1, 1, b"test")], Fine);
    let trailers = [
        open(),
        frame(DATA, 0, 1, b"test"),
        head(1, true, &[("x-test", "ok")]),
    ];
    check("POST with trailers", &trailers, Fine);
    let padded = [&[3, 0, 0, 0, 0, 255][..], &block(&GET), &[0; 3]].concat();
    let flags = END_STREAM | END_HEADERS | PADDED | PRIORITIZED;
    check(
        "padding and priority",
        &[frame(HEADERS, flags, 1, &padded)],
        Fine,
    );
    check(
        "PRIORITY on an idle stream",
        &[frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 255])],
        Fine,
    );
    check(
        "WINDOW_UPDATE",
        &[open(), frame(WINDOW_UPDATE, 0, 1, &word(1))],
        Fine,
    );
    check(
        "RST_STREAM",
        &[open(), frame(RST_STREAM, 0, 1, &word(8))],
        Fine,
    );
    check("SETTINGS", &[frame(SETTINGS, 0, 0, &setting(3, 100))], Fine);
}

#[test]
fn generic_3_10_a_goaway_of_the_client_is_followed_by_its_end() {
    let mut peer = Peer::server();
    peer.ok(&ended());
    peer.ok(&frame(GOAWAY, 0, 0, &[0; 8]));
    assert!(!peer.connection.is_closed());
    peer.respond(1, 200, true);
    peer.output();
    assert!(peer.connection.is_closed());
}

#[test]
fn hpack_indices_sizes_and_strings() {
    let request = |more: &[u8]| {
        let block = [&block(&GET)[..], more].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
    };
    let bad = |case: &str, more: &[u8]| check(case, &[request(more)], Connection(COMPRESSION));
    check("indexed", &[request(&[0x90])], Fine);
    check(
        "literal with a static name",
        &[request(&[0x50, 1, b'x'])],
        Fine,
    );
    check(
        "literal with an indexed name",
        &[request(&[0x40, 1, b'x', 1, b'y', 0x7e, 0])],
        Fine,
    );
    check("never indexed", &[request(&[0x1f, 4, 1, b'x'])], Fine);
    bad("hpack/2.3.3/1 index out of range", &[0x80 | 70]);
    bad("hpack/2.3.3/2 name out of range", &[0x40 | 62, 0]);
    bad("hpack/4.2/1 size update at the end", &[0x20]);
    bad(
        "hpack/5.2/1 padding of eight bits",
        &[0, 1, b'x', 0x82, 0x1f, 0xff],
    );
    bad("hpack/5.2/2 padding of zeros", &[0, 1, b'x', 0x81, 0x18]);
    bad(
        "hpack/5.2/3 end of string",
        &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff],
    );
    bad("hpack/6.1/1 index zero", &[0x80]);
    let update = [&[0x3f, 0xe2, 0x1f][..], &block(&GET)].concat();
    check(
        "hpack/6.3/1 size too large",
        &[frame(HEADERS, 5, 1, &update)],
        Connection(COMPRESSION),
    );
    let updates = [&[0x20, 0x3f, 0xe1, 0x1f][..], &block(&GET)].concat();
    check(
        "hpack/4.2 two updates",
        &[frame(HEADERS, 5, 1, &updates)],
        Fine,
    );
}
