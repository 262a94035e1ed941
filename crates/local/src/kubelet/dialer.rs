//! Connections into pods, for `kubectl port-forward`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::Error;
use crate::apiserver::PodDialer;
use crate::net::PodNet;
use crate::net::namespace::on_thread;

/// Networks by namespace and name of their pod.
type Networks = HashMap<(String, String), Weak<PodNet>>;

/// Knows the network namespaces of the pods that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer {
    pods: Arc<Mutex<Networks>>,
}

impl Dialer {
    /// Notes a pod; it is forgotten when its network goes.
    pub(super) fn enlist(&self, namespace: String, pod: String, net: &Arc<PodNet>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, net| net.strong_count() > 0);
        pods.insert((namespace, pod), Arc::downgrade(net));
    }

    fn find(&self, namespace: &str, pod: &str) -> Option<Arc<PodNet>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_owned(), pod.to_owned()))?.upgrade()
    }
}

#[async_trait::async_trait]
impl PodDialer for Dialer {
    async fn dial(&self, namespace: &str, pod: &str, port: u16) -> io::Result<TcpStream> {
        let net = self.find(namespace, pod).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("pod {namespace}/{pod} does not run here"),
            )
        })?;
        // A socket belongs to the namespace in which it was made, wherever it is used.
        let socket = on_thread(move || {
            net.namespaces.enter()?;
            Socket::new(Domain::IPV4, Type::STREAM, None).map_err(Error::io("make a socket"))
        })
        .await
        .map_err(io::Error::other)?;
        socket.set_nonblocking(true)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        socket
            .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .await
    }
}
