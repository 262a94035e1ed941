//! Labels that mean something to the mesh.

pub use lateen_core::locality::{REGION, SUBZONE, ZONE};

/// On a namespace: `enabled` or `disabled`.
pub const INJECTION: &str = "istio-injection";
/// On a namespace or pod: the control plane revision.
pub const REVISION: &str = "istio.io/rev";
/// On a pod: `true` or `false`; stronger than the annotation of the same name.
pub const SIDECAR_INJECT: &str = "sidecar.istio.io/inject";
/// On a pod: `istio` says that its port 15006 speaks mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// On a pod: name of the service that it is, in telemetry.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// On a pod: revision of the service that it is, in telemetry.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// On a pod: name of the workload that it belongs to, in telemetry.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// Kubernetes' recommended application label.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended version label.
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// The older application label.
pub const APP: &str = "app";
/// The older version label.
pub const VERSION: &str = "version";
/// On a node, before Kubernetes 1.17.
pub const REGION_BETA: &str = "failure-domain.beta.kubernetes.io/region";
/// On a node, before Kubernetes 1.17.
pub const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
/// On a node: its own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// On a namespace, pod or endpoint: its network.
pub const NETWORK: &str = "topology.istio.io/network";
/// On a Service that is the gateway of a network: its port for other networks, where that is not 15443.
pub const GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";
/// On a ServiceEntry: `false` keeps its hosts from being given addresses.
pub const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// On what the mesh makes for a Gateway of the Gateway API: the Gateway's name.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// On an EndpointSlice: the service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Set by ReplicaSets on their pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Set by ReplicaSets of Argo's Rollouts on their pods.
pub const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";
/// Set by OpenShift's DeploymentConfigs on their pods: their name.
pub const DEPLOYMENT_CONFIG: &str = "deploymentconfig";
