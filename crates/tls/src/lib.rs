//! Transport security: the only crate that names rustls and its provider.
//!
//! What the rest of the house needs from TLS is small: an [`Identity`] that may be replaced while
//! connections live on ([`IdentityStore`]), an [`Acceptor`] and a [`Connector`] that verify their
//! peers by SPIFFE name, an [`Authority`] that issues certificates, and listeners for HTTPS and
//! gRPC. No type of the TLS library appears in a public signature, so that it can be replaced here.
//!
//! Invariant: a peer is verified against the roots that are current when the handshake runs; a
//! rotation of roots or certificate also ends session resumption from before it.

mod authority;
mod cert;
mod certificates;
mod client;
mod error;
mod grpc;
mod hello;
pub mod https;
mod identity;
mod peers;
pub mod pem;
mod pins;
mod renew;
mod revocation;
mod server;
mod signing;
mod store;
mod stream;
mod suites;
mod verify;

pub use authority::{Authority, CsrKey, Issued, LeafRequest, csr, csr_with_dns};
pub use cert::CertInfo;
pub use client::{ClientOptions, Connector};
pub use error::Error;
pub use grpc::{GrpcConnector, PeerInfo};
pub use hello::{ClientHello, HelloParse, peek_client_hello};
pub use identity::Identity;
pub use pins::Pins;
pub use renew::sleep_until;
pub use server::{Acceptor, ClientAuth, ServerOptions};
pub use signing::SigningKey;
pub use store::IdentityStore;
pub use stream::{ConnInfo, Stream, Version};
pub use suites::Algorithms;
pub use verify::{PeerRule, SanKind, SanMatch, ServerCheck};

/// Makes the cryptographic provider known to libraries that ask for the process default.
///
/// Our own configurations name their provider and do not need it; the Kubernetes client does.
/// Calling it again has no effect.
pub fn install_provider() {
    // The only failure is that one is installed already, which is what the caller wants.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The SPIFFE identity that the peer of `stream` proved, when it presented a certificate with one.
pub fn peer_spiffe<IO>(stream: &Stream<IO>) -> Option<&lateen_core::SpiffeId> {
    stream.info().peer.as_ref().and_then(|p| p.spiffe.as_ref())
}
