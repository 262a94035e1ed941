//! What a handshake with client certificate costs each side, in memory: `cargo bench -p lateen-tls`.
//!
//! The time that each side's future is polled is taken apart, so that one figure is the server's
//! alone. There is no network and no system call in it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lateen_core::SpiffeId;
use lateen_tls::{
    Acceptor, Authority, ClientAuth, ClientOptions, Connector, IdentityStore, LeafRequest,
    PeerRule, ServerCheck, ServerOptions, Stream, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const DAY: Duration = Duration::from_secs(86_400);
const ROUNDS: u32 = 5;
const HANDSHAKES: u32 = 1_000;

/// Adds up how long a future is polled.
struct Timed<'a, F> {
    inner: Pin<&'a mut F>,
    spent: &'a mut Duration,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let start = Instant::now();
        let result = self.inner.as_mut().poll(cx);
        *self.spent += start.elapsed();
        result
    }
}

fn store(authority: &Authority, account: &str) -> Arc<IdentityStore> {
    let id: SpiffeId = format!("spiffe://cluster.local/ns/default/sa/{account}")
        .parse()
        .expect("a SPIFFE identity");
    let leaf = authority.identity(&LeafRequest::spiffe(&id, DAY));
    Arc::new(IdentityStore::new(leaf.expect("a leaf")))
}

fn acceptor(store: Arc<IdentityStore>) -> Acceptor {
    let rule = PeerRule::TrustDomains(vec!["cluster.local".to_owned()]);
    let options = ServerOptions {
        client_auth: ClientAuth::Required(rule),
        alpn: vec![b"istio-http/1.1".to_vec(), b"http/1.1".to_vec()],
        ..ServerOptions::default()
    };
    Acceptor::new(store, options)
}

fn connector(store: Arc<IdentityStore>, version: Version) -> Connector {
    let options = ClientOptions {
        check: ServerCheck::Peer(PeerRule::exact([
            "spiffe://cluster.local/ns/default/sa/server",
        ])),
        alpn: vec![b"istio-http/1.1".to_vec()],
        max_version: version,
        ..ClientOptions::default()
    };
    Connector::new(store, options)
}

/// A byte each way after the handshake, so that tickets are sent and read as well.
async fn use_it(stream: &mut Stream<DuplexStream>) {
    stream.write_all(b"x").await.expect("open");
    stream.flush().await.expect("open");
    stream.read_u8().await.expect("open");
}

async fn meet(server: &Acceptor, client: &Connector) -> (Duration, Duration, bool) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut served, mut connected) = (Duration::ZERO, Duration::ZERO);
    let serving = pin!(async {
        let mut stream = server.accept(far).await.expect("trusted");
        use_it(&mut stream).await;
        stream.info().resumed
    });
    let connecting = pin!(async {
        let mut stream = client.connect(near, None).await.expect("trusted");
        use_it(&mut stream).await;
    });
    let server = Timed {
        inner: serving,
        spent: &mut served,
    };
    let client = Timed {
        inner: connecting,
        spent: &mut connected,
    };
    let (resumed, ()) = tokio::join!(server, client);
    (served, connected, resumed)
}

#[allow(clippy::print_stdout, reason = "a bench reports on standard output")]
async fn measure(what: &str, version: Version, resume: bool) {
    let root = Authority::self_signed("cluster.local", DAY).expect("a root");
    let server = acceptor(store(&root, "server"));
    let identity = store(&root, "client");
    let client = connector(identity.clone(), version);
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let mut sum = (Duration::ZERO, Duration::ZERO);
        for _ in 0..HANDSHAKES {
            // A connector of its own remembers no session.
            let (served, connected, _) = if resume {
                meet(&server, &client).await
            } else {
                meet(&server, &connector(identity.clone(), version)).await
            };
            sum.0 += served;
            sum.1 += connected;
        }
        best = (best.0.min(sum.0), best.1.min(sum.1));
    }
    let micros = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(HANDSHAKES);
    println!(
        "{what:<24} server {:>7.1} µs   client {:>7.1} µs",
        micros(best.0),
        micros(best.1)
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    measure("TLS 1.3, full", Version::Tls13, false).await;
    measure("TLS 1.3, resumed", Version::Tls13, true).await;
    measure("TLS 1.2, full", Version::Tls12, false).await;
}
