//! One simulated proxy's connections, one after the other.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Shared, now};
use crate::control::client::Client;
use crate::control::response::{Protocol, Reader};
use crate::control::wire::Wire;

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const WHOLE: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const AUTHORITY: &str = "istiod.istio-system.svc:15010";
const RETRY: Duration = Duration::from_millis(100);
/// Reads in one turn, so that one proxy does not keep the others waiting.
const READS: usize = 4;

/// Connects when `epoch` grows, and again when a connection fails.
pub(super) async fn run(
    mut client: Client,
    number: usize,
    shared: Rc<Shared>,
    mut epoch: watch::Receiver<u64>,
) {
    // The end of the channel is the end of the process.
    if epoch.changed().await.is_err() {
        return;
    }
    loop {
        let served = tokio::select! {
            served = serve(&mut client, number, &shared) => served,
            changed = epoch.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if let Err(error) = served {
            let reason = format!("{error:#}");
            shared.board.borrow_mut().broken(number, reason);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One connection, until it fails.
async fn serve(client: &mut Client, number: usize, shared: &Shared) -> Result<()> {
    let stream = {
        let _turn = shared.connecting.acquire().await?;
        let stream = TcpStream::connect(shared.target).await;
        stream.context("connect")?
    };
    stream.set_nodelay(true)?;
    let held = client.digest();
    shared.board.borrow_mut().connected(number, held);
    let path = match shared.protocol {
        Protocol::Delta => DELTA,
        Protocol::StateOfTheWorld => WHOLE,
    };
    let mut wire = Wire::new(path, AUTHORITY);
    let mut reader = Reader::new(shared.protocol);
    for request in client.opening(&shared.catalog.borrow()) {
        wire.send(&request);
    }
    let mut changes = Vec::new();
    loop {
        write(&stream, &mut wire)?;
        if wire.is_drained() {
            let mut board = shared.board.borrow_mut();
            for change in changes.drain(..) {
                board.acked(change, now());
            }
            board.holds(number, client.digest(), client.is_steady());
        }
        let interest = if wire.out.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let ready = stream.ready(interest).await?;
        if ready.is_readable() {
            read(
                &stream,
                &mut wire,
                &mut reader,
                client,
                shared,
                &mut changes,
            )?;
        }
    }
}

fn write(stream: &TcpStream, wire: &mut Wire) -> Result<()> {
    let mut at = 0;
    while at < wire.out.len() {
        match stream.try_write(&wire.out[at..]) {
            Ok(written) => at += written,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("write"),
        }
    }
    wire.out.drain(..at);
    if wire.out.is_empty() {
        wire.out.shrink_to(0);
    }
    Ok(())
}

/// Reads what is there, and answers it.
fn read(
    stream: &TcpStream,
    wire: &mut Wire,
    reader: &mut Reader,
    client: &mut Client,
    shared: &Shared,
    changes: &mut Vec<u32>,
) -> Result<()> {
    let mut scratch = shared.scratch.borrow_mut();
    let mut catalog = shared.catalog.borrow_mut();
    let mut requests = Vec::new();
    for _ in 0..READS {
        let n = match stream.try_read(&mut scratch) {
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("read"),
        };
        ensure!(n > 0, "the server closed the connection");
        shared.board.borrow_mut().received(n);
        wire.take(&scratch[..n], |bytes| {
            reader.take(bytes, &mut catalog, |response, catalog| {
                let resources = response.resources.len() as u64;
                let answer = client.take(response, catalog);
                shared.board.borrow_mut().answered(resources);
                requests.extend(answer.requests);
                changes.extend(answer.changes);
            })
        })?;
    }
    for request in requests {
        wire.send(&request);
    }
    Ok(())
}
