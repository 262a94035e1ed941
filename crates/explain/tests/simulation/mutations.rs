//! What is broken on its way to the proxy: messages of the table's configurations, changed at random,
//! are read without a panic, and what is refused is refused by the name of a field.

use lateen_decode::DecodeError;
use lateen_pilot::Offline;
use lateen_xds::types::{cluster, endpoint, listener, route};
use lateen_xds::{Any, TypeUrl, decode_any};
use proptest::prelude::{Strategy, any};
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::DOMAIN;
use crate::table::Group;

/// How many changed messages are read.
const CASES: u32 = 20_000;

/// The callers whose proxies' configuration is broken.
const CALLERS: [&str; 3] = ["productpage-v1", "reviews-v1", "gateway"];

/// One change of a message's bytes.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    /// Bytes are lost.
    Cut(Index, usize),
    /// Bytes come twice.
    Again(Index, usize),
}

impl Edit {
    fn any() -> impl Strategy<Value = Edit> {
        proptest::prop_oneof![
            (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
            (any::<Index>(), 1..12usize).prop_map(|(at, n)| Edit::Cut(at, n)),
            (any::<Index>(), 1..12usize).prop_map(|(at, n)| Edit::Again(at, n)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let range = |at: &Index, n: usize| {
            let at = at.index(bytes.len());
            at..(at + n).min(bytes.len())
        };
        match self {
            Edit::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bit;
            }
            Edit::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Edit::Cut(at, n) => {
                bytes.drain(range(at, *n));
            }
            Edit::Again(at, n) => {
                let range = range(at, *n);
                let copy = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copy);
            }
        }
    }
}

#[test]
fn broken_messages_are_refused_by_field() {
    let messages = messages();
    assert!(messages.len() > 100, "{} messages", messages.len());
    for message in &messages {
        let read = read(message).expect("a message");
        assert_eq!(read, Ok(()), "what was not changed is taken");
    }
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let edits = proptest::collection::vec(Edit::any(), 1..5);
    let changed = (any::<Index>(), edits);
    let (mut n_taken, mut n_refused) = (0, 0);
    let counts = std::cell::RefCell::new((&mut n_taken, &mut n_refused));
    let tried = TestRunner::new(config).run(&changed, |(which, edits)| {
        let mut message = which.get(&messages).clone();
        let mut bytes = message.value.to_vec();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        message.value = bytes;
        // Reading which fields nothing reads must bear it too.
        let _ = lateen_decode::unread(&message);
        match read(&message) {
            None => {}
            Some(Ok(())) => *counts.borrow_mut().0 += 1,
            Some(Err(fault)) => {
                *counts.borrow_mut().1 += 1;
                proptest::prop_assert!(!fault.field.is_empty(), "{fault}");
                proptest::prop_assert!(!fault.reason.is_empty(), "{fault}");
            }
        }
        Ok(())
    });
    tried.unwrap_or_else(|fault| panic!("{fault}"));
    // Otherwise all bytes were broken beyond being a message, and nothing was tried.
    assert!(n_taken > 100 && n_refused > 100, "{n_taken}, {n_refused}");
}

/// What the proxies of all configurations are served.
fn messages() -> Vec<Any> {
    let mut all = Vec::new();
    for group in Group::all() {
        for who in CALLERS {
            let caller = group.platform.caller(who).expect("a workload");
            let (world, config) = (group.platform.world.clone(), group.platform.config.clone());
            let offline = Offline::new(world, config, DOMAIN, &caller.proxy);
            for resource in offline.clusters() {
                all.extend(offline.endpoints(&resource.name).map(|found| found.body()));
                all.push(resource.body());
            }
            let names = ["9080", "80", "http.8080"];
            all.extend(
                names
                    .iter()
                    .filter_map(|name| offline.routes(name))
                    .map(|r| r.body()),
            );
            all.extend(offline.listeners().iter().map(|resource| resource.body()));
        }
    }
    all
}

/// Reads a message as the proxy does; nothing where it is none of its type.
fn read(any: &Any) -> Option<Result<(), DecodeError>> {
    let kind = TypeUrl::new(&any.type_url);
    let result = if kind == TypeUrl::CLUSTER {
        let message: cluster::Cluster = decode_any(any).ok()?;
        lateen_decode::cluster(&message).map(drop)
    } else if kind == TypeUrl::LISTENER {
        let message: listener::Listener = decode_any(any).ok()?;
        lateen_decode::listener(&message).map(drop)
    } else if kind == TypeUrl::ROUTE {
        let message: route::RouteConfiguration = decode_any(any).ok()?;
        lateen_decode::route_configuration(&message).map(drop)
    } else {
        let message: endpoint::ClusterLoadAssignment = decode_any(any).ok()?;
        lateen_decode::assignment(&message).map(drop)
    };
    Some(result)
}
