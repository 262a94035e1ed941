//! A connection for each request, in a closed loop.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use tokio::io::AsyncWriteExt;

use super::h1::{connect, exchange};
use super::tls::Client;
use super::{Handshake, Outcome, closed};
use crate::wire::{ANSWER, h1};

pub(super) async fn run(args: Handshake) -> Result<Outcome> {
    let client = Rc::new(Client::load(&args.identity)?);
    let request: Rc<[u8]> = h1::request(0, true).into();
    let port = args.common.port;
    closed::run(&args.common, args.connections, |gauge| {
        let (client, request) = (client.clone(), request.clone());
        async move {
            let mut input = Vec::new();
            while !gauge.borrow().is_closed() {
                let since = Instant::now();
                let mut stream = client.connect_anew(connect(port).await?).await?;
                exchange(&mut stream, &request, ANSWER, &mut input).await?;
                // The server was asked to close, and may have been quicker.
                let _ = stream.shutdown().await;
                gauge.borrow_mut().count(since);
            }
            Ok(())
        }
    })
    .await
}
