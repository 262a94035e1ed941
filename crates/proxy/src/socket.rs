//! Sockets as the data plane needs them: marked so that capture rules leave them alone, shared by
//! workers, and asked where a redirected connection was going.

mod stream;
pub(crate) mod unix;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lateen_decode::Keepalive;
use nix::sys::socket::sockopt::{self, Ip6tOriginalDst, OriginalDst};
use nix::sys::socket::{getsockopt, setsockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use stream::{Acceptor, Listening, Stream};

/// The mark by which capture rules know the proxy's own connections.
const MARK: u32 = 1337;
/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// Silence after which the kernel asks whether the peer is still there; how often and how fast is
/// its default, as with Envoy.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Set once marking was refused, so that it is not tried and reported for every socket.
static UNMARKED: AtomicBool = AtomicBool::new(false);

fn mark(socket: SockRef<'_>) {
    if UNMARKED.load(Ordering::Relaxed) {
        return;
    }
    if let Err(error) = socket.set_mark(MARK)
        && !UNMARKED.swap(true, Ordering::Relaxed)
    {
        tracing::info!(%error, "sockets are not marked; capture rules must know us by user id");
    }
}

/// Binds one listening socket of several that share an address. `::` is for IPv4 too, unless it is
/// `only_v6`.
pub(crate) fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    share(&socket, address, only_v6)?;
    mark(SockRef::from(&socket));
    // Accepted connections inherit these, which saves the calls for each of them.
    tune(SockRef::from(&socket), Keepalive::default());
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds one socket for datagrams of several that share an address, as [`listen`] does. It says where
/// each datagram was sent to.
pub(crate) fn receive(address: SocketAddr, only_v6: bool) -> io::Result<std::net::UdpSocket> {
    let socket = datagrams(address)?;
    share(&socket, address, only_v6)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    // Last: the kernel notes where a datagram was sent to when it comes, not when it is read.
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Lets other sockets have the same address.
fn share(socket: &Socket, address: SocketAddr, only_v6: bool) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6 || !address.ip().is_unspecified())?;
    }
    Ok(())
}

/// A socket for datagrams to and from one host, from the one of `sources` that is of the address's
/// family, if there is one. Must be called on a tokio runtime.
pub(crate) fn datagrams_to(
    address: SocketAddr,
    sources: &[SocketAddr],
) -> io::Result<tokio::net::UdpSocket> {
    let socket = datagrams(address)?;
    if let Some(source) = same_family(sources, address) {
        socket.bind(&(*source).into())?;
    }
    socket.connect(&address.into())?;
    tokio::net::UdpSocket::from_std(socket.into())
}

fn datagrams(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    mark(SockRef::from(&socket));
    Ok(socket)
}

fn same_family(sources: &[SocketAddr], address: SocketAddr) -> Option<&SocketAddr> {
    let mut sources = sources.iter();
    sources.find(|source| source.is_ipv4() == address.is_ipv4())
}

/// Connects, from the one of `sources` that is of the address's family, if there is one.
pub(crate) async fn connect(
    address: SocketAddr,
    sources: &[SocketAddr],
    keepalive: Option<Keepalive>,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    mark(SockRef::from(&socket));
    if let Some(source) = same_family(sources, address) {
        // Without it each connection from one address would take a port from all the others.
        let _ = SockRef::from(&socket).set_bind_address_no_port(true);
        socket.bind(*source)?;
    }
    let stream = socket.connect(address).await?;
    tune(SockRef::from(&stream), keepalive.unwrap_or_default());
    Ok(stream)
}

/// Settings of every connection.
fn tune(socket: SockRef<'_>, keepalive: Keepalive) {
    let _ = socket.set_tcp_nodelay(true);
    let mut asked = TcpKeepalive::new().with_time(keepalive.time.unwrap_or(KEEPALIVE));
    if let Some(interval) = keepalive.interval {
        asked = asked.with_interval(interval);
    }
    if let Some(probes) = keepalive.probes {
        asked = asked.with_retries(probes);
    }
    if let Err(error) = socket.set_tcp_keepalive(&asked) {
        tracing::debug!(%error, ?keepalive, "keepalive not set");
    }
}

/// Where the peer of an accepted connection meant to go, as the kernel remembers it; `None` where it
/// does not follow connections. One that was not redirected meant the socket's own address.
pub(crate) fn original_dst(stream: &impl AsFd, local: SocketAddr) -> Option<SocketAddr> {
    match local.ip().to_canonical() {
        IpAddr::V4(_) => getsockopt(stream, OriginalDst).ok().map(|raw| {
            let ip = IpAddr::from(u32::from_be(raw.sin_addr.s_addr).to_be_bytes());
            SocketAddr::new(ip, u16::from_be(raw.sin_port))
        }),
        IpAddr::V6(_) => getsockopt(stream, Ip6tOriginalDst).ok().map(|raw| {
            let ip = IpAddr::from(raw.sin6_addr.s6_addr);
            SocketAddr::new(ip, u16::from_be(raw.sin6_port))
        }),
    }
}

trait BindNoPort {
    fn set_bind_address_no_port(&self, on: bool) -> io::Result<()>;
}

impl BindNoPort for SockRef<'_> {
    #[allow(
        unsafe_code,
        reason = "socket2 has no such option; the call passes one valid int"
    )]
    fn set_bind_address_no_port(&self, on: bool) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let value = libc::c_int::from(on);
        // SAFETY: the descriptor is open while `self` borrows it, and the pointer and length
        // describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                std::ptr::from_ref(&value).cast(),
                std::mem::size_of_val(&value) as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn accepted_connections_inherit_the_settings() {
        let listener = listen(any(), false).expect("a port");
        listener.set_nonblocking(false).expect("an option");
        let address = listener.local_addr().expect("an address");
        let _client = std::net::TcpStream::connect(address).expect("a listener");
        let (accepted, _) = listener.accept().expect("a client");
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), KEEPALIVE);
    }

    #[tokio::test]
    async fn a_connection_may_have_settings_of_its_own() {
        let listener = listen(any(), false).expect("a port");
        let address = listener.local_addr().expect("an address");
        let keepalive = Keepalive {
            time: Some(Duration::from_secs(7)),
            interval: Some(Duration::from_secs(3)),
            probes: Some(4),
        };
        let stream = connect(address, &[], Some(keepalive)).await;
        let stream = stream.expect("a listener");
        let socket = SockRef::from(&stream);
        let seen = Keepalive {
            time: socket.tcp_keepalive_time().ok(),
            interval: socket.tcp_keepalive_interval().ok(),
            probes: socket.tcp_keepalive_retries().ok(),
        };
        assert_eq!(seen, keepalive);
    }

    #[test]
    fn any_address_of_ipv6_stands_for_ipv4_where_nothing_else_does() {
        for only_v6 in [false, true] {
            let any = SocketAddr::from(([0u16; 8], 0));
            let socket = listen(any, only_v6).expect("IPv6 is there");
            let is_only = SockRef::from(&socket).only_v6();
            assert_eq!(is_only.expect("a socket option"), only_v6);
        }
    }

    #[test]
    fn connections_spread_over_the_workers_sockets() {
        const WORKERS: usize = 4;
        const CONNECTIONS: usize = 400;
        let first = listen(any(), false).expect("a port");
        let address = first.local_addr().expect("an address");
        let more = (1..WORKERS).map(|_| listen(address, false).expect("the port is shared"));
        let listeners: Vec<_> = std::iter::once(first).chain(more).collect();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| std::net::TcpStream::connect(address).expect("a listener"))
            .collect();
        let mut remotes = HashSet::new();
        let counts: Vec<usize> = listeners
            .iter()
            .map(|listener| {
                let accepted = std::iter::from_fn(|| listener.accept().ok());
                accepted
                    .filter(|(_, remote)| remotes.insert(*remote))
                    .count()
            })
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        // The kernel hashes ports: 100 for each with a deviation of 9, so this is far out.
        assert!(
            counts.iter().all(|count| (40..=180).contains(count)),
            "{counts:?}"
        );
    }
}
