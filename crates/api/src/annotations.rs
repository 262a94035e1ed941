//! Annotations that mean something to the mesh.

mod says;

pub use says::Says;

/// On an injected pod: what was injected, as JSON.
pub const STATUS: &str = "sidecar.istio.io/status";
/// On a pod: `true` or `false`; the label of the same name is stronger.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Rewrite the application's HTTP probes, `true` by default.
pub const REWRITE_PROBERS: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// Image of the proxy.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// Image type of the proxy.
pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
/// CPU request.
pub const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
/// CPU limit.
pub const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
/// Memory request.
pub const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
/// Memory limit.
pub const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
/// REDIRECT, TPROXY or NONE.
pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
/// ConfigMap with another bootstrap.
pub const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
/// More volumes, as JSON.
pub const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
/// More volume mounts, as JSON.
pub const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
/// Log level of the proxy.
pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// Log level by component of the proxy.
pub const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
/// Log level of the agent.
pub const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
/// `true` or `false`: sidecar as a restartable init container.
pub const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
/// `true`: the proxy may take ports below 1024.
pub const CAP_NET_BIND_SERVICE: &str = "sidecar.istio.io/capNetBindService";
/// CIDRs that are captured.
pub const INCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// CIDRs that are not captured.
pub const EXCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// Inbound ports that are captured.
pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// Inbound ports that are not captured.
pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// Outbound ports that are captured.
pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// Outbound ports that are not captured.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// Interfaces that are not captured.
pub const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
/// Interfaces of virtual machines.
pub const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
/// Interfaces of virtual machines, newer name.
pub const REROUTE_VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
/// Agent port.
pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// Delay of the proxy's readiness probe.
pub const READINESS_INITIAL_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
/// Period of the proxy's readiness probe.
pub const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
/// Failures of the proxy's readiness probe.
pub const READINESS_FAILURE: &str = "readiness.status.sidecar.istio.io/failureThreshold";
/// Ports that the application's readiness is told by, 1.0.
pub const READINESS_PORTS: &str = "readiness.status.sidecar.istio.io/applicationPorts";
/// ProxyConfig of the pod, as YAML.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// What the user wrote of `istio-proxy` before injection.
pub const PROXY_OVERRIDES: &str = "proxy.istio.io/overrides";
/// Templates to use.
pub const TEMPLATES: &str = "inject.istio.io/templates";
/// `false` keeps the application's Prometheus annotations.
pub const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
/// On a Service or object: namespaces that see it.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Preference of near endpoints.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Revision that injected.
pub const REVISION: &str = "istio.io/rev";
/// On a Service: identities of its workloads on virtual machines.
pub const SERVICE_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
/// On a WorkloadEntry: the WorkloadGroup that it was registered by.
pub const AUTO_REGISTRATION_GROUP: &str = "istio.io/autoRegistrationGroup";
/// On a WorkloadEntry: the replica of the control plane that its proxy was connected to last.
pub const WORKLOAD_CONTROLLER: &str = "istio.io/workloadController";
/// On a WorkloadEntry: since when its proxy is connected.
pub const CONNECTED_AT: &str = "istio.io/connectedAt";
/// On a WorkloadEntry: since when its proxy is connected no more.
pub const DISCONNECTED_AT: &str = "istio.io/disconnectedAt";
/// On a WorkloadEntry: `true` makes it an endpoint only while its condition `Healthy` is true.
pub const HEALTH_CHECKS: &str = "proxy.istio.io/health-checks-enabled";
