//! What an idle TLS connection costs the server in resident memory.
//!
//! The clients are a process of their own (this test's binary again), so that their memory is not
//! counted.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lateen_core::SpiffeId;
use lateen_tls::{
    Acceptor, Authority, ClientAuth, ClientOptions, Connector, Identity, IdentityStore,
    LeafRequest, PeerRule, ServerOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const DAY: Duration = Duration::from_secs(86_400);
/// Connections that fill what is kept for all of them: free lists, the runtime, ticket keys.
const WARM: usize = 100;
/// Connections that are measured; with the first, fewer than the usual limit of open files.
const MEASURED: usize = 800;
/// Kilobytes for each idle connection that a sidecar may cost, HTTP included.
const BAR: f64 = 12.0;

const ADDRESS: &str = "LATEEN_TEST_ADDRESS";
const CHAIN: &str = "LATEEN_TEST_CHAIN";
const KEY: &str = "LATEEN_TEST_KEY";
const ROOTS: &str = "LATEEN_TEST_ROOTS";

fn identity(root: &Authority, account: &str) -> Identity {
    let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
    let id: SpiffeId = id.parse().expect("a SPIFFE identity");
    root.identity(&LeafRequest::spiffe(&id, DAY))
        .expect("a leaf")
}

fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("a Linux kernel");
    let line = text.lines().find(|line| line.starts_with("Anonymous:"));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.expect("a field").parse().expect("a number")
}

/// The clients' process; does nothing when run as a test.
#[tokio::test]
async fn clients() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let address: SocketAddr = address.parse().expect("an address");
    let var = |name| std::env::var(name).expect("set with the address");
    let identity = Identity::from_pem(&var(CHAIN), &var(KEY), &var(ROOTS)).expect("consistent");
    let store = Arc::new(IdentityStore::new(identity));
    let client = Connector::new(store, ClientOptions::default());
    let mut open = Vec::new();
    for _ in 0..WARM + MEASURED {
        let tcp = TcpStream::connect(address).await.expect("connected");
        let mut stream = client.connect(tcp, None).await.expect("trusted");
        stream.write_all(b"question").await.expect("open");
        stream.flush().await.expect("open");
        let mut answer = [0; 4096];
        stream.read_exact(&mut answer).await.expect("open");
        open.push(stream);
    }
    // Until the parent has seen enough.
    let mut end = String::new();
    let _ = std::io::stdin().read_line(&mut end);
}

async fn serve(acceptor: Arc<Acceptor>, tcp: TcpStream, idle_tx: mpsc::UnboundedSender<()>) {
    // Boxed, as the data plane does it: the future of a handshake is larger than its connection.
    let mut stream = Box::pin(acceptor.accept(tcp)).await.expect("trusted");
    let mut question = [0; 8];
    stream.read_exact(&mut question).await.expect("open");
    stream.write_all(&[7; 4096]).await.expect("open");
    stream.flush().await.expect("open");
    let wait = async {
        idle_tx.send(()).expect("counted");
        stream.read_u8().await
    };
    let _ = wait.await;
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "the figure is of interest")]
async fn an_idle_connection_is_small() {
    let root = Authority::self_signed("cluster.local", DAY).expect("a root");
    let options = ServerOptions {
        client_auth: ClientAuth::Required(PeerRule::AnyTrusted),
        ..ServerOptions::default()
    };
    let store = Arc::new(IdentityStore::new(identity(&root, "server")));
    let acceptor = Arc::new(Acceptor::new(store, options));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = identity(&root, "client");
    let mut clients = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "clients", "--nocapture"])
        .env(
            ADDRESS,
            listener.local_addr().expect("an address").to_string(),
        )
        .env(CHAIN, client.chain_pem())
        .env(KEY, client.key_pem())
        .env(ROOTS, client.roots_pem())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    let (idle_tx, mut idle_rx) = mpsc::unbounded_channel();
    let mut before = 0.0;
    for n in 0..WARM + MEASURED {
        if n == WARM {
            before = resident();
        }
        let (tcp, _) = listener.accept().await.expect("a client");
        tokio::spawn(serve(acceptor.clone(), tcp, idle_tx.clone()));
        idle_rx.recv().await.expect("served");
    }
    let each = (resident() - before) / MEASURED as f64;
    let _ = clients.stdin.take().expect("piped").write_all(b"end\n");
    let ended = clients.wait().expect("a child");
    let size = size_of::<lateen_tls::Stream<TcpStream>>();
    eprintln!("an idle TLS connection: {each:.2} KiB, of which {size} B are the stream itself");
    assert!(ended.success());
    assert!(each <= BAR, "{each:.2} KiB, more than {BAR}");
}
