//! Workloads as endpoints and nodes describe them.

use arcstr::ArcStr;
use lateen_xds::types::wkt::Struct;

use super::common::{FormatValue, struct_path};

/// A workload as metrics name it; what is unknown is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: ArcStr,
    /// Its namespace.
    pub namespace: ArcStr,
    /// The service that it is a part of.
    pub canonical_name: ArcStr,
    /// The version of that service.
    pub canonical_revision: ArcStr,
    /// Its `app` label.
    pub app: ArcStr,
    /// Its `version` label.
    pub version: ArcStr,
    /// The cluster that it runs in.
    pub cluster: ArcStr,
}

impl Workload {
    /// From an endpoint's metadata: `name;namespace;canonical-name;canonical-revision;cluster`.
    #[must_use]
    pub fn from_endpoint(text: &str) -> Option<Self> {
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
    #[must_use]
    pub fn from_node(metadata: &Struct) -> Self {
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
}
