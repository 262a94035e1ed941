//! Who is on the other side, as metrics name it.
//!
//! Clients learn about servers from endpoint metadata; servers learn about clients from a header
//! that both exchange and that applications never see: a base64 protobuf `Struct` with node
//! metadata, as Istio's proxies write it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use arcstr::ArcStr;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lateen_http::Known;
use lateen_xds::types::wkt::{Struct, Value, value::Kind};
use prost::Message;

use lateen_decode::Workload;

/// The header with the peer's metadata.
pub(crate) const PEER_METADATA: Known = Known::X_ENVOY_PEER_METADATA;
/// The header with the peer's node id.
pub(crate) const PEER_METADATA_ID: Known = Known::X_ENVOY_PEER_METADATA_ID;
/// Headers beyond this length are not read: a client chose their content.
const MAX_HEADER: usize = 16 * 1024;

/// Peers that a thread remembers. Clients choose what the header says, so there is a bound.
const MAX_SEEN: usize = 512;

/// The workload of a header, by way of what the thread has seen before: a peer says the same with
/// every request.
pub(crate) fn shared_from_header(value: &[u8]) -> Option<Arc<Workload>> {
    thread_local! {
        static SEEN: RefCell<HashMap<Box<[u8]>, Arc<Workload>>> = RefCell::default();
    }
    SEEN.with_borrow_mut(|seen| {
        if let Some(workload) = seen.get(value) {
            return Some(workload.clone());
        }
        let workload = Arc::new(from_header(std::str::from_utf8(value).ok()?)?);
        if seen.len() >= MAX_SEEN {
            seen.clear();
        }
        seen.insert(value.into(), workload.clone());
        Some(workload)
    })
}

/// From the header.
fn from_header(text: &str) -> Option<Workload> {
    if text.len() > MAX_HEADER {
        return None;
    }
    let bytes = STANDARD.decode(text).ok()?;
    let metadata = Struct::decode(bytes.as_slice()).ok()?;
    Some(Workload::from_node(&metadata))
}

/// The header's value.
pub(crate) fn to_header(workload: &Workload) -> String {
    let text = |text: &ArcStr| Value {
        kind: Some(Kind::StringValue(text.to_string())),
    };
    let mut labels = HashMap::new();
    for (key, value) in [
        ("app", &workload.app),
        ("version", &workload.version),
        ("service.istio.io/canonical-name", &workload.canonical_name),
        (
            "service.istio.io/canonical-revision",
            &workload.canonical_revision,
        ),
    ] {
        if !value.is_empty() {
            labels.insert(key.to_owned(), text(value));
        }
    }
    let labels = Value {
        kind: Some(Kind::StructValue(Struct { fields: labels })),
    };
    let fields = HashMap::from([
        ("NAME".to_owned(), text(&workload.name)),
        ("WORKLOAD_NAME".to_owned(), text(&workload.name)),
        ("NAMESPACE".to_owned(), text(&workload.namespace)),
        ("CLUSTER_ID".to_owned(), text(&workload.cluster)),
        ("LABELS".to_owned(), labels),
    ]);
    STANDARD.encode(Struct { fields }.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_round_trips() {
        let workload =
            Workload::from_endpoint("reviews-v1;default;reviews;v1;Kubernetes").expect("named");
        assert_eq!(from_header(&to_header(&workload)), Some(workload));
        assert_eq!(from_header("%%%"), None);
    }
}
