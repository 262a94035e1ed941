//! From Envoy's messages to what the data plane runs on. Everything is decoded off the lock, before
//! a snapshot is published; a resource that asks for what is not supported is refused here, with
//! the field and the reason.

#![allow(
    deprecated,
    reason = "control planes still send these fields, and Envoy honours them"
)]

mod access_log;
mod cluster;
mod common;
mod endpoint;
mod fault;
mod filter;
mod hcm;
mod listener;
mod route;
mod tls;

pub(crate) use cluster::cluster;
pub(crate) use common::{FormatValue, address, struct_path};
pub(crate) use endpoint::{EndpointSpec, NamedEndpoint, assignment};
pub(crate) use listener::listener;
pub(crate) use route::route_configuration;
pub(crate) use tls::{SecretNames, Source, TlsSpec, secret_pem};

/// Why a resource was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct DecodeError {
    /// The field at fault.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl DecodeError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        DecodeError {
            field: field.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(field: impl Into<String>, what: impl std::fmt::Display) -> Self {
        DecodeError::new(field, format!("{what} is not supported"))
    }
}

impl From<lateen_route::RouteError> for DecodeError {
    fn from(error: lateen_route::RouteError) -> Self {
        DecodeError::new("route", error.to_string())
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes an `Any` whose type is known.
fn typed<M: prost::Message + prost::Name + Default>(
    field: &str,
    any: &lateen_xds::Any,
) -> Result<M> {
    lateen_xds::decode_any(any).map_err(|error| DecodeError::new(field, error.to_string()))
}
