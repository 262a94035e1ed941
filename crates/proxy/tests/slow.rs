//! Clients that do little and stay long: what they hold, and whether others notice. A test program
//! of its own, since it looks at the memory of its process.

#[path = "it/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use common::{Echo, Proxy, cluster, free_port, hcm, listener};

/// Idle connections, where so many files may be open.
const IDLE: usize = 10_000;
/// Clients of each slow kind.
const SLOW: usize = 300;
/// Files for everything else.
const SPARE_FILES: u64 = 2_000;
/// What one idle connection may hold, in bytes. 1.9 KiB were measured.
const IDLE_BYTES: usize = 4 * 1024;
/// What one slow client may hold on average. A block that was read into has 64 KiB: who holds one
/// for each client is found, also where memory of the idle ones is there to be used again.
const SLOW_BYTES: usize = 24 * 1024;

const GET: &str = "GET / HTTP/1.1\r\nHost: app\r\n\r\n";

/// Bytes of memory that the process has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: usize| pages * 4096)
}

/// How many connections may be open, of which both ends are here.
fn connections() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let room = usize::try_from(hard.saturating_sub(SPARE_FILES) / 2).unwrap_or(IDLE);
    if room < IDLE {
        eprintln!("only {room} idle connections are tried, since {hard} files may be open");
    }
    room.min(IDLE)
}

struct Client(TcpStream);

impl Client {
    fn new(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("an option");
        Client(stream)
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("open");
    }

    /// One request and its response.
    fn ask(&mut self) {
        self.say(GET);
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        // What the backend says ends with a brace.
        while !text.ends_with(b"}") {
            let read = self.0.read(&mut piece).expect("an answer");
            assert!(
                read > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&text)
            );
            text.extend_from_slice(&piece[..read]);
        }
        assert!(text.starts_with(b"HTTP/1.1 200 "));
    }

    /// Asks as often as the socket takes it, and never reads.
    fn ask_for_ever(&mut self) {
        self.0.set_nonblocking(true).expect("an option");
        for _ in 0..10_000 {
            match self.0.write(GET.repeat(20).as_bytes()) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn others_are_served(port: u16) {
    let mut client = Client::new(port);
    for _ in 0..50 {
        client.ask();
    }
}

/// Everything that clients do, on threads that may block.
fn crowd(port: u16) {
    let n_idle = connections();
    let mut first: Vec<Client> = (0..100).map(|_| Client::new(port)).collect();
    first.iter_mut().for_each(Client::ask);

    let before = resident();
    let mut idle: Vec<Client> = (0..n_idle).map(|_| Client::new(port)).collect();
    idle.iter_mut().for_each(Client::ask);
    let each = resident().saturating_sub(before) / n_idle;
    eprintln!("{each} bytes for each of {n_idle} idle connections");
    assert!(each < IDLE_BYTES, "{each}");
    others_are_served(port);
    drop(idle);

    let before = resident();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut head = Client::new(port);
        head.say("GET / HTTP/1.1\r\nX-Slow: ");
        let mut body = Client::new(port);
        body.say("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000000\r\n\r\nbegun");
        slow.extend([head, body]);
    }
    for _ in 0..20 {
        slow.iter_mut().for_each(|client| client.say("a"));
    }
    let mut deaf: Vec<Client> = (0..SLOW / 10).map(|_| Client::new(port)).collect();
    deaf.iter_mut().for_each(Client::ask_for_ever);
    others_are_served(port);
    let each = resident().saturating_sub(before) / (slow.len() + deaf.len());
    eprintln!("{each} bytes for each slow client");
    assert!(each < SLOW_BYTES, "{each}");
    others_are_served(port);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_slow_clients_hold_little_and_hurt_nobody() {
    let (address, _echo) = Echo::start("app").await;
    let manager = hcm(json!([{ "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }] }]));
    let port = free_port();
    let listeners = json!([listener("main", port, "OUTBOUND", manager)]);
    let proxy = Proxy::start(port, listeners, json!([cluster("app", &[address])])).await;
    let crowd = tokio::task::spawn_blocking(move || crowd(port));
    crowd.await.expect("no panic");
    proxy.stop().await;
}
