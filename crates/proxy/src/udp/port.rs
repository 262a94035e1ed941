//! The socket that clients send to. An address may stand for several, so each datagram says which one
//! it was sent to, and what goes back comes from there.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for the largest datagram there is.
const LARGEST: usize = 65_536;

thread_local! {
    /// Each datagram is gone before the next one is read, whoever reads it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends room for one datagram.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(LARGEST, 0);
        work(buffer)
    })
}

/// The socket.
pub(super) struct Port {
    io: UdpSocket,
    bound: SocketAddr,
}

/// Where a datagram came from and was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

impl Port {
    /// A socket that says where datagrams were sent to, as [`crate::socket::receive`] makes it.
    pub(super) fn new(io: UdpSocket) -> io::Result<Self> {
        let bound = io.local_addr()?;
        Ok(Port { io, bound })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// The next datagram: its length and its ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
        self.io
            .try_io(Interest::READABLE, || Ok(self.receive_now(buffer)?))
    }

    fn receive_now(&self, buffer: &mut [u8]) -> Result<(usize, Ends), Errno> {
        let mut control = cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.io.as_raw_fd();
        let flags = MsgFlags::empty();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags)?;
        let client = message.address.as_ref().and_then(ip).ok_or(Errno::EINVAL)?;
        let mut local = self.bound;
        for info in message.cmsgs()? {
            match info {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let ip = u32::from_be(info.ipi_spec_dst.s_addr).to_be_bytes();
                    local.set_ip(IpAddr::from(ip));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local.set_ip(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                _ => {}
            }
        }
        Ok((message.bytes, Ends { client, local }))
    }

    /// Sends to the client of a session, from the address that it sent to.
    ///
    /// # Errors
    /// Also [`Errno::EAGAIN`], where there is no room for it now.
    pub(super) fn send(&self, bytes: &[u8], to: Ends) -> Result<(), Errno> {
        let parts = [IoSlice::new(bytes)];
        let fd = self.io.as_raw_fd();
        let flags = MsgFlags::empty();
        let client = SockaddrStorage::from(to.client);
        let client = Some(&client);
        match to.local.ip() {
            IpAddr::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmsg(
                    fd,
                    &parts,
                    &[ControlMessage::Ipv4PacketInfo(&info)],
                    flags,
                    client,
                )?;
            }
            IpAddr::V6(ip) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                sendmsg(
                    fd,
                    &parts,
                    &[ControlMessage::Ipv6PacketInfo(&info)],
                    flags,
                    client,
                )?;
            }
        }
        Ok(())
    }
}

impl Ends {
    /// IPv4 addresses as such, also where an IPv6 socket has them.
    pub(super) fn canonical(self) -> Ends {
        let of = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Ends {
            client: of(self.client),
            local: of(self.local),
        }
    }
}

fn ip(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_the_first_look_says_where_it_was_sent_to() {
        for (any, to) in [
            ("0.0.0.0:0", "127.0.0.2"),
            ("[::]:0", "127.0.0.2"),
            ("[::]:0", "::1"),
        ] {
            let socket = crate::socket::receive(any.parse().expect("an address"), false);
            let socket = socket.expect("a free port");
            let own = socket.local_addr().expect("bound").port();
            let local = SocketAddr::new(to.parse().expect("an address"), own);
            let client = std::net::UdpSocket::bind(if to == "::1" {
                "[::1]:0"
            } else {
                "127.0.0.1:0"
            });
            let client = client.expect("a free port");
            client.send_to(b"x", local).expect("sent");
            let port = Port::new(UdpSocket::from_std(socket).expect("a socket")).expect("bound");
            port.readable().await.expect("a datagram");
            let mut buffer = [0; 10];
            let (length, ends) = port.receive(&mut buffer).expect("a datagram");
            let client = client.local_addr().expect("bound");
            assert_eq!((length, ends.canonical()), (1, Ends { client, local }));
            port.send(b"y", ends).expect("sent");
        }
    }
}
