//! Where a redirected connection was going before the rules led it to us.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{Ip6tOriginalDst, OriginalDst};
use socket2::SockRef;

/// The address that the peer of an accepted connection dialled, as connection tracking remembers it.
///
/// For a connection that was not redirected this is the socket's own address.
///
/// # Errors
/// `NotFound` if the kernel tracks no such connection; what the system says for other sockets.
pub fn original_dst(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let local = SockRef::from(socket).local_addr()?;
    match local.as_socket() {
        Some(SocketAddr::V4(_)) => v4(socket),
        // An IPv6 listener also takes IPv4 connections, which IPv4 tracks.
        Some(SocketAddr::V6(address)) if address.ip().to_ipv4_mapped().is_some() => v4(socket),
        Some(SocketAddr::V6(_)) => v6(socket),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an IP socket",
        )),
    }
}

fn v4(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let raw = getsockopt(socket, OriginalDst)?;
    let address = u32::from_be(raw.sin_addr.s_addr).into();
    Ok(SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into())
}

fn v6(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let raw = getsockopt(socket, Ip6tOriginalDst)?;
    let address = raw.sin6_addr.s6_addr.into();
    let port = u16::from_be(raw.sin6_port);
    Ok(SocketAddrV6::new(address, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
}
