//! Serving a sample's ports until the process is asked to end.

use std::time::Duration;

use axum::Router;
use lateen_bookinfo::server;
use tokio::net::TcpListener;

use crate::Error;

/// For how long a sample that was told to end still serves, while clients move elsewhere.
const LINGER: Duration = Duration::from_secs(3);

/// Listens for IPv6 and IPv4.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, Error> {
    let listener = server::listen(port).await;
    let listener = listener.map_err(|source| Error::Serve { port, source })?;
    tracing::info!(port, "listening");
    Ok(listener)
}

/// Serves HTTP/1 and HTTP/2 on one port, to the end of the process.
pub(crate) async fn http(port: u16, router: Router) -> Result<(), Error> {
    server::serve(listen(port).await?, router, server::terminated(), LINGER)
        .await
        .map_err(|source| Error::Serve { port, source })
}
