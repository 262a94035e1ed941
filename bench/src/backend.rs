//! What stands behind the proxies: fixed answers at the least cost.

mod h1;
mod h2;
pub(crate) mod tcp;

use std::future::Future;
use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::ports::{BACKEND_H1, BACKEND_H2, BACKEND_TCP};

/// Serves until it is killed.
pub(crate) async fn run() -> Result<()> {
    let local = LocalSet::new();
    let answer = Rc::new(h1::answer());
    let all = local.run_until(async move {
        tokio::try_join!(
            serve(BACKEND_H1, move |stream| h1::serve(stream, answer.clone())),
            serve(BACKEND_H2, h2::serve),
            serve(BACKEND_TCP, tcp::serve),
        )
    });
    all.await.map(drop)
}

async fn serve<F>(port: u16, handle: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.with_context(|| format!("port {port}"))?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        stream.set_nodelay(true)?;
        let handled = handle(stream);
        spawn_local(async move {
            if let Err(error) = handled.await {
                // Proxies may close as they like; what matters is what clients see.
                eprintln!("port {port}: {error:#}");
            }
        });
    }
}
