//! `pods/{name}/portforward` over WebSocket: bytes to and from ports inside a pod.
//!
//! The framing is that of Kubernetes' `v4.channel.k8s.io`: each binary message begins with the
//! number of its channel. Port *i* of the request has channel 2*i* for data and 2*i*+1 for an error;
//! the first message on each carries the port, little-endian. SPDY, which older `kubectl` speaks, is
//! not supported.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::core::Core;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::request::Call;

type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The subprotocol that is spoken here.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// Bytes that are read from a pod at once.
const CHUNK: usize = 16 * 1024;
/// Messages that may wait for a slow client before the pod's side is no longer read.
const QUEUE: usize = 16;

/// Connects to ports inside pods.
#[async_trait::async_trait]
pub trait PodDialer: Send + Sync {
    /// A connection to `127.0.0.1:port` in the pod's network namespace.
    ///
    /// # Errors
    /// When the pod does not run here or nothing listens on the port.
    async fn dial(&self, namespace: &str, pod: &str, port: u16) -> io::Result<TcpStream>;
}

/// A request that may become a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocketRequest {
    key: String,
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl WebSocketRequest {
    /// Takes the connection along if the request asks for a WebSocket with our subprotocol.
    pub(super) fn take<B>(request: &mut http::Request<B>) -> Option<Self> {
        let headers = request.headers();
        let ours = lists(headers, header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
            && lists(headers, header::UPGRADE, "websocket");
        let key = headers
            .get(header::SEC_WEBSOCKET_KEY)?
            .to_str()
            .ok()?
            .to_owned();
        let upgrade = hyper::upgrade::on(request);
        ours.then(|| WebSocketRequest {
            key,
            upgrade: Mutex::new(Some(upgrade)),
        })
    }
}

fn lists(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    let words = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','));
    words
        .into_iter()
        .any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// Answers `pods/{name}/portforward`.
pub(super) fn accept(core: &Arc<Core>, call: &Call) -> Result<Reply, ApiError> {
    let unsupported = |what: &str| {
        ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("{what} is not supported"),
        )
    };
    let dialer = core
        .dialer
        .clone()
        .ok_or_else(|| unsupported("portforward without a node"))?;
    let request = call.websocket.as_ref();
    let request = request.ok_or_else(|| unsupported("portforward other than by WebSocket v4"))?;
    let ports = ports(call)?;
    let upgrade = request.upgrade.lock().expect("no panic while held").take();
    let upgrade =
        upgrade.ok_or_else(|| ApiError::bad_request("the connection is taken already"))?;
    let (namespace, pod) = (call.target.namespace.clone(), call.target.name.clone());
    let shutdown = core.shutdown.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        shutdown
            .run_until_cancelled(serve(socket, dialer.as_ref(), &namespace, &pod, &ports))
            .await;
    });
    let mut reply = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = reply.headers_mut();
    headers.clear();
    let accept = derive_accept_key(request.key.as_bytes());
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ] {
        headers.insert(
            name,
            http::HeaderValue::from_str(value).map_err(ApiError::internal)?,
        );
    }
    Ok(reply)
}

fn ports(call: &Call) -> Result<Vec<u16>, ApiError> {
    let text = call.parameter("ports").unwrap_or_default();
    let ports: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
    ports.map_err(|_| ApiError::bad_request(format!("ports: {text:?} is not a list of ports")))
}

/// Carries bytes until the client closes or every port has ended.
async fn serve(
    socket: WebSocket,
    dialer: &dyn PodDialer,
    namespace: &str,
    pod: &str,
    ports: &[u16],
) {
    let (sink, stream) = socket.split();
    let (message_tx, message_rx) = mpsc::channel(QUEUE);
    let mut writers = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX - 1);
        let [low, high] = port.to_le_bytes();
        for channel in [data, data + 1] {
            let _ = message_tx.send(vec![channel, low, high]).await;
        }
        writers.push(match dialer.dial(namespace, pod, *port).await {
            Ok(connection) => {
                let (reader, writer) = connection.into_split();
                tokio::spawn(from_pod(reader, data, message_tx.clone()));
                Some(writer)
            }
            Err(error) => {
                let text = format!("cannot reach port {port} of pod {pod}: {error}");
                let _ = message_tx
                    .send([&[data + 1], text.as_bytes()].concat())
                    .await;
                None
            }
        });
    }
    // What is left of the senders are those of open ports: the last one ends the session.
    drop(message_tx);
    tokio::select! {
        () = to_client(sink, message_rx) => {}
        () = to_pod(stream, &mut writers) => {}
    }
}

async fn from_pod(mut reader: OwnedReadHalf, channel: u8, message_tx: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        if message_tx
            .send([&[channel], &buffer[..n]].concat())
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn to_client(
    mut sink: SplitSink<WebSocket, Message>,
    mut message_rx: mpsc::Receiver<Vec<u8>>,
) {
    while let Some(message) = message_rx.recv().await {
        if sink
            .send(Message::Binary(Bytes::from(message)))
            .await
            .is_err()
        {
            return;
        }
    }
    let _ = sink.close().await;
}

async fn to_pod(mut stream: SplitStream<WebSocket>, writers: &mut [Option<OwnedWriteHalf>]) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(bytes) = message else {
            continue;
        };
        let Some((channel, data)) = bytes.split_first() else {
            continue;
        };
        let Some(slot) = writers.get_mut(usize::from(*channel) / 2) else {
            return;
        };
        let failed = match slot {
            Some(writer) => writer.write_all(data).await.is_err(),
            None => false,
        };
        if failed {
            *slot = None;
        }
    }
}
