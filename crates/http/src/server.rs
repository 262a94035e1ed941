//! Serving one accepted connection: HTTP/1 and HTTP/2, told apart by the preface.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, Request, Response, convert};

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
    /// How long a connection may be without a request head. Envoy's default is one hour.
    pub idle_timeout: Duration,
    /// Streams that one HTTP/2 connection may have open.
    pub max_concurrent_streams: u32,
    /// Bytes of one head.
    pub max_head_bytes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            protocol: Protocol::Auto,
            idle_timeout: Duration::from_secs(3600),
            max_concurrent_streams: 1024,
            max_head_bytes: 60 * 1024,
        }
    }
}

/// Ends the exchange without a response: an HTTP/1 connection is closed, an HTTP/2 stream reset.
#[derive(Debug, thiserror::Error)]
#[error("exchange aborted")]
pub struct Abort;

/// What answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Response, Abort>> + Send;
}

/// Serves one connection until it ends. When `drain` resolves, requests that are in flight are
/// finished and no new one is taken.
pub async fn serve<I, H>(
    io: I,
    config: &ServerConfig,
    handler: H,
    drain: impl Future<Output = ()>,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let builder = builder(config);
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move {
            handler
                .handle(convert::request_in(request))
                .await
                .map(convert::response_out)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut drain = pin!(drain);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.as_mut() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    result.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => Error::from_engine(&error),
        Err(error) => Error::Closed(error.to_string()),
    })
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).preserve_header_case(true);
    builder = match config.protocol {
        Protocol::Auto => builder,
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .half_close(true)
        .max_buf_size(config.max_head_bytes.max(8192))
        .header_read_timeout(config.idle_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(config.max_concurrent_streams);
    builder
}
