//! Requests that are not well formed, byte by byte to the ingress gateway.

use std::time::Duration;

use anyhow::{Context, ensure};
use lateen_e2e::Mesh;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::shared;

/// What came back, and whether the gateway closed the connection.
struct Seen {
    text: String,
    closed: bool,
}

impl Seen {
    fn n_answers(&self) -> usize {
        self.text.matches("HTTP/1.").count()
    }
}

async fn send(mesh: &Mesh, request: &str) -> anyhow::Result<Seen> {
    let mut stream = TcpStream::connect(mesh.http).await?;
    let (mut read, mut write) = stream.split();
    let mut bytes = Vec::new();
    // Both at once: the gateway may answer before it has read everything.
    let closed = {
        let sending = async {
            let _ = write.write_all(request.as_bytes()).await;
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut block = [0; 16384];
            loop {
                match tokio::time::timeout(Duration::from_secs(3), read.read(&mut block)).await {
                    Err(_) => break false,
                    Ok(Ok(0) | Err(_)) => break true,
                    Ok(Ok(n)) => bytes.extend_from_slice(&block[..n]),
                }
            }
        };
        tokio::select! {
            closed = reading => closed,
            () = sending => unreachable!("it waits for ever"),
        }
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Seen { text, closed })
}

/// One answer of this status, and then the connection is closed.
async fn refused(mesh: &Mesh, what: &str, request: &str, codes: &[u16]) -> anyhow::Result<()> {
    let seen = send(mesh, request).await?;
    let status = seen
        .text
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let status: u16 = status.with_context(|| format!("{what}: no answer, {:?}", seen.text))?;
    ensure!(
        codes.contains(&status),
        "{what}: {status}, not one of {codes:?}"
    );
    ensure!(
        seen.n_answers() == 1,
        "{what}: several answers: {}",
        seen.text
    );
    ensure!(seen.closed, "{what}: the connection stays open");
    Ok(())
}

pub(crate) async fn oversized_heads_are_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let huge = "a".repeat(100_000);
    let header = format!("GET /productpage HTTP/1.1\r\nhost: x\r\nx-big: {huge}\r\n\r\n");
    refused(mesh, "a large header", &header, &[431, 400]).await?;
    let many: String = (0..2000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET /productpage HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    refused(mesh, "many headers", &many, &[431, 400]).await?;
    let target = format!("GET /{huge} HTTP/1.1\r\nhost: x\r\n\r\n");
    refused(mesh, "a long target", &target, &[414, 431, 400]).await?;
    let answer = mesh.gateway().get("/productpage").await?;
    ensure!(answer.status == 200, "others are served: {}", answer.status);
    Ok(())
}

pub(crate) async fn bad_framing_is_refused(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let post = |headers: &str, body: &str| {
        format!("POST /productpage HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
    };
    let (length, chunked) = ("content-length: 6\r\n", "transfer-encoding: chunked\r\n");
    let smuggled = "0\r\n\r\nGET /productpage HTTP/1.1\r\nhost: x\r\n\r\n";
    for (what, request) in [
        (
            "two lengths",
            post(&format!("{length}content-length: 7\r\n"), "abcdefg"),
        ),
        (
            "a length that is no number",
            post("content-length: six\r\n", "abcdef"),
        ),
        (
            "chunked is not last",
            post("transfer-encoding: chunked, gzip\r\n", smuggled),
        ),
        ("a space before the colon", post("x-a : b\r\n", "")),
        ("no HTTP", "\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned()),
        (
            "no host",
            "GET /productpage HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(),
        ),
    ] {
        refused(mesh, what, &request, &[400]).await?;
    }
    // Length and chunks together are refused; what follows is never a request of its own.
    for headers in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
        let request = post(&headers, smuggled);
        refused(mesh, "length and chunks", &request, &[400]).await?;
    }
    Ok(())
}

pub(crate) async fn old_versions_and_climbing_paths(mesh: &Option<Mesh>) -> anyhow::Result<()> {
    let mesh = shared(mesh);
    let old = "GET /productpage HTTP/1.0\r\nhost: x\r\n\r\n";
    refused(mesh, "HTTP/1.0 is served once", old, &[200, 426]).await?;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    for path in [
        "/static/../productpage",
        "/static/%2e%2e/productpage",
        "/./productpage",
    ] {
        refused(mesh, path, &get(path), &[200]).await?;
    }
    for path in [
        "/../productpage",
        "/static/../../productpage",
        "/%2e%2e/etc/passwd",
    ] {
        refused(mesh, path, &get(path), &[400]).await?;
    }
    Ok(())
}
