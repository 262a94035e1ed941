//! What goes over the wires between pods, read from a packet socket in the mesh's own namespace.

use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::Context;
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, sockopt},
    sys::time::TimeVal,
};

/// Collects TCP payloads until it is stopped.
#[derive(Debug)]
pub struct Wire {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Vec<u8>>>>,
}

impl Wire {
    /// Listens in the network namespace of a process, for segments from or to a port.
    pub fn listen(pid: i32, port: u16) -> anyhow::Result<Wire> {
        let namespaces = PathBuf::from(format!("/proc/{pid}/ns"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        // A thread of its own, because a namespace belongs to a thread and nobody needs it back.
        let thread = std::thread::spawn(move || {
            let opened = open(&namespaces);
            let failed = opened.as_ref().err().map(|error| format!("{error:#}"));
            ready_tx.send(failed).context("nobody waits")?;
            collect(&opened?, port, &stopped)
        });
        match ready_rx.recv()? {
            Some(error) => anyhow::bail!("cannot listen on the wire: {error}"),
            None => Ok(Wire { stop, thread }),
        }
    }

    /// Stops and returns the payloads, in the order in which they were seen.
    pub fn finish(self) -> anyhow::Result<Vec<Vec<u8>>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the listener panicked"))?
    }
}

fn open(namespaces: &std::path::Path) -> anyhow::Result<OwnedFd> {
    let net = File::open(namespaces.join("net"))?;
    setns(net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    let packets = socket::socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    socket::setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(packets)
}

fn collect(packets: &OwnedFd, port: u16, stop: &AtomicBool) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut payloads = Vec::new();
    let mut frame = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        match socket::recv(packets.as_raw_fd(), &mut frame, socket::MsgFlags::empty()) {
            Ok(n) => payloads.extend(payload(&frame[..n], port).map(<[u8]>::to_vec)),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(payloads)
}

/// The TCP payload of an Ethernet frame from or to the port, if it has one.
fn payload(frame: &[u8], port: u16) -> Option<&[u8]> {
    const ETHERNET: usize = 14;
    const TCP: u8 = 6;
    let ip = frame.get(ETHERNET..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if ip.first()? >> 4 != 4 || *ip.get(9)? != TCP {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let tcp = ip.get(header..length.min(ip.len()))?;
    let number = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    if number(0)? != port && number(2)? != port {
        return None;
    }
    let data = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    (!data.is_empty()).then_some(data)
}
