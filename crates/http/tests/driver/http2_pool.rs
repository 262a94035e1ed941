//! HTTP/2 connections that requests share.

use std::convert::Infallible;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lateen_http::{ClientConfig, Frame, Pool, ServerConfig, connect};
use tokio::io::duplex;
use tokio::sync::Barrier;

use super::support::{echo, feed, http2_only, post, serve_on, within};

/// Requests whose bodies are under way cannot be sent again, so none may be refused.
#[tokio::test]
async fn a_new_connection_is_not_filled_before_it_says_what_it_takes() {
    const AT_ONCE: usize = 3;
    let config = ServerConfig {
        max_concurrent_streams: AT_ONCE as u32,
        ..http2_only()
    };
    let pool = Pool::<u8, RandomState>::new(1);
    let connections = Arc::new(AtomicUsize::new(0));
    let everybody = Arc::new(Barrier::new(10));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (pool, config, connections) = (pool.clone(), config.clone(), connections.clone());
        let everybody = everybody.clone();
        tasks.spawn(async move {
            let connecting = async {
                connections.fetch_add(1, Ordering::SeqCst);
                let (near, far) = duplex(64 * 1024);
                tokio::spawn(async move { serve_on(far, config, echo).task.await });
                let http2 = ClientConfig {
                    http2: true,
                    ..ClientConfig::default()
                };
                Ok::<_, Infallible>(connect(near, &http2))
            };
            let lease = match pool.checkout(&0) {
                Some(lease) => lease,
                None => pool
                    .connect(&0, true, connecting)
                    .await
                    .expect("infallible"),
            };
            let (body_tx, body) = feed();
            let response = lease.send(&post("/"), body, None).await.expect("answered");
            // All are under way at the same time.
            everybody.wait().await;
            body_tx
                .send(Ok(Frame::Data("x".into())))
                .await
                .expect("wanted");
            drop(body_tx);
            assert_eq!(
                response.body.collect(10).await.expect("whole"),
                "x".as_bytes()
            );
        });
    }
    while let Some(result) = within(tasks.join_next()).await {
        result.expect("no panic");
    }
    assert_eq!(
        connections.load(Ordering::SeqCst),
        10_usize.div_ceil(AT_ONCE)
    );
}
