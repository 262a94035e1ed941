//! HTTP/2 in plain text: the same answer on every stream.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::{ANSWER, h2};

const BUFFER: usize = 64 * 1024;

pub(super) async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut input = Vec::with_capacity(BUFFER);
    let mut server = Server::new();
    let mut greeted = false;
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        if !greeted && input.len() >= h2::PREFACE.len() {
            ensure!(input.starts_with(h2::PREFACE), "no preface");
            greeted = true;
            done = h2::PREFACE.len();
        }
        while greeted && let Some((frame, length)) = h2::frame(&input[done..]) {
            server.take(&frame)?;
            done += length;
        }
        input.drain(..done);
        server.answer();
        if !server.out.is_empty() {
            stream.write_all(&server.out).await?;
            server.out.clear();
        }
    }
}

struct Server {
    out: Vec<u8>,
    block: Vec<u8>,
    body: Vec<u8>,
    /// What the peer lets us send on the connection.
    window: u64,
    /// Streams that wait for their answer.
    due: VecDeque<u32>,
}

impl Server {
    fn new() -> Self {
        let mut out = Vec::new();
        h2::put_start(&mut out);
        Server {
            out,
            block: h2::response_block(ANSWER),
            body: vec![b'x'; ANSWER],
            window: u64::from(h2::FIRST_WINDOW),
            due: VecDeque::new(),
        }
    }

    fn take(&mut self, frame: &h2::Frame<'_>) -> Result<()> {
        match frame.kind {
            h2::HEADERS | h2::DATA => {
                if frame.kind == h2::DATA && !frame.payload.is_empty() {
                    let length = u32::try_from(frame.payload.len()).unwrap_or(h2::MAX_WINDOW);
                    h2::put_window(&mut self.out, 0, length);
                }
                if frame.ends_stream() {
                    self.due.push_back(frame.stream);
                }
            }
            h2::SETTINGS if frame.flags & h2::ACK == 0 => {
                let window = frame.initial_window().unwrap_or(h2::FIRST_WINDOW);
                ensure!(
                    window as usize >= ANSWER,
                    "streams with a window of {window}"
                );
                h2::put(&mut self.out, h2::SETTINGS, h2::ACK, 0, &[]);
            }
            h2::PING if frame.flags & h2::ACK == 0 => {
                h2::put(&mut self.out, h2::PING, h2::ACK, 0, frame.payload);
            }
            // The window of a stream always has room for the one answer; the connection's may not.
            h2::WINDOW_UPDATE if frame.stream == 0 => self.window += u64::from(frame.increment()),
            h2::RST_STREAM => self.due.retain(|stream| *stream != frame.stream),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self) {
        let length = self.body.len() as u64;
        while self.window >= length
            && let Some(stream) = self.due.pop_front()
        {
            self.window -= length;
            h2::put_headers(&mut self.out, stream, &self.block, false);
            h2::put(&mut self.out, h2::DATA, h2::END_STREAM, stream, &self.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_for_the_window() {
        let mut server = Server::new();
        server.out.clear();
        server.window = ANSWER as u64;
        let mut bytes = Vec::new();
        h2::put_headers(&mut bytes, 1, &h2::request_block(), true);
        server
            .take(&h2::frame(&bytes).expect("whole").0)
            .expect("valid");
        server
            .take(&h2::Frame {
                stream: 3,
                ..h2::frame(&bytes).expect("whole").0
            })
            .expect("valid");
        server.answer();
        let (first, length) = h2::frame(&server.out).expect("headers");
        assert_eq!((first.kind, first.stream), (h2::HEADERS, 1));
        assert_eq!(server.out.len(), length + h2::HEADER + ANSWER);
        let mut bytes = Vec::new();
        h2::put_window(&mut bytes, 0, 5000);
        server
            .take(&h2::frame(&bytes).expect("whole").0)
            .expect("valid");
        server.answer();
        assert_eq!(server.out.len(), 2 * (length + h2::HEADER + ANSWER));
    }
}
