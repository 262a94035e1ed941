//! `pods/{name}/portforward`: bytes to and from ports inside a pod.
//!
//! `kubectl` speaks SPDY, directly or in a WebSocket ([`spdy`]). Here is the form with channels, which the
//! `kube` crate speaks: port *i* of the request has channel 2*i* for data and 2*i*+1 for an error, and the
//! first message on each carries the port, little-endian.

mod spdy;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

use super::core::Core;
use super::error::ApiError;
use super::reply::Reply;
use super::request::Call;
use super::upgrade::{WebSocket, not_supported};

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

/// The pod whose ports are forwarded.
struct Pod {
    dialer: Arc<dyn PodDialer>,
    namespace: String,
    name: String,
}

impl Pod {
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let dialed = self.dialer.dial(&self.namespace, &self.name, port).await;
        dialed.map_err(|error| format!("cannot reach port {port} of pod {}: {error}", self.name))
    }
}

/// Answers `pods/{name}/portforward`.
pub(super) fn accept(core: &Arc<Core>, call: &Call) -> Result<Reply, ApiError> {
    let dialer = core.dialer.clone();
    let dialer = dialer.ok_or_else(|| not_supported("portforward without a node"))?;
    let pod = Pod {
        dialer,
        namespace: call.target.namespace.clone(),
        name: call.target.name.clone(),
    };
    let upgrade = call.upgrade.as_ref();
    let upgrade =
        upgrade.ok_or_else(|| not_supported("portforward other than by WebSocket or by SPDY"))?;
    if upgrade.is_spdy() {
        return upgrade.accept_spdy(core, spdy::PROTOCOL, |io| spdy::direct(io, pod));
    }
    if upgrade.speaks(spdy::TUNNELED) {
        return upgrade.accept(core, &[spdy::TUNNELED], |socket, _| {
            spdy::tunneled(socket, pod)
        });
    }
    let ports = ports(call)?;
    upgrade.accept(core, &[PROTOCOL], move |socket, _| async move {
        serve(socket, &pod, &ports).await;
    })
}

fn ports(call: &Call) -> Result<Vec<u16>, ApiError> {
    let text = call.parameter("ports").unwrap_or_default();
    let ports: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
    ports.map_err(|_| ApiError::bad_request(format!("ports: {text:?} is not a list of ports")))
}

/// Carries bytes until the client closes or every port has ended.
async fn serve(socket: WebSocket, pod: &Pod, ports: &[u16]) {
    let (sink, stream) = socket.split();
    let (message_tx, message_rx) = mpsc::channel(QUEUE);
    let mut writers = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX - 1);
        let [low, high] = port.to_le_bytes();
        for channel in [data, data + 1] {
            let _ = message_tx.send(vec![channel, low, high]).await;
        }
        writers.push(match pod.dial(*port).await {
            Ok(connection) => {
                let (reader, writer) = connection.into_split();
                tokio::spawn(from_pod(reader, data, message_tx.clone()));
                Some(writer)
            }
            Err(text) => {
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
