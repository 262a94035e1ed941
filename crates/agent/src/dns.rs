//! Answers names for the application, which captured queries come here for: hosts of the mesh by the
//! table that the control plane sends, all others by the resolvers of the pod.
//!
//! Invariant: a query that the mesh does not answer is asked elsewhere, once, with sockets that
//! capture leaves alone; should one come back all the same, it is refused.

mod answer;
mod resolv;
mod table;
mod upstream;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Error;
use crate::upstream::mark;
use answer::{Known, Query};
pub(crate) use resolv::Resolv;
pub(crate) use table::{Place, Table};
use upstream::{Over, Upstream};

/// The longest query over UDP. Those of resolvers have a tenth of it.
const QUERY_MAX: usize = 4096;
/// A TCP connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// TCP connections at once.
const SESSIONS_MAX: usize = 256;
/// Wait after an error such as "too many open files".
const RETRY: Duration = Duration::from_millis(50);

/// Connections that may wait to be taken.
const TCP_WAITING: i32 = 1024;

/// What is set of it.
#[derive(Debug, Clone)]
pub(crate) struct DnsConfig {
    /// Where queries come to.
    pub(crate) listen: Vec<SocketAddr>,
    /// How long other resolvers have for an answer, all together.
    pub(crate) timeout: Duration,
    /// All of them are asked at once.
    pub(crate) parallel: bool,
}

impl DnsConfig {
    /// Addresses by Istio's way to write one: `localhost:15053` is loopback of both families.
    pub(crate) fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let ips: Vec<IpAddr> = match host {
            "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            "" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            host => vec![host.trim_matches(['[', ']']).parse().ok()?],
        };
        Some(
            ips.into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect(),
        )
    }
}

/// The name server of a pod, on its sockets.
pub(crate) struct Dns {
    server: Arc<Server>,
    sockets: Vec<(Arc<UdpSocket>, TcpListener)>,
}

struct Server {
    tables: watch::Receiver<Arc<Table>>,
    upstream: Upstream,
    sessions: Arc<Semaphore>,
}

impl Dns {
    /// Listens. An address of a family that the pod lacks is passed over.
    pub(crate) async fn bind(
        config: &DnsConfig,
        resolv: &Resolv,
        tables: watch::Receiver<Arc<Table>>,
    ) -> Result<Dns, Error> {
        let mut sockets = Vec::new();
        let mut failure = None;
        for address in &config.listen {
            match bind(*address).await {
                Ok(bound) => sockets.push(bound),
                Err(source) if is_absent(&source) => {
                    tracing::debug!(%address, "names are not answered there: no such address");
                    failure = Some((address, source));
                }
                Err(source) => return Err(listening(address, source)),
            }
        }
        if let (true, Some((address, source))) = (sockets.is_empty(), failure) {
            return Err(listening(address, source));
        }
        let server = Arc::new(Server {
            tables,
            upstream: Upstream::new(&resolv.servers, config),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
        });
        Ok(Dns { server, sockets })
    }

    /// Answers; never returns.
    pub(crate) async fn serve(self) {
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.sockets {
            tasks.spawn(serve_udp(self.server.clone(), udp));
            tasks.spawn(serve_tcp(self.server.clone(), tcp));
        }
        tasks.join_all().await;
    }
}

/// Whether the pod lacks an address, or all of its family.
fn is_absent(error: &io::Error) -> bool {
    let no_family = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    no_family || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn listening(address: &SocketAddr, source: io::Error) -> Error {
    Error::Listen {
        address: format!("{address} (DNS)"),
        source,
    }
}

/// Both sockets of an address. Answers carry the mark of the proxy, by which rules tell its packets
/// from those of the application.
async fn bind(address: SocketAddr) -> io::Result<(Arc<UdpSocket>, TcpListener)> {
    let udp = UdpSocket::from_std(socket(address, Type::DGRAM)?.into())?;
    mark(&udp);
    let tcp = socket(udp.local_addr()?, Type::STREAM)?;
    tcp.listen(TCP_WAITING)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    mark(&tcp);
    Ok((Arc::new(udp), tcp))
}

/// A socket of one family: `::` does not stand for IPv4, which has a socket of its own.
fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if kind == Type::STREAM {
        // An agent that comes back takes over from connections that still end.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        let (n, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of an earlier answer, say; the socket goes on.
                tracing::debug!(%error, "cannot receive a query");
                continue;
            }
        };
        let Some(query) = Query::read(&buffer[..n]) else {
            continue;
        };
        let known = server.known(&query);
        if let Known::Answer(message) = known {
            let answer = answer::encode(&message, query.room());
            send(&socket, answer, client).await;
            continue;
        }
        let (server, socket) = (server.clone(), socket.clone());
        tokio::spawn(async move {
            let answer = server.forward(&query, known, client, Over::Udp).await;
            send(&socket, answer, client).await;
        });
    }
}

/// The client asks again if this is lost.
async fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(answer) = answer {
        let _ = socket.send_to(&answer, client).await;
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    loop {
        // Semaphores of ours are never closed.
        let Ok(permit) = server.sessions.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, client)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    let _ = session(&server, stream, client).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a query over TCP");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Answers the queries of one connection, one after the other.
async fn session(server: &Server, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    loop {
        let Ok(read) = tokio::time::timeout(IDLE, read_message(&mut stream)).await else {
            return Ok(());
        };
        let Some(query) = Query::read(&read?) else {
            return Ok(());
        };
        let answer = match server.known(&query) {
            Known::Answer(message) => answer::encode(&message, usize::from(u16::MAX)),
            known => server.forward(&query, known, client, Over::Tcp).await,
        };
        let Some(answer) = answer else {
            return Ok(());
        };
        tokio::time::timeout(IDLE, write_message(&mut stream, &answer)).await??;
    }
}

/// A message over TCP, which has its length before it (RFC 1035, 4.2.2).
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

impl Server {
    fn known(&self, query: &Query) -> Known {
        let table = self.tables.borrow().clone();
        query.known(&table)
    }

    /// What the resolvers of the pod say.
    async fn forward(
        &self,
        query: &Query,
        known: Known,
        client: SocketAddr,
        over: Over,
    ) -> Option<Vec<u8>> {
        let own = self.upstream.is_own(client, over);
        if own {
            tracing::warn!(
                name = query.name(),
                "a query that this agent sent came back to it: capture does not know the agent by \
                 its user or mark; it is refused"
            );
        }
        let answer = match own {
            true => None,
            false => self.upstream.ask(query.bytes(), query.room(), over).await,
        };
        let Some(mut answer) = answer else {
            return answer::encode(&query.failed(ResponseCode::ServFail), query.room());
        };
        if matches!(known, Known::Exists) {
            answer::let_exist(&mut answer);
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests;
