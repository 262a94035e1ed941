//! The socket that proxies connect to.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the system cuts it to what it allows
/// (`net.core.somaxconn`). After a restart all proxies of a mesh connect in the same second. What
/// does not fit is tried again by the client's system a second later, or answered by cookies that
/// may be refused: a reset.
const WAITING: u32 = 1 << 15;

/// Listens for thousands of clients that come at once.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A process takes over the port of the one before it, whose last connections still end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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
}
