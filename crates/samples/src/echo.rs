//! The echo server of the gRPC sample: says over HTTP, TCP and gRPC what it was sent, and who it is,
//! and asks others for who wants it. Beside it is its client.

pub(crate) mod client;
mod forward;
mod grpc;
mod http;
mod proto;
mod reflection;

use tokio::task::JoinSet;

use crate::tcp_echo;
use crate::{Error, hostname, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ports for HTTP. Where no port at all is named, 8080, 7070 (gRPC) and 9090 (TCP)
    #[arg(long = "port", value_name = "PORT")]
    http: Vec<u16>,
    /// Ports for gRPC
    #[arg(long, value_name = "PORT")]
    grpc: Vec<u16>,
    /// Ports for TCP
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,
    /// gRPC ports that would take their configuration over xDS: not supported, they are plain gRPC
    #[arg(long, value_name = "PORT")]
    xds_grpc_server: Vec<u16>,
    /// Those of the HTTP ports that would end TLS: not supported, they are not opened
    #[arg(long, value_name = "PORT")]
    tls: Vec<u16>,
    /// A port for metrics: it has none, and is not opened
    #[arg(long, value_name = "PORT")]
    metrics: Option<u16>,
    /// What it says its version is
    #[arg(long = "version", default_value = "")]
    service_version: String,
    /// What it says its cluster is
    #[arg(long, default_value = "")]
    cluster: String,
    /// A certificate for ports with TLS, of which there are none
    #[arg(long, value_name = "FILE")]
    crt: Option<String>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
}

/// Who answers.
#[derive(Clone, Debug)]
struct Who {
    version: String,
    cluster: String,
    hostname: String,
    port: u16,
}

impl Args {
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        if [&self.http, &self.grpc, &self.tcp]
            .iter()
            .all(|ports| ports.is_empty())
        {
            (self.http, self.grpc, self.tcp) = (vec![8080], vec![7070], vec![9090]);
        }
        for port in &self.tls {
            tracing::warn!(port, "--tls is not supported: the port is not opened");
        }
        self.http.retain(|port| !self.tls.contains(port));
        for port in &self.xds_grpc_server {
            tracing::warn!(
                port,
                "--xds-grpc-server is not supported: the port serves plain gRPC"
            );
        }
        let who = |port| Who {
            version: self.service_version.clone(),
            cluster: self.cluster.clone(),
            hostname: hostname(),
            port,
        };
        let mut servers = JoinSet::new();
        for port in &self.http {
            servers.spawn(serve::http(*port, http::router(who(*port))));
        }
        for port in &self.grpc {
            servers.spawn(serve::http(*port, grpc::router(who(*port))));
        }
        for port in &self.tcp {
            let (listener, who) = (serve::listen(*port).await?, who(*port));
            servers.spawn(async move {
                let prefix = format!("{} {}", who.version, who.hostname);
                tokio::select! {
                    () = tcp_echo::accept(listener, prefix) => {}
                    () = lateen_bookinfo::server::terminated() => {}
                }
                Ok(())
            });
        }
        if servers.is_empty() {
            return Err(Error::NoPort);
        }
        while let Some(ended) = servers.join_next().await {
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod testing {
    use axum::Router;
    use tokio::net::TcpListener;

    use super::Who;

    /// A server on a port of its own, which ends with the test's runtime.
    pub(super) async fn serve(router: impl FnOnce(Who) -> Router) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let who = Who {
            version: "v1".into(),
            cluster: String::new(),
            hostname: "echo-1".into(),
            port,
        };
        tokio::spawn(axum::serve(listener, router(who)).into_future());
        port
    }
}
