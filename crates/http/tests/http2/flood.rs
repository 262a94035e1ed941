//! One test for each way to make a peer work for nothing.

use lateen_http::h2::{Code, Config, Event, limits};

use crate::raw::*;

const CALM: Code = Code::ENHANCE_YOUR_CALM;

/// Sends what `bytes` makes, one after the other, until the connection ends; returns how many were
/// taken. The output is read like a well-behaved peer would, unless `deaf`.
fn taken(peer: &mut Peer, most: u32, deaf: bool, mut bytes: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for n in 0..most {
        if let Err(error) = peer.send(&bytes(n)) {
            assert_eq!(error.code, CALM, "{error}");
            let goaway = peer.output();
            assert_eq!(goaway_code(&goaway), Some(CALM));
            assert!(peer.connection.is_closed());
            assert_eq!(peer.connection.active_streams(), 0);
            return n;
        }
        peer.events();
        if !deaf {
            peer.output();
        }
    }
    panic!("{most} were taken and nothing stopped it");
}

fn check(bound: u32, bytes: impl FnMut(u32) -> Vec<u8>) {
    let mut peer = Peer::server();
    let n = taken(&mut peer, bound + 200, false, bytes);
    assert!(
        (bound.saturating_sub(2)..=bound).contains(&n),
        "{n} of {bound}"
    );
}

fn stream(n: u32) -> u32 {
    2 * n + 1
}

#[test]
fn cve_2023_44487_rapid_reset() {
    check(limits::PREMATURE_RESETS, |n| {
        let reset = frame(RST_STREAM, 0, stream(n), &word(8));
        [head(stream(n), true, &GET), reset].concat()
    });
}

#[test]
fn resets_in_proportion_to_work_are_taken() {
    let mut peer = Peer::server();
    for n in 0..10_000 {
        let id = stream(n);
        peer.ok(&head(id, true, &GET));
        if n % 3 == 0 {
            peer.ok(&frame(RST_STREAM, 0, id, &word(8)));
        } else {
            peer.respond(id, 204, true);
        }
        peer.output();
        peer.events();
    }
}

#[test]
fn time_forgives() {
    let mut peer = Peer::server();
    for second in 0..50 {
        peer.connection.clock(second);
        for n in 0..limits::PREMATURE_RESETS / 3 {
            let id = stream(second as u32 * limits::PREMATURE_RESETS + n);
            peer.ok(&head(id, true, &GET));
            peer.ok(&frame(RST_STREAM, 0, id, &word(8)));
            peer.output();
            peer.events();
        }
    }
}

#[test]
fn cve_2025_8671_made_you_reset() {
    let provocations: [fn(u32) -> Vec<u8>; 5] = [
        |id| frame(WINDOW_UPDATE, 0, id, &word(0)),
        |id| frame(PRIORITY, 0, id, &[0; 4]),
        |id| frame(DATA, 0, id, b"after the end"),
        |id| head(id, true, &GET),
        |id| frame(WINDOW_UPDATE, 0, id, &word(i32::MAX as u32)),
    ];
    for provoke in provocations {
        check(limits::PROVOKED_RESETS, |n| {
            let id = stream(n);
            [head(id, true, &GET), provoke(id)].concat()
        });
    }
}

#[test]
fn malformed_requests_without_end() {
    check(limits::PROVOKED_RESETS, |n| {
        head(stream(n), true, &[("connection", "close")])
    });
}

#[test]
fn cve_2019_9516_empty_heads() {
    check(limits::PROVOKED_RESETS, |n| {
        frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &[])
    });
    // Empty names and values are fields like others.
    let fields: Vec<(&str, &str)> = vec![("", ""); 100];
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &fields));
    assert_eq!(rst_code(&peer.output(), 1), Some(Code::PROTOCOL_ERROR));
}

#[test]
fn cve_2024_27316_continuation_flood() {
    for part in [&b""[..], &block(&[("a", "b")])] {
        let mut peer = Peer::server();
        peer.ok(&frame(HEADERS, END_STREAM, 1, &block(&GET)));
        let n = taken(&mut peer, 1000, false, |_| frame(CONTINUATION, 0, 1, part));
        assert_eq!(n, limits::CONTINUATIONS);
    }
    let mut peer = Peer::server();
    peer.ok(&frame(HEADERS, END_STREAM, 1, &block(&GET)));
    let large = vec![0; 16_384];
    let n = taken(&mut peer, 1000, false, |_| {
        frame(CONTINUATION, 0, 1, &large)
    });
    assert_eq!(n, 14, "the next goes beyond four times 60 KiB");
    assert!(peer.connection.memory() < 128 * 1024);
}

/// A header block in parts, of which `large` bytes are of one field. The first field enters the
/// table.
fn parted(id: u32, fields: &[(&str, &str)], large: usize) -> Vec<u8> {
    let mut whole = block(fields);
    whole.extend_from_slice(b"\x40\x03x-i\x03one");
    whole.extend_from_slice(&block(&[("x-large", &"v".repeat(large))]));
    let mut parts = whole.chunks(16_384).peekable();
    let mut frames = Vec::new();
    let mut kind = HEADERS;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        let end = if kind == HEADERS { END_STREAM } else { 0 };
        frames.extend(frame(kind, last | end, id, part));
        kind = CONTINUATION;
    }
    frames
}

#[test]
fn a_head_too_large_in_parts_costs_its_stream_alone() {
    for large in [62_000, 100_000, 240_000] {
        let mut peer = Peer::server();
        peer.ok(&head(1, true, &GET));
        peer.ok(&parted(3, &GET, large));
        let answer = peer.output();
        assert!(answer[0].payload.ends_with(b"431"), "{large}: {answer:?}");
        assert_eq!(
            (answer.len(), answer[0].id, answer[0].flags & END_STREAM),
            (1, 3, END_STREAM)
        );
        assert!(matches!(peer.events()[..], [Event::RequestHead { .. }]));
        assert!(
            peer.connection.memory() < 64 * 1024,
            "{}",
            peer.connection.memory()
        );
        // The tables are in step, and the stream before goes on.
        peer.ok(&frame(HEADERS, 5, 5, &[block(&GET), vec![0xbe]].concat()));
        let events = peer.events();
        let [Event::RequestHead { head, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(head.headers.get("x-i"), Some("one"));
        peer.respond(1, 204, true);
    }
}

#[test]
fn a_response_head_too_large_in_parts_costs_its_stream_alone() {
    let mut peer = Peer::client();
    let (first, second) = (peer.get("GET"), peer.get("GET"));
    peer.output();
    peer.ok(&parted(first.get(), &[(":status", "200")], 100_000));
    assert_eq!(rst_code(&peer.output(), first.get()), Some(CALM));
    let events = peer.events();
    assert!(
        matches!(events[..], [Event::Reset { id, .. }] if id == first),
        "{events:?}"
    );
    let answer = [block(&[(":status", "200")]), vec![0xbe]].concat();
    peer.ok(&frame(HEADERS, 5, second.get(), &answer));
    let events = peer.events();
    let [Event::ResponseHead { head, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(head.headers.get("x-i"), Some("one"));
}

#[test]
fn trailers_too_large_in_parts_cost_their_stream_alone() {
    let mut peer = Peer::server();
    peer.ok(&head(1, false, &POST));
    peer.ok(&parted(1, &[], 100_000));
    assert_eq!(rst_code(&peer.output(), 1), Some(CALM));
    peer.ok(&head(3, true, &GET));
    assert!(matches!(
        peer.events().last(),
        Some(Event::RequestHead { .. })
    ));
}

#[test]
fn cve_2019_9518_empty_data() {
    let mut peer = Peer::server();
    peer.ok(&head(1, false, &POST));
    let n = taken(&mut peer, 1000, false, |_| frame(DATA, 0, 1, &[]));
    assert_eq!(n, limits::EMPTY_DATA);
    // Padding alone is as empty.
    let mut peer = Peer::server();
    peer.ok(&head(1, false, &POST));
    let n = taken(&mut peer, 1000, false, |_| frame(DATA, PADDED, 1, &[1, 0]));
    assert_eq!(n, limits::EMPTY_DATA);
}

#[test]
fn cve_2019_9512_pings() {
    check(limits::PINGS, |_| frame(PING, 0, 0, &[0; 8]));
}

#[test]
fn cve_2019_9515_settings() {
    // One was taken in the handshake.
    check(limits::SETTINGS, |n| {
        frame(SETTINGS, 0, 0, &setting(1, n % 2 * 4096))
    });
    check(limits::IGNORED_FRAMES, |_| frame(SETTINGS, ACK, 0, &[]));
}

#[test]
fn cve_2020_11080_giant_settings() {
    let mut peer = Peer::server();
    let entries = setting(4, 1).repeat(limits::SETTINGS_ENTRIES + 1);
    let error = peer.send(&frame(SETTINGS, 0, 0, &entries));
    assert_eq!(error.map_err(|error| error.code), Err(CALM));
}

#[test]
fn cve_2019_9513_priorities() {
    check(limits::PRIORITIES, |_| {
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])
    });
    check(limits::PRIORITIES, |_| {
        frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1")
    });
}

#[test]
fn window_updates() {
    check(limits::WINDOW_UPDATES, |_| {
        frame(WINDOW_UPDATE, 0, 0, &word(1))
    });
}

#[test]
fn resets_of_closed_streams_and_unknown_frames() {
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &GET));
    peer.respond(1, 204, true);
    let n = taken(&mut peer, 2000, false, |_| {
        frame(RST_STREAM, 0, 1, &word(8))
    });
    assert_eq!(n, limits::IGNORED_FRAMES);
    check(limits::IGNORED_FRAMES, |_| frame(0x50, 0, 0, b"what?"));
}

#[test]
fn refused_streams() {
    let mut peer = Peer::server_with(Config {
        max_concurrent_streams: 1,
        ..Config::default()
    });
    peer.ok(&head(1, true, &GET));
    let n = taken(&mut peer, 2000, false, |n| head(stream(n + 1), true, &GET));
    assert_eq!(n, limits::REFUSED_STREAMS);
}

#[test]
fn cve_2019_9517_output_that_nobody_reads() {
    let mut peer = Peer::server();
    let n = taken(&mut peer, 2000, true, |_| frame(PING, 0, 0, &[0; 8]));
    assert!(n <= limits::PENDING_CONTROL_FRAMES, "{n}");

    // Responses that complete, and so free their streams, without being read.
    let mut peer = Peer::server();
    let mut last = Ok(());
    let mut n = 0;
    while last.is_ok() {
        last = peer.send(&head(stream(n), true, &GET));
        if last.is_ok() {
            let id = stream(n).into();
            let mut response = lateen_http::ResponseHead::new(204);
            let value = format!("{n}").repeat(200);
            response.headers.append("x", value).expect("valid");
            peer.connection
                .send_response(id, &response, true)
                .expect("open");
        }
        peer.events();
        n += 1;
        assert!(n < 100_000);
    }
    assert_eq!(last.map_err(|error| error.code), Err(CALM));
    assert!(!peer.connection.wants_input());
    assert!(peer.connection.memory() < 3 * limits::PENDING_BYTES);
}

#[test]
fn zero_windows_bound_what_is_queued() {
    let mut peer = Peer::server();
    peer.ok(&frame(SETTINGS, 0, 0, &setting(4, 0)));
    let config = Config::default();
    let mut queued = 0;
    for n in 0..1000 {
        let id = stream(n).into();
        peer.ok(&head(stream(n), true, &GET));
        peer.respond(stream(n), 200, false);
        loop {
            let room = peer.connection.room(id);
            if room == 0 {
                break;
            }
            let piece = bytes::Bytes::from(vec![0; room.min(1000)]);
            queued += piece.len();
            peer.connection.send_data(id, piece, false).expect("open");
        }
        peer.output();
    }
    let most = config.connection_queue + config.stream_queue + 1000 * config.stream_queue / 4;
    assert!(queued <= most, "{queued}");
    assert!(!peer.connection.has_output());
}

#[test]
fn cve_2026_47774_cookie_crumbs() {
    // Each crumb counts in full although it is one byte on the wire.
    let mut peer = Peer::server();
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x60, 0x7f, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'c'; 4000]);
    bomb.resize(bomb.len() + 200, 0xbe);
    peer.ok(&frame(HEADERS, 5, 1, &bomb));
    let answer = peer.output();
    assert!(answer[0].payload.ends_with(b"431"));
    assert!(peer.events().is_empty());
    // As many as one likes, each small.
    let crumbs = vec![("cookie", "a"); limits::COOKIE_CRUMBS as usize + 1];
    let fields = [&GET[..], &crumbs].concat();
    peer.ok(&head(3, true, &fields));
    assert!(peer.output()[0].payload.ends_with(b"431"));
    peer.ok(&head(5, true, &fields[1..fields.len() - 1]));
    assert_eq!(rst_code(&peer.output(), 5), Some(Code::PROTOCOL_ERROR));
    peer.ok(&head(7, true, &fields[..fields.len() - 1]));
    let events = peer.events();
    let [Event::RequestHead { head, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    let cookie = head.headers.get("cookie").expect("joined");
    assert_eq!(cookie.len(), 256 * 3 - 2);
    assert_eq!(head.headers.all("cookie").count(), 1);
}

#[test]
fn hpack_bomb() {
    // One entry of nearly the whole table, then thousands of references of one byte.
    let mut peer = Peer::server();
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'v'; 4000]);
    bomb.resize(16_000, 0xbe);
    peer.ok(&frame(HEADERS, 5, 1, &bomb));
    assert!(peer.output()[0].payload.ends_with(b"431"));
    assert!(peer.connection.memory() < 64 * 1024);
    // The tables are still in step.
    let mut again = block(&GET);
    again.push(0xbe);
    peer.ok(&frame(HEADERS, 5, 3, &again));
    let events = peer.events();
    let [Event::RequestHead { head, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(head.headers.get("x").map(str::len), Some(4000));
}

#[test]
fn too_many_fields() {
    let max = Config::default().max_fields as usize;
    let fields = [&GET[..], &vec![("a", "b"); max - 4]].concat();
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &fields));
    assert_eq!(peer.events().len(), 1);
    let fields = [&fields[..], &[("a", "b")]].concat();
    peer.ok(&head(3, false, &fields));
    let answer = peer.output();
    assert!(answer[0].payload.ends_with(b"431"));
    assert_eq!(rst_code(&answer, 3), Some(Code::NO_ERROR));
    assert!(peer.events().is_empty());
}

/// Where the limit on heads allows them, the list of headers still cannot hold them.
#[test]
fn names_beyond_sixteen_bits() {
    let mut peer = Peer::server_with(Config {
        max_head_bytes: 1 << 20,
        ..Config::default()
    });
    let name = "n".repeat(usize::from(u16::MAX) + 1);
    let fields = [&GET[..], &[(name.as_str(), "")]].concat();
    peer.ok(&parted(1, &fields, 0));
    assert!(peer.output()[0].payload.ends_with(b"431"));
    let fields = [&GET[..], &[(&name[1..], "")]].concat();
    peer.ok(&parted(3, &fields, 0));
    assert_eq!(peer.events().len(), 1);
}

#[test]
fn header_table_churn() {
    // Entries that never serve cost the connection no more memory than the table may have.
    let mut peer = Peer::server();
    for n in 0..2000 {
        let mut churn = block(&GET);
        for m in 0..50 {
            churn.extend_from_slice(&[0x40, 4, b'a' + (m % 26) as u8, b'x', b'y', b'z', 2]);
            churn.extend_from_slice(format!("{m:02}").as_bytes());
        }
        peer.ok(&frame(HEADERS, 5, stream(n), &churn));
        peer.respond(stream(n), 204, true);
        peer.output();
        peer.events();
    }
    peer.connection.shrink();
    assert!(
        peer.connection.memory() < 20 * 1024,
        "{}",
        peer.connection.memory()
    );
}

#[test]
fn small_pieces_do_not_keep_what_was_read() {
    let mut peer = Peer::server();
    peer.ok(&head(1, false, &POST));
    peer.events();
    let mut input = bytes::BytesMut::with_capacity(64 * 1024);
    for _ in 0..1000 {
        input.extend_from_slice(&frame(DATA, 0, 1, b"x"));
        peer.connection.receive(&mut input).expect("valid");
        // The whole buffer is there again, since no event holds a part of it.
        assert!(input.try_reclaim(32 * 1024));
    }
    assert_eq!(peer.events().len(), 1000);
}
