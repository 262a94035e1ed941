//! The socket that proxies connect to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the system cuts it to what it allows
/// (`net.core.somaxconn`). After a restart all proxies of a mesh connect in the same second. What
/// does not fit is tried again by the client's system a second later, or answered by cookies that
/// may be refused: a reset.
const WAITING: u32 = 1 << 15;

/// Listens for thousands of clients that come at once. `[::]` is for IPv4 too, and for nothing else where
/// the machine has no IPv6.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let all = address.ip() == Ipv6Addr::UNSPECIFIED;
    match bind(address) {
        Err(error) if all && !is_refusal(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// Whether the address is there, but not for this process.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    matches!(error.kind(), AddrInUse | PermissionDenied)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A process takes over the port of the one before it, whose last connections still end.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Whatever the machine has as its default.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(WAITING)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn of_both_families() {
        for local in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let listener = listen(SocketAddr::new(local, 0)).expect("a free port");
            let address = listener.local_addr().expect("an address");
            let (to, from) = tokio::join!(TcpStream::connect(address), listener.accept());
            let own = to.expect("a connection").local_addr().expect("an address");
            assert_eq!(from.expect("a connection").1, own);
            assert!(listen(address).is_err(), "it is taken");
        }
    }

    #[tokio::test]
    async fn of_all_addresses_those_of_both_families() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        for local in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let to = SocketAddr::new(local, port);
            let (to, from) = tokio::join!(TcpStream::connect(to), listener.accept());
            to.expect("a connection");
            let from = from.expect("a connection").1.ip().to_canonical();
            assert_eq!(from, local);
        }
        let again = listen((Ipv6Addr::UNSPECIFIED, port).into());
        let error = again.expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
