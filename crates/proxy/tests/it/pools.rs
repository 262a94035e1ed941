//! Connections to hosts: how many, for how many requests, and to which of them a request goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lateen_http::{Abort, Handler, Request, Response, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::common::{Client, Proxy, cluster, socket};

/// A backend that counts its connections and answers when it is allowed to.
#[derive(Clone)]
struct Backend {
    name: &'static str,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
    status: u16,
}

impl Backend {
    async fn start(name: &'static str, status: u16, n_answers: usize) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let backend = Backend {
            name,
            address: listener.local_addr().expect("bound"),
            connections: Arc::default(),
            arrived: Arc::default(),
            answers: Arc::new(Semaphore::new(n_answers)),
            status,
        };
        let handler = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                handler.connections.fetch_add(1, Ordering::SeqCst);
                let handler = handler.clone();
                tokio::spawn(async move {
                    let config = ServerConfig::default();
                    let _ =
                        lateen_http::serve(stream, &config, handler, std::future::pending()).await;
                });
            }
        });
        backend
    }

    /// One that answers at once.
    async fn ready(name: &'static str, status: u16) -> Backend {
        Backend::start(name, status, Semaphore::MAX_PERMITS).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    async fn wait(&self, n_requests: usize) {
        let arrived = async {
            while self.arrived.load(Ordering::SeqCst) < n_requests {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, arrived)
            .await
            .expect("they come");
    }
}

impl Handler for Backend {
    async fn handle(&self, _: Request) -> Result<Response, Abort> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.expect("open").forget();
        Ok(Response::text(self.status, self.name))
    }
}

fn limited(backend: &Backend, thresholds: Value) -> Value {
    let mut upstream = cluster("up", &[backend.address]);
    upstream["circuit_breakers"] = json!({ "thresholds": [thresholds] });
    upstream
}

/// Sends a request from a client of its own.
fn ask(proxy: &Proxy) -> tokio::task::JoinHandle<(u16, String)> {
    let port = proxy.port;
    tokio::spawn(async move {
        let mut client = Client::connect(port, false).await;
        let seen = client.get("up", "/").await;
        (seen.status, seen.text)
    })
}

#[tokio::test]
async fn requests_wait_for_one_of_few_connections() {
    let backend = Backend::start("up", 200, 0).await;
    let proxy = Proxy::before(
        limited(&backend, json!({ "max_connections": 1 })),
        json!({}),
    )
    .await;
    let asked: Vec<_> = (0..5).map(|_| ask(&proxy)).collect();
    backend.wait(1).await;
    backend.answers.add_permits(5);
    for answer in asked {
        assert_eq!(answer.await.expect("no panic").0, 200);
    }
    assert_eq!(backend.connections(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn no_more_requests_wait_than_may() {
    let backend = Backend::start("up", 200, 0).await;
    let limits = json!({ "max_connections": 1, "max_pending_requests": 1 });
    let proxy = Proxy::before(limited(&backend, limits), json!({})).await;
    let first = ask(&proxy);
    backend.wait(1).await;
    // Of all that come now one waits, and which one is not said.
    let others: Vec<_> = (0..4).map(|_| ask(&proxy)).collect();
    let pending = async {
        loop {
            let refused = others.iter().filter(|other| other.is_finished()).count();
            if refused == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, pending)
        .await
        .expect("three of four are refused");
    backend.answers.add_permits(2);
    assert_eq!(first.await.expect("no panic").0, 200);
    let mut statuses = Vec::new();
    for other in others {
        statuses.push(other.await.expect("no panic").0);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    let backend = Backend::ready("up", 200).await;
    let mut upstream = cluster("up", &[backend.address]);
    upstream["common_http_protocol_options"] = json!({ "max_requests_per_connection": 2 });
    let proxy = Proxy::before(upstream, json!({})).await;
    let mut client = proxy.client().await;
    for _ in 0..6 {
        assert_eq!(client.get("up", "/").await.status, 200);
    }
    assert_eq!(backend.connections(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_gets_a_cookie_and_keeps_its_host() {
    let hosts = [
        Backend::ready("a", 200).await,
        Backend::ready("b", 200).await,
        Backend::ready("c", 200).await,
        Backend::ready("d", 200).await,
    ];
    let mut upstream = cluster("up", &hosts.each_ref().map(|host| host.address));
    upstream["lb_policy"] = "MAGLEV".into();
    let action = json!({ "hash_policy": [{ "cookie":
        { "name": "user", "ttl": "60s", "path": "/" } }] });
    let proxy = Proxy::before(upstream, action).await;
    let mut first = proxy.client().await;
    let seen = first.get("up", "/").await;
    let given = seen.header("set-cookie").to_owned();
    let (value, rest) = given.split_once(';').expect("attributes");
    assert_eq!(rest, " Max-Age=60; Path=/; HttpOnly");
    let home = seen.text;
    // Other connections are other clients, but for what the cookie says.
    for _ in 0..8 {
        let mut client = proxy.client().await;
        let seen = client.get_with("up", "/", &[("cookie", value)]).await;
        assert_eq!(seen.text, home);
        assert_eq!(seen.header("set-cookie"), "");
    }
    proxy.stop().await;
}

/// Two hosts, the first of which fails, in two priorities.
fn two_priorities(first: &Backend, second: &Backend) -> Value {
    let level = |host: &Backend, priority: u32| {
        let address = socket(&host.address.ip().to_string(), host.address.port());
        json!({ "priority": priority,
            "lb_endpoints": [{ "endpoint": { "address": address } }] })
    };
    let mut upstream = cluster("up", &[]);
    upstream["load_assignment"]["endpoints"] = json!([level(first, 0), level(second, 1)]);
    upstream
}

#[tokio::test]
async fn retries_leave_the_priorities_that_were_tried() {
    let near = Backend::ready("near", 503).await;
    let far = Backend::ready("far", 200).await;
    let mut retry = json!({ "retry_on": "5xx", "num_retries": 1,
        "retry_back_off": { "base_interval": "0.001s" } });
    let stays = Proxy::before(
        two_priorities(&near, &far),
        json!({ "retry_policy": retry }),
    )
    .await;
    assert_eq!(ask(&stays).await.expect("no panic").0, 503);
    stays.stop().await;
    retry["retry_priority"] = json!({ "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 1 } });
    let leaves = Proxy::before(
        two_priorities(&near, &far),
        json!({ "retry_policy": retry }),
    )
    .await;
    let (status, text) = ask(&leaves).await.expect("no panic");
    assert_eq!((status, text.as_str()), (200, "far"));
    leaves.stop().await;
}
