//! Listeners (LDS): where connections arrive, and what happens to them first.

mod chains;
mod datagrams;
mod filters;
mod gateway;
mod inbound;
mod outbound;

pub(crate) use datagrams::DatagramRule;
pub(crate) use gateway::{GatewayKey, GatewayServer, ServerTls, Topology};
pub(crate) use inbound::{BoundKey, InboundKey, InboundPort, Mode};
pub(crate) use outbound::{
    EVERYWHERE, HTTPS, L4Place, OutboundKey, TcpLimits, TcpRule, Tunnel, VirtualOutboundKey, Want,
    Written,
};

use lateen_api::Duration;
use lateen_api::mesh::{AccessLogEncoding, MeshConfig, NormalizationType};

/// What of the mesh's settings every listener depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Logging {
    /// Empty for no log.
    pub(crate) file: String,
    /// Empty for the default format.
    pub(crate) format: String,
    pub(crate) json: bool,
    /// How long it is waited for what a client says first; as long as it takes where it is not set.
    pub(crate) detection: Duration,
    /// How paths are made uniform before they are matched.
    pub(crate) paths: NormalizationType,
    /// How often names that clients give are looked up again.
    pub(crate) refresh: Duration,
}

impl Logging {
    pub(crate) fn of(mesh: &MeshConfig) -> Self {
        Logging {
            file: mesh.access_log_file.clone(),
            format: mesh.access_log_format.clone(),
            json: mesh.access_log_encoding == AccessLogEncoding::Json,
            paths: mesh
                .path_normalization
                .as_ref()
                .map_or(NormalizationType::Default, |paths| paths.normalization),
            refresh: crate::dynamic::refresh(mesh),
            detection: mesh.protocol_detection_timeout.unwrap_or_default(),
        }
    }
}
