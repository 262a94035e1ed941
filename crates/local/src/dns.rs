//! The cluster's name server: services, headless services and their pods; every other name is
//! asked of the host's resolvers, where it has any.

mod upstream;
mod zone;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use kube::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use upstream::Upstream;
use zone::Zone;

use crate::cluster::{self, Services};

/// A query without EDNS may be answered with so many bytes over UDP (RFC 1035, 4.2.1).
const PLAIN_UDP: usize = 512;
/// A TCP connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Answers on the addresses until told to stop.
///
/// # Errors
/// If an address cannot be listened on.
pub(crate) async fn run(
    client: Client,
    listen: Vec<SocketAddr>,
    upstream: Upstream,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let server = Arc::new(Server {
        services: cluster::follow(&client),
        upstream,
    });
    let mut tasks = JoinSet::new();
    for address in listen {
        let socket = Arc::new(UdpSocket::bind(address).await?);
        let listener = TcpListener::bind(address).await?;
        tasks.spawn(serve_udp(Arc::clone(&server), socket));
        tasks.spawn(serve_tcp(Arc::clone(&server), listener));
    }
    shutdown.cancelled().await;
    Ok(())
}

struct Server {
    services: tokio::sync::watch::Receiver<Arc<Services>>,
    upstream: Upstream,
}

impl Server {
    /// The answer to a query; nothing for what is not one.
    async fn answer(&self, query: &[u8]) -> Option<Message> {
        let request = Message::from_vec(query).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = self.upstream.is_available();
        let [question] = &request.queries[..] else {
            response.metadata.response_code = ResponseCode::FormErr;
            return Some(response);
        };
        response.add_query(question.clone());
        if request.metadata.op_code != OpCode::Query {
            response.metadata.response_code = ResponseCode::NotImp;
            return Some(response);
        }
        let services = self.services.borrow().clone();
        match Zone::new(&services).lookup(question.name(), question.query_type()) {
            Some(found) => {
                response.metadata.authoritative = true;
                response.metadata.response_code = found.code;
                response.add_answers(found.records);
            }
            None => match self.upstream.ask(query).await {
                Some(answer) => return Message::from_vec(&answer).ok(),
                None => response.metadata.response_code = ResponseCode::ServFail,
            },
        }
        Some(response)
    }
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (n, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of an earlier answer, say; the socket goes on.
                debug!(%error, "cannot receive a query");
                continue;
            }
        };
        let (server, socket) = (Arc::clone(&server), Arc::clone(&socket));
        let query = buffer[..n].to_vec();
        tokio::spawn(async move {
            if let Some(bytes) = udp_answer(&server, &query).await {
                // The client asks again if this is lost.
                let _ = socket.send_to(&bytes, client).await;
            }
        });
    }
}

async fn udp_answer(server: &Server, query: &[u8]) -> Option<Vec<u8>> {
    let answer = server.answer(query).await?;
    let bytes = encode(&answer)?;
    if bytes.len() <= PLAIN_UDP {
        return Some(bytes);
    }
    // The client comes back over TCP.
    encode(&answer.truncate())
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(IDLE, tcp_session(&server, stream)).await;
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a query over TCP");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn tcp_session(server: &Server, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        let mut query = vec![0; length];
        stream.read_exact(&mut query).await?;
        let Some(bytes) = server
            .answer(&query)
            .await
            .and_then(|answer| encode(&answer))
        else {
            return Ok(());
        };
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes(), &bytes[..]].concat())
            .await?;
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    match message.to_vec() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            warn!(%error, "an answer cannot be encoded");
            None
        }
    }
}
