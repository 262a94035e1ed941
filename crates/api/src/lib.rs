//! The resources that users write, as Rust types.
//!
//! Nothing here does I/O and nothing here judges: a type accepts what the wire format can say, and
//! `galley` decides whether it makes sense. Each type can describe itself as an OpenAPI schema
//! ([`Schema`]), which is what the CRDs are made of and what galley walks to find unknown fields.

mod compat;
mod schema;

pub mod annotations;
pub mod duration;
pub mod fault;
pub mod gateway_api;
pub mod ingress;
pub mod install;
pub mod kinds;
pub mod labels;
pub mod lines;
pub mod mesh;
pub mod mesh_networks;
pub mod networking;
pub mod object;
pub mod owner;
pub mod security;
pub mod shape;
pub mod status;

pub use duration::Duration;
pub use kinds::Kind;
pub use object::{Meta, Object, ObjectError};
pub use owner::Maker;
pub use schema::Schema;

/// The most of an AdmissionReview that a webhook reads, in bytes: an object of 3 MiB, which is all that an
/// API server takes, as it is and as it was, and what is around them.
pub const REVIEW_MAX: usize = 8 << 20;
