//! Where the two protocols differ: what a request asks, and what a response lists.

use crate::TypeUrl;
use crate::types::core::{ControlPlane, Node};
use crate::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

use super::body::Message;
use super::name::Name;
use super::payload::{Form, Payload};

/// A request in terms of both protocols.
#[derive(Debug, PartialEq)]
pub(super) struct Incoming {
    pub(super) node: Option<Node>,
    pub(super) type_url: TypeUrl,
    /// The response it answers; empty for none.
    pub(super) nonce: String,
    /// Why that response was refused.
    pub(super) refused: Option<String>,
    pub(super) wants: Wants,
}

/// What the client asks for. The name `*` stands for everything.
#[derive(Debug, PartialEq)]
pub(super) enum Wants {
    /// More and less than before. `held` are versions from an earlier stream.
    Change {
        subscribe: Vec<Name>,
        unsubscribe: Vec<Name>,
        held: Vec<(Name, u64)>,
    },
    /// These, whatever it was before.
    Exactly(Vec<Name>),
}

/// Where a request has what.
pub(super) struct Fields {
    pub(super) node: u32,
    pub(super) type_url: u32,
    pub(super) subscribe: u32,
    pub(super) nonce: u32,
    pub(super) error: u32,
    /// What only incremental discovery has: names that are not asked for any more, and versions that
    /// are held.
    pub(super) delta: Option<[u32; 2]>,
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
    const REQUEST: Fields;

    /// `None` when there is more to say than a response can hold.
    fn write(outgoing: Outgoing<'_>) -> Option<Message>;
}

/// Incremental discovery.
pub(super) struct Delta;

impl Protocol for Delta {
    const NAME: &'static str = "delta";
    const LISTS_ALL: bool = false;
    const FORM: Form = Form::Delta;
    /// Of `DeltaDiscoveryRequest`.
    const REQUEST: Fields = Fields {
        node: 1,
        type_url: 2,
        subscribe: 3,
        nonce: 6,
        error: 7,
        delta: Some([4, 5]),
    };

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
    /// Of `DiscoveryRequest`.
    const REQUEST: Fields = Fields {
        node: 2,
        type_url: 4,
        subscribe: 3,
        nonce: 5,
        error: 6,
        delta: None,
    };

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
