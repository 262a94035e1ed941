//! `portforward` as `kubectl` speaks it: for each connection a stream of data and one for an error.
//!
//! Both name the port and the connection in their headers: `streamtype`, `port`, `requestid`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, future};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use indexmap::IndexMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::{BytesCodec, FramedWrite};
use tokio_util::io::StreamReader;
use tracing::debug;

use super::{CHUNK, Pod};
use crate::apiserver::spdy::{self, Gone, Piece, Stream, Writer};
use crate::apiserver::upgrade::WebSocket;

/// What it is called where SPDY is spoken directly, and, after the protocol's own name, over a WebSocket.
pub(super) const PROTOCOL: &str = "portforward.k8s.io";
pub(super) const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";

/// Connections of which one stream has come and the other not; the oldest is given up for one more.
const MAX_HALVES: usize = 64;

/// SPDY over the connection itself.
pub(super) async fn direct(io: TokioIo<Upgraded>, pod: Pod) {
    let (reader, writer) = tokio::io::split(io);
    let writer = FramedWrite::new(writer, BytesCodec::new());
    let (stream_tx, stream_rx) = mpsc::channel(1);
    tokio::select! {
        ended = spdy::serve(reader, writer, stream_tx) => log(ended),
        () = forward_all(stream_rx, pod) => {}
    }
}

/// SPDY in the messages of a WebSocket, wherever one ends and the next begins.
pub(super) async fn tunneled(socket: WebSocket, pod: Pod) {
    let (sink, stream) = socket.split();
    let bytes = stream.map_err(io::Error::other).try_filter_map(|message| {
        future::ok(match message {
            Message::Binary(bytes) => Some(bytes),
            _ => None,
        })
    });
    let reader = StreamReader::new(Box::pin(bytes));
    let writer = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| future::ok::<_, io::Error>(Message::Binary(bytes)));
    let (stream_tx, stream_rx) = mpsc::channel(1);
    tokio::select! {
        ended = spdy::serve(reader, writer, stream_tx) => log(ended),
        () = forward_all(stream_rx, pod) => {}
    }
}

fn log(ended: io::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a session that forwarded ports ended");
    }
}

/// Joins the two streams of each connection and carries its bytes. The connections end with this.
async fn forward_all(mut stream_rx: mpsc::Receiver<Stream>, pod: Pod) {
    let pod = Arc::new(pod);
    let mut halves: IndexMap<String, Stream> = IndexMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = stream_rx.recv() => stream,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some(stream) = stream else { return };
        let id = stream.headers.get("requestid").cloned().unwrap_or_default();
        let Some(other) = halves.shift_remove(&id) else {
            if halves.len() >= MAX_HALVES {
                halves.shift_remove_index(0);
            }
            halves.insert(id, stream);
            continue;
        };
        let is_error = |stream: &Stream| {
            stream
                .headers
                .get("streamtype")
                .is_some_and(|kind| kind == "error")
        };
        let (data, error) = match (is_error(&stream), is_error(&other)) {
            (false, true) => (stream, other),
            (true, false) => (other, stream),
            // Two of a kind: the client is at odds with itself.
            _ => return,
        };
        connections.spawn(forward(Arc::clone(&pod), data, error.writer));
    }
}

/// One connection, from its beginning to its end.
async fn forward(pod: Arc<Pod>, data: Stream, error: Writer) {
    let Stream {
        headers,
        pieces,
        writer,
    } = data;
    let port = headers.get("port").map(String::as_str).unwrap_or_default();
    let outcome = match connect(&pod, port).await {
        Ok(connection) => {
            let (reader, out) = connection.into_split();
            tokio::select! {
                sent = from_pod(reader, &writer) => sent,
                () = to_pod(pieces, out) => Ok(()),
            }
        }
        Err(why) => error.send(why.as_bytes()).await,
    };
    // Where the connection is gone there is nobody to tell.
    if outcome.is_ok() && writer.finish().await.is_ok() {
        let _ = error.finish().await;
    }
}

async fn connect(pod: &Pod, port: &str) -> Result<TcpStream, String> {
    let number = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    pod.dial(number).await
}

/// Ends when the pod does.
async fn from_pod(mut reader: OwnedReadHalf, writer: &Writer) -> Result<(), Gone> {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        writer.send(&buffer[..n]).await?;
    }
    Ok(())
}

/// Ends when the client gives up; one that has only said everything waits for the answer.
async fn to_pod(mut pieces: mpsc::Receiver<Piece>, out: OwnedWriteHalf) {
    let mut out = Some(out);
    while let Some(piece) = pieces.recv().await {
        match (piece, &mut out) {
            (Piece::Reset, _) => return,
            // Dropping this half tells the pod.
            (Piece::End, _) => out = None,
            (Piece::Data(bytes), Some(writer)) => {
                if writer.write_all(&bytes).await.is_err() {
                    out = None;
                }
            }
            (Piece::Data(_), None) => {}
        }
    }
}
