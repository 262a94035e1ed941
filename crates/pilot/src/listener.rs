//! Listeners (LDS): where connections arrive, and what happens to them first.

mod chains;
mod filters;
mod gateway;
mod inbound;
mod outbound;

pub(crate) use gateway::{GatewayKey, GatewayServer, ServerTls};
pub(crate) use inbound::{BoundKey, InboundKey, InboundPort, Mode};
pub(crate) use outbound::{EVERYWHERE, OutboundKey, TcpLimits, TcpRule, VirtualOutboundKey, Want};

use lateen_api::mesh::{AccessLogEncoding, MeshConfig};

/// What of the mesh's settings every listener depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Logging {
    /// Empty for no log.
    pub(crate) file: String,
    /// Empty for the default format.
    pub(crate) format: String,
    pub(crate) json: bool,
}

impl Logging {
    pub(crate) fn of(mesh: &MeshConfig) -> Self {
        Logging {
            file: mesh.access_log_file.clone(),
            format: mesh.access_log_format.clone(),
            json: mesh.access_log_encoding == AccessLogEncoding::Json,
        }
    }
}
