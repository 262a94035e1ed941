//! HTTP/2 in a closed loop: each stream that ends is followed by a new one.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::closed::{self, Shared};
use super::h1::connect;
use super::{H2, Outcome};
use crate::wire::{ANSWER, h2};

const BUFFER: usize = 64 * 1024;
/// Give the connection's window back in pieces of this size.
const REFILL: u32 = 1 << 20;

pub(super) async fn run(args: H2) -> Result<Outcome> {
    let (port, streams) = (args.common.port, args.streams);
    closed::run(&args.common, args.connections, |gauge| {
        connection(port, streams, gauge)
    })
    .await
}

async fn connection(port: u16, streams: usize, gauge: Shared) -> Result<()> {
    let mut tcp = connect(port).await?;
    let mut client = Client::new(gauge);
    for _ in 0..streams {
        client.ask();
    }
    let mut input = Vec::with_capacity(BUFFER);
    while !client.open.is_empty() {
        if !client.out.is_empty() {
            tcp.write_all(&client.out).await.context("send requests")?;
            client.out.clear();
        }
        let read = tcp.read_buf(&mut input).await.context("read answers")?;
        ensure!(read > 0, "the connection ended instead of an answer");
        let mut done = 0;
        while let Some((frame, length)) = h2::frame(&input[done..]) {
            client.take(&frame)?;
            done += length;
        }
        input.drain(..done);
    }
    Ok(())
}

/// One stream.
struct Asked {
    since: Instant,
    status: bool,
    length: usize,
}

struct Client {
    out: Vec<u8>,
    block: Vec<u8>,
    next: u32,
    open: HashMap<u32, Asked>,
    /// Bytes received and not yet given back to the window.
    taken: u32,
    gauge: Shared,
}

impl Client {
    fn new(gauge: Shared) -> Self {
        let mut out = h2::PREFACE.to_vec();
        h2::put_start(&mut out);
        Client {
            out,
            block: h2::request_block(),
            next: 1,
            open: HashMap::new(),
            taken: 0,
            gauge,
        }
    }

    fn ask(&mut self) {
        h2::put_headers(&mut self.out, self.next, &self.block, true);
        let asked = Asked {
            since: Instant::now(),
            status: false,
            length: 0,
        };
        self.open.insert(self.next, asked);
        self.next += 2;
    }

    fn take(&mut self, frame: &h2::Frame<'_>) -> Result<()> {
        match frame.kind {
            h2::HEADERS | h2::DATA => self.answer(frame)?,
            h2::SETTINGS if frame.flags & h2::ACK == 0 => {
                h2::put(&mut self.out, h2::SETTINGS, h2::ACK, 0, &[]);
            }
            h2::PING if frame.flags & h2::ACK == 0 => {
                h2::put(&mut self.out, h2::PING, h2::ACK, 0, frame.payload);
            }
            h2::RST_STREAM => bail!("stream {} was reset", frame.stream),
            h2::GOAWAY => bail!("the proxy said goodbye: {:x?}", frame.payload),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, frame: &h2::Frame<'_>) -> Result<()> {
        let asked = self.open.get_mut(&frame.stream);
        let asked = asked.with_context(|| format!("stream {} is not open", frame.stream))?;
        if frame.kind == h2::HEADERS {
            frame.check_status()?;
            asked.status = true;
        } else {
            asked.length += frame.payload.len();
            self.taken += u32::try_from(frame.payload.len())?;
            if self.taken >= REFILL {
                h2::put_window(&mut self.out, 0, std::mem::take(&mut self.taken));
            }
        }
        if frame.ends_stream() {
            let asked = self.open.remove(&frame.stream).context("it was open")?;
            ensure!(asked.status, "an answer without a head");
            ensure!(asked.length == ANSWER, "{} bytes", asked.length);
            self.gauge.borrow_mut().count(asked.since);
            if !self.gauge.borrow().is_closed() {
                self.ask();
            }
        }
        Ok(())
    }
}
