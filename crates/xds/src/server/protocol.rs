//! Where the two protocols differ: what a request asks, and what a response lists.

use std::collections::HashMap;

use crate::TypeUrl;
use crate::google::rpc::Status;
use crate::types::core::{ControlPlane, Node};
use crate::types::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use super::body::Message;
use super::name::Name;
use super::payload::{Form, Payload};

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
    pub(super) payload: &'a Payload,
    pub(super) removed: &'a [Name],
}

pub(super) trait Protocol: 'static {
    /// For logs and debugging endpoints.
    const NAME: &'static str;
    /// Responses for clusters and listeners list all there are, and what is not listed is gone;
    /// for other types nothing can be said to be gone.
    const LISTS_ALL: bool;
    /// How resources are written.
    const FORM: Form;
    type Request: prost::Message + Default + Send + 'static;

    fn read(request: Self::Request) -> Incoming;
    /// `None` when there is more to say than a response can hold.
    fn write(outgoing: Outgoing<'_>) -> Option<Message>;
}

/// Incremental discovery.
pub(super) struct Delta;

impl Protocol for Delta {
    const NAME: &'static str = "delta";
    const LISTS_ALL: bool = false;
    const FORM: Form = Form::Delta;
    type Request = DeltaDiscoveryRequest;

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

    fn write(outgoing: Outgoing<'_>) -> Option<Message> {
        let own = DeltaDiscoveryResponse {
            system_version_info: outgoing.version,
            type_url: outgoing.type_url.to_string(),
            removed_resources: outgoing.removed.iter().map(Name::to_string).collect(),
            nonce: outgoing.nonce,
            control_plane: Some(control_plane()),
            ..DeltaDiscoveryResponse::default()
        };
        Message::new(&own, outgoing.payload)
    }
}

/// State-of-the-world discovery.
pub(super) struct StateOfTheWorld;

impl Protocol for StateOfTheWorld {
    const NAME: &'static str = "sotw";
    const LISTS_ALL: bool = true;
    const FORM: Form = Form::Any;
    type Request = DiscoveryRequest;

    fn read(request: DiscoveryRequest) -> Incoming {
        Incoming {
            node: request.node,
            type_url: TypeUrl::new(request.type_url),
            nonce: request.response_nonce,
            refused: request.error_detail.map(reason),
            wants: Wants::Exactly(request.resource_names),
        }
    }

    fn write(outgoing: Outgoing<'_>) -> Option<Message> {
        let own = DiscoveryResponse {
            version_info: outgoing.version,
            type_url: outgoing.type_url.to_string(),
            nonce: outgoing.nonce,
            control_plane: Some(control_plane()),
            ..DiscoveryResponse::default()
        };
        Message::new(&own, outgoing.payload)
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
