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

use crate::decode::{FormatValue, struct_path};

/// The header with the peer's metadata.
pub(crate) const PEER_METADATA: Known = Known::X_ENVOY_PEER_METADATA;
/// The header with the peer's node id.
pub(crate) const PEER_METADATA_ID: Known = Known::X_ENVOY_PEER_METADATA_ID;
/// Headers beyond this length are not read: a client chose their content.
const MAX_HEADER: usize = 16 * 1024;

/// Peers that a thread remembers. Clients choose what the header says, so there is a bound.
const MAX_SEEN: usize = 512;

/// A workload as metrics name it; what is unknown is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    pub name: ArcStr,
    pub namespace: ArcStr,
    pub canonical_name: ArcStr,
    pub canonical_revision: ArcStr,
    pub app: ArcStr,
    pub version: ArcStr,
    pub cluster: ArcStr,
}

impl Workload {
    /// From an endpoint's metadata: `name;namespace;canonical-name;canonical-revision;cluster`.
    pub(crate) fn from_endpoint(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(ArcStr::from);
        let mut next = || parts.next().unwrap_or_default();
        let (name, namespace, canonical_name) = (next(), next(), next());
        let (canonical_revision, cluster) = (next(), next());
        if name.is_empty() {
            return None;
        }
        Some(Workload {
            name,
            namespace,
            app: canonical_name.clone(),
            version: canonical_revision.clone(),
            canonical_name,
            canonical_revision,
            cluster,
        })
    }

    /// From a node's metadata.
    pub(crate) fn from_node(metadata: &Struct) -> Self {
        let text = |path: &[&str]| -> ArcStr {
            struct_path(metadata, path)
                .and_then(FormatValue::text)
                .unwrap_or("")
                .into()
        };
        let first = |paths: &[&[&str]]| {
            paths
                .iter()
                .map(|path| text(path))
                .find(|text| !text.is_empty())
                .unwrap_or_default()
        };
        let label = |name: &'static str| ["LABELS", name];
        let name = first(&[&["WORKLOAD_NAME"], &["NAME"]]);
        let app = first(&[&label("app"), &label("app.kubernetes.io/name")]);
        let version = first(&[&label("version"), &label("app.kubernetes.io/version")]);
        let canonical_name = match text(&label("service.istio.io/canonical-name")) {
            canonical if !canonical.is_empty() => canonical,
            _ if !app.is_empty() => app.clone(),
            _ => name.clone(),
        };
        let canonical_revision = match text(&label("service.istio.io/canonical-revision")) {
            canonical if !canonical.is_empty() => canonical,
            _ if !version.is_empty() => version.clone(),
            _ if name.is_empty() => ArcStr::new(),
            _ => "latest".into(),
        };
        Workload {
            namespace: text(&["NAMESPACE"]),
            cluster: text(&["CLUSTER_ID"]),
            name,
            canonical_name,
            canonical_revision,
            app,
            version,
        }
    }

    /// From the header, by way of what the thread has seen before: a peer says the same with every
    /// request.
    pub(crate) fn shared_from_header(value: &[u8]) -> Option<Arc<Self>> {
        thread_local! {
            static SEEN: RefCell<HashMap<Box<[u8]>, Arc<Workload>>> = RefCell::default();
        }
        SEEN.with_borrow_mut(|seen| {
            if let Some(workload) = seen.get(value) {
                return Some(workload.clone());
            }
            let workload = Arc::new(Workload::from_header(std::str::from_utf8(value).ok()?)?);
            if seen.len() >= MAX_SEEN {
                seen.clear();
            }
            seen.insert(value.into(), workload.clone());
            Some(workload)
        })
    }

    /// From the header.
    fn from_header(text: &str) -> Option<Self> {
        if text.len() > MAX_HEADER {
            return None;
        }
        let bytes = STANDARD.decode(text).ok()?;
        let metadata = Struct::decode(bytes.as_slice()).ok()?;
        Some(Workload::from_node(&metadata))
    }

    /// The header's value.
    pub(crate) fn to_header(&self) -> String {
        let text = |text: &ArcStr| Value {
            kind: Some(Kind::StringValue(text.to_string())),
        };
        let mut labels = HashMap::new();
        for (key, value) in [
            ("app", &self.app),
            ("version", &self.version),
            ("service.istio.io/canonical-name", &self.canonical_name),
            (
                "service.istio.io/canonical-revision",
                &self.canonical_revision,
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
            ("NAME".to_owned(), text(&self.name)),
            ("WORKLOAD_NAME".to_owned(), text(&self.name)),
            ("NAMESPACE".to_owned(), text(&self.namespace)),
            ("CLUSTER_ID".to_owned(), text(&self.cluster)),
            ("LABELS".to_owned(), labels),
        ]);
        STANDARD.encode(Struct { fields }.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_round_trips() {
        let workload =
            Workload::from_endpoint("reviews-v1;default;reviews;v1;Kubernetes").expect("named");
        assert_eq!(Workload::from_header(&workload.to_header()), Some(workload));
        assert_eq!(Workload::from_header("%%%"), None);
        assert_eq!(Workload::from_endpoint(""), None);
    }
}
