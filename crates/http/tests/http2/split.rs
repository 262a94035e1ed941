//! Whatever the pieces in which the input comes, the same happens.

use bytes::BytesMut;
use lateen_http::h2::{Config, Connection, PREFACE, Role};
use proptest::prelude::*;

use crate::raw::*;

/// Frames, mostly sound, sometimes not.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let id = || prop::sample::select(vec![0u32, 1, 3, 5, 7, 2]);
    let payload = || prop::collection::vec(any::<u8>(), 0..40);
    let one = prop_oneof![
        4 => (id(), any::<bool>()).prop_map(|(id, end)| head(id, end, &GET)),
        2 => (id(), any::<bool>()).prop_map(|(id, end)| head(id, end, &[(":status", "200")])),
        1 => (id(), any::<bool>()).prop_map(|(id, end)| head(id, end, &[("x", "trailer")])),
        4 => (id(), 0u8..2, payload()).prop_map(|(id, end, data)| frame(DATA, end, id, &data)),
        1 => (id(), 0usize..3000).prop_map(|(id, n)| frame(DATA, 0, id, &vec![1; n])),
        1 => (id(), any::<u32>()).prop_map(|(id, n)| frame(WINDOW_UPDATE, 0, id, &word(n))),
        1 => id().prop_map(|id| frame(RST_STREAM, 0, id, &word(8))),
        1 => Just(frame(PING, 0, 0, b"01234567")),
        1 => (1u16..9, any::<u32>()).prop_map(|(id, n)| frame(SETTINGS, 0, 0, &setting(id, n))),
        1 => (any::<u8>(), any::<u8>(), id(), payload())
            .prop_map(|(kind, flags, id, payload)| frame(kind, flags, id, &payload)),
    ];
    prop::collection::vec(one, 0..30).prop_map(|frames| frames.concat())
}

fn connection(role: Role) -> Connection {
    let mut connection = Connection::new(role, Config::default());
    if role == Role::Client {
        let request = lateen_http::RequestHead::new(lateen_http::Method::GET, "a", "/");
        let request = request.expect("valid");
        for end in [true, false, true] {
            connection
                .send_request(&request, end)
                .expect("there is room");
        }
    }
    connection
}

/// What happened, and what was answered.
fn run<'a>(role: Role, pieces: impl Iterator<Item = &'a [u8]>) -> (String, Vec<u8>) {
    let mut connection = connection(role);
    let (mut input, mut log) = (BytesMut::new(), String::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let outcome = connection.receive(&mut input);
        while let Some(event) = connection.next_event() {
            log.push_str(&format!("{event:?}\n"));
        }
        if let Err(error) = outcome {
            log.push_str(&error.to_string());
            break;
        }
    }
    (log, drain(&mut connection))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_split_gives_the_same_events(
        frames in frames(),
        cuts in prop::collection::vec(1usize..200, 1..20),
        role in prop::sample::select(vec![Role::Client, Role::Server]),
    ) {
        let mut bytes = Vec::new();
        if role == Role::Server {
            bytes.extend_from_slice(PREFACE);
        }
        bytes.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
        bytes.extend_from_slice(&frames);
        let whole = run(role, std::iter::once(&bytes[..]));
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let n = rest.len().min(*cuts.next().expect("endless"));
            let (piece, left) = rest.split_at(n);
            rest = left;
            (n > 0).then_some(piece)
        });
        prop_assert_eq!(&run(role, pieces), &whole);
        prop_assert_eq!(&run(role, bytes.chunks(1)), &whole);
    }
}
