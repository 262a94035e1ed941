//! Where the two protocols differ: what a request asks, and what a response lists.

use std::collections::HashMap;

use crate::TypeUrl;
use crate::google::rpc::Status;
use crate::types::core::{ControlPlane, Node};
use crate::types::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as DeltaResource,
};

use super::Resource;

/// A request in terms of both protocols.
pub(super) struct Incoming {
    pub(super) node: Option<Node>,
    pub(super) type_url: TypeUrl,
    /// The response it answers; empty for none.
    pub(super) nonce: String,
    /// Why that response was refused.
    pub(super) refused: Option<String>,
    pub(super) wants: Wants,
}

/// What the client asks for.
pub(super) enum Wants {
    /// More and less than before. `held` are versions from an earlier stream.
    Change {
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        held: HashMap<String, String>,
    },
    /// These, whatever it was before.
    Exactly(Vec<String>),
}

/// What a response says.
pub(super) struct Outgoing<'a> {
    pub(super) type_url: &'a TypeUrl,
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) resources: Vec<&'a Resource>,
    pub(super) removed: Vec<String>,
}

pub(super) trait Protocol: 'static {
    /// For logs and debugging endpoints.
    const NAME: &'static str;
    /// Responses for clusters and listeners list all there are, and what is not listed is gone;
    /// for other types nothing can be said to be gone.
    const LISTS_ALL: bool;
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn read(request: Self::Request) -> Incoming;
    fn write(outgoing: Outgoing<'_>) -> Self::Response;
}

/// Incremental discovery.
pub(super) struct Delta;

impl Protocol for Delta {
    const NAME: &'static str = "delta";
    const LISTS_ALL: bool = false;
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn read(request: DeltaDiscoveryRequest) -> Incoming {
        Incoming {
            node: request.node,
            type_url: TypeUrl::new(request.type_url),
            nonce: request.response_nonce,
            refused: request.error_detail.map(reason),
            wants: Wants::Change {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                held: request.initial_resource_versions,
            },
        }
    }

    fn write(outgoing: Outgoing<'_>) -> DeltaDiscoveryResponse {
        let resources = outgoing
            .resources
            .into_iter()
            .map(|resource| DeltaResource {
                name: resource.name.to_string(),
                version: resource.version.to_string(),
                resource: Some(resource.body.clone()),
                ..DeltaResource::default()
            });
        DeltaDiscoveryResponse {
            system_version_info: outgoing.version,
            resources: resources.collect(),
            type_url: outgoing.type_url.to_string(),
            removed_resources: outgoing.removed,
            nonce: outgoing.nonce,
            control_plane: Some(control_plane()),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

/// State-of-the-world discovery.
pub(super) struct StateOfTheWorld;

impl Protocol for StateOfTheWorld {
    const NAME: &'static str = "sotw";
    const LISTS_ALL: bool = true;
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn read(request: DiscoveryRequest) -> Incoming {
        Incoming {
            node: request.node,
            type_url: TypeUrl::new(request.type_url),
            nonce: request.response_nonce,
            refused: request.error_detail.map(reason),
            wants: Wants::Exactly(request.resource_names),
        }
    }

    fn write(outgoing: Outgoing<'_>) -> DiscoveryResponse {
        let resources = outgoing.resources.into_iter().map(|r| r.body.clone());
        DiscoveryResponse {
            version_info: outgoing.version,
            resources: resources.collect(),
            type_url: outgoing.type_url.to_string(),
            nonce: outgoing.nonce,
            control_plane: Some(control_plane()),
            ..DiscoveryResponse::default()
        }
    }
}

fn control_plane() -> ControlPlane {
    ControlPlane {
        identifier: concat!("lateen ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn reason(status: Status) -> String {
    status.message
}
