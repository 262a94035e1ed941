//! Sending a try: on a connection of the pool, or on a new one.

use std::net::SocketAddr;

use lateen_balance::{Permit, Resource};
use lateen_decode::UpstreamProtocol;
use lateen_http::{Body, Freed, Lease, RequestHead, Response, SendError, Version};

use super::Exchange;
use crate::cluster::{ConnectError, Host, HttpWant, To, Transport, connect_http};
use crate::http::retry::Failure;
use crate::worker::PoolKey;

/// How often a request that was not processed is sent again outside of any policy. A host may refuse
/// it each time.
const MAX_RESENT: u32 = 3;

impl Exchange<'_> {
    fn want(&self, head: &RequestHead) -> HttpWant {
        match (self.cluster.spec.http.protocol, head.version) {
            (UpstreamProtocol::Http1, _) => HttpWant::Http1,
            // Every server of HTTP/1 may switch protocols; few of HTTP/2 do (RFC 8441).
            (UpstreamProtocol::Auto, _) if self.upgrade => HttpWant::Http1,
            (UpstreamProtocol::Http2, _) => HttpWant::Http2,
            (UpstreamProtocol::Auto, _) => HttpWant::Auto,
            (UpstreamProtocol::Downstream, Version::Http2) => HttpWant::Http2,
            (UpstreamProtocol::Downstream, _) => HttpWant::Http1,
        }
    }

    /// Sends on a connection of the pool, or on a new one, whose address becomes `local`.
    pub(super) async fn send(
        &self,
        host: &Host,
        head: &RequestHead,
        mut body: Body,
        mut local: Option<&mut Option<SocketAddr>>,
    ) -> Result<Response, Failure> {
        let want = self.want(head);
        let key = PoolKey {
            cluster: self.cluster.id,
            address: host.address.clone(),
            transport: host.transport,
            want,
            priority: self.priority,
            sni: self.sni_of(host, head),
            client: self.cluster.client_of(host, self.connection),
        };
        let mut resent = 0;
        loop {
            let pooled = match resent {
                0 => self.worker.pool.checkout(&key),
                _ => None,
            };
            let lease = match pooled {
                Some(lease) => lease,
                None => {
                    // Boxed, since most requests find a connection and need no room for this.
                    let obtaining = Box::pin(self.obtain(host, head, &key));
                    obtaining.await.map_err(Failure::Connect)?
                }
            };
            if let Some(local) = &mut local {
                **local = lease.local_addr();
            }
            match lease.send(head, body, self.interim.as_ref()).await {
                Ok(response) => return Ok(response),
                // Not one byte went out: no policy is needed to send it elsewhere.
                Err(SendError {
                    unsent: Some(unsent),
                    reused: true,
                    ..
                }) if resent < MAX_RESENT => {
                    body = unsent;
                    resent += 1;
                }
                Err(SendError { error, reused, .. }) => {
                    return Err(Failure::Exchange { error, reused });
                }
            }
        }
    }

    /// A new connection; where the cluster may have no more, one that another request gives back. A
    /// host to which there is none gets one all the same, as Envoy has it: it would starve beside
    /// others.
    async fn obtain(
        &self,
        host: &Host,
        head: &RequestHead,
        key: &PoolKey,
    ) -> Result<Lease, ConnectError> {
        let (cluster, priority) = (&self.cluster, self.priority);
        let _pending = cluster.acquire(Resource::Pending, priority)?;
        let permit = loop {
            if let Ok(permit) = cluster.acquire(Resource::Connection, priority) {
                break permit;
            }
            match self.worker.pool.freed(key).await {
                Freed::Lease(lease) => return Ok(lease),
                Freed::Ended => {}
                Freed::None => {
                    let breaker = &cluster.breaker;
                    break breaker.acquire_anyway(Resource::Connection, priority);
                }
            }
        };
        self.connect(host, head, key, permit).await
    }

    /// A new connection for the pool.
    async fn connect(
        &self,
        host: &Host,
        head: &RequestHead,
        key: &PoolKey,
        permit: Permit,
    ) -> Result<Lease, ConnectError> {
        let (cluster, authority) = (&self.cluster, head.authority());
        let to = To {
            address: &host.address,
            name: &host.hostname,
            transport: host.transport,
            client: self.connection.between(),
        };
        let connecting = connect_http(cluster, to, authority, key.want, permit);
        let multiplexed = key.want == HttpWant::Http2;
        self.worker.pool.connect(key, multiplexed, connecting).await
    }

    /// Connections that asked for different names are not interchangeable.
    fn sni_of(&self, host: &Host, head: &RequestHead) -> Option<String> {
        match &self.cluster.transports[host.transport] {
            Transport::Tls(tls) if tls.auto_sni => Some(head.authority().to_owned()),
            _ => None,
        }
    }
}
