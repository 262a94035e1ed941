//! The netlink socket: one datagram out, the kernel's answers in.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};

use super::error::Error;
use super::wire::parse_acks;

/// Sends a whole batch and reads what became of each of its messages.
///
/// The kernel works on a batch before the call that sends it returns, so all its answers are there
/// to be read without waiting.
pub(super) fn transact(batch: &[u8], actions: &[String]) -> Result<(), Error> {
    let socket = open(batch.len())?;
    match send(socket.as_raw_fd(), batch, MsgFlags::empty()) {
        Ok(_) => {}
        Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {
            return Err(Error::TooLarge { bytes: batch.len() });
        }
        Err(errno @ (Errno::EPERM | Errno::ECONNREFUSED)) => {
            return Err(Error::from_errno(
                "change netfilter tables".to_owned(),
                errno,
            ));
        }
        Err(errno) => {
            return Err(Error::Socket {
                action: "write to",
                errno,
            });
        }
    }
    read_answers(&socket, actions)
}

fn open(batch_len: usize) -> Result<OwnedFd, Error> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .map_err(|errno| match errno {
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
            Error::from_errno("open the netfilter netlink socket".to_owned(), errno)
        }
        _ => Error::Socket {
            action: "open",
            errno,
        },
    })?;
    // The kernel counts more than the payload, and a refusal quotes the message that it refuses.
    // Forcing needs privileges over the whole machine. Without them the limits of the machine hold,
    // which are enough for some hundred rules; if they are not, the send or the read says so.
    let room = (batch_len * 2).max(1 << 18);
    if setsockopt(&socket, SndBufForce, &room).is_err() {
        let _ = setsockopt(&socket, SndBuf, &room);
    }
    if setsockopt(&socket, RcvBufForce, &room).is_err() {
        let _ = setsockopt(&socket, RcvBuf, &room);
    }
    Ok(socket)
}

fn read_answers(socket: &OwnedFd, actions: &[String]) -> Result<(), Error> {
    let mut buffer = vec![0; 1 << 16];
    let (mut answered, mut lost) = (false, false);
    loop {
        let n = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(n) => n,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => break,
            // Some answers did not fit, but those that did are still to be read.
            Err(Errno::ENOBUFS) => {
                lost = true;
                continue;
            }
            Err(errno) => {
                return Err(Error::Socket {
                    action: "read from",
                    errno,
                });
            }
        };
        for ack in parse_acks(&buffer[..n]) {
            answered = true;
            if ack.errno != 0 {
                let action = actions.get(ack.seq as usize);
                let action = action.map_or("change netfilter tables", String::as_str);
                return Err(Error::from_errno(
                    action.to_owned(),
                    Errno::from_raw(ack.errno),
                ));
            }
        }
    }
    if answered && !lost {
        Ok(())
    } else {
        Err(Error::NoAnswer)
    }
}
