//! The client side of TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::{ResolvesClientCert, Resumption, WantsClientCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::peers::Peers;
use crate::suites::provider;
use crate::verify::ServerVerifier;
use crate::{Algorithms, Error, Identity, IdentityStore, PeerRule, ServerCheck, Stream, Version};

/// Sessions that a connector keeps; its table is made at once, for every eighth a server name. Most
/// connectors know one name.
const SESSIONS: usize = 32;

/// How a [`Connector`] behaves. The certificate and the roots come from its store.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Verification of servers.
    pub check: ServerCheck,
    /// Whether our certificate is presented to servers that ask for one.
    pub present_identity: bool,
    /// Application protocols, preferred first. Empty means that none is offered.
    pub alpn: Vec<Vec<u8>>,
    /// The lowest version offered.
    pub min_version: Version,
    /// The highest version offered.
    pub max_version: Version,
    /// What else is offered.
    pub algorithms: Algorithms,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            check: ServerCheck::Peer(PeerRule::AnyTrusted),
            present_identity: true,
            alpn: Vec::new(),
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            algorithms: Algorithms::default(),
        }
    }
}

/// Opens TLS connections with whatever identity is current.
///
/// Sessions are resumed only among connections of the same connector, which verify alike, and
/// only until the identity changes.
#[derive(Debug)]
pub struct Connector {
    store: Arc<IdentityStore>,
    options: ClientOptions,
    cached: Mutex<Option<(Arc<Identity>, Config)>>,
}

/// A configuration, and the servers that were met with it.
#[derive(Debug, Clone)]
struct Config {
    tls: Arc<ClientConfig>,
    peers: Arc<Peers>,
}

impl Connector {
    /// A connector for the store's identity, present or future.
    pub fn new(store: Arc<IdentityStore>, options: ClientOptions) -> Self {
        Self {
            store,
            options,
            cached: Mutex::new(None),
        }
    }

    /// Runs the client's handshake. `sni` is the host name to ask for; without one (or with an
    /// address) no name is sent, and [`ServerCheck::ServerName`] can verify an address only.
    /// It has no timeout of its own.
    ///
    /// # Errors
    /// [`Error::NotReady`] without identity; otherwise see [`Error`].
    pub async fn connect<IO>(&self, io: IO, sni: Option<&str>) -> Result<Stream<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake(io, sni, self.config()?).await
    }

    /// Like [`Connector::connect`], with other application protocols for this connection, as
    /// Istio's ALPN filter asks for.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_alpn<IO>(
        &self,
        io: IO,
        sni: Option<&str>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Stream<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Config { tls, peers } = self.config()?;
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = alpn;
        let tls = Arc::new(tls);
        self.handshake(io, sni, Config { tls, peers }).await
    }

    /// The store behind this connector.
    pub fn store(&self) -> &Arc<IdentityStore> {
        &self.store
    }

    async fn handshake<IO>(
        &self,
        io: IO,
        sni: Option<&str>,
        config: Config,
    ) -> Result<Stream<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name(sni)?;
        let connector = TlsConnector::from(config.tls);
        let stream = connector
            .connect(name, io)
            .await
            .map_err(Error::from_handshake)?;
        let stream = Stream::new(TlsStream::Client(stream), &config.peers);
        let resumed = stream.info().check_resumed(SystemTime::now());
        if resumed.is_err() {
            // With it go the other sessions that stand for that certificate.
            *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        resumed.map(|()| stream)
    }

    fn server_name(&self, sni: Option<&str>) -> Result<ServerName<'static>, Error> {
        match sni {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| Error::ServerName(name.to_owned())),
            None if self.options.check == ServerCheck::ServerName => Err(Error::Config(
                "verification by server name needs a name".to_owned(),
            )),
            // An address is never sent as SNI (RFC 6066, section 3).
            None => Ok(ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        }
    }

    fn config(&self) -> Result<Config, Error> {
        let identity = self.store.current()?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*cached
            && Arc::ptr_eq(of, &identity)
        {
            return Ok(config.clone());
        }
        let config = build(&identity, &self.options)?;
        *cached = Some((identity, config.clone()));
        Ok(config)
    }
}

fn build(identity: &Identity, options: &ClientOptions) -> Result<Config, Error> {
    let peers = Arc::new(Peers::default());
    let verifier = ServerVerifier {
        check: options.check.clone(),
        roots: identity.roots().clone(),
        revoked: identity.revoked().clone(),
        provider: provider(),
        peers: peers.clone(),
    };
    let builder = ClientConfig::builder_with_provider(options.algorithms.provider())
        .with_protocol_versions(versions(options.min_version, options.max_version)?)
        .map_err(|e| Error::Config(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let key = identity.certified().filter(|_| options.present_identity);
    let mut built = with_client_cert(builder, key);
    built.alpn_protocols.clone_from(&options.alpn);
    built.resumption = match identity.revoked().is_empty() {
        true => Resumption::in_memory_sessions(SESSIONS),
        // As at servers: lists expire, and nobody would look at them again.
        false => Resumption::disabled(),
    };
    built.enable_early_data = false;
    let tls = Arc::new(built);
    Ok(Config { tls, peers })
}

fn with_client_cert(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    key: Option<Arc<CertifiedKey>>,
) -> ClientConfig {
    match key {
        Some(key) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(key));
            builder.with_client_cert_resolver(resolver)
        }
        None => builder.with_no_client_auth(),
    }
}

pub(crate) fn versions(
    min: Version,
    max: Version,
) -> Result<&'static [&'static SupportedProtocolVersion], Error> {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match (min, max) {
        (Version::Tls12, Version::Tls13) => Ok(&BOTH),
        (Version::Tls13, Version::Tls13) => Ok(&BOTH[..1]),
        (Version::Tls12, Version::Tls12) => Ok(&BOTH[1..]),
        (Version::Tls13, Version::Tls12) => Err(Error::Config(
            "the lowest TLS version is above the highest".to_owned(),
        )),
    }
}
