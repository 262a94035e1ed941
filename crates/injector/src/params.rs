//! What the templates are filled with.

use std::{collections::BTreeMap, sync::Arc};

use lateen_api::Object;
use lateen_api::mesh::MeshConfig;
use lateen_api::networking::ProxyConfig;

use crate::{
    InjectorConfig,
    config::said,
    template::{CLUSTER_ENV, NETWORK_ENV, agent_port},
};

/// Everything that is the same for all pods of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Image of the sidecar and of its init container.
    pub image: String,
    /// Control plane revision.
    pub revision: String,
    /// Where certificates come from.
    pub ca_address: String,
    /// Domain of the platform's services.
    pub domain: String,
    /// Name of the cluster.
    pub cluster_id: String,
    /// Network of the pods; empty is the only one.
    pub network: String,
    /// Run the sidecar as an init container that restarts, which needs Kubernetes 1.29.
    pub native_sidecar: bool,
    /// The same for pods that name their node already; a node that is not here goes by the rest.
    pub nodes: Arc<BTreeMap<String, bool>>,
    /// Whom to inject, with which templates and settings.
    pub config: Arc<InjectorConfig>,
    /// Further environment of the sidecar.
    pub env: BTreeMap<String, String>,
    /// The mesh's configuration.
    pub mesh: Arc<MeshConfig>,
    /// ProxyConfigs of all namespaces, the oldest first.
    pub proxy_configs: Vec<Arc<Object<ProxyConfig>>>,
}

impl Params {
    /// The defaults, with the proxy image given.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            revision: "default".into(),
            ca_address: "istiod.istio-system.svc:15012".into(),
            domain: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
            network: String::new(),
            native_sidecar: false,
            nodes: Arc::default(),
            config: Arc::default(),
            env: BTreeMap::new(),
            mesh: Arc::default(),
            proxy_configs: Vec::new(),
        }
    }

    /// The same for another state of the mesh's configuration and its ProxyConfigs.
    #[must_use]
    pub fn with_mesh(
        &self,
        mesh: Arc<MeshConfig>,
        proxy_configs: Vec<Arc<Object<ProxyConfig>>>,
    ) -> Self {
        Self {
            mesh,
            proxy_configs,
            ..self.clone()
        }
    }

    /// The same under another configuration of the injector. What its settings leave out stays.
    #[must_use]
    pub fn with_config(&self, config: Arc<InjectorConfig>) -> Self {
        let global = config.global();
        let or = |text: Option<&str>, own: &str| said(text).unwrap_or(own).to_owned();
        let cluster = global.multi_cluster.cluster_name.as_deref();
        Self {
            image: config.image().unwrap_or_else(|| self.image.clone()),
            ca_address: or(global.ca_address.as_deref(), &self.ca_address),
            domain: or(global.proxy.cluster_domain.as_deref(), &self.domain),
            cluster_id: or(cluster, &self.cluster_id),
            network: or(global.network.as_deref(), &self.network),
            config,
            ..self.clone()
        }
    }

    /// The same with what the path of a webhook says: `/inject/cluster/c1/net/n1/KEY/value`. A slash in
    /// a value is written `--slash--`.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let settings = path.strip_prefix("inject").unwrap_or(path);
        let mut params = self.clone();
        let mut parts = settings.split('/').filter(|part| !part.is_empty());
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            let value = value.replace("--slash--", "/");
            match key {
                "cluster" => {
                    params.cluster_id.clone_from(&value);
                    params.env.insert(CLUSTER_ENV.to_owned(), value);
                }
                "net" => {
                    params.network.clone_from(&value);
                    params.env.insert(NETWORK_ENV.to_owned(), value);
                }
                key => {
                    params.env.insert(key.to_ascii_uppercase(), value);
                }
            }
        }
        params
    }

    pub(crate) fn mesh_id(&self) -> &str {
        let of_mesh = self.mesh.default_config.as_ref();
        let of_mesh = of_mesh.and_then(|config| config.mesh_id.as_deref());
        said(self.config.global().mesh_id.as_deref())
            .or(of_mesh)
            .unwrap_or(self.mesh.trust_domain())
    }

    /// The agent's port where no pod says otherwise; 0 keeps probes away from it.
    pub(crate) fn status_port(&self) -> u16 {
        let of_mesh = self.mesh.default_config.as_ref();
        let port = of_mesh
            .and_then(|config| config.status_port)
            .or(self.config.proxy().status_port)
            .and_then(|port| u16::try_from(port).ok());
        port.unwrap_or(lateen_core::ports::AGENT_STATUS)
    }

    /// Where the agent has the metrics of a pod that does not say otherwise.
    pub fn metrics_port(&self) -> u16 {
        agent_port(self.status_port())
    }
}

impl Default for Params {
    /// With the proxy image of this version.
    fn default() -> Self {
        Self::new(concat!(
            "docker.io/lateen/proxyv2:",
            env!("CARGO_PKG_VERSION")
        ))
    }
}

/// What made the pod: a Deployment (never its ReplicaSet), a Job, the pod itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1`, or `v1` for what is in the core group.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
}

impl Owner {
    /// The form in which telemetry knows it.
    pub(crate) fn uri(&self) -> String {
        let Owner {
            api_version,
            kind,
            name,
            namespace,
        } = self;
        let plural = kind.to_ascii_lowercase();
        format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{plural}s/{name}")
    }
}
