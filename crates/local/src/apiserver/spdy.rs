//! SPDY/3.1, as far as `kubectl` speaks it: many streams over one connection, all opened by the client.
//!
//! Windows are not kept: the clients that there are neither send nor expect updates of them. What a stream
//! does not take holds up the others, as its pipe is short.

mod headers;

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use futures::{Sink, SinkExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use headers::Decoder;

/// Bytes of data in one frame.
const CHUNK: usize = 16 << 10;
/// The longest control frame that is taken.
const MAX_CONTROL: usize = 64 << 10;
/// Streams that may be open at once.
const MAX_STREAMS: usize = 512;
/// Frames that may wait for a slow client, and pieces for a slow stream, before nothing more is read.
const QUEUE: usize = 16;

/// Bytes before the payload of any frame.
const HEAD: usize = 8;
/// The bit that tells control frames from data.
const CONTROL: u8 = 0x80;
/// The version in each control frame.
const VERSION: u8 = 3;
/// The flag that ends a stream's direction.
const FIN: u8 = 1;
/// Why a stream is reset that was not served at all: the client may try again (section 2.6.3).
const REFUSED_STREAM: u32 = 3;

const SYN_STREAM: u8 = 1;
const SYN_REPLY: u8 = 2;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const HEADERS: u8 = 8;

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// By their names, which are in small letters.
    pub(super) headers: HashMap<String, String>,
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) writer: Writer,
}

/// What comes from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// There will be no more.
    End,
    /// Nor does the client want any.
    Reset,
}

/// The server's direction of a stream.
#[derive(Debug)]
pub(super) struct Writer {
    id: u32,
    frame_tx: mpsc::Sender<Bytes>,
}

/// The connection has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Writer {
    pub(super) async fn send(&self, data: &[u8]) -> Result<(), Gone> {
        for chunk in data.chunks(CHUNK) {
            self.frame(0, chunk).await?;
        }
        Ok(())
    }

    /// Ends the direction.
    pub(super) async fn finish(self) -> Result<(), Gone> {
        self.frame(FIN, &[]).await
    }

    async fn frame(&self, flags: u8, data: &[u8]) -> Result<(), Gone> {
        let mut frame = self.id.to_be_bytes().to_vec();
        frame.extend(flags_and_length(flags, data.len()));
        frame.extend_from_slice(data);
        self.frame_tx.send(frame.into()).await.map_err(|_| Gone)
    }
}

/// Serves a connection until the client ends it; every stream that it opens comes out of `stream_tx`.
///
/// # Errors
/// When the connection breaks, or what comes is not SPDY.
pub(super) async fn serve<R, W>(
    reader: R,
    mut writer: W,
    stream_tx: mpsc::Sender<Stream>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: Sink<Bytes, Error = io::Error> + Unpin,
{
    let (frame_tx, mut frame_rx) = mpsc::channel(QUEUE);
    let mut session = Session {
        reader,
        frame_tx,
        stream_tx,
        streams: HashMap::new(),
        decoder: Decoder::new(),
        has_replied: false,
    };
    let written = async {
        while let Some(frame) = frame_rx.recv().await {
            writer.send(frame).await?;
        }
        Ok(())
    };
    tokio::select! {
        read = session.read() => read,
        written = written => written,
    }
}

struct Session<R> {
    reader: R,
    frame_tx: mpsc::Sender<Bytes>,
    stream_tx: mpsc::Sender<Stream>,
    streams: HashMap<u32, mpsc::Sender<Piece>>,
    decoder: Decoder,
    has_replied: bool,
}

impl<R: AsyncRead + Unpin> Session<R> {
    /// Takes frames until the connection ends.
    async fn read(&mut self) -> io::Result<()> {
        let mut head = [0; HEAD];
        loop {
            match self.reader.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let [a, b, c, d, flags, high, middle, low] = head;
            let length = usize::try_from(u32::from_be_bytes([0, high, middle, low]))
                .map_err(io::Error::other)?;
            if a & CONTROL == 0 {
                let id = u32::from_be_bytes([a, b, c, d]);
                self.data(id, flags, length).await?;
            } else if (a, b) == (CONTROL, VERSION) {
                self.control(d, length, &head).await?;
            } else {
                return Err(invalid(format!("frames of version {b} are not known")));
            }
        }
    }

    async fn data(&mut self, id: u32, flags: u8, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let mut chunk = vec![0; length.min(CHUNK)];
            self.reader.read_exact(&mut chunk).await?;
            length -= chunk.len();
            give(&self.streams, id, Piece::Data(chunk.into())).await;
        }
        if flags & FIN != 0 {
            give(&self.streams, id, Piece::End).await;
        }
        Ok(())
    }

    async fn control(&mut self, kind: u8, length: usize, head: &[u8; HEAD]) -> io::Result<()> {
        if length > MAX_CONTROL {
            return Err(invalid(format!("a control frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.reader.read_exact(&mut payload).await?;
        match kind {
            SYN_STREAM => self.open(head[4], &payload).await,
            RST_STREAM => {
                let (id, _) = split_number(&payload)?;
                give(&self.streams, id, Piece::Reset).await;
                self.streams.remove(&id);
                Ok(())
            }
            // Whose number is odd is the client's, and goes back as it came.
            PING if payload.last().is_some_and(|last| last % 2 == 1) => {
                write(&self.frame_tx, [&head[..], &payload].concat()).await
            }
            HEADERS => {
                // Nobody needs them, but what comes after is compressed with what they say.
                let (_, block) = split_number(&payload)?;
                self.decoder.decode(block).map(drop)
            }
            // Settings, windows, a farewell: the connection itself ends in a moment.
            _ => Ok(()),
        }
    }

    async fn open(&mut self, flags: u8, payload: &[u8]) -> io::Result<()> {
        let (id, rest) = split_number(payload)?;
        // The stream that it belongs to, its priority and its slot mean nothing here.
        let block = rest
            .get(6..)
            .ok_or_else(|| invalid("a stream is cut short"))?;
        let headers = self.decoder.decode(block)?;
        self.streams.retain(|_, piece_tx| !piece_tx.is_closed());
        if id % 2 == 0 || self.streams.contains_key(&id) {
            return Err(invalid(format!("stream {id} cannot be opened")));
        }
        if self.streams.len() >= MAX_STREAMS {
            return self.refuse(id).await;
        }
        self.reply(id).await?;
        let (piece_tx, pieces) = mpsc::channel(QUEUE);
        self.streams.insert(id, piece_tx);
        let stream = Stream {
            headers,
            pieces,
            writer: Writer {
                id,
                frame_tx: self.frame_tx.clone(),
            },
        };
        self.stream_tx
            .send(stream)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        if flags & FIN != 0 {
            give(&self.streams, id, Piece::End).await;
        }
        Ok(())
    }

    /// Says that a stream is one too many; the others go on.
    async fn refuse(&mut self, id: u32) -> io::Result<()> {
        let mut frame = vec![CONTROL, VERSION, 0, RST_STREAM];
        frame.extend(flags_and_length(0, 8));
        frame.extend(id.to_be_bytes());
        frame.extend(REFUSED_STREAM.to_be_bytes());
        write(&self.frame_tx, frame).await
    }

    /// Says that a stream is accepted.
    async fn reply(&mut self, id: u32) -> io::Result<()> {
        let block = match std::mem::replace(&mut self.has_replied, true) {
            false => headers::first_empty_block(),
            true => headers::empty_block(),
        };
        let mut frame = vec![CONTROL, VERSION, 0, SYN_REPLY];
        frame.extend(flags_and_length(0, 4 + block.len()));
        frame.extend(id.to_be_bytes());
        frame.extend(block);
        write(&self.frame_tx, frame).await
    }
}

/// Passes a piece on. What nobody reads any more is dropped.
async fn give(streams: &HashMap<u32, mpsc::Sender<Piece>>, id: u32, piece: Piece) {
    if let Some(piece_tx) = streams.get(&id) {
        let _ = piece_tx.send(piece).await;
    }
}

async fn write(frame_tx: &mpsc::Sender<Bytes>, frame: Vec<u8>) -> io::Result<()> {
    let sent = frame_tx.send(frame.into()).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
}

/// Flags in one byte, and the length in three.
fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    // What is written here is chunks and short replies.
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, high, middle, low]
}

fn split_number(payload: &[u8]) -> io::Result<(u32, &[u8])> {
    let (number, rest) = payload
        .split_first_chunk()
        .ok_or_else(|| invalid("a frame is cut short"))?;
    Ok((u32::from_be_bytes(*number) & !(1 << 31), rest))
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests;
