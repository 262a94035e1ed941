//! What an installation consists of, as objects ready to be applied.

mod config;
mod control_plane;
mod crds;
mod gateway_api;
mod gateways;
mod rbac;
mod webhooks;

use serde_json::{Value, json};

pub use gateway_api::gateway_manifests;

/// Which parts are installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Control plane and ingress gateway.
    #[default]
    Default,
    /// The same with an egress gateway, access logs, more gateway ports and small requests.
    Demo,
    /// Control plane only.
    Minimal,
    /// Nothing.
    Empty,
}

impl Profile {
    /// The profile of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "default" => Self::Default,
            "demo" => Self::Demo,
            "minimal" => Self::Minimal,
            "empty" => Self::Empty,
            _ => return None,
        })
    }
}

/// What an installation can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where images come from.
    pub hub: String,
    /// Version of the images.
    pub tag: String,
    /// Which parts.
    pub profile: Profile,
    /// Where the control plane lives.
    pub namespace: String,
    /// Name of the cluster.
    pub cluster_id: String,
    /// Fields of MeshConfig that replace the profile's.
    pub mesh: Value,
    /// Environment of the control plane, names and values.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hub: "docker.io/lateen".into(),
            tag: env!("CARGO_PKG_VERSION").into(),
            profile: Profile::Default,
            namespace: "istio-system".into(),
            cluster_id: "Kubernetes".into(),
            mesh: json!({}),
            env: Vec::new(),
        }
    }
}

impl Options {
    fn image(&self, name: &str) -> String {
        format!("{}/{name}:{}", self.hub, self.tag)
    }
}

/// All objects, in an order in which they can be applied one after the other.
pub fn manifests(options: &Options) -> Vec<Value> {
    if options.profile == Profile::Empty {
        return Vec::new();
    }
    let mut all = vec![namespace(options)];
    all.extend(crds::all());
    all.extend(rbac::all(options));
    all.extend(config::all(options));
    all.extend(control_plane::all(options));
    all.extend(gateways::all(options));
    all.extend(webhooks::all(options));
    all
}

/// Definitions of the Gateway API's kinds, for a platform that has none. Where the Gateway API is
/// installed, its own must be left as they are.
pub fn gateway_api_definitions() -> Vec<Value> {
    crds::gateway_api().collect()
}

fn namespace(options: &Options) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": options.namespace}})
}

#[cfg(test)]
mod tests;
