//! Limits of client connections: requests in all and at once, signs of life, and the wait for one
//! of a limited number of connections.

use std::convert::Infallible;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lateen_http::{
    Body, ClientConfig, Freed, Keepalive, Lease, Pool, Response, ServerConfig, connect,
};
use tokio::io::duplex;
use tokio::sync::Semaphore;

use super::support::{Raw, echo, get, http2_only, read_all, serve_on, within};

/// A pool whose connections all lead to servers that answer once they are allowed to.
struct Site {
    pool: Pool<u8, RandomState>,
    config: ClientConfig,
    opened: AtomicUsize,
    answers: Arc<Semaphore>,
}

impl Site {
    fn new(config: ClientConfig) -> Self {
        Site {
            pool: Pool::new(4),
            config,
            opened: AtomicUsize::new(0),
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// A connection of the pool, or a new one.
    async fn lease(&self) -> Lease {
        if let Some(lease) = self.pool.checkout(&0) {
            return lease;
        }
        let connecting = async {
            self.opened.fetch_add(1, Ordering::SeqCst);
            let (near, far) = duplex(64 * 1024);
            let server = match self.config.http2 {
                true => http2_only(),
                false => ServerConfig::default(),
            };
            let answers = self.answers.clone();
            let served = serve_on(far, server, move |request| {
                let answers = answers.clone();
                async move {
                    answers.acquire().await.expect("open").forget();
                    echo(request).await
                }
            });
            tokio::spawn(served.task);
            Ok::<_, Infallible>(connect(near, &self.config))
        };
        let connecting = self.pool.connect(&0, self.config.http2, connecting);
        within(connecting).await.expect("infallible")
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

async fn send(lease: Lease) -> Response {
    let response = within(lease.send(&get("/"), Body::empty(), None)).await;
    response.expect("answered")
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    for http2 in [false, true] {
        let site = Site::new(ClientConfig {
            http2,
            max_requests: 2,
            ..ClientConfig::default()
        });
        for n_sent in 1..=5_usize {
            let response = send(site.lease().await).await;
            read_all(response.body).await.expect("whole");
            assert_eq!(site.opened(), n_sent.div_ceil(2), "HTTP/2: {http2}");
        }
    }
}

#[tokio::test]
async fn a_connection_carries_so_many_requests_at_once() {
    let site = Arc::new(Site::new(ClientConfig {
        http2: true,
        max_streams: 2,
        ..ClientConfig::default()
    }));
    read_all(send(site.lease().await).await.body)
        .await
        .expect("whole");
    site.answers.forget_permits(Semaphore::MAX_PERMITS);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let lease = site.lease().await;
        tasks.spawn(send(lease));
    }
    assert_eq!(site.opened(), 3);
    site.answers.add_permits(6);
    while let Some(answered) = within(tasks.join_next()).await {
        assert_eq!(answered.expect("no panic").head.status, 200);
    }
}

/// What the wait for a connection comes to while one is at work, and then something happens.
async fn freed(http2: bool, after: impl AsyncFnOnce(&Site, Lease)) -> Freed {
    let site = Site::new(ClientConfig {
        http2,
        max_streams: 1,
        ..ClientConfig::default()
    });
    read_all(send(site.lease().await).await.body)
        .await
        .expect("whole");
    let lease = site.lease().await;
    assert_eq!(site.opened(), 1);
    let waiting = site.pool.freed(&0);
    let (freed, ()) = within(async { tokio::join!(biased; waiting, after(&site, lease)) }).await;
    freed
}

#[tokio::test]
async fn a_request_waits_for_a_connection_at_work() {
    for http2 in [false, true] {
        let freed = freed(http2, async |_, lease| {
            read_all(send(lease).await.body).await.expect("whole");
        });
        assert!(matches!(freed.await, Freed::Lease(_)), "HTTP/2: {http2}");
    }
}

#[tokio::test]
async fn the_end_of_a_connection_makes_room() {
    let freed = freed(false, async |_, lease| drop(lease));
    assert!(matches!(freed.await, Freed::Ended));
}

#[tokio::test]
async fn where_there_is_no_connection_nothing_is_waited_for() {
    let site = Site::new(ClientConfig::default());
    assert!(matches!(within(site.pool.freed(&0)).await, Freed::None));
}

const KEEPALIVE: Keepalive = Keepalive {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(5),
};

#[tokio::test(start_paused = true)]
async fn a_server_that_gives_no_sign_of_life_is_given_up() {
    let config = ClientConfig {
        http2: true,
        keepalive: Some(KEEPALIVE),
        ..ClientConfig::default()
    };
    let (near, far) = duplex(64 * 1024);
    let _silent = Raw(far);
    let request = get("/");
    let sent = connect(near, &config).send(&request, Body::empty());
    let error = match within(sent).await {
        Err(failed) => failed.error.to_string(),
        Ok(_) => panic!("nobody has answered"),
    };
    assert!(error.contains("does not answer"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_may_take_its_time() {
    let site = Site::new(ClientConfig {
        http2: true,
        keepalive: Some(KEEPALIVE),
        ..ClientConfig::default()
    });
    site.answers.forget_permits(Semaphore::MAX_PERMITS);
    let lease = site.lease().await;
    let answers = site.answers.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(50)).await;
        answers.add_permits(1);
    });
    assert_eq!(send(lease).await.head.status, 200);
}
