//! A port of this machine whose connections go on to a port in a pod.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::client;

/// When connections are tried again after none could be taken.
const AGAIN: Duration = Duration::from_millis(200);

/// A port that is open.
pub(super) struct Forward {
    listener: TcpListener,
    /// As the user names this machine.
    host: String,
}

impl Forward {
    /// Opens a port: the one that is asked for; where none is (0), that of the pod, or else any.
    ///
    /// # Errors
    /// When the address is none of this machine, or the port that is asked for is in use.
    pub(super) async fn bind(address: &str, asked: u16, remote: u16) -> anyhow::Result<Self> {
        let ip = match address {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address.parse().with_context(|| {
                format!("--address: {address:?} is no IP address of this machine")
            })?,
        };
        let bind = async |port| TcpListener::bind(SocketAddr::new(ip, port)).await;
        let listener = match asked {
            0 => match bind(remote).await {
                Ok(listener) => listener,
                Err(_) => bind(0)
                    .await
                    .with_context(|| format!("cannot listen on {address}"))?,
            },
            port => bind(port).await.with_context(|| {
                format!("cannot listen on port {port} of {address}; name another with --port")
            })?,
        };
        Ok(Forward {
            listener,
            host: address.to_owned(),
        })
    }

    /// Where a page is.
    pub(super) fn url(&self, path: &str) -> String {
        let port = self.listener.local_addr().map_or(0, |own| own.port());
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("http://{host}:{port}{path}")
    }

    /// Passes connections on until Ctrl-C or SIGTERM. What keeps one from being taken, such as too many
    /// open files, passes.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(super) async fn serve(
        self,
        client: &Client,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> anyhow::Result<()> {
        // Once for all rounds: a signal that comes between two of them is not to be lost.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = taken(async || Ok(self.listener.accept().await?.0)) => stream,
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                Some(_) = connections.join_next() => continue,
            };
            let (client, namespace, pod) = (client.clone(), namespace.to_owned(), pod.to_owned());
            connections.spawn(async move {
                if let Err(error) = pass(stream, &client, &namespace, &pod, port).await {
                    eprintln!("lateen: {error:#}");
                }
            });
        }
    }
}

/// The next connection that can be taken.
async fn taken<T>(accept: impl AsyncFn() -> io::Result<T>) -> T {
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                eprintln!("lateen: a connection was not taken: {error}");
                if !is_of_connection(&error) {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Whether it was the connection that failed, and not this process: the next one may be taken at once.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Carries one connection to its end.
async fn pass(
    mut stream: TcpStream,
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> anyhow::Result<()> {
    let mut to = match client::pod_connect(client, namespace, pod, port).await {
        Ok(to) => to,
        Err(error) => bail!("{error:#}; where the pod is gone, start the command again"),
    };
    // Whichever side breaks it off: the other one sees the end.
    let _ = copy_bidirectional(&mut stream, &mut to).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_taken_again_after_one_that_failed() {
        let errors = [
            io::Error::from_raw_os_error(nix::libc::EMFILE),
            io::ErrorKind::ConnectionAborted.into(),
        ];
        let left = std::cell::RefCell::new(Vec::from(errors));
        let accept = async || match left.borrow_mut().pop() {
            Some(error) => Err(error),
            None => Ok("a connection"),
        };
        assert_eq!(taken(accept).await, "a connection");
        assert!(left.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_or_another_is_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = Forward::bind("localhost", 0, port).await.unwrap();
        let url = other.url("/debug");
        assert!(
            url.starts_with("http://localhost:") && url.ends_with("/debug"),
            "{url}"
        );
        assert!(!url.contains(&format!(":{port}/")), "{url}");
        let error = Forward::bind("localhost", port, 1).await.err().unwrap();
        assert!(
            error.to_string().contains(&format!("port {port}")),
            "{error:#}"
        );
        let error = Forward::bind("nowhere", 0, 1).await.err().unwrap();
        assert!(error.to_string().contains("nowhere"), "{error:#}");
    }
}
