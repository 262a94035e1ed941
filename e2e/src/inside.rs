//! Sockets inside a pod's network namespace, made by the test itself.
//!
//! A socket belongs to the namespace in which it was made, wherever it is used: with two pods that do
//! nothing, a test is the client in one and the server in the other, and the traffic between them is
//! captured by their sidecars as that of any program.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command},
};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Connects from the namespace of a process.
pub async fn connect(pid: i32, address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = within(pid, move || std::net::TcpStream::connect(address)).await?;
    let stream = stream.with_context(|| format!("connect to {address}"))?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream)?)
}

/// Listens on every address of the namespace of a process.
pub async fn listen(pid: i32, port: u16) -> anyhow::Result<TcpListener> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = within(pid, move || std::net::TcpListener::bind(any)).await?;
    let listener = listener.with_context(|| format!("listen on {any}"))?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// A socket for datagrams, bound to this port, or to a free one where it is 0, of every address of the
/// namespace of a process.
pub async fn datagrams(pid: i32, port: u16) -> anyhow::Result<UdpSocket> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let socket = within(pid, move || std::net::UdpSocket::bind(any)).await?;
    let socket = socket.with_context(|| format!("take datagrams on {any}"))?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket)?)
}

/// Starts a program in the network namespace of a process.
pub async fn spawn(pid: i32, mut command: Command) -> anyhow::Result<Child> {
    let child = within(pid, move || command.spawn()).await?;
    child.context("start a program")
}

/// The address of a Service or a pod, from its text.
pub fn at(ip: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let ip: IpAddr = ip.parse().with_context(|| format!("{ip:?}"))?;
    Ok(SocketAddr::new(ip, port))
}

/// Runs in the network namespace of a process. The thread is its own, because a namespace belongs to
/// a thread and nobody needs it back.
async fn within<T: Send + 'static>(
    pid: i32,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (done_tx, done_rx) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let entered = File::open(format!("/proc/{pid}/ns/net"))
            .context("open the network namespace")
            .and_then(|net| {
                setns(net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")
            });
        // Nobody waits any more where the test has failed already.
        let _ = done_tx.send(entered.map(|()| work()));
    });
    done_rx.await.context("the thread panicked")?
}
