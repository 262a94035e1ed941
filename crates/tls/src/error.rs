//! Errors of this crate: whose fault it is can be read from the variant.

use std::io;

/// What can go wrong with certificates and handshakes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A PEM text does not hold what it should.
    #[error("bad PEM for {what}: {reason}")]
    Pem {
        /// What the text was read as, "private key" for example.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be parsed.
    #[error("bad certificate: {0}")]
    Certificate(String),
    /// A certificate signing request is malformed or its signature does not fit its key.
    #[error("bad certificate signing request: {0}")]
    Csr(String),
    /// A key or certificate could not be made.
    #[error("cannot issue certificate: {0}")]
    Issue(String),
    /// Key and certificate, or roots and certificate, do not belong together.
    #[error("identity is not consistent: {0}")]
    Inconsistent(String),
    /// A TLS configuration asks for something that cannot be done.
    #[error("TLS configuration: {0}")]
    Config(String),
    /// There is no certificate yet: the agent has not delivered one.
    #[error("no certificate has been delivered yet")]
    NotReady,
    /// The name for SNI or for verification is not a host name or an address.
    #[error("{0:?} is not a valid server name")]
    ServerName(String),
    /// The handshake ran and failed: the peer, or what we think of it, is at fault.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The peer did not finish its handshake in time.
    #[error("TLS handshake timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// The transport below failed.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl Error {
    /// Sorts an I/O error of a handshake: TLS alerts and verification failures come wrapped in it.
    pub(crate) fn from_handshake(error: io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => Error::Handshake(inner.to_string()),
            _ => Error::Io(error),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(e) => e,
            e @ Error::Timeout(_) => io::Error::new(io::ErrorKind::TimedOut, e),
            e => io::Error::new(io::ErrorKind::InvalidData, e),
        }
    }
}
