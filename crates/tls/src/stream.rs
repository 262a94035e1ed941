//! An established TLS connection, client or server side, and what its handshake agreed on.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use rustls::{CipherSuite, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::peers::Peers;
use crate::{CertInfo, Error};

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
    /// The cipher suite, by the library's name: IANA's, with `TLS13` in it where that is the version.
    pub cipher: Cow<'static, str>,
    /// The group of the key exchange, `X25519MLKEM768` for example; none for a session that was
    /// resumed in TLS 1.2.
    pub group: Option<&'static str>,
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
    pub(crate) fn new(inner: TlsStream<IO>, peers: &Peers) -> Self {
        let info = Arc::new(ConnInfo::of(&inner, peers));
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
    fn of<IO>(stream: &TlsStream<IO>, peers: &Peers) -> Self {
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
            cipher: suite.map(|s| name(s.suite())).unwrap_or_default(),
            group: common
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str()),
            peer: peer(common.peer_certificates(), peers),
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    /// A resumed session stands for a certificate that was verified when it began, and must not
    /// outlive it.
    pub(crate) fn check_resumed(&self, now: SystemTime) -> Result<(), Error> {
        match &self.peer {
            Some(peer) if self.resumed && peer.not_after < now => Err(Error::Handshake(
                "the certificate behind the resumed session has expired".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

fn name(suite: CipherSuite) -> Cow<'static, str> {
    match suite.as_str() {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("{suite:?}")),
    }
}

fn peer(chain: Option<&[CertificateDer<'_>]>, peers: &Peers) -> Option<Arc<CertInfo>> {
    peers.info(chain?.first()?).ok()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Authority, CsrKey, LeafRequest};

    #[test]
    fn a_resumed_session_ends_with_the_certificate_behind_it() {
        let hour = Duration::from_secs(3600);
        let root = Authority::self_signed("x", 2 * hour).expect("a root");
        let leaf = LeafRequest::server(["a.b"], hour);
        let leaf = root.issue(&leaf, CsrKey::Generate).expect("a leaf").info;
        let end = leaf.not_after;
        let info = |resumed, peer| ConnInfo {
            sni: None,
            alpn: None,
            version: Version::Tls13,
            cipher: Cow::default(),
            group: None,
            peer,
            resumed,
        };
        let leaf = Some(Arc::new(leaf));
        for (resumed, peer, now, good) in [
            (true, &leaf, end - hour, true),
            (true, &leaf, end + hour, false),
            // A full handshake has looked at the time itself.
            (false, &leaf, end + hour, true),
            (true, &None, end + hour, true),
        ] {
            let checked = info(resumed, peer.clone()).check_resumed(now);
            assert_eq!(checked.is_ok(), good, "{checked:?}");
        }
    }
}
