//! Names that the cluster does not own, asked of the host's resolvers.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::UdpSocket, sync::oneshot};

/// The port of name servers.
const PORT: u16 = 53;
/// How long one resolver may take.
const TIMEOUT: Duration = Duration::from_secs(3);

type Waiting = Arc<Mutex<HashMap<u16, oneshot::Sender<Vec<u8>>>>>;

/// A socket of the host's network namespace and the resolvers that it asks.
///
/// The socket was opened before the platform left that namespace, so that it still reaches them.
pub(crate) struct Upstream {
    socket: Option<Arc<UdpSocket>>,
    resolvers: Vec<IpAddr>,
    waiting: Waiting,
}

impl Upstream {
    /// Asks through the socket; without one, or without resolvers, nothing is ever known.
    pub(crate) fn new(socket: Option<std::net::UdpSocket>, resolvers: Vec<IpAddr>) -> Self {
        let usable = |socket: std::net::UdpSocket| {
            socket.set_nonblocking(true).ok()?;
            UdpSocket::from_std(socket).ok().map(Arc::new)
        };
        let socket = socket.and_then(usable);
        let waiting = Waiting::default();
        if let Some(socket) = &socket {
            tokio::spawn(receive(Arc::clone(socket), Arc::clone(&waiting)));
        }
        Upstream {
            socket,
            resolvers,
            waiting,
        }
    }

    pub(crate) fn is_available(&self) -> bool {
        self.socket.is_some() && !self.resolvers.is_empty()
    }

    /// The first resolver's answer, with the query's own number.
    pub(crate) async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        let socket = self.socket.as_ref()?;
        let original: [u8; 2] = query.get(..2)?.try_into().ok()?;
        for resolver in &self.resolvers {
            let id = rand::random::<u16>();
            let (answer_tx, answer_rx) = oneshot::channel();
            self.waiting
                .lock()
                .expect("no panic while held")
                .insert(id, answer_tx);
            let mut sent = query.to_vec();
            sent[..2].copy_from_slice(&id.to_be_bytes());
            if socket
                .send_to(&sent, SocketAddr::new(*resolver, PORT))
                .await
                .is_err()
            {
                continue;
            }
            if let Ok(Ok(mut answer)) = tokio::time::timeout(TIMEOUT, answer_rx).await {
                answer[..2].copy_from_slice(&original);
                return Some(answer);
            }
            self.waiting
                .lock()
                .expect("no panic while held")
                .remove(&id);
        }
        None
    }
}

async fn receive(socket: Arc<UdpSocket>, waiting: Waiting) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((n, _)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(id) = buffer.get(..2).filter(|_| n > 2) else {
            continue;
        };
        let id = u16::from_be_bytes([id[0], id[1]]);
        if let Some(answer_tx) = waiting.lock().expect("no panic while held").remove(&id) {
            // Whoever asked may have given up.
            let _ = answer_tx.send(buffer[..n].to_vec());
        }
    }
}
