//! From Envoy's messages to plain specifications: listeners and their chains, connection managers,
//! route tables, clusters, endpoints, TLS contexts. A resource that asks for what is not supported
//! is refused here, with the field and the reason.
//!
//! The data plane binds specifications to sockets, certificates and loggers; whoever explains what
//! it would do with a request reads the same specifications. Invariant: nothing here opens a
//! socket, keeps state or knows a mesh type. Files are read only for texts that stand in for
//! fields: a direct response's body and a log's format.

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
mod local_reply;
mod route;
mod session;
mod tcp;
mod tls;
mod unread;
mod workload;

pub use access_log::AccessLogSpec;
pub use cluster::{
    ClusterSpec, Discovery, DnsSpec, DynamicSpec, ErrorMatch, HttpOptions, Keepalive, Pings,
    Service, TransportMatch, TransportSpec, UpstreamProtocol, cluster,
};
pub use common::{Data, FormatValue, address, struct_path};
pub use endpoint::{EndpointSpec, NamedEndpoint, assignment, place};
pub use fault::{Abort, AbortStatus, Fault};
pub use filter::{Cors, Filters, RouteExtra};
pub use hcm::{CertHeader, Codec, HcmSpec, Routes, ServerHeader};
pub use listener::udp::{DatagramHash, UdpProxySpec};
pub use listener::{
    DownstreamSpec, FilterChainSpec, ListenerSpec, NetworkSpec, Pipe, ProxyHeader, bound_at,
    listener,
};
pub use local_reply::{Comparison, LocalReplySpec, LogFilter, ReplyFormat, ReplyMapper};
pub use route::{route_configuration, virtual_host};
pub use session::{Carrier, RouteSession, SessionSpec};
pub use tcp::{TcpProxySpec, Tunnel};
pub use tls::{CertSource, Pins, RootSource, SanKind, SecretData, TlsSpec, TlsVersion, secret};
pub use unread::{MOST, Unread, UnreadField, What, unread};
pub use workload::Workload;

/// Why a resource was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct DecodeError {
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl DecodeError {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        DecodeError {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A field that asks for what this data plane does not do.
    pub fn unsupported(field: impl Into<String>, what: impl std::fmt::Display) -> Self {
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
