//! TCP through an HTTP proxy: by CONNECT, or by a POST whose body and answer are the two directions.
//! Each client has a connection of its own there.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use lateen_balance::{Priority, Resource};
use lateen_decode::{Tunnel, UpstreamProtocol};
use lateen_http::{Body, BodyError, Frame, Method, RequestHead, Response, Source};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::cluster::{Cluster, ConnectError, HttpWant, To, connect_http};
use crate::http::log::Entry;
use crate::http::write_headers;

/// Pieces of a POST that wait to be sent.
const PIECES: usize = 4;
/// The most bytes of one.
const PIECE: usize = 64 * 1024;

/// The stream within.
pub(super) struct Tunneled {
    pub io: Box<dyn Duplex>,
    pub local: Option<SocketAddr>,
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens a tunnel by way of a host. The answer may take as long as connecting.
pub(super) async fn open(
    cluster: &Cluster,
    to: To<'_>,
    tunnel: &Tunnel,
    entry: &Entry,
) -> Result<Tunneled, ConnectError> {
    let mut authority = String::new();
    tunnel.authority.write(entry, "", &mut authority);
    let method = match tunnel.post {
        Some(_) => Method::POST,
        None => Method::CONNECT,
    };
    let path = tunnel.post.as_deref().unwrap_or_default();
    let mut head = RequestHead::new(method, &authority, path).map_err(io::Error::other)?;
    write_headers(&mut head.headers, &tunnel.headers, entry);
    let want = match cluster.spec.http.protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => HttpWant::Http1,
        UpstreamProtocol::Http2 => HttpWant::Http2,
        UpstreamProtocol::Auto => HttpWant::Auto,
    };
    let permit = cluster.acquire(Resource::Connection, Priority::Default)?;
    let connection = connect_http(cluster, to, &authority, want, permit).await?;
    let local = connection.local_addr();
    let (pieces_tx, pieces_rx) = mpsc::channel(PIECES);
    let body = match tunnel.post {
        Some(_) => Body::from_source(Pieces(pieces_rx)),
        None => Body::empty(),
    };
    let sent = connection.send(&head, body);
    let response = tokio::time::timeout(cluster.spec.connect_timeout, sent).await;
    let response = response.map_err(|_| ConnectError::Timeout)?;
    let response = response.map_err(|failed| io::Error::other(failed.error.to_string()))?;
    let Response {
        head,
        body,
        upgrade,
    } = response;
    if !(200..300).contains(&head.status) {
        return Err(ConnectError::Refused(head.status));
    }
    let io: Box<dyn Duplex> = match upgrade {
        Some(upgrade) => Box::new(upgrade.stream().await.map_err(io::Error::other)?),
        None if tunnel.post.is_some() => Box::new(Posted {
            pieces: PollSender::new(pieces_tx),
            answer: body,
            rest: Bytes::new(),
        }),
        None => return Err(ConnectError::Refused(head.status)),
    };
    Ok(Tunneled { io, local })
}

/// What the client says, as the body of a request.
struct Pieces(mpsc::Receiver<Bytes>);

impl Source for Pieces {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let piece = ready!(self.0.poll_recv(cx));
        Poll::Ready(piece.map(|piece| Ok(Frame::Data(piece))))
    }
}

/// The two directions of a POST as one stream.
struct Posted {
    pieces: PollSender<Bytes>,
    answer: Body,
    /// What has come and was not read yet.
    rest: Bytes,
}

impl AsyncRead for Posted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.answer.poll_next(cx)) {
                Some(Ok(Frame::Data(data))) => self.rest = data,
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Posted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.pieces.poll_reserve(cx)).map_err(|_| gone())?;
        let piece = &buf[..buf.len().min(PIECE)];
        let sent = self.pieces.send_item(Bytes::copy_from_slice(piece));
        Poll::Ready(sent.map(|()| piece.len()).map_err(|_| gone()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pieces.close();
        Poll::Ready(Ok(()))
    }
}
