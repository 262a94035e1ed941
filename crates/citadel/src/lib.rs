//! The certificate authority of the mesh.
//!
//! It keeps a root in a Secret, answers `istio.v1.auth.IstioCertificateService`, publishes the root
//! to every namespace, and issues the control plane's own serving certificate. Where the Secrets
//! and ConfigMaps are kept, and how tokens are reviewed, is behind traits: this crate does not
//! name Kubernetes.
//!
//! Invariant: a certificate names the caller, as proved by its token or its certificate. What a
//! signing request says about names is never read.

mod auth;
mod ca;
mod error;
mod metrics;
mod publish;
mod service;
mod store;
mod trust;

pub use auth::{Authenticator, Caller, Denied, Proof, identify};
pub use ca::{CaOptions, CertificateAuthority, Origin, PLUGGED_SECRET, Signed};
pub use error::Error;
pub use metrics::Metrics;
pub use publish::{RootPublisher, RootTarget};
pub use service::Citadel;
pub use store::{Creation, SecretData, SecretStore, StoreError};
pub use trust::{Trust, TrustDomains};
