//! An established TLS connection, client or server side, and what its handshake agreed on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ProtocolVersion;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::CertInfo;

/// TLS versions that the mesh speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What a handshake agreed on.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The name that the client asked for, on the server side.
    pub sni: Option<String>,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// The protocol version.
    pub version: Version,
    /// The cipher suite, by its IANA name.
    pub cipher: String,
    /// The peer's certificate, verified unless the configuration asked for no verification.
    pub peer: Option<Arc<CertInfo>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A TLS connection over `IO`.
#[derive(Debug)]
pub struct Stream<IO> {
    inner: TlsStream<IO>,
    info: Arc<ConnInfo>,
}

impl<IO> Stream<IO> {
    pub(crate) fn new(inner: TlsStream<IO>) -> Self {
        let info = Arc::new(ConnInfo::of(&inner));
        Self { inner, info }
    }

    /// What the handshake agreed on.
    pub fn info(&self) -> &Arc<ConnInfo> {
        &self.info
    }

    /// The transport below.
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().0
    }
}

impl ConnInfo {
    fn of<IO>(stream: &TlsStream<IO>) -> Self {
        let common = stream.get_ref().1;
        let sni = match stream {
            TlsStream::Server(s) => s.get_ref().1.server_name().map(str::to_owned),
            TlsStream::Client(_) => None,
        };
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            // Nothing below 1.2 is ever configured.
            _ => Version::Tls12,
        };
        let suite = common.negotiated_cipher_suite();
        Self {
            sni,
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            version,
            cipher: suite
                .map(|s| format!("{:?}", s.suite()))
                .unwrap_or_default(),
            peer: peer(common.peer_certificates()),
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

fn peer(chain: Option<&[CertificateDer<'_>]>) -> Option<Arc<CertInfo>> {
    let leaf = chain?.first()?;
    CertInfo::from_der(leaf).ok().map(Arc::new)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
