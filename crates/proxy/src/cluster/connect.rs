//! Connections to hosts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lateen_balance::{Overflow, Permit, Priority, Resource};
use lateen_core::proxy_protocol;
use lateen_http::{ClientConfig, Connection, Keepalive};
use lateen_route::without_port;
use lateen_tls::{ConnInfo, Stream as TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{Address, Cluster, ClusterStats, Transport};
use crate::socket::{self, Stream};

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The host could not be reached.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("connection timeout")]
    Timeout,
    /// The handshake failed: the host is not who it should be, or does not take us.
    #[error("TLS error: {0}")]
    Tls(#[from] lateen_tls::Error),
    /// The host would not open a tunnel.
    #[error("the tunnel was refused with status {0}")]
    Refused(u16),
    /// A limit is reached.
    #[error("{0}")]
    Overflow(#[from] Overflow),
}

/// A stream to a host; dropping it counts it off.
pub(crate) struct UpstreamIo {
    io: Io,
    stats: Arc<ClusterStats>,
    _permit: Permit,
}

enum Io {
    Raw(Stream),
    Tls(Box<TlsStream<Stream>>),
}

/// An established stream.
pub(crate) struct Connected {
    pub io: UpstreamIo,
    pub local: Option<SocketAddr>,
    pub tls: Option<Arc<ConnInfo>>,
}

/// Which HTTP a connection is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HttpWant {
    Http1,
    Http2,
    /// What ALPN says.
    Auto,
}

/// The use of a connection decides which protocols TLS offers.
#[derive(Clone, Copy)]
enum Use {
    Tcp,
    Http(HttpWant),
}

/// Where a client's connection came from and where it was going, for a header that says so.
pub(crate) type Between = (SocketAddr, SocketAddr);

/// Connects for TCP proxying.
pub(crate) async fn connect(cluster: &Cluster, to: To<'_>) -> Result<Connected, ConnectError> {
    let permit = cluster.acquire(Resource::Connection, Priority::Default)?;
    establish(cluster, to, None, Use::Tcp, permit).await
}

/// Which host, how, and on whose behalf.
#[derive(Clone, Copy)]
pub(crate) struct To<'a> {
    pub address: &'a Address,
    /// The host's own name; may be empty.
    pub name: &'a str,
    /// The place of its transport in the cluster's.
    pub transport: usize,
    pub client: Between,
}

/// Connects for HTTP.
pub(crate) async fn connect_http(
    cluster: &Cluster,
    to: To<'_>,
    authority: &str,
    want: HttpWant,
    permit: Permit,
) -> Result<Connection, ConnectError> {
    let used = Use::Http(want);
    let connected = establish(cluster, to, Some(authority), used, permit).await?;
    let alpn = connected.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    let http2 = match want {
        HttpWant::Http1 => false,
        HttpWant::Http2 => true,
        HttpWant::Auto => matches!(alpn, Some(b"h2" | b"istio-h2")),
    };
    let config = ClientConfig {
        http2,
        local: connected.local,
        max_requests: cluster.spec.http.max_requests,
        max_streams: cluster.spec.http.max_streams,
        keepalive: cluster.spec.http.keepalive.map(|pings| Keepalive {
            interval: pings.interval,
            timeout: pings.timeout,
        }),
        ..ClientConfig::default()
    };
    Ok(lateen_http::connect(connected.io, &config))
}

async fn establish(
    cluster: &Cluster,
    to: To<'_>,
    authority: Option<&str>,
    used: Use,
    permit: Permit,
) -> Result<Connected, ConnectError> {
    let attempt = handshake(cluster, to, authority, used);
    let result = match tokio::time::timeout(cluster.spec.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout),
    };
    let (io, local, tls) = result.inspect_err(|error| {
        cluster.stats.cx_connect_fail.inc();
        tracing::debug!(cluster = %cluster.spec.name, address = %to.address, %error, "connection failed");
    })?;
    cluster.stats.cx_total.inc();
    cluster.stats.cx_active.add(1);
    let io = UpstreamIo {
        io,
        stats: cluster.stats.clone(),
        _permit: permit,
    };
    Ok(Connected { io, local, tls })
}

async fn handshake(
    cluster: &Cluster,
    to: To<'_>,
    authority: Option<&str>,
    used: Use,
) -> Result<(Io, Option<SocketAddr>, Option<Arc<ConnInfo>>), ConnectError> {
    let To {
        address,
        name,
        transport,
        client: (source, destination),
    } = to;
    let spec = &cluster.spec;
    let (mut stream, local) = match address {
        Address::Ip(address) => {
            let stream = socket::connect(*address, &spec.bind, spec.keepalive).await?;
            let local = stream.local_addr().ok();
            (Stream::Tcp(stream), local)
        }
        Address::Path(path) => (Stream::Unix(socket::unix::connect(path).await?), None),
    };
    if let Some(version) = cluster.spec.transports[transport].proxy_header() {
        let header = proxy_protocol::encode(version, source, destination);
        stream.write_all(&header).await?;
    }
    let tls = match &cluster.transports[transport] {
        Transport::Raw => return Ok((Io::Raw(stream), local, None)),
        Transport::Tls(tls) => tls,
    };
    let connector = match used {
        Use::Tcp => &tls.tcp,
        Use::Http(HttpWant::Http1) => &tls.http1,
        Use::Http(HttpWant::Http2) => &tls.http2,
        Use::Http(HttpWant::Auto) => &tls.auto,
    };
    let asked = authority
        .filter(|_| tls.auto_sni)
        .and_then(|authority| name_of(authority, tls.verify_name));
    let own = Some(bare(name)).filter(|name| tls.host_sni && !name.is_empty());
    let sni = asked.or(own).or(tls.sni.as_deref());
    let stream = connector.connect(stream, sni).await?;
    let info = stream.info().clone();
    Ok((Io::Tls(Box::new(stream)), local, Some(info)))
}

/// The name that a request asks a server for. An address is none (RFC 6066, section 3); it counts
/// where it is verified.
fn name_of(authority: &str, verified: bool) -> Option<&str> {
    let host = bare(without_port(authority));
    Some(host).filter(|host| verified || host.parse::<IpAddr>().is_err())
}

/// A host without the brackets that an IPv6 address has in URLs.
pub(super) fn bare(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(host)
}

impl Drop for UpstreamIo {
    fn drop(&mut self) {
        self.stats.cx_active.add(-1);
    }
}

impl UpstreamIo {
    /// The socket of a stream over the network without TLS, for a relay that moves bytes past us; it has to count
    /// them in these statistics.
    pub(crate) fn raw_mut(&mut self) -> Option<(&mut TcpStream, &ClusterStats)> {
        match &mut self.io {
            Io::Raw(stream) => Some((stream.tcp_mut()?, &self.stats)),
            Io::Tls(_) => None,
        }
    }

    fn inner(&mut self) -> Pin<&mut (dyn Duplex + Unpin)> {
        match &mut self.io {
            Io::Raw(stream) => Pin::new(stream),
            Io::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Duplex for T {}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = self.inner().poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.stats.rx_bytes.add(read as u64);
        }
        result
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.inner().poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &result {
            self.stats.tx_bytes.add(*written as u64);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.inner().poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(written)) = &result {
            self.stats.tx_bytes.add(*written as u64);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Raw(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_name_to_ask_for() {
        for (authority, name, verified) in [
            ("a.test", Some("a.test"), Some("a.test")),
            ("a.test:443", Some("a.test"), Some("a.test")),
            ("10.0.0.1:443", None, Some("10.0.0.1")),
            ("[fd00::1]", None, Some("fd00::1")),
            ("[fd00::1]:443", None, Some("fd00::1")),
        ] {
            assert_eq!(name_of(authority, false), name, "{authority}");
            assert_eq!(name_of(authority, true), verified, "{authority}");
        }
    }
}
