//! Serving one accepted connection: HTTP/1 and HTTP/2, told apart by the preface.

mod http1;
mod http2;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;

use crate::timer::{Timer, after};
use crate::transport::{Io, Transport};
use crate::{Error, Request, Response};

/// Which protocols a server connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/2 where the client opens with its preface, else HTTP/1.
    #[default]
    Auto,
    /// HTTP/1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

/// How a server connection behaves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The protocols.
    pub protocol: Protocol,
    /// How long a connection may be without a request. Envoy's default is one hour; zero means for
    /// ever.
    pub idle_timeout: Duration,
    /// How long a head may take from its first byte to its last. Envoy has no default; without one,
    /// slow clients hold connections for nothing.
    pub head_timeout: Duration,
    /// Streams that one HTTP/2 connection may have open.
    pub max_concurrent_streams: u32,
    /// Bytes of one head.
    pub max_head_bytes: usize,
    /// Fields of one head. Envoy's default is 100.
    pub max_head_fields: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            protocol: Protocol::Auto,
            idle_timeout: Duration::from_secs(3600),
            head_timeout: Duration::from_secs(60),
            max_concurrent_streams: 1024,
            max_head_bytes: 60 * 1024,
            max_head_fields: 100,
        }
    }
}

/// Ends the exchange without a response: an HTTP/1 connection is closed, an HTTP/2 stream reset.
#[derive(Debug, thiserror::Error)]
#[error("exchange aborted")]
pub struct Abort;

/// What answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. The future is dropped where the client goes away.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Response, Abort>> + Send;
}

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection until it ends. When `drain` resolves, requests that are in flight are
/// finished and no new one is taken.
pub fn serve<'a, H: Handler>(
    io: impl Io,
    config: &ServerConfig,
    handler: H,
    drain: impl Future<Output = ()> + Send + 'a,
) -> Serving<'a> {
    let transport = Transport::new(Box::new(io), BytesMut::new());
    let begin = begin(transport, config.clone(), handler, drain);
    Serving(Part::Begin(Box::pin(begin)))
}

/// A connection that is served, as long as this is polled.
pub struct Serving<'a>(Part<'a>);

/// One part after the other, each boxed: what an idle connection keeps has no room for the protocol
/// that it does not speak, nor for how that was found out.
enum Part<'a> {
    Begin(Boxed<'a, Part<'a>>),
    Serve(Boxed<'a, ()>),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl Future for Serving<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Part::Begin(begin) => self.0 = ready!(begin.as_mut().poll(cx))?,
                Part::Serve(serving) => return serving.as_mut().poll(cx),
            }
        }
    }
}

/// Finds out which protocol the client speaks.
async fn begin<'a, H: Handler>(
    mut transport: Transport,
    config: ServerConfig,
    handler: H,
    drain: impl Future<Output = ()> + Send + 'a,
) -> Result<Part<'a>, Error> {
    let http2 = match config.protocol {
        Protocol::Http1 => false,
        Protocol::Http2 => true,
        Protocol::Auto => opens_with_preface(&mut transport, &config).await?,
    };
    Ok(Part::Serve(if http2 {
        Box::pin(http2::serve(transport, config, handler, drain))
    } else {
        Box::pin(http1::serve(transport, config, handler, drain))
    }))
}

/// Reads until the first bytes are the preface or cannot become it.
async fn opens_with_preface(
    transport: &mut Transport,
    config: &ServerConfig,
) -> Result<bool, Error> {
    let mut timer = Timer::default();
    let mut deadline = after(config.idle_timeout);
    poll_fn(|cx| {
        loop {
            let seen = transport.read.len().min(PREFACE.len());
            if transport.read[..seen] != PREFACE[..seen] {
                return Poll::Ready(Ok(false));
            }
            if seen == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            match transport.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(_)) => deadline = deadline.min(after(config.head_timeout)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::io(&error))),
                Poll::Pending => {
                    transport.settle();
                    return match timer.poll_until(cx, deadline) {
                        Poll::Ready(()) => Poll::Ready(Err(Error::Timeout("no request came"))),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    })
    .await
}
