//! Bodies that stream, and the pressure that they put back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use lateen_http::{Abort, Body, BodyError, BodyFault, Error, Frame, Request, Response};

use super::support::{
    echo, feed, fields, http2_only, http2_pair, pattern, post, read_all, within, write_all,
};

const MUCH: usize = 5 * 1024 * 1024;

#[tokio::test]
async fn both_directions_stream_at_once() {
    let (client, _served) = http2_pair(http2_only(), echo).await;
    for piece in [1000, 16_384, 300_000] {
        let data = pattern(MUCH);
        let (tx, body) = feed();
        let writing = tokio::spawn(write_all(tx, data.clone(), piece));
        let response = within(client.send(&post("/"), body)).await;
        let (got, trailers) = read_all(response.expect("answered").body)
            .await
            .expect("whole");
        assert!(got == data, "in pieces of {piece}");
        assert!(trailers.is_none());
        writing.await.expect("no panic");
    }
}

#[tokio::test]
async fn trailers_follow_a_streamed_body() {
    let (client, _served) = http2_pair(http2_only(), echo).await;
    let (tx, body) = feed();
    let writing = tokio::spawn(async move {
        let send = |frame| tx.send(Ok(frame));
        send(Frame::Data(pattern(100_000))).await.expect("read");
        let trailers = fields(&[("x-a", "1"), ("content-length", "3")]);
        send(Frame::Trailers(trailers)).await.expect("read");
    });
    let response = within(client.send(&post("/"), body)).await;
    let (got, trailers) = read_all(response.expect("answered").body)
        .await
        .expect("whole");
    assert_eq!(got.len(), 100_000);
    let trailers = trailers.expect("sent");
    assert_eq!((trailers.len(), trailers.get("x-a")), (1, Some("1")));
    writing.await.expect("no panic");
}

/// Counts what it gives.
fn counted(total: usize) -> (Body, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let (tx, body) = feed();
    let counter = given.clone();
    tokio::spawn(async move {
        let mut left = total;
        while left > 0 {
            let data = Bytes::from(vec![7; left.min(10_000)]);
            left -= data.len();
            let n = data.len();
            if tx.send(Ok(Frame::Data(data))).await.is_err() {
                return;
            }
            counter.fetch_add(n, Ordering::Relaxed);
        }
    });
    (body, given)
}

/// Waits until nothing moves any more.
async fn settled(counter: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let now = counter.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    let (client, _served) = http2_pair(http2_only(), echo).await;
    let (body, given) = counted(20 * MUCH);
    let response = within(client.send(&post("/"), body))
        .await
        .expect("answered");
    let stuck = settled(&given).await;
    // Windows of both directions, queues, the pipe: nothing near the hundred megabytes.
    assert!(stuck < 2 * 1024 * 1024, "{stuck}");
    let (got, _) = read_all(response.body).await.expect("whole");
    assert_eq!(got.len(), 20 * MUCH);
}

#[tokio::test]
async fn a_stream_that_is_stuck_does_not_hold_up_others() {
    let (client, _served) = http2_pair(http2_only(), echo).await;
    let (body, given) = counted(MUCH);
    let stuck = within(client.send(&post("/"), body))
        .await
        .expect("answered");
    settled(&given).await;
    for _ in 0..10 {
        let response = within(client.send(&post("/"), Body::from("quick"))).await;
        let (got, _) = read_all(response.expect("answered").body)
            .await
            .expect("whole");
        assert_eq!(got, b"quick");
    }
    let (got, _) = read_all(stuck.body).await.expect("whole");
    assert_eq!(got.len(), MUCH);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let handler = |_: Request| async { Ok::<_, Abort>(Response::text(413, "too much")) };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let (tx, body) = feed();
    let writing = tokio::spawn(write_all(tx, pattern(MUCH), 10_000));
    let response = within(client.send(&post("/"), body))
        .await
        .expect("answered");
    assert_eq!(response.head.status, 413);
    let (got, _) = read_all(response.body).await.expect("whole");
    assert_eq!(got, b"too much");
    // The server has told us to stop, and the body was let go.
    within(writing).await.expect("no panic");
    let response = within(client.send(&post("/"), Body::empty())).await;
    assert_eq!(response.expect("answered").head.status, 413);
}

#[tokio::test]
async fn a_request_body_that_fails_is_told() {
    let handler = |request: Request| async move {
        let result = read_all(request.body).await;
        assert!(result.is_err(), "the client reset the stream");
        Err(Abort)
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let (tx, body) = feed();
    tokio::spawn(async move {
        tx.send(Ok(Frame::Data("some".into()))).await.expect("read");
        tx.send(Err(BodyError::new(BodyFault::Closed, "gone")))
            .await
            .expect("read");
    });
    let error = within(client.send(&post("/"), body))
        .await
        .expect_err("failed");
    assert!(matches!(error.error, Error::Body(_)), "{error}");
}

#[tokio::test]
async fn a_response_body_that_fails_is_not_taken_for_complete() {
    let handler = |_: Request| async {
        let (tx, body) = feed();
        tokio::spawn(async move {
            tx.send(Ok(Frame::Data("some".into()))).await.expect("read");
            tx.send(Err(BodyError::new(BodyFault::Closed, "gone")))
                .await
                .expect("read");
        });
        Ok::<_, Abort>(Response::new(200, body))
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&post("/"), Body::empty())).await;
    let result = read_all(response.expect("answered").body).await;
    let error = result.expect_err("cut off");
    assert!(error.text.contains("INTERNAL_ERROR"), "{error}");
}
