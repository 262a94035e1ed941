//! HTTP/1.1: a fixed answer to GET, the body itself to POST.

use std::rc::Rc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::{ANSWER, h1};

const BUFFER: usize = 16 * 1024;

/// The answer to GET.
pub(super) fn answer() -> Vec<u8> {
    let mut bytes = head(ANSWER);
    bytes.resize(bytes.len() + ANSWER, b'x');
    bytes
}

fn head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
        .into()
}

pub(super) async fn serve(mut stream: TcpStream, answer: Rc<Vec<u8>>) -> Result<()> {
    let mut input = Vec::with_capacity(BUFFER);
    let mut out = Vec::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        while let Some((head_length, body)) = h1::request_frame(&input[done..])? {
            let end = done + head_length + body;
            if body == 0 {
                out.extend_from_slice(&answer);
            } else {
                out.extend_from_slice(&head(body));
                out.extend_from_slice(&input[done + head_length..end]);
            }
            done = end;
        }
        input.drain(..done);
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}
