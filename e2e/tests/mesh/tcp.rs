//! Plain TCP from one sidecar to another, over mutual TLS.

use anyhow::{Context, ensure};
use lateen_e2e::{
    Idle, Mesh, eventually,
    idle::{self, demand},
    inside,
    wire::Wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};

use super::{envoy, shared};

/// Here the client speaks first, and the server when the client has said all.
const CLIENT_FIRST: u16 = 9000;
/// Here the server speaks first, and says no more before it listens.
const SERVER_FIRST: u16 = 9001;
const GREETING: &[u8] = b"220 ready\r\n";
/// More than the buffers of two kernels and two proxies hold.
const MUCH: usize = 8 << 20;

pub(crate) async fn bytes_pass_in_both_directions(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let ports = [
        ("tcp-client-first", CLIENT_FIRST),
        ("tcp-server-first", SERVER_FIRST),
    ];
    let service = idle::service("bytes", "bytes-server", &ports);
    mesh.apply(&service).await?;
    let server = Idle::start(mesh, "bytes-server").await?;
    let client = Idle::start(mesh, "bytes-client").await?;
    let result = check(mesh, &server, &client).await;
    mesh.delete(&service).await?;
    client.remove(mesh).await?;
    server.remove(mesh).await?;
    result
}

async fn check(mesh: &Mesh, server: &Idle, client: &Idle) -> anyhow::Result<()> {
    let ip = mesh.cluster_ip("bytes").await?;
    let answering = answer(server.listen(CLIENT_FIRST).await?);
    let (heard_tx, mut heard_rx) = mpsc::channel(1);
    let greeting = greet(server.listen(SERVER_FIRST).await?, heard_tx);
    let wire = Wire::listen(mesh.pid("platform")?, CLIENT_FIRST)?;
    eventually("the client's half to be closed first", async || {
        let mut stream = client.connect(inside::at(&ip, CLIENT_FIRST)?).await?;
        stream.write_all(&vec![b'q'; MUCH]).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer == format!("got {MUCH}"), "{answer:?}");
        Ok(())
    })
    .await?;
    let payloads = wire.finish()?;
    let plain = payloads
        .iter()
        .filter(|payload| payload.windows(64).any(|w| w == [b'q'; 64]));
    ensure!(
        !payloads.is_empty() && plain.count() == 0,
        "not encrypted, or not seen"
    );

    let mut stream = client.connect(inside::at(&ip, SERVER_FIRST)?).await?;
    let mut greeted = Vec::new();
    // Ends because the server has closed its half; ours is open.
    stream.read_to_end(&mut greeted).await?;
    ensure!(greeted == GREETING, "{greeted:?}");
    stream.write_all(b"QUIT\r\n").await?;
    stream.shutdown().await?;
    let heard = heard_rx.recv().await.context("the server is gone")?;
    ensure!(heard == b"QUIT\r\n", "{heard:?}");
    answering.abort();
    greeting.abort();
    if envoy::is_everywhere(mesh).await? {
        return Ok(());
    }
    counted(mesh, server, client).await
}

/// Says how much there was, when there is no more.
fn answer(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = Vec::new();
            if stream.read_to_end(&mut question).await.is_ok() {
                let answer = format!("got {}", question.len());
                // A client that is gone will fail its own check.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
}

/// Greets, closes its half, and listens to the end.
fn greet(listener: TcpListener, heard_tx: mpsc::Sender<Vec<u8>>) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(GREETING).await?;
            stream.shutdown().await?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await?;
            heard_tx.send(heard).await?;
        }
    })
}

async fn counted(mesh: &Mesh, server: &Idle, client: &Idle) -> anyhow::Result<()> {
    let common = [
        "destination_service=\"bytes.default.svc.cluster.local\"",
        "destination_workload=\"bytes-server\"",
        "request_protocol=\"tcp\"",
    ];
    let much = MUCH as f64;
    let least = [
        ("istio_tcp_connections_opened_total", 2.0),
        ("istio_tcp_connections_closed_total", 2.0),
        ("istio_tcp_received_bytes_total", much + 6.0),
        ("istio_tcp_sent_bytes_total", GREETING.len() as f64 + 11.0),
    ];
    eventually("both sides to count connections and bytes", async || {
        let sides = [
            (
                client.metrics(mesh).await?,
                vec!["reporter=\"source\"", "source_workload=\"bytes-client\""],
            ),
            (
                server.metrics(mesh).await?,
                vec![
                    "reporter=\"destination\"",
                    "connection_security_policy=\"mutual_tls\"",
                    "source_principal=\"spiffe://cluster.local/ns/default/sa/default\"",
                ],
            ),
        ];
        for (metrics, side) in sides {
            let labels = [&common[..], &side].concat();
            for (name, least) in least {
                demand(&metrics, name, &labels, least)?;
            }
        }
        Ok(())
    })
    .await
}
