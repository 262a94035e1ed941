//! Client connections: one exchange at a time in HTTP/1, many in HTTP/2.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;

use crate::pool::Home;
use crate::transport::{Io, Transport};
use crate::{Body, Interim, RequestHead, Response, SendError, Version};

/// How a client connection behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Speak HTTP/2; else HTTP/1.1.
    pub http2: bool,
    /// Bytes of one head.
    pub max_head_bytes: usize,
    /// Fields of one head.
    pub max_head_fields: usize,
    /// The address that the stream comes from, for logs.
    pub local: Option<SocketAddr>,
    /// Requests that the connection carries before it ends; 0 for any number.
    pub max_requests: u32,
    /// HTTP/2: streams at once, where the server would take more.
    pub max_streams: u32,
    /// HTTP/2: whether the server is asked for signs of life.
    pub keepalive: Option<Keepalive>,
}

/// PINGs that find out whether the peer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// From one to the next.
    pub interval: Duration,
    /// How long the peer may take to answer before the connection counts as dead.
    pub timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            http2: false,
            max_head_bytes: 60 * 1024,
            max_head_fields: 100,
            local: None,
            max_requests: 0,
            max_streams: u32::MAX,
            keepalive: None,
        }
    }
}

/// A request to send. The head stays with the caller, who may want to send it again.
pub(crate) struct Outgoing<'a> {
    pub head: &'a RequestHead,
    pub body: Body,
    pub interim: Option<&'a Interim>,
}

/// A connection to a server.
pub struct Connection {
    inner: Inner,
    reused: bool,
}

enum Inner {
    Http1(http1::Connection),
    Http2(http2::Connection),
}

/// Starts HTTP on a stream. In HTTP/2 a task of its own serves the connection until it ends.
pub fn connect(io: impl Io, config: &ClientConfig) -> Connection {
    let transport = Transport::new(Box::new(io), BytesMut::new());
    let inner = if config.http2 {
        Inner::Http2(http2::connect(transport, config))
    } else {
        Inner::Http1(http1::Connection::new(transport, config))
    };
    Connection {
        inner,
        reused: false,
    }
}

impl Connection {
    /// The protocol of the connection.
    pub fn version(&self) -> Version {
        match self.inner {
            Inner::Http1(_) => Version::Http11,
            Inner::Http2(_) => Version::Http2,
        }
    }

    /// The address that the stream comes from, where [`ClientConfig`] named it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.inner {
            Inner::Http1(connection) => connection.local_addr(),
            Inner::Http2(connection) => connection.local_addr(),
        }
    }

    /// True where it can take a request now.
    pub fn is_ready(&self) -> bool {
        match &self.inner {
            Inner::Http1(connection) => connection.is_idle(),
            Inner::Http2(connection) => connection.is_ready(),
        }
    }

    /// True where it will never take another request.
    pub fn is_closed(&self) -> bool {
        match &self.inner {
            Inner::Http1(connection) => !connection.is_idle(),
            Inner::Http2(connection) => connection.is_closed(),
        }
    }

    /// True where it can take a request now; else the task is woken when it may be so. For HTTP/2.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> bool {
        match &self.inner {
            Inner::Http1(_) => false,
            Inner::Http2(connection) => connection.poll_room(cx),
        }
    }

    /// Waits until it is known how many requests it takes at once.
    pub(crate) async fn settled(&self) {
        match &self.inner {
            Inner::Http1(_) => {}
            Inner::Http2(connection) => connection.settled().await,
        }
    }

    /// Another handle on the same HTTP/2 connection; none for HTTP/1.
    pub(crate) fn share(&self) -> Option<Connection> {
        match &self.inner {
            Inner::Http1(_) => None,
            Inner::Http2(connection) => Some(Connection {
                inner: Inner::Http2(connection.clone()),
                reused: true,
            }),
        }
    }

    /// Sends a request and waits for the head of its response. `home` takes the connection back
    /// once the exchange is complete; without one it is closed then.
    pub(crate) async fn exchange(
        self,
        outgoing: Outgoing<'_>,
        home: Option<Home>,
    ) -> Result<Response, SendError> {
        let reused = self.reused;
        match self.inner {
            Inner::Http1(connection) => http1::exchange(connection, outgoing, reused, home).await,
            Inner::Http2(connection) => http2::exchange(connection, outgoing, reused).await,
        }
    }

    /// Sends the only request of a connection.
    pub async fn send(self, head: &RequestHead, body: Body) -> Result<Response, SendError> {
        let outgoing = Outgoing {
            head,
            body,
            interim: None,
        };
        self.exchange(outgoing, None).await
    }

    pub(crate) fn from_http1(connection: http1::Connection) -> Connection {
        Connection {
            inner: Inner::Http1(connection),
            reused: true,
        }
    }
}
