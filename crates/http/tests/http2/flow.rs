//! Flow control, fairness, back-pressure and memory.

use bytes::Bytes;
use lateen_http::h2::{CannotSend, Code, Config, Connection, Event, ResetBy, Role};

use crate::raw::*;

fn data_of(frames: &[Wrote]) -> Vec<(u32, usize)> {
    frames
        .iter()
        .filter(|frame| frame.kind == DATA)
        .map(|frame| (frame.id, frame.payload.len()))
        .collect()
}

fn bytes(n: usize) -> Bytes {
    Bytes::from(vec![b'x'; n])
}

#[test]
fn streams_take_turns() {
    let mut peer = Peer::server();
    for id in [1, 3, 5] {
        peer.ok(&head(id, true, &GET));
        peer.respond(id, 200, false);
        let data = bytes(20_000);
        peer.connection
            .send_data(id.into(), data, true)
            .expect("open");
    }
    let order: Vec<u32> = data_of(&peer.output()).into_iter().map(|d| d.0).collect();
    assert_eq!(order, [1, 3, 5, 1, 3, 5]);
}

#[test]
fn the_connection_window_is_shared() {
    let mut peer = Peer::server();
    for id in [1, 3] {
        peer.ok(&head(id, true, &GET));
        peer.respond(id, 200, false);
        let data = bytes(50_000);
        peer.connection
            .send_data(id.into(), data, true)
            .expect("open");
    }
    let sum = |peer: &mut Peer| -> usize { data_of(&peer.output()).iter().map(|d| d.1).sum() };
    assert_eq!(sum(&mut peer), 65_535);
    assert!(!peer.connection.has_output());
    peer.ok(&frame(WINDOW_UPDATE, 0, 0, &word(1000)));
    assert_eq!(sum(&mut peer), 1000);
    peer.ok(&frame(WINDOW_UPDATE, 0, 0, &word(100_000)));
    assert_eq!(sum(&mut peer), 100_000 - 66_535);
    assert_eq!(peer.connection.active_streams(), 0);
}

#[test]
fn an_empty_end_passes_closed_windows() {
    let mut peer = Peer::server();
    peer.ok(&frame(SETTINGS, 0, 0, &setting(4, 0)));
    peer.ok(&[head(1, true, &GET), head(3, true, &GET)].concat());
    peer.respond(1, 200, false);
    peer.connection
        .send_data(1.into(), Bytes::new(), true)
        .expect("open");
    peer.respond(3, 200, false);
    peer.connection
        .send_data(3.into(), bytes(1), false)
        .expect("open");
    let trailers = fields(&[("grpc-status", "0")]);
    peer.connection
        .send_trailers(3.into(), &trailers)
        .expect("open");
    assert_eq!(data_of(&peer.output()), [(1, 0)]);
    peer.ok(&frame(WINDOW_UPDATE, 0, 3, &word(5)));
    let frames = peer.output();
    assert_eq!(data_of(&frames), [(3, 1)]);
    assert_eq!(
        (frames[1].kind, frames[1].flags),
        (HEADERS, END_HEADERS | END_STREAM)
    );
    let late = peer.connection.send_data(3.into(), bytes(1), true);
    assert_eq!(late, Err(CannotSend::Ended));
}

#[test]
fn a_full_queue_tells_when_it_has_room() {
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &GET));
    peer.respond(1, 200, false);
    peer.ok(&frame(SETTINGS, 0, 0, &setting(4, 10)));
    peer.events();
    let room = peer.connection.room(1.into());
    assert_eq!(room, Config::default().stream_queue);
    peer.connection
        .send_data(1.into(), bytes(room + 5000), false)
        .expect("open");
    assert_eq!(peer.connection.room(1.into()), 0);
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(100)));
    peer.output();
    assert!(peer.events().is_empty(), "too little room to wake anybody");
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(20_000)));
    peer.output();
    let events = peer.events();
    assert!(matches!(events[..], [Event::Writable { .. }]), "{events:?}");
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(20_000)));
    peer.output();
    assert!(peer.events().is_empty(), "told once");
}

/// Sends as much as the windows allow, which the application takes at once or not at all.
fn upload(peer: &mut Peer, rounds: usize, take: bool) -> (u64, u64) {
    peer.ok(&head(1, false, &POST));
    peer.events();
    let (mut connection, mut stream) = (1024 * 1024i64, 256 * 1024i64);
    let mut sent = 0u64;
    for _ in 0..rounds {
        let mut burst = 0;
        while stream.min(connection) >= 16_384 {
            peer.ok(&frame(DATA, 0, 1, &[0; 16_384]));
            stream -= 16_384;
            connection -= 16_384;
            burst += 16_384;
        }
        sent += burst;
        for event in peer.events() {
            if let (Event::Data { id, data, .. }, true) = (event, take) {
                peer.connection.release(id, data.len());
            }
        }
        for update in peer.output() {
            assert_eq!(update.kind, WINDOW_UPDATE);
            let window = if update.id == 0 {
                &mut connection
            } else {
                &mut stream
            };
            *window += i64::from(update.number());
        }
    }
    (sent, stream as u64)
}

#[test]
fn windows_grow_while_the_application_keeps_up() {
    let (sent, window) = upload(&mut Peer::server(), 20, true);
    assert!(window >= 8 * 1024 * 1024, "{window}");
    assert!(window <= 16 * 1024 * 1024, "{window}");
    assert!(sent > 50 * 1024 * 1024, "{sent}");
}

#[test]
fn windows_stay_closed_while_it_does_not() {
    let (sent, _) = upload(&mut Peer::server(), 20, false);
    assert_eq!(sent, 256 * 1024);
}

#[test]
fn exceeding_a_window_is_an_error() {
    let mut peer = Peer::server_with(Config {
        initial_window: 1000,
        ..Config::default()
    });
    peer.ok(&head(1, false, &POST));
    peer.ok(&frame(DATA, 0, 1, &[0; 900]));
    peer.ok(&frame(DATA, 0, 1, &[0; 101]));
    assert_eq!(rst_code(&peer.output(), 1), Some(Code::FLOW_CONTROL_ERROR));
    let mut peer = Peer::server_with(Config {
        connection_window: 65_535,
        initial_window: 1 << 20,
        ..Config::default()
    });
    peer.ok(&head(1, false, &POST));
    let mut outcome = Ok(());
    for _ in 0..4 {
        outcome = peer.send(&frame(DATA, 0, 1, &[0; 16_384]));
    }
    assert_eq!(outcome.map_err(|e| e.code), Err(Code::FLOW_CONTROL_ERROR));
}

#[test]
fn a_small_window_binds_the_peer_once_it_knows() {
    let mut peer = Peer::fresh(Config {
        initial_window: 100,
        ..Config::default()
    });
    peer.ok(lateen_http::h2::PREFACE);
    peer.ok(&frame(SETTINGS, 0, 0, &[]));
    peer.ok(&head(1, false, &POST));
    peer.ok(&frame(DATA, 0, 1, &[0; 10_000]));
    peer.ok(&frame(SETTINGS, ACK, 0, &[]));
    assert_eq!(rst_code(&peer.output(), 1), None);
    peer.ok(&head(3, false, &POST));
    peer.ok(&frame(DATA, 0, 3, &[0; 101]));
    assert_eq!(rst_code(&peer.output(), 3), Some(Code::FLOW_CONTROL_ERROR));
}

#[test]
fn what_a_reset_stream_received_still_counts_for_the_connection() {
    let mut peer = Peer::server();
    let mut given = 0u64;
    for n in 0..200u32 {
        let id = 2 * n + 1;
        peer.ok(&head(id, false, &POST));
        peer.ok(&frame(DATA, 0, id, &[0; 16_000]));
        peer.connection.reset(id.into(), Code::CANCEL);
        peer.ok(&frame(DATA, 0, id, &[0; 384]));
        for event in peer.events() {
            if let Event::Data { id, data, .. } = event {
                peer.connection.release(id, data.len());
            }
        }
        let updates = peer.output();
        let updates = updates
            .iter()
            .filter(|f| f.kind == WINDOW_UPDATE && f.id == 0);
        given += updates
            .map(|update| u64::from(update.number()))
            .sum::<u64>();
    }
    assert!(given >= 200 * 16_384 - 1024 * 1024, "{given}");
}

#[test]
fn idle_connections_own_little() {
    let mut peer = Peer::server();
    let fresh = peer.connection.memory();
    peer.connection.shrink();
    assert!(
        peer.connection.memory() <= 64,
        "{}",
        peer.connection.memory()
    );
    assert!(fresh < 1024, "{fresh}");
    for n in 0..100u32 {
        let id = 2 * n + 1;
        peer.ok(&head(id, true, &GET));
        peer.respond(id, 200, false);
        peer.connection
            .send_data(id.into(), bytes(100_000), true)
            .expect("open");
        peer.ok(&frame(WINDOW_UPDATE, 0, 0, &word(100_000)));
        peer.ok(&frame(WINDOW_UPDATE, 0, id, &word(100_000)));
        peer.output();
        peer.events();
    }
    assert!(peer.connection.is_idle());
    peer.connection.shrink();
    assert!(
        peer.connection.memory() < 1024,
        "{}",
        peer.connection.memory()
    );
    assert!(
        size_of::<Connection>() < 1024,
        "{}",
        size_of::<Connection>()
    );
}

#[test]
fn graceful_end_in_two_steps() {
    let mut peer = Peer::server();
    peer.ok(&head(1, true, &GET));
    peer.connection.graceful();
    let frames = peer.output();
    assert_eq!(frames[0].kind, GOAWAY);
    assert_eq!(frames[0].payload[..4], word(i32::MAX as u32));
    let ping = frames[1].payload.clone();
    // A request that was on its way is served.
    peer.ok(&head(3, true, &GET));
    peer.ok(&frame(PING, ACK, 0, &ping));
    let last = peer.output();
    assert_eq!(last[0].payload[..4], word(3));
    peer.ok(&head(5, true, &GET));
    assert_eq!(peer.output(), [], "5 is ignored");
    assert_eq!(peer.events().len(), 2);
    peer.respond(1, 204, true);
    assert!(!peer.connection.is_closed());
    peer.respond(3, 204, true);
    peer.output();
    assert!(peer.connection.is_closed());
}

#[test]
fn goaway_makes_later_requests_safe_to_repeat() {
    let mut peer = Peer::client();
    let ids = [peer.get("GET"), peer.get("GET"), peer.get("GET")];
    peer.ok(&frame(GOAWAY, 0, 0, &[word(3), word(0)].concat()));
    let events = peer.events();
    assert!(matches!(events[0], Event::GoAway { .. }));
    let Event::Reset { id, code, by } = events[1] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (id, code, by),
        (ids[2], Code::REFUSED_STREAM, ResetBy::GoAway)
    );
    assert_eq!(events.len(), 2);
    assert!(peer.connection.is_going());
    // CVE-2023-35945 and CVE-2021-32780: what comes after finds the connection in order.
    peer.ok(&frame(RST_STREAM, 0, 5, &word(7)));
    peer.ok(&frame(SETTINGS, 0, 0, &setting(3, 0)));
    peer.ok(&frame(RST_STREAM, 0, 3, &word(7)));
    peer.ok(&head(1, true, &[(":status", "204")]));
    peer.output();
    assert!(peer.connection.is_closed());
}

#[test]
fn a_client_keeps_to_the_number_of_streams() {
    let connection = Connection::new(Role::Client, Config::default());
    let mut peer = Peer { connection };
    assert_eq!(peer.connection.capacity(), 100, "before anything is known");
    peer.ok(&frame(SETTINGS, 0, 0, &setting(3, 1)));
    peer.get("GET");
    let request = lateen_http::RequestHead::new(lateen_http::Method::GET, "a", "/").expect("valid");
    let second = peer.connection.send_request(&request, true);
    assert_eq!(second, Err(CannotSend::Full));
    peer.ok(&head(1, true, &[(":status", "204")]));
    peer.get("GET");
    peer.ok(&frame(SETTINGS, 0, 0, &[]));
    assert_eq!(
        peer.connection.capacity(),
        0,
        "a setting stays until it is set anew"
    );
}

#[test]
fn the_end_of_input_ends_every_stream() {
    let mut peer = Peer::client();
    peer.get("GET");
    peer.get("GET");
    peer.connection.receive_eof();
    let events = peer.events();
    assert_eq!(events.len(), 2);
    for event in events {
        let by_end = matches!(
            event,
            Event::Reset {
                by: ResetBy::Connection,
                ..
            }
        );
        assert!(by_end, "{event:?}");
    }
    assert!(peer.connection.is_closed());
}

#[test]
fn an_early_response_stops_the_upload_after_its_end() {
    let mut peer = Peer::server();
    peer.ok(&frame(SETTINGS, 0, 0, &setting(4, 1)));
    peer.ok(&head(1, false, &POST));
    peer.respond(1, 413, false);
    peer.connection
        .send_data(1.into(), bytes(2), true)
        .expect("open");
    peer.connection.reset(1.into(), Code::NO_ERROR);
    assert_eq!(data_of(&peer.output()), [(1, 1)]);
    peer.ok(&frame(WINDOW_UPDATE, 0, 1, &word(1)));
    let frames = peer.output();
    assert_eq!(data_of(&frames), [(1, 1)]);
    assert_eq!(rst_code(&frames, 1), Some(Code::NO_ERROR));
    assert_eq!(peer.connection.active_streams(), 0);
}
