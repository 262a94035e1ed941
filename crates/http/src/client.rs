//! Client connections: one exchange at a time in HTTP/1, many in HTTP/2.

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Wire;
use crate::{Error, Method, Request, Response, SendError, Version, convert};

/// How a client connection behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Speak HTTP/2; else HTTP/1.1.
    pub http2: bool,
}

/// A connection to a server.
pub struct Connection {
    sender: Sender,
    reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Wire>),
    Http2(http2::SendRequest<Wire>),
}

/// Starts HTTP on a stream; the connection's own task ends with it.
pub async fn connect<I>(io: I, config: &ClientConfig) -> Result<Connection, Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let sender = if config.http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Error::from_engine(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Sender::Http2(sender)
    } else {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Error::from_engine(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Sender::Http1(sender)
    };
    Ok(Connection {
        sender,
        reused: false,
    })
}

impl Connection {
    /// The protocol of the connection.
    pub fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::Http11,
            Sender::Http2(_) => Version::Http2,
        }
    }

    /// True where it can take a request now.
    pub fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready() && !sender.is_closed(),
        }
    }

    /// True where it will never take another request.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until it can take a request.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        }
        .map_err(|error| Error::from_engine(&error))
    }

    /// Another handle on the same HTTP/2 connection; none for HTTP/1.
    pub(crate) fn share(&self) -> Option<Connection> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Connection {
                sender: Sender::Http2(sender.clone()),
                reused: true,
            }),
        }
    }

    /// Sends a request and waits for the head of its response.
    pub async fn send(&mut self, request: Request) -> Result<Response, SendError> {
        let reused = std::mem::replace(&mut self.reused, true);
        let is_connect = request.head.method == Method::CONNECT;
        // An HTTP/1 connection may not yet have seen the end of the exchange before.
        if let Err(error) = self.ready().await {
            return Err(SendError {
                error,
                unsent: Some(Box::new(request)),
                reused,
            });
        }
        let fail = |error| SendError {
            error,
            unsent: None,
            reused,
        };
        let result = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = convert::request_http1(request).map_err(fail)?;
                sender.try_send_request(request).await
            }
            Sender::Http2(sender) => {
                let request = convert::request_http2(request).map_err(fail)?;
                sender.try_send_request(request).await
            }
        };
        match result {
            Ok(mut response) => {
                if is_connect && response.status().is_success() {
                    response.extensions_mut().insert(convert::ConnectMark);
                }
                Ok(convert::response_in(response))
            }
            Err(mut failure) => Err(SendError {
                unsent: failure
                    .take_message()
                    .map(|m| Box::new(convert::request_back(m))),
                error: Error::from_engine(failure.error()),
                reused,
            }),
        }
    }
}
