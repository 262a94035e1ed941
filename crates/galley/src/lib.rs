//! What users write: taken in, checked and published as one immutable set.
//!
//! Invariant: a bad object harms only itself. It is refused at the webhook; where it got past it, it
//! is left out of the set with a reason and the last good form of it stays.

pub mod analyze;
mod config_set;
mod credentials;
mod galley;
mod gateway_api;
mod generated;
mod ingress;
mod problems;
mod sessions;
mod sources;
mod unsupported;
mod validate;
mod webhook;

pub use config_set::{ConfigChanges, ConfigSet};
pub use credentials::{AnyCredentials, CredentialFault, Credentials, NoCredentials, RootsKind};
pub use galley::{
    Galley, MeshError, Once, Surroundings, fold, fold_with, parse_mesh, parse_networks,
};
pub use gateway_api::{
    BACKEND_TLS, CLASS, CLIENT_CERTIFICATE, CONTROLLER, CREDENTIAL, GATEWAY_SEMANTICS,
    GATEWAY_SERVICE, Granted, ROOTS, ROUTE_SEMANTICS, Said, unreadable,
};
pub use generated::GatewayState;
pub use lateen_api::fault::{Fault, describe};
use lateen_api::{fault, shape};
pub use problems::problems;
pub use sessions::{Carrier, Session, sessions};
pub use sources::{Source, l4_sources, sources};
pub use validate::{review, validate};
pub use webhook::{Counters, router};
