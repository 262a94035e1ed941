//! Bytes through a proxy that does not look at them.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::gauge::Gauge;
use super::h1::connect;
use super::{Outcome, Tcp};
use crate::backend::tcp::{CHUNK, DOWNLOAD, UPLOAD, receive, send};

/// Sent before the measurement, so that windows and buffers have grown.
const WARM: u64 = 8 << 20;

pub(super) async fn run(args: Tcp) -> Result<Outcome> {
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(connect(args.common.port).await?);
    }
    let streams = both_ways(streams, WARM).await?;
    let each = (args.megabytes << 20) / args.connections as u64;
    let since = Instant::now();
    let mut gauge = Gauge::new(args.common.watch);
    gauge.open()?;
    let streams = both_ways(streams, each).await?;
    gauge.close()?;
    let seconds = since.elapsed().as_secs_f64();
    let bytes = 2 * each * streams.len() as u64;
    Ok(Outcome {
        total: streams.len() as u64,
        units: bytes as f64 / 1e9,
        seconds,
        ..gauge.outcome()
    })
}

/// `length` bytes on each connection, to the backend and then from it.
async fn both_ways(streams: Vec<TcpStream>, length: u64) -> Result<Vec<TcpStream>> {
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(one(stream, length));
    }
    let done = tasks.join_all().await;
    done.into_iter().collect()
}

async fn one(mut stream: TcpStream, length: u64) -> Result<TcpStream> {
    let mut buffer = vec![b'x'; CHUNK];
    stream.write_u8(UPLOAD).await?;
    stream.write_u64(length).await?;
    send(&mut stream, length, &buffer).await?;
    ensure!(
        stream.read_u8().await? == UPLOAD,
        "not the backend's answer"
    );
    stream.write_u8(DOWNLOAD).await?;
    stream.write_u64(length).await?;
    receive(&mut stream, length, &mut buffer).await?;
    Ok(stream)
}
