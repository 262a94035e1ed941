//! Copies of requests for other clusters, whose answers nobody waits for.

use std::sync::Arc;

use bytes::Bytes;
use lateen_http::{Body, RequestHead};
use lateen_route::{Forward, Fraction};

use super::forward::add_peer;
use crate::cluster::{HttpWant, UpstreamProtocol, connect_http};
use crate::listener::Connection;
use crate::worker::Worker;

/// Bodies that announce more than this are not mirrored: a copy must not hold up the original.
const LIMIT: u64 = 64 * 1024;

/// Splits a small body in two where the route mirrors; the copy is none where the request cannot be
/// mirrored.
pub(crate) async fn tee(action: &Forward, body: Body) -> (Body, Option<Bytes>) {
    if action.mirrors.is_empty() {
        return (body, None);
    }
    if body.is_end() {
        return (body, Some(Bytes::new()));
    }
    if body.remaining().is_none_or(|length| length > LIMIT) {
        return (body, None);
    }
    match body.collect(LIMIT as usize).await {
        Ok(bytes) => (Body::from(bytes.clone()), Some(bytes)),
        Err(error) => (Body::from_source(Broken(Some(error))), None),
    }
}

struct Broken(Option<lateen_http::BodyError>);

impl lateen_http::Source for Broken {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<lateen_http::Frame, lateen_http::BodyError>>> {
        std::task::Poll::Ready(self.0.take().map(Err))
    }
}

/// Sends the copies.
pub(crate) fn send(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    action: &Forward,
    head: &RequestHead,
    body: Option<Bytes>,
) {
    let Some(body) = body else { return };
    for mirror in &action.mirrors {
        let share = Fraction {
            millionths: mirror.millionths,
        };
        if !share.hits(fastrand::u64(..)) {
            continue;
        }
        let mut head = head.clone();
        // Envoy marks the copies, so that logs can tell them.
        let shadow = match head.authority().rsplit_once(':') {
            Some((host, port)) => format!("{host}-shadow:{port}"),
            None => format!("{}-shadow", head.authority()),
        };
        let _ = head.set_authority(&shadow);
        let (worker, cluster, body) = (worker.clone(), mirror.cluster.clone(), body.clone());
        let connection = connection.clone();
        tokio::spawn(async move {
            if let Err(error) = one(&worker, &connection, &cluster, head, body).await {
                tracing::debug!(%cluster, error, "mirrored request failed");
            }
        });
    }
}

async fn one(
    worker: &Worker,
    connection: &Connection,
    cluster: &str,
    mut head: RequestHead,
    body: Bytes,
) -> Result<(), String> {
    let cluster = worker
        .shared
        .cluster(cluster)
        .await
        .ok_or("unknown cluster")?;
    let index = worker
        .shared
        .pick(&cluster, None, &[], 1)
        .ok_or("no healthy host")?;
    let host = cluster.hosts.hosts[index].clone();
    let want = match cluster.spec.protocol {
        UpstreamProtocol::Http2 => HttpWant::Http2,
        _ => HttpWant::Http1,
    };
    add_peer(worker, connection, &cluster, &host, &mut head);
    let connecting = connect_http(
        &cluster,
        host.address,
        host.transport,
        head.authority(),
        want,
    );
    let connection = connecting.await.map_err(|error| error.to_string())?;
    cluster.stats.rq_total.inc();
    let mut response = connection
        .send(&head, Body::from(body))
        .await
        .map_err(|error| error.to_string())?;
    cluster.stats.response(response.head.status);
    while let Some(frame) = response.body.next().await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}
