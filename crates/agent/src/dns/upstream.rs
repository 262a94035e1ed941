//! The pod's own resolvers, asked for what the mesh does not know.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::{DnsConfig, read_message, write_message};
use crate::upstream::mark;

/// Queries under way at once. Each has a socket.
const ASKED_MAX: usize = 512;
/// Bytes before the questions.
const HEADER: usize = 12;

/// How a query came, and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Over {
    Udp,
    Tcp,
}

pub(super) struct Upstream {
    servers: Vec<SocketAddr>,
    timeout: Duration,
    parallel: bool,
    slots: Semaphore,
    /// Ports of sockets that wait for an answer.
    own: Mutex<HashSet<(Over, u16)>>,
}

impl Upstream {
    pub(super) fn new(servers: &[SocketAddr], config: &DnsConfig) -> Upstream {
        Upstream {
            servers: servers.to_vec(),
            timeout: config.timeout,
            parallel: config.parallel,
            slots: Semaphore::new(ASKED_MAX),
            own: Mutex::default(),
        }
    }

    /// Whether a client is one of our own sockets.
    pub(super) fn is_own(&self, client: SocketAddr, over: Over) -> bool {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.contains(&(over, client.port()))
    }

    /// An answer, with the query's own number. `None` where no server has one in time, or too many
    /// are waited for.
    pub(super) async fn ask(&self, query: &[u8], room: usize, over: Over) -> Option<Vec<u8>> {
        let _slot = self.slots.try_acquire().ok()?;
        if self.servers.is_empty() {
            return None;
        }
        let all = async {
            match self.parallel {
                true => self.ask_all(query, room, over).await,
                false => self.ask_each(query, room, over).await,
            }
        };
        tokio::time::timeout(self.timeout, all).await.ok().flatten()
    }

    /// One after the other, until one has an answer that is no failure of its own.
    async fn ask_each(&self, query: &[u8], room: usize, over: Over) -> Option<Vec<u8>> {
        let share = self.timeout / u32::try_from(self.servers.len()).unwrap_or(1);
        let mut failed = None;
        for server in &self.servers {
            let asked = self.exchange(*server, query, room, over);
            match tokio::time::timeout(share, asked).await {
                Ok(Ok(answer)) if is_good(&answer) => return Some(answer),
                Ok(Ok(answer)) => failed = Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver does not answer"),
                Err(_) => tracing::debug!(%server, "a resolver does not answer in time"),
            }
        }
        failed
    }

    /// All at once; the first good answer counts.
    async fn ask_all(&self, query: &[u8], room: usize, over: Over) -> Option<Vec<u8>> {
        let servers = self.servers.iter();
        let asked = servers.map(|server| self.exchange(*server, query, room, over));
        let mut asked = pin!(asked.collect::<FuturesUnordered<_>>());
        let mut failed = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) if is_good(&answer) => return Some(answer),
                Ok(answer) => failed = Some(answer),
                Err(error) => tracing::debug!(%error, "a resolver does not answer"),
            }
        }
        failed
    }

    /// Asks one server, from a port and with a number of its own, and restores the query's number.
    /// Whoever can foretell both can forge answers.
    async fn exchange(
        &self,
        server: SocketAddr,
        query: &[u8],
        room: usize,
        over: Over,
    ) -> io::Result<Vec<u8>> {
        let mut sent = query.to_vec();
        let number = sent.first_chunk_mut::<2>();
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        OsRng.try_fill_bytes(number).map_err(io::Error::other)?;
        let mut answer = match over {
            Over::Udp => self.by_udp(server, &sent, room).await?,
            Over::Tcp => self.by_tcp(server, &sent).await?,
        };
        answer[..2].copy_from_slice(&query[..2]);
        Ok(answer)
    }

    async fn by_udp(&self, server: SocketAddr, query: &[u8], room: usize) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind(any_like(server)).await?;
        mark(&socket);
        let _own = self.own(Over::Udp, socket.local_addr()?.port());
        // Others' datagrams do not get in.
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut buffer = vec![0; room];
        loop {
            let n = socket.recv(&mut buffer).await?;
            if answers(query, &buffer[..n]) {
                buffer.truncate(n);
                return Ok(buffer);
            }
        }
    }

    async fn by_tcp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = match server {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        mark(&socket);
        // The port has to be known before the query may come back.
        socket.bind(any_like(server))?;
        let _own = self.own(Over::Tcp, socket.local_addr()?.port());
        let mut stream: TcpStream = socket.connect(server).await?;
        write_message(&mut stream, query).await?;
        let answer = read_message(&mut stream).await?;
        match answers(query, &answer) {
            true => Ok(answer),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an answer to another question",
            )),
        }
    }

    fn own(&self, over: Over, port: u16) -> Own<'_> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert((over, port));
        Own(self, (over, port))
    }
}

/// Any address and port of a server's family.
fn any_like(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    SocketAddr::new(ip, 0)
}

/// A port of ours, while it waits.
struct Own<'a>(&'a Upstream, (Over, u16));

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.remove(&self.1);
    }
}

/// Whether it is an answer to that very query: the same number and question.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    const RESPONSE: u8 = 0x80;
    let is_response = answer.get(2).is_some_and(|flags| flags & RESPONSE != 0);
    let same_number = query.get(..2) == answer.get(..2);
    let same_question = match (question(query), question(answer)) {
        (Some(asked), Some(answered)) => asked.eq_ignore_ascii_case(answered),
        _ => false,
    };
    // A server that cannot read a query does not repeat it.
    let cannot_read = code(answer) == 1 && answer.len() == HEADER;
    is_response && same_number && (same_question || cannot_read)
}

/// The bytes of the first question.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut end = HEADER;
    loop {
        let length = usize::from(*message.get(end)?);
        // No pointer stands in a first name.
        if length > 63 {
            return None;
        }
        end += 1 + length;
        if length == 0 {
            return message.get(HEADER..end + 4);
        }
    }
}

fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |flags| flags & 0x0f)
}

/// Whether another server need not be asked: the name is known or known not to be.
fn is_good(answer: &[u8]) -> bool {
    matches!(code(answer), 0 | 3)
}
