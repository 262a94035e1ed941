//! The proxy's IPv6 address on the loop-back interface.
//!
//! Rules know connections from the proxy to the application by their source. That of IPv4 is one of
//! 127.0.0.0/8, which are all there; IPv6 has one loop-back address, so `::6` has to be added.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// The source of connections to the application.
pub(crate) const FROM_PROXY: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What to do with the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing where it is there already.
    Add,
    /// Nothing where it is not there.
    Remove,
}

// Of `linux/rtnetlink.h`, `linux/netlink.h` and `linux/if_addr.h`.
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFA_F_NODAD: u8 = 0x2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET6: u8 = 10;
const HEADER_LEN: usize = 16;

/// Changes the loop-back interface of the calling thread's network namespace.
///
/// # Errors
/// What the kernel says; where there is no IPv6 it is `EAFNOSUPPORT`, `EOPNOTSUPP` or `EACCES`.
pub(crate) fn change(how: Change) -> io::Result<()> {
    let lo = if_nametoindex("lo")?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    send(socket.as_raw_fd(), &message(how, lo), MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let n = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match (refusal(&answer[..n]), how) {
        (Some(0), _) => Ok(()),
        (Some(errno), Change::Remove) if errno == Errno::EADDRNOTAVAIL as i32 => Ok(()),
        (Some(errno), _) => Err(io::Error::from_raw_os_error(errno)),
        (None, _) => Err(io::Error::other("the kernel did not answer")),
    }
}

fn message(how: Change, interface: u32) -> Vec<u8> {
    let (kind, more) = match how {
        Change::Add => (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE),
        Change::Remove => (RTM_DELADDR, 0),
    };
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | more).to_ne_bytes());
    // Neither a sequence nor a sender: there is one question.
    bytes.extend_from_slice(&[0; 8]);
    // `struct ifaddrmsg`: the whole address is the host's.
    bytes.extend_from_slice(&[AF_INET6, 128, IFA_F_NODAD, 0]);
    bytes.extend_from_slice(&interface.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        bytes.extend_from_slice(&20_u16.to_ne_bytes());
        bytes.extend_from_slice(&attribute.to_ne_bytes());
        bytes.extend_from_slice(&FROM_PROXY.octets());
    }
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// The error number of an answer; 0 is success.
fn refusal(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?.try_into().ok()?;
    let number = answer.get(HEADER_LEN..HEADER_LEN + 4)?.try_into().ok()?;
    (u16::from_ne_bytes(kind) == NLMSG_ERROR).then(|| -i32::from_ne_bytes(number))
}
