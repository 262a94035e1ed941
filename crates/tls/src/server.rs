//! The server side of TLS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use crate::certificates::Certificates;
use crate::client::versions;
use crate::peers::Peers;
use crate::verify::ClientVerifier;
use crate::{Algorithms, Error, Identity, IdentityStore, PeerRule, Stream, Version};

/// What a server asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    None,
    /// A certificate is asked for, and verified if there is one.
    Optional(PeerRule),
    /// Who has no certificate is refused.
    Required(PeerRule),
}

/// How an [`Acceptor`] behaves. The certificate and the roots come from its store.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Verification of clients.
    pub client_auth: ClientAuth,
    /// Application protocols, preferred first. Empty means that none is negotiated.
    pub alpn: Vec<Vec<u8>>,
    /// The lowest version accepted.
    pub min_version: Version,
    /// The highest version accepted.
    pub max_version: Version,
    /// What else is accepted.
    pub algorithms: Algorithms,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            client_auth: ClientAuth::None,
            alpn: Vec::new(),
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            algorithms: Algorithms::default(),
        }
    }
}

/// Accepts TLS connections with whatever identity is current.
///
/// The derived configuration is kept until the identity changes; it then starts afresh with new
/// ticket keys, so that nobody resumes a session that was verified against roots since withdrawn.
#[derive(Debug)]
pub struct Acceptor {
    store: Arc<IdentityStore>,
    options: ServerOptions,
    cached: Mutex<Option<(Arc<Identity>, Configs)>>,
}

impl Acceptor {
    /// An acceptor for the store's identity, present or future.
    pub fn new(store: Arc<IdentityStore>, options: ServerOptions) -> Self {
        Self {
            store,
            options,
            cached: Mutex::new(None),
        }
    }

    /// Runs the server's handshake. It has no timeout of its own.
    ///
    /// # Errors
    /// [`Error::NotReady`] without identity; otherwise see [`Error`].
    pub async fn accept<IO>(&self, io: IO) -> Result<Stream<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let lazy = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
        let start = lazy.await.map_err(Error::from_handshake)?;
        let configs = self.config()?;
        let fitting = configs.fitting(&start.client_hello());
        let stream = start.into_stream(fitting);
        let stream = stream.await.map_err(Error::from_handshake)?;
        let stream = Stream::new(TlsStream::Server(stream), &configs.peers);
        stream.info().check_resumed(SystemTime::now())?;
        Ok(stream)
    }

    /// The store behind this acceptor.
    pub fn store(&self) -> &Arc<IdentityStore> {
        &self.store
    }

    fn config(&self) -> Result<Configs, Error> {
        let identity = self.store.current()?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, configs)) = &*cached
            && Arc::ptr_eq(of, &identity)
        {
            return Ok(configs.clone());
        }
        let configs = Configs::new(&identity, &self.options)?;
        *cached = Some((identity, configs.clone()));
        Ok(configs)
    }
}

/// Two configurations that differ in their application protocols.
///
/// A client that offers none of ours goes on without one, as with Envoy, whose configurations rely
/// on it; RFC 7301 would have the handshake fail.
#[derive(Debug, Clone)]
struct Configs {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
    peers: Arc<Peers>,
}

impl Configs {
    fn new(identity: &Identity, options: &ServerOptions) -> Result<Self, Error> {
        let peers = Arc::new(Peers::default());
        let with_alpn = build(identity, options, &peers)?;
        let mut without_alpn = with_alpn.clone();
        without_alpn.alpn_protocols.clear();
        Ok(Self {
            with_alpn: Arc::new(with_alpn),
            without_alpn: Arc::new(without_alpn),
            peers,
        })
    }

    fn fitting(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let ours = &self.with_alpn.alpn_protocols;
        let common = hello
            .alpn()
            .is_none_or(|mut theirs| theirs.any(|p| ours.iter().any(|o| o == p)));
        if common {
            self.with_alpn.clone()
        } else {
            self.without_alpn.clone()
        }
    }
}

fn build(
    identity: &Identity,
    options: &ServerOptions,
    peers: &Arc<Peers>,
) -> Result<ServerConfig, Error> {
    let certificates = Certificates::new(identity)?;
    let config = |e: rustls::Error| Error::Config(e.to_string());
    let mut built = ServerConfig::builder_with_provider(options.algorithms.provider())
        .with_protocol_versions(versions(options.min_version, options.max_version)?)
        .map_err(config)?
        .with_client_cert_verifier(client_verifier(identity, &options.client_auth, peers)?)
        .with_cert_resolver(Arc::new(certificates));
    built.alpn_protocols.clone_from(&options.alpn);
    // Sessions are kept by clients, in tickets under keys that change every six hours; what a
    // server remembers of each would be memory at the disposal of strangers.
    built.session_storage = Arc::new(NoServerSessionStorage {});
    if identity.revoked().is_empty() {
        built.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(config)?;
        // A ticket holds the client's chain and is made with every handshake. Connections of a mesh
        // live long, and the next one brings the next ticket.
        built.send_tls13_tickets = 1;
    } else {
        // Who resumes a session is not compared with lists again, and lists expire.
        built.send_tls13_tickets = 0;
    }
    // The order of `suites` says why.
    built.ignore_client_order = true;
    // Requests before the end of a handshake can be replayed.
    built.max_early_data_size = 0;
    Ok(built)
}

fn client_verifier(
    identity: &Identity,
    auth: &ClientAuth,
    peers: &Arc<Peers>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let (rule, mandatory) = match auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Optional(rule) => (rule, false),
        ClientAuth::Required(rule) => (rule, true),
    };
    let roots = identity.roots().clone();
    Ok(Arc::new(ClientVerifier::new(
        roots,
        identity.revoked().clone(),
        rule.clone(),
        mandatory,
        peers.clone(),
    )?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Authority, LeafRequest};

    #[test]
    fn nothing_is_kept_for_clients_and_nothing_is_taken_early() {
        let day = Duration::from_secs(86_400);
        let root = Authority::self_signed("x", day).expect("a root");
        let identity = root.identity(&LeafRequest::server(["a.b"], day));
        let configs = Configs::new(
            &identity.expect("a leaf"),
            &ServerOptions {
                alpn: vec![b"h2".to_vec()],
                ..ServerOptions::default()
            },
        );
        let configs = configs.expect("valid");
        for config in [&configs.with_alpn, &configs.without_alpn] {
            assert_eq!(config.max_early_data_size, 0);
            assert!(!config.session_storage.can_cache());
            assert!(config.ticketer.enabled());
        }
    }

    #[test]
    fn nobody_resumes_a_session_where_lists_may_expire() {
        let day = Duration::from_secs(86_400);
        let root = Authority::self_signed("x", day).expect("a root");
        let identity = root.identity(&LeafRequest::server(["a.b"], day));
        let lists = root.revoke(&[], day).expect("a list");
        let identity = identity.expect("a leaf").without_revoked(&lists);
        let identity = identity.expect("it is read");
        let configs = Configs::new(&identity, &ServerOptions::default()).expect("valid");
        assert!(!configs.with_alpn.ticketer.enabled());
        assert_eq!(configs.with_alpn.send_tls13_tickets, 0);
    }

    #[test]
    fn a_ticket_of_another_configuration_is_no_ticket() {
        let day = Duration::from_secs(86_400);
        let root = Authority::self_signed("x", day).expect("a root");
        let leaf = LeafRequest::server(["a.b"], day);
        let make = || {
            let identity = root.identity(&leaf).expect("a leaf");
            Configs::new(&identity, &ServerOptions::default()).expect("valid")
        };
        let (old, new) = (make(), make());
        let ticket = old.with_alpn.ticketer.encrypt(b"session").expect("enabled");
        let plain = old.without_alpn.ticketer.decrypt(&ticket);
        assert_eq!(plain.as_deref(), Some(&b"session"[..]));
        assert_eq!(new.with_alpn.ticketer.decrypt(&ticket), None);
    }
}
