//! What a proxied HTTP/2 request costs without a kernel: client, proxy and server on one thread,
//! over pipes. A figure is for two hops, so that a proxy's own share is half of it.

use std::convert::Infallible;
use std::hash::RandomState;
use std::sync::Arc;

use divan::counter::ItemsCount;
use lateen_http::{
    Abort, Body, ClientConfig, Handler, Io, Method, Pool, Protocol, Request, RequestHead, Response,
    ServerConfig, connect, serve,
};
use tokio::io::duplex;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

type Client = Pool<u8, RandomState>;

async fn client(io: impl Io) -> Client {
    let pool = Pool::new(1);
    let config = ClientConfig {
        http2: true,
        ..ClientConfig::default()
    };
    let connecting = async { Ok::<_, Infallible>(connect(io, &config)) };
    let lease = pool.connect(&0, true, connecting).await;
    drop(lease.expect("infallible"));
    pool
}

/// Passes requests on, or answers them where there is nobody to pass them on to.
#[derive(Clone)]
struct Proxy(Option<Arc<Client>>);

impl Handler for Proxy {
    async fn handle(&self, request: Request) -> Result<Response, Abort> {
        match &self.0 {
            None => Ok(Response::new(200, "x".repeat(1024))),
            Some(client) => {
                let lease = client.checkout(&0).ok_or(Abort)?;
                let sent = lease.send(&request.head, request.body, None).await;
                sent.map_err(|_| Abort)
            }
        }
    }
}

fn serve_on(io: impl Io, handler: Proxy) {
    tokio::spawn(async move {
        let config = ServerConfig {
            protocol: Protocol::Http2,
            ..ServerConfig::default()
        };
        serve(io, &config, handler, std::future::pending()).await
    });
}

async fn chain() -> Arc<Client> {
    let (near, far) = duplex(256 * 1024);
    serve_on(far, Proxy(None));
    let upstream = Arc::new(client(near).await);
    let (near, far) = duplex(256 * 1024);
    serve_on(far, Proxy(Some(upstream)));
    Arc::new(client(near).await)
}

async fn request(client: Arc<Client>, head: Arc<RequestHead>) {
    let lease = client.checkout(&0).expect("ready");
    let response = lease.send(&head, Body::empty(), None).await;
    let body = response.expect("answered").body.collect(1 << 20).await;
    assert_eq!(body.expect("whole").len(), 1024);
}

fn get() -> Arc<RequestHead> {
    let mut head = RequestHead::new(Method::GET, "test.example", "/path").expect("valid");
    for (name, value) in [
        ("user-agent", "bench"),
        ("accept", "*/*"),
        ("x-request-id", "8d4a7a39-6ef8-4d0e-9a52-0d2d5a4dd2d0"),
    ] {
        head.headers.append(name, value).expect("valid");
    }
    Arc::new(head)
}

#[divan::bench(args = [1, 32])]
fn two_hops(bencher: divan::Bencher<'_, '_>, streams: usize) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let client = runtime.block_on(chain());
    let head = get();
    bencher.counter(ItemsCount::new(streams)).bench_local(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..streams)
                .map(|_| tokio::spawn(request(client.clone(), head.clone())))
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
        });
    });
}
