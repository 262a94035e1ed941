//! Who this proxy is.

use std::sync::Arc;

use arcstr::ArcStr;
use lateen_decode::{Workload, place};
use lateen_http::Value;
use lateen_xds::types::core;

use crate::peer::to_header;

/// The node of the bootstrap, and what is derived from it once.
pub(crate) struct Node {
    pub message: core::Node,
    /// The message as the admin pages show it: they need no reflection then.
    pub json: serde_json::Value,
    pub workload: Arc<Workload>,
    /// Our metadata as others read it from the header.
    pub peer_header: Value,
    pub id_header: Value,
}

impl Node {
    /// From the bootstrap, and its form for the admin pages.
    pub(crate) fn new(message: core::Node, json: serde_json::Value) -> Self {
        let workload = message
            .metadata
            .as_ref()
            .map(Workload::from_node)
            .unwrap_or_default();
        let text =
            |text: &str| Value::new(text.as_bytes()).unwrap_or_else(|_| Value::from_static(""));
        Node {
            peer_header: text(&to_header(&workload)),
            id_header: text(&message.id),
            workload: Arc::new(workload),
            json,
            message,
        }
    }

    /// Where it is, as endpoints say it; empty where the bootstrap does not say.
    pub(crate) fn locality(&self) -> ArcStr {
        let locality = self.message.locality.as_ref();
        locality.map_or_else(ArcStr::new, place)
    }
}
