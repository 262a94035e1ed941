//! HTTP/1.1 in a closed loop, over TCP or TLS.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::closed::{self, Shared};
use super::tls::Client;
use super::{H1, Outcome};
use crate::wire::{ANSWER, h1};

pub(super) async fn run(args: H1) -> Result<Outcome> {
    let client = args.identity.as_deref().map(Client::load).transpose()?;
    let client = Rc::new(client);
    let request: Rc<[u8]> = h1::request(args.body, false).into();
    let expect = if args.body > 0 { args.body } else { ANSWER };
    let port = args.common.port;
    closed::run(&args.common, args.connections, |gauge| {
        let (client, request) = (client.clone(), request.clone());
        async move {
            let tcp = connect(port).await?;
            match &*client {
                None => repeat(tcp, &request, expect, gauge).await,
                Some(client) => repeat(client.connect(tcp).await?, &request, expect, gauge).await,
            }
        }
    })
    .await
}

pub(super) async fn connect(port: u16) -> Result<TcpStream> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await;
    let tcp = tcp.with_context(|| format!("connect to port {port}"))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn repeat<IO>(mut io: IO, request: &[u8], expect: usize, gauge: Shared) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = Vec::with_capacity(expect + 4096);
    while !gauge.borrow().is_closed() {
        let since = Instant::now();
        exchange(&mut io, request, expect, &mut input).await?;
        gauge.borrow_mut().count(since);
    }
    Ok(())
}

/// One request and its answer, read whole.
pub(super) async fn exchange<IO>(
    io: &mut IO,
    request: &[u8],
    expect: usize,
    input: &mut Vec<u8>,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(request).await.context("send a request")?;
    io.flush().await.context("send a request")?;
    input.clear();
    loop {
        let read = io.read_buf(input).await.context("read an answer")?;
        ensure!(read > 0, "the connection ended instead of an answer");
        if let Some(length) = h1::response(input, expect)? {
            ensure!(length == input.len(), "more than one answer");
            return Ok(());
        }
    }
}
