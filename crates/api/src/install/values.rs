//! The settings of the public charts that act here, under the charts' names.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::message;

message! {
    /// `values` of an installation. Names that are not listed are judged by whoever reads them.
    pub struct Values {
        /// For all parts.
        pub global: GlobalValues,
        /// The control plane.
        pub pilot: PilotValues,
        /// The gateways that the installation has by itself.
        pub gateways: GatewaysValues,
        /// Injection.
        pub sidecar_injector_webhook: InjectorValues,
        /// A control plane that is elsewhere.
        pub istiod_remote: IstiodRemoteValues,
        /// Resource definitions.
        pub base: BaseValues,
        /// The plugin of nodes that captures traffic.
        pub cni: CniValues,
        /// Whether the plugin captures traffic, as older charts say it.
        pub istio_cni as "istio_cni": CniUseValues,
        /// Revision of the control plane.
        pub revision: Option<String>,
        /// MeshConfig.
        pub mesh_config: Option<Value>,
    }

    /// For all parts.
    pub struct GlobalValues {
        /// Registry and folder of the images.
        pub hub: Option<String>,
        /// Version of the images; a number is read as text.
        pub tag: Option<Value>,
        /// Where the control plane lives.
        pub istio_namespace: Option<String>,
        /// The sidecar.
        pub proxy: ProxyValues,
        /// The container that sets capture up.
        pub proxy_init as "proxy_init": ProxyInitValues,
        /// Of all containers.
        pub image_pull_policy: Option<String>,
        /// Names of Secrets, for all service accounts.
        pub image_pull_secrets: Vec<String>,
        /// What the control plane logs.
        pub logging: LoggingValues,
        /// One JSON object per line.
        pub log_as_json: Option<bool>,
        /// Name of the mesh.
        pub mesh_id as "meshID": Option<String>,
        /// Networks of the mesh and their gateways.
        pub mesh_networks: Option<Value>,
        /// Which cluster this is.
        pub multi_cluster: MultiClusterValues,
        /// Network of the cluster.
        pub network: Option<String>,
        /// Address of a control plane that is elsewhere.
        pub remote_pilot_address: Option<String>,
        /// Where certificates come from; unset is the control plane.
        pub ca_address: Option<String>,
        /// Whether each Deployment has a PodDisruptionBudget.
        pub default_pod_disruption_budget: EnabledFlag,
        /// Of all pods.
        pub default_node_selector: BTreeMap<String, String>,
        /// Of all pods.
        pub default_tolerations: Vec<Value>,
        /// Of containers that say nothing themselves.
        pub default_resources: Option<Value>,
        /// Of all pods.
        pub priority_class_name: Option<String>,
        /// Who signs the control plane's certificate: `istiod`.
        pub pilot_cert_provider: Option<String>,
        /// Whose tokens are taken.
        pub sds: SdsValues,
        /// What the control plane does beside.
        pub istiod: IstiodValues,
        /// Whether configuration is judged when it is written.
        pub config_validation: Option<bool>,
        /// Whose cluster it is, where that counts: `openshift`, `gke`, `k3s`, `k3d`, `microk8s` or `minikube`.
        pub platform: Option<String>,
    }

    /// What the control plane does beside.
    pub struct IstiodValues {
        /// Whether statuses are told what analysis finds.
        pub enable_analysis: Option<bool>,
    }

    /// A switch.
    pub struct EnabledFlag {
        /// Whether it is on.
        pub enabled: Option<bool>,
    }

    /// What is logged.
    pub struct LoggingValues {
        /// `SCOPE:LEVEL`, several of them with commas between.
        pub level: Option<String>,
    }

    /// Which cluster this is.
    pub struct MultiClusterValues {
        /// Its name.
        pub cluster_name: Option<String>,
    }

    /// Tokens of proxies.
    pub struct SdsValues {
        /// Which are taken.
        pub token: TokenValues,
    }

    /// Tokens of proxies.
    pub struct TokenValues {
        /// For whom they are made out.
        pub aud: Option<String>,
    }

    /// The sidecar.
    pub struct ProxyValues {
        /// Name of the image, or a whole reference.
        pub image: Option<String>,
        /// `enabled`, or `disabled`: only pods that ask for it.
        pub auto_inject: Option<String>,
        /// Domain of the cluster's services.
        pub cluster_domain: Option<String>,
        /// Levels of the proxy's components.
        pub component_log_level: Option<String>,
        /// Level of the proxy.
        pub log_level: Option<String>,
        /// Destinations whose connections are taken.
        pub include_ip_ranges as "includeIPRanges": Option<String>,
        /// Destinations whose connections are left alone.
        pub exclude_ip_ranges as "excludeIPRanges": Option<String>,
        /// Ports of the pod whose connections are taken.
        pub include_inbound_ports: Option<String>,
        /// Ports of the pod whose connections are left alone.
        pub exclude_inbound_ports: Option<String>,
        /// Ports elsewhere whose connections are taken in any case.
        pub include_outbound_ports: Option<String>,
        /// Ports elsewhere whose connections are left alone.
        pub exclude_outbound_ports: Option<String>,
        /// Whether the application starts when the proxy is ready.
        pub hold_application_until_proxy_starts: Option<bool>,
        /// Hooks of the container.
        pub lifecycle: Option<Value>,
        /// Whether the container may do everything.
        pub privileged: Option<bool>,
        /// How often it is asked whether it is ready, in seconds.
        pub readiness_period_seconds: Option<u32>,
        /// How often it may not be.
        pub readiness_failure_threshold: Option<u32>,
        /// When it is asked first, in seconds.
        pub readiness_initial_delay_seconds: Option<u32>,
        /// The probe before the first readiness.
        pub startup_probe: StartupProbeValues,
        /// Of the container.
        pub resources: Option<Value>,
        /// The agent's port; 0 is none.
        pub status_port: Option<u32>,
    }

    /// The probe before the first readiness.
    pub struct StartupProbeValues {
        /// Whether it is there.
        pub enabled: Option<bool>,
        /// How often it may fail, a second apart.
        pub failure_threshold: Option<u32>,
    }

    /// The container that sets capture up.
    pub struct ProxyInitValues {
        /// Name of the image, or a whole reference.
        pub image: Option<String>,
        /// Of the container.
        pub resources: Option<Value>,
    }

    /// The control plane.
    pub struct PilotValues {
        /// Whether it is there.
        pub enabled: Option<bool>,
        /// Whether load decides on the number of pods.
        pub autoscale_enabled: Option<bool>,
        /// The least number of pods.
        pub autoscale_min: Option<u32>,
        /// The greatest number of pods.
        pub autoscale_max: Option<u32>,
        /// Of the autoscaler.
        pub autoscale_behavior: Option<Value>,
        /// Where load does not decide.
        pub replica_count: Option<u32>,
        /// Pods beyond the number while it is updated.
        pub rolling_max_surge: Option<Value>,
        /// Pods that may be missing while it is updated.
        pub rolling_max_unavailable: Option<Value>,
        /// Registry and folder of the image.
        pub hub: Option<String>,
        /// Version of the image; a number is read as text.
        pub tag: Option<Value>,
        /// Name of the image, or a whole reference.
        pub image: Option<String>,
        /// Share of requests that are traced, in percent.
        pub trace_sampling: Option<f64>,
        /// Of the container.
        pub resources: Option<Value>,
        /// Environment.
        pub env: BTreeMap<String, Value>,
        /// Load per pod that the autoscaler aims at.
        pub cpu: Autoscaled,
        /// Of the Deployment.
        pub deployment_labels: BTreeMap<String, String>,
        /// Of the pods.
        pub pod_annotations: BTreeMap<String, String>,
        /// Of the pods.
        pub pod_labels: BTreeMap<String, String>,
        /// Of the Service.
        pub service_annotations: BTreeMap<String, String>,
        /// Of the account.
        pub service_account_annotations: BTreeMap<String, String>,
        /// Of the pods.
        pub node_selector: BTreeMap<String, String>,
        /// Of the pods.
        pub affinity: Option<Value>,
        /// Of the pods.
        pub tolerations: Vec<Value>,
        /// Of the pods.
        pub topology_spread_constraints: Vec<Value>,
        /// How long a connection of a proxy may last.
        pub keepalive_max_server_connection_age: Option<String>,
        /// After all other arguments.
        pub extra_container_args: Vec<String>,
        /// Whether the ConfigMap of the mesh is made.
        pub config_map: Option<bool>,
        /// Whether the plugin of nodes captures traffic, instead of init containers.
        pub cni: CniUseValues,
    }

    /// Whether a plugin of nodes captures traffic.
    pub struct CniUseValues {
        /// Whether it does.
        pub enabled: Option<bool>,
        /// Who runs the plugin: `default` is the node's own network, `multus` a network that pods name.
        pub provider: Option<String>,
    }

    /// The plugin of nodes.
    pub struct CniValues {
        /// Registry and folder of the image.
        pub hub: Option<String>,
        /// Version of the image; a number is read as text.
        pub tag: Option<Value>,
        /// Name of the image, or a whole reference.
        pub image: Option<String>,
        /// Where nodes have plugins; unset is what the platform has.
        pub cni_bin_dir: Option<String>,
        /// Where nodes have networks; unset is what the platform has.
        pub cni_conf_dir: Option<String>,
        /// The file of the network; unset is the one that the node uses.
        pub cni_conf_file_name: Option<String>,
        /// Whether the plugin comes after those of the file, rather than being a network by itself.
        pub chained: Option<bool>,
        /// `multus` for a network that pods name.
        pub provider: Option<String>,
        /// Namespaces whose pods are left alone.
        pub exclude_namespaces: Vec<String>,
        /// What is logged.
        pub logging: LoggingValues,
        /// What is done about pods that were there before the plugin.
        pub repair: CniRepairValues,
        /// Environment.
        pub env: BTreeMap<String, Value>,
        /// Whether the container may do everything.
        pub privileged: Option<bool>,
        /// Of the pods.
        pub affinity: Option<Value>,
        /// Of the pods.
        pub pod_annotations: BTreeMap<String, String>,
        /// Of the pods.
        pub pod_labels: BTreeMap<String, String>,
        /// Of the container.
        pub resources: Option<Value>,
        /// Nodes that may be without it while it is updated.
        pub rolling_max_unavailable: Option<Value>,
    }

    /// What is done about pods that were there before the plugin.
    pub struct CniRepairValues {
        /// Whether they are looked for.
        pub enabled: Option<bool>,
        /// Whether their capture is set up.
        pub repair_pods: Option<bool>,
        /// Whether they are labelled.
        pub label_pods: Option<bool>,
        /// Whether they are deleted.
        pub delete_pods: Option<bool>,
    }

    /// Load that an autoscaler aims at.
    pub struct Autoscaled {
        /// In percent of what is asked for.
        pub target_average_utilization: Option<u32>,
    }

    /// The gateways that the installation has by itself.
    pub struct GatewaysValues {
        /// The way in.
        pub ingress as "istio-ingressgateway": GatewayValues,
        /// The way out.
        pub egress as "istio-egressgateway": GatewayValues,
    }

    /// A gateway.
    pub struct GatewayValues {
        /// Labels beside the usual ones.
        pub labels: BTreeMap<String, String>,
        /// Whether load decides on the number of pods.
        pub autoscale_enabled: Option<bool>,
        /// The least number of pods.
        pub autoscale_min: Option<u32>,
        /// The greatest number of pods.
        pub autoscale_max: Option<u32>,
        /// Load per pod that the autoscaler aims at.
        pub cpu: Autoscaled,
        /// Environment.
        pub env: BTreeMap<String, Value>,
        /// Addresses of the Service.
        pub external_ips as "externalIPs": Vec<String>,
        /// Whether clients' addresses are kept: `Local` or `Cluster`.
        pub external_traffic_policy: Option<String>,
        /// Address that the load balancer is asked for.
        pub load_balancer_ip as "loadBalancerIP": Option<String>,
        /// Who may use the load balancer.
        pub load_balancer_source_ranges: Vec<String>,
        /// Of the pods.
        pub node_selector: BTreeMap<String, String>,
        /// Of the pods.
        pub pod_annotations: BTreeMap<String, String>,
        /// Of the Service, which replace the usual ones.
        pub ports: Vec<PortValues>,
        /// Of the container.
        pub resources: Option<Value>,
        /// Pods beyond the number while it is updated.
        pub rolling_max_surge: Option<Value>,
        /// Pods that may be missing while it is updated.
        pub rolling_max_unavailable: Option<Value>,
        /// Of the Service.
        pub service_annotations: BTreeMap<String, String>,
        /// Of the pods.
        pub tolerations: Vec<Value>,
        /// Of the Service: `LoadBalancer`, `NodePort` or `ClusterIP`.
        pub service_type as "type": Option<String>,
    }

    /// A port of a gateway's Service.
    pub struct PortValues {
        /// Its name, which says the protocol.
        pub name: String,
        /// What clients ask for.
        pub port: u32,
        /// Where the proxy listens, a number or the name of a port of the container; unset is the same.
        pub target_port: Option<Value>,
        /// On every node; unset is given out.
        pub node_port: Option<u32>,
        /// `TCP` or `UDP`; unset is TCP.
        pub protocol: Option<String>,
        /// What is spoken, as Kubernetes names it; unset is what the name says.
        pub app_protocol: Option<String>,
    }

    /// Injection.
    pub struct InjectorValues {
        /// Whether pods are injected whose namespace says nothing.
        pub enable_namespaces_by_default: Option<bool>,
        /// Whether the webhook is asked again after others: `Never` or `IfNeeded`.
        pub reinvocation_policy: Option<String>,
        /// Pods that are never injected.
        pub never_inject_selector: Vec<Value>,
        /// Pods that are injected in any case.
        pub always_inject_selector: Vec<Value>,
        /// Whether the agent asks the application in place of the kubelet.
        pub rewrite_app_http_probe as "rewriteAppHTTPProbe": Option<bool>,
        /// Added to pods that are injected.
        pub injected_annotations: BTreeMap<String, String>,
        /// Templates beside the built-in ones, by name.
        pub templates: BTreeMap<String, String>,
        /// Templates of pods that name none.
        pub default_templates: Vec<String>,
    }

    /// A control plane that is elsewhere.
    pub struct IstiodRemoteValues {
        /// Whether it is.
        pub enabled: Option<bool>,
        /// Where its webhook is, in place of a Service.
        pub injection_url as "injectionURL": Option<String>,
        /// Path of its webhook.
        pub injection_path: Option<String>,
        /// What its webhook's certificate chains to, in base64 of PEM; none is for the public ones.
        pub injection_ca_bundle as "injectionCABundle": Option<String>,
    }

    /// Resource definitions.
    pub struct BaseValues {
        /// Where the validating webhook is, in place of a Service.
        pub validation_url as "validationURL": Option<String>,
        /// Definitions that are left out.
        pub excluded_crds as "excludedCRDs": Vec<String>,
        /// Whether the mesh's definitions are installed.
        pub enable_crds as "enableIstioConfigCRDs": Option<bool>,
    }
}
