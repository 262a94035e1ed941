//! A client that speaks as `kubectl` does, frame by frame.

use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use futures::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::{BytesCodec, FramedWrite};

use super::*;

struct Client {
    socket: DuplexStream,
    zlib: Compress,
    stream_rx: mpsc::Receiver<Stream>,
    served: JoinHandle<io::Result<()>>,
}

impl Client {
    fn new() -> Self {
        let (socket, theirs) = tokio::io::duplex(1 << 20);
        let (stream_tx, stream_rx) = mpsc::channel(8);
        let (reader, writer) = tokio::io::split(theirs);
        let writer = FramedWrite::new(writer, BytesCodec::new());
        let writer = writer.with(async |bytes: Bytes| Ok::<_, io::Error>(bytes));
        let served = tokio::spawn(async move {
            let writer = Box::pin(writer);
            serve(reader, writer, stream_tx).await
        });
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&headers::dictionary()).unwrap();
        Self {
            socket,
            zlib,
            stream_rx,
            served,
        }
    }

    async fn control(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let head = [CONTROL, VERSION, 0, kind];
        let rest = flags_and_length(flags, payload.len());
        let frame = [&head[..], &rest, payload].concat();
        self.socket.write_all(&frame).await.unwrap();
    }

    async fn open(&mut self, id: u32, flags: u8, name: &str, value: &str) {
        let mut plain = 1u32.to_be_bytes().to_vec();
        for text in [name, value] {
            plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(200);
        let flush = FlushCompress::Sync;
        self.zlib.compress_vec(&plain, &mut block, flush).unwrap();
        let payload = [&id.to_be_bytes()[..], &[0; 6], &block].concat();
        self.control(SYN_STREAM, flags, &payload).await;
    }

    async fn data(&mut self, id: u32, flags: u8, data: &[u8]) {
        let head = id.to_be_bytes();
        let rest = flags_and_length(flags, data.len());
        let frame = [&head[..], &rest, data].concat();
        self.socket.write_all(&frame).await.unwrap();
    }

    /// The next frame: its first eight bytes, and its payload.
    async fn frame(&mut self) -> ([u8; HEAD], Vec<u8>) {
        let mut head = [0; HEAD];
        self.socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.socket.read_exact(&mut payload).await.unwrap();
        (head, payload)
    }
}

#[tokio::test]
async fn streams_carry_bytes_both_ways() {
    let mut client = Client::new();
    client.open(1, FIN, "streamtype", "error").await;
    client.open(3, 0, "streamtype", "data").await;
    let mut decoder = Decoder::new();
    for id in [1, 3u32] {
        let (head, payload) = client.frame().await;
        assert_eq!(head[..4], [CONTROL, VERSION, 0, SYN_REPLY]);
        assert_eq!(payload[..4], id.to_be_bytes());
        // One stream of zlib carries the headers of all replies.
        assert!(decoder.decode(&payload[4..]).unwrap().is_empty());
    }
    let mut error = client.stream_rx.recv().await.unwrap();
    assert_eq!(error.headers["streamtype"], "error");
    assert_eq!(error.pieces.recv().await, Some(Piece::End));
    let mut data = client.stream_rx.recv().await.unwrap();
    client.data(3, 0, b"to the pod").await;
    client.data(3, FIN, b"").await;
    let piece = Piece::Data(Bytes::from_static(b"to the pod"));
    assert_eq!(data.pieces.recv().await, Some(piece));
    assert_eq!(data.pieces.recv().await, Some(Piece::End));
    data.writer.send(b"from the pod").await.unwrap();
    data.writer.finish().await.unwrap();
    let (head, payload) = client.frame().await;
    assert_eq!(
        (&head[..5], &payload[..]),
        (&[0, 0, 0, 3, 0][..], &b"from the pod"[..])
    );
    let (head, payload) = client.frame().await;
    assert_eq!((&head[..5], payload.len()), (&[0, 0, 0, 3, FIN][..], 0));
}

#[tokio::test]
async fn pings_come_back_and_resets_arrive() {
    let mut client = Client::new();
    client.control(PING, 0, &7u32.to_be_bytes()).await;
    let (head, payload) = client.frame().await;
    assert_eq!((head[3], &payload[..]), (PING, &[0, 0, 0, 7][..]));
    client.open(1, 0, "port", "80").await;
    client.frame().await;
    let mut stream = client.stream_rx.recv().await.unwrap();
    client
        .control(RST_STREAM, 0, &[0, 0, 0, 1, 0, 0, 0, 5])
        .await;
    assert_eq!(stream.pieces.recv().await, Some(Piece::Reset));
    assert_eq!(stream.pieces.recv().await, None);
    // What comes for it after that is nobody's, and no fault.
    client.data(1, 0, b"late").await;
    client.open(3, 0, "port", "80").await;
    client.frame().await;
    assert!(client.stream_rx.recv().await.is_some());
}

#[tokio::test]
async fn a_stream_too_many_is_refused_alone_and_those_that_ended_do_not_count() {
    let mut client = Client::new();
    let mut held = Vec::new();
    let mut ids = (1u32..).step_by(2);
    let mut decoder = Decoder::new();
    // More than there may be at once, one after the other.
    for (n, id) in ids.by_ref().take(2 * MAX_STREAMS).enumerate() {
        client.open(id, FIN, "port", "80").await;
        let (head, payload) = client.frame().await;
        assert_eq!(head[3], SYN_REPLY);
        decoder.decode(&payload[4..]).unwrap();
        let stream = client.stream_rx.recv().await.unwrap();
        if n >= MAX_STREAMS {
            held.push(stream);
        }
    }
    let id = ids.next().unwrap();
    client.open(id, 0, "port", "80").await;
    let (head, payload) = client.frame().await;
    assert_eq!(head[..4], [CONTROL, VERSION, 0, RST_STREAM]);
    assert_eq!(payload, [id.to_be_bytes(), 3u32.to_be_bytes()].concat());
    // The others go on, and there is room again when one has ended.
    let first = held.remove(0);
    first.writer.send(b"still here").await.unwrap();
    assert_eq!(client.frame().await.1, b"still here");
    drop(first);
    let id = ids.next().unwrap();
    client.open(id, 0, "port", "80").await;
    let (head, payload) = client.frame().await;
    assert_eq!((head[3], &payload[..4]), (SYN_REPLY, &id.to_be_bytes()[..]));
}

#[tokio::test]
async fn what_is_not_spdy_ends_the_connection() {
    for bytes in [
        // Another version.
        &[CONTROL, 2, 0, SYN_STREAM, 0, 0, 0, 0][..],
        // A control frame without end.
        &[CONTROL, VERSION, 0, SYN_STREAM, 0, 0xff, 0xff, 0xff],
        // A stream that is cut short.
        &[CONTROL, VERSION, 0, SYN_STREAM, 0, 0, 0, 4, 0, 0, 0, 1],
        // Headers that are not compressed.
        &[
            CONTROL, VERSION, 0, SYN_STREAM, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2,
        ],
    ] {
        let mut client = Client::new();
        client.socket.write_all(bytes).await.unwrap();
        assert!(client.served.await.unwrap().is_err(), "{bytes:?}");
    }
    let mut client = Client::new();
    client.open(2, 0, "port", "80").await;
    assert!(client.served.await.unwrap().is_err());
    let client = Client::new();
    drop(client.socket);
    client.served.await.unwrap().unwrap();
}
