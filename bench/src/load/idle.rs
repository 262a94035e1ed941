//! Connections that were used once and then do nothing.

use std::io::{Read, Write};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Idle;
use super::h1::{connect, exchange};
use super::tls::Client;
use crate::wire::{ANSWER, h1};

trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

pub(super) async fn run(args: Idle) -> Result<()> {
    let client = args.identity.as_deref();
    let client = client.map(Client::load).transpose()?;
    let request = h1::request(0, false);
    let mut input = Vec::new();
    let mut open: Vec<Box<dyn Transport>> = Vec::new();
    for _ in 0..args.connections {
        let tcp = connect(args.port).await?;
        let mut stream: Box<dyn Transport> = match &client {
            None => Box::new(tcp),
            Some(client) => Box::new(client.connect_anew(tcp).await?),
        };
        exchange(&mut stream, &request, ANSWER, &mut input).await?;
        open.push(stream);
    }
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    // The end of input is the sign to go, also where whoever measures has died.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
