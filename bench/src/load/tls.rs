//! The client's side of mutual TLS, with a workload's certificate.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lateen_tls::{ClientOptions, Connector, Identity, IdentityStore, Stream, Version};
use tokio::net::TcpStream;

use crate::identity::{CHAIN, KEY, ROOTS};

/// A workload that connects to others.
#[derive(Debug)]
pub(super) struct Client {
    store: Arc<IdentityStore>,
    connector: Connector,
}

impl Client {
    /// With the certificate in a directory.
    pub(super) fn load(directory: &Path) -> Result<Self> {
        lateen_tls::install_provider();
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let identity = Identity::from_pem(&read(CHAIN)?, &read(KEY)?, &read(ROOTS)?)?;
        let store = Arc::new(IdentityStore::new(identity));
        let connector = connector(&store);
        Ok(Client { store, connector })
    }

    /// A connection; a session of this client may be resumed.
    pub(super) async fn connect(&self, tcp: TcpStream) -> Result<Stream<TcpStream>> {
        self.connector.connect(tcp, None).await.context("handshake")
    }

    /// A connection after a whole handshake: no connector remembers a session of another.
    pub(super) async fn connect_anew(&self, tcp: TcpStream) -> Result<Stream<TcpStream>> {
        let stream = connector(&self.store).connect(tcp, None).await;
        let stream = stream.context("handshake")?;
        ensure!(!stream.info().resumed, "the handshake was not a full one");
        Ok(stream)
    }
}

fn connector(store: &Arc<IdentityStore>) -> Connector {
    let options = ClientOptions {
        alpn: vec![b"http/1.1".to_vec()],
        min_version: Version::Tls13,
        ..ClientOptions::default()
    };
    Connector::new(store.clone(), options)
}
