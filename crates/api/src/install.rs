//! `install.istio.io`: what an installation consists of, as a file for `install` and `manifest`.
//!
//! IstioOperator is a format of files, not a resource of the cluster. Fields that are Kubernetes' own
//! types are kept as they are: the API server judges them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::message;

mod values;

pub use values::{
    Autoscaled, BaseValues, CniRepairValues, CniUseValues, CniValues, EnabledFlag, GatewayValues,
    GatewaysValues, GlobalValues, InjectorValues, IstiodRemoteValues, LoggingValues,
    MultiClusterValues, PilotValues, PortValues, ProxyInitValues, ProxyValues, SdsValues,
    StartupProbeValues, TokenValues, Values,
};

/// API group and version of the files.
pub const API_VERSION: &str = "install.istio.io/v1alpha1";
/// Kind of the files.
pub const KIND: &str = "IstioOperator";

message! {
    /// An installation.
    pub struct IstioOperator {
        /// What it is built upon; unset is `default`.
        pub profile: Option<String>,
        /// Registry and folder of the images.
        pub hub: Option<String>,
        /// Version of the images; a number is read as text.
        pub tag: Option<Value>,
        /// Where the control plane lives; unset is `istio-system`.
        pub namespace: Option<String>,
        /// Revision of the control plane; unset is `default`.
        pub revision: Option<String>,
        /// MeshConfig.
        pub mesh_config: Option<Value>,
        /// The parts.
        pub components: Components,
        /// Settings of the parts, as the public charts name them.
        pub values: Option<Value>,
        /// Settings that nothing checks.
        pub unvalidated_values: Option<Value>,
    }

    /// The parts of an installation.
    pub struct Components {
        /// Resource definitions and what every cluster of a mesh needs.
        pub base: Option<Component>,
        /// The control plane.
        pub pilot: Option<Component>,
        /// Capture by a plugin of the network instead of init containers.
        pub cni: Option<Component>,
        /// Proxies of nodes.
        pub ztunnel: Option<Component>,
        /// What a cluster needs whose control plane is elsewhere.
        pub istiod_remote: Option<Component>,
        /// Ways in.
        pub ingress_gateways: Vec<GatewayComponent>,
        /// Ways out.
        pub egress_gateways: Vec<GatewayComponent>,
    }

    /// A part of an installation.
    pub struct Component {
        /// Whether it is there.
        pub enabled: Option<bool>,
        /// Where; unset is the installation's namespace.
        pub namespace: Option<String>,
        /// Registry and folder of its images; unset is the installation's.
        pub hub: Option<String>,
        /// Version of its images; unset is the installation's.
        pub tag: Option<Value>,
        /// Settings of its Kubernetes objects.
        pub k8s: Option<KubernetesResources>,
    }

    /// A gateway of an installation.
    pub struct GatewayComponent {
        /// Whether it is there.
        pub enabled: Option<bool>,
        /// Where; unset is the installation's namespace.
        pub namespace: Option<String>,
        /// Registry and folder of its image; unset is the installation's.
        pub hub: Option<String>,
        /// Version of its image; unset is the installation's.
        pub tag: Option<Value>,
        /// Of its Deployment and Service.
        pub name: Option<String>,
        /// Labels beside the usual ones.
        pub label: BTreeMap<String, String>,
        /// Settings of its Kubernetes objects.
        pub k8s: Option<KubernetesResources>,
    }

    /// Settings of a part's Kubernetes objects.
    pub struct KubernetesResources {
        /// Of the pods.
        pub affinity: Option<Value>,
        /// Of the container, merged by name.
        pub env: Vec<Value>,
        /// Of the autoscaler: `minReplicas`, `maxReplicas`, `metrics`, `behavior`.
        pub hpa_spec: Option<Value>,
        /// Of the container.
        pub image_pull_policy: Option<String>,
        /// Of the pods.
        pub node_selector: BTreeMap<String, String>,
        /// `minAvailable` or `maxUnavailable`.
        pub pod_disruption_budget: Option<Value>,
        /// Of the pods.
        pub pod_annotations: BTreeMap<String, String>,
        /// Of the pods.
        pub pod_labels: BTreeMap<String, String>,
        /// Of the pods.
        pub priority_class_name: Option<String>,
        /// Of the container.
        pub readiness_probe: Option<Value>,
        /// Of the Deployment, where no autoscaler decides.
        pub replica_count: Option<u32>,
        /// Of the container.
        pub resources: Option<Value>,
        /// Merged into the Service's spec; `ports` replace it.
        pub service: Option<Value>,
        /// Of the Service.
        pub service_annotations: BTreeMap<String, String>,
        /// Of the Deployment.
        pub strategy: Option<Value>,
        /// Of the pods.
        pub tolerations: Vec<Value>,
        /// Of the pods.
        pub topology_spread_constraints: Vec<Value>,
        /// Of the pods.
        pub security_context: Option<Value>,
        /// Of the pods.
        pub volumes: Vec<Value>,
        /// Of the container.
        pub volume_mounts: Vec<Value>,
        /// Changes to the objects that come out, the last thing that happens to them.
        pub overlays: Vec<Overlay>,
    }

    /// Changes to one object that comes out.
    pub struct Overlay {
        /// Of the object; unset is any.
        pub api_version: Option<String>,
        /// Of the object.
        pub kind: String,
        /// Of the object; without it, all of the kind.
        pub name: String,
        /// In this order.
        pub patches: Vec<Patch>,
    }

    /// One change to an object.
    pub struct Patch {
        /// Where: `spec.template.spec.containers.[name:discovery].args.[2]`.
        pub path: String,
        /// What is put there; unset takes away what is there.
        pub value: Option<Value>,
    }
}
