//! Envoy's v3 messages, the names of their resources, and the aggregated discovery protocol.
//!
//! Only this crate names the published message crate; everybody else reaches the messages through
//! [`types`] (short module names for what a mesh uses) or [`envoy`] (the full tree).
//! Nothing here knows a mesh type: the control plane hands in encoded resources by name, the data
//! plane gets encoded resources by name.

mod any;
pub mod ca;
mod canonical;
pub mod client;
pub mod json;
mod merge;
pub mod names;
pub mod nds;
pub mod server;
pub mod types;

pub use any::{decode_any, pack_any};
pub use envoy_types::pb::{envoy, google, udpa, xds as cncf};
pub use google::protobuf::Any;
pub use merge::{Lists, NamedMessage, merge};
pub use names::TypeUrl;

/// What can go wrong with messages and discovery streams.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An `Any` holds another type than the caller asked for.
    #[error("expected a message of type {expected}, got {found}")]
    WrongType {
        /// The full type URL the caller wanted.
        expected: String,
        /// The type URL in the message.
        found: String,
    },
    /// The bytes are not a message of their type.
    #[error("cannot decode {type_url}: {source}")]
    Decode {
        /// The type that the bytes should have been.
        type_url: String,
        /// What the decoder found.
        source: prost::DecodeError,
    },
    /// The descriptor set has no message of this name.
    #[error("no message is named {0}")]
    UnknownType(String),
    /// The text is not the JSON form of the message.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
