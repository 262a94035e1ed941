//! MeshConfig: what holds for the whole mesh, from ConfigMap `istio`, key `mesh`.
//!
//! Defaults are Istio's; each is spelled out in [`MeshConfig::default`]'s accessors so that an empty
//! document means the default mesh.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Duration,
    networking::{
        ConnectionPoolSettings, HttpRetry, LocalityLbSetting, OutlierDetection, ProxyImage,
        ReadinessProbe, TcpKeepalive, ZoneAwareLbSetting,
    },
    schema::{enumeration, message},
};

mod effect;

pub use effect::without_effect;

/// Trust domain of a mesh that does not say.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Namespace whose objects hold for the whole mesh.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

message! {
    /// What holds for the whole mesh. Fields that are not listed are kept out, not refused.
    pub struct MeshConfig {
        /// Outbound capture port; unset is 15001.
        pub proxy_listen_port: Option<u32>,
        /// Inbound capture port; unset is 15006.
        pub proxy_inbound_listen_port: Option<u32>,
        /// Explicit HTTP proxy port; unset is none.
        pub proxy_http_port: Option<u32>,
        /// For upstream connections; unset is 10 s.
        pub connect_timeout: Option<Duration>,
        /// Wait of the protocol detection; zero waits for ever.
        pub protocol_detection_timeout: Option<Duration>,
        /// Keep-alive of upstream connections.
        pub tcp_keepalive: Option<TcpKeepalive>,
        /// Class of Ingress objects; unset is `istio`.
        pub ingress_class: Option<String>,
        /// Service of the ingress gateway; unset is `istio-ingressgateway`.
        pub ingress_service: Option<String>,
        /// Label of the ingress gateway; unset is `ingressgateway`.
        pub ingress_selector: Option<String>,
        /// Which Ingress objects count; unset is STRICT.
        pub ingress_controller_mode: Option<IngressControllerMode>,
        /// Whether spans are made.
        pub enable_tracing: Option<bool>,
        /// Empty is no access log.
        pub access_log_file: String,
        /// Empty is the default format.
        pub access_log_format: String,
        /// TEXT or JSON.
        pub access_log_encoding: AccessLogEncoding,
        /// What each proxy starts with.
        pub default_config: Option<ProxyConfig>,
        /// Unknown destinations; unset is ALLOW_ANY.
        pub outbound_traffic_policy: Option<MeshOutboundTrafficPolicy>,
        /// Unknown inbound ports.
        pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
        /// Trust domain; unset is `cluster.local`.
        pub trust_domain: Option<String>,
        /// Other trust domains that mean this one.
        pub trust_domain_aliases: Vec<String>,
        /// Further roots.
        pub ca_certificates: Vec<CertificateData>,
        /// Namespaces that Services are exported to by default.
        pub default_service_export_to: Vec<String>,
        /// Namespaces that VirtualServices are exported to by default.
        pub default_virtual_service_export_to: Vec<String>,
        /// Namespaces that DestinationRules are exported to by default.
        pub default_destination_rule_export_to: Vec<String>,
        /// Mesh-wide objects live here; unset is `istio-system`.
        pub root_namespace: Option<String>,
        /// Load balancing by place.
        pub locality_lb_setting: Option<LocalityLbSetting>,
        /// How often DNS clusters resolve; unset is 60 s.
        pub dns_refresh_rate: Option<Duration>,
        /// HTTP/1.1 to HTTP/2 between proxies.
        pub h2_upgrade_policy: Option<MeshH2UpgradePolicy>,
        /// Statistics name of inbound clusters.
        pub inbound_cluster_stat_name: String,
        /// Statistics name of outbound clusters.
        pub outbound_cluster_stat_name: String,
        /// Mutual TLS where both sides can; unset is yes.
        pub enable_auto_mtls: Option<bool>,
        /// What workloads take where no PeerAuthentication says it. Of Istio 1.0; unset is `NONE`.
        pub auth_policy: Option<AuthPolicy>,
        /// Merge the application's metrics with the proxy's; unset is yes.
        pub enable_prometheus_merge: Option<bool>,
        /// Named providers.
        pub extension_providers: Vec<Value>,
        /// Providers used by default.
        pub default_providers: Option<DefaultProviders>,
        /// Namespaces that are read; empty is all.
        pub discovery_selectors: Vec<NamespaceSelector>,
        /// Path normalization before authorization.
        pub path_normalization: Option<PathNormalization>,
        /// Retry policy of routes that have none.
        pub default_http_retry_policy: Option<HttpRetry>,
        /// Retry policy between a sidecar and its application.
        pub default_inbound_http_retry_policy: Option<HttpRetry>,
        /// Load balancing by zone.
        pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
        /// Baseline that DestinationRules refine.
        pub default_traffic_policy: Option<DefaultTrafficPolicy>,
        /// Least TLS version between proxies.
        pub mesh_mtls as "meshMTLS": Option<TlsConfig>,
        /// TLS defaults of gateways.
        pub tls_defaults: Option<TlsConfig>,
        /// Which services stay within their cluster.
        pub service_settings: Vec<ServiceSettings>,
        /// Which services are known in which clusters, by labels.
        pub service_scope_configs: Vec<ServiceScopeConfig>,
        /// Whether clients verify server certificates by default.
        pub verify_certificate_at_client: Option<bool>,
        /// Whether access logs go to the access log service.
        pub enable_envoy_access_log_service: Option<bool>,
        /// Whether listener access logs are off.
        pub disable_envoy_listener_log: Option<bool>,
    }

    /// Baseline that DestinationRules refine.
    pub struct DefaultTrafficPolicy {
        /// How many connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        pub outlier_detection: Option<OutlierDetection>,
    }

    /// Unknown destinations.
    pub struct MeshOutboundTrafficPolicy {
        /// Let through or refuse.
        pub mode: Option<MeshOutboundMode>,
    }

    /// Traffic to ports of a workload that no service has.
    pub struct InboundTrafficPolicy {
        /// Where it goes.
        pub mode: InboundTrafficMode,
    }

    /// Roots of a trust domain.
    pub struct CertificateData {
        /// Certificates in PEM.
        pub pem: String,
        /// Where a SPIFFE bundle is fetched from.
        pub spiffe_bundle_url: String,
        /// Signers whose certificates these roots verify.
        pub cert_signers: Vec<String>,
        /// Trust domains that these roots are for; none is the mesh's own.
        pub trust_domains: Vec<String>,
    }

    /// Providers used where no Telemetry names one.
    pub struct DefaultProviders {
        /// Of traces.
        pub tracing: Vec<String>,
        /// Of metrics.
        pub metrics: Vec<String>,
        /// Of access logs.
        pub access_logging: Vec<String>,
    }

    /// Picks namespaces or services by labels: all parts must hold.
    pub struct NamespaceSelector {
        /// Exact values.
        pub match_labels: BTreeMap<String, String>,
        /// Other conditions.
        pub match_expressions: Vec<LabelRequirement>,
    }

    /// A condition on one label.
    pub struct LabelRequirement {
        /// The label.
        pub key: String,
        /// How it is compared.
        pub operator: LabelOperator,
        /// What it is compared with; none for Exists and DoesNotExist.
        pub values: Vec<String>,
    }

    /// How paths are made uniform before they are matched.
    pub struct PathNormalization {
        /// How.
        pub normalization: NormalizationType,
    }

    /// Limits of TLS.
    pub struct TlsConfig {
        /// Least version; `TLS_AUTO` is 1.2.
        pub min_protocol_version: TlsConfigProtocol,
        /// Elliptic curves, in order of preference.
        pub ecdh_curves: Vec<String>,
        /// Cipher suites of TLS 1.2.
        pub cipher_suites: Vec<String>,
    }

    /// Settings of the services that hosts name.
    pub struct ServiceSettings {
        /// The settings.
        pub settings: Option<ServiceSettingsSettings>,
        /// Hosts, with wildcards.
        pub hosts: Vec<String>,
    }

    /// Settings of services.
    pub struct ServiceSettingsSettings {
        /// Whether endpoints of other clusters are left out.
        pub cluster_local: bool,
    }

    /// Which services are known in which clusters, by labels.
    pub struct ServiceScopeConfig {
        /// Namespaces; none is all.
        pub namespace_selector: Option<NamespaceSelector>,
        /// Services; none is all.
        pub services_selector: Option<NamespaceSelector>,
        /// Where they are known.
        pub scope: ServiceScope,
    }

    /// What is before a gateway.
    pub struct GatewayTopology {
        /// Proxies whose `X-Forwarded-For` is trusted.
        pub num_trusted_proxies: u32,
        /// What becomes of `X-Forwarded-Client-Cert`.
        pub forward_client_cert_details: ForwardClientCertDetails,
        /// Present where connections start with a PROXY protocol header.
        pub proxy_protocol: Option<ProxyProtocolConfiguration>,
    }

    /// PROXY protocol at a gateway; it has no settings.
    pub struct ProxyProtocolConfiguration {}

    /// What a proxy starts with; also annotation `proxy.istio.io/config`.
    pub struct ProxyConfig {
        /// Directory of generated files.
        pub config_path: Option<String>,
        /// Proxy binary.
        pub binary_path: Option<String>,
        /// `cluster` name that the proxy gives itself.
        pub service_cluster: Option<String>,
        /// How long connections drain; unset is 45 s.
        pub drain_duration: Option<Duration>,
        /// Control plane; unset is `istiod.istio-system.svc:15012`.
        pub discovery_address: Option<String>,
        /// Admin port; unset is 15000.
        pub proxy_admin_port: Option<u32>,
        /// Worker threads; unset is by CPU limit, zero all cores.
        pub concurrency: Option<i32>,
        /// `NONE` or `MUTUAL_TLS`.
        pub control_plane_auth_policy: Option<Value>,
        /// Longest statistics name; unset is 189.
        pub stat_name_length: Option<i32>,
        /// Agent port; unset is 15020.
        pub status_port: Option<u32>,
        /// Tracing.
        pub tracing: Option<Value>,
        /// How traffic is captured.
        pub interception_mode: Option<InterceptionMode>,
        /// More metadata of the node.
        pub proxy_metadata: BTreeMap<String, String>,
        /// Time for draining at termination; unset is 5 s.
        pub termination_drain_duration: Option<Duration>,
        /// Application starts after the proxy is ready.
        pub hold_application_until_proxy_starts: Option<bool>,
        /// Which statistics are kept.
        pub proxy_stats_matcher: Option<Value>,
        /// Readiness probe of the proxy.
        pub readiness_probe: Option<ReadinessProbe>,
        /// Image type.
        pub image: Option<ProxyImage>,
        /// Extra statistic tags.
        pub extra_stat_tags: Vec<String>,
        /// Gateway topology.
        pub gateway_topology: Option<GatewayTopology>,
        /// Headers that proxies add.
        pub proxy_headers: Option<Value>,
        /// Name of the mesh.
        pub mesh_id: Option<String>,
        /// Runtime values of the proxy.
        pub runtime_values: BTreeMap<String, String>,
    }
}

enumeration! {
    /// What workloads take that no policy speaks of.
    pub enum AuthPolicy {
        /// Plain text and mutual TLS.
        None = "NONE",
        /// Mutual TLS alone.
        MutualTls = "MUTUAL_TLS",
    }

    /// Where traffic to unknown inbound ports goes.
    pub enum InboundTrafficMode {
        /// To the address that was asked for.
        Passthrough = "PASSTHROUGH",
        /// To the same port on the loopback address.
        Localhost = "LOCALHOST",
    }

    /// How a label is compared.
    pub enum LabelOperator {
        /// Has one of the values.
        In = "In",
        /// Lacks the label, or has none of the values.
        NotIn = "NotIn",
        /// Has the label.
        Exists = "Exists",
        /// Lacks the label.
        DoesNotExist = "DoesNotExist",
    }

    /// How paths are made uniform before they are matched.
    pub enum NormalizationType {
        /// As BASE.
        Default = "DEFAULT",
        /// Not at all.
        None = "NONE",
        /// As RFC 3986 says, with `\\` as `/`.
        Base = "BASE",
        /// BASE, and several slashes become one.
        MergeSlashes = "MERGE_SLASHES",
        /// MERGE_SLASHES, after encoded slashes are decoded.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }

    /// Least TLS version.
    pub enum TlsConfigProtocol {
        /// 1.2.
        Auto = "TLS_AUTO",
        /// 1.2.
        V1_2 = "TLSV1_2",
        /// 1.3.
        V1_3 = "TLSV1_3",
    }

    /// Where a service is known.
    pub enum ServiceScope {
        /// In its own cluster.
        Local = "LOCAL",
        /// In all.
        Global = "GLOBAL",
    }

    /// What becomes of `X-Forwarded-Client-Cert`.
    pub enum ForwardClientCertDetails {
        /// As SANITIZE_SET.
        Undefined = "UNDEFINED",
        /// Not sent on.
        Sanitize = "SANITIZE",
        /// Sent on over mutual TLS.
        ForwardOnly = "FORWARD_ONLY",
        /// Sent on with the client's certificate appended, over mutual TLS.
        AppendForward = "APPEND_FORWARD",
        /// Replaced by the client's certificate, over mutual TLS.
        SanitizeSet = "SANITIZE_SET",
        /// Always sent on.
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
    }

    /// Unknown destinations.
    pub enum MeshOutboundMode {
        /// Refused.
        RegistryOnly = "REGISTRY_ONLY",
        /// Let through.
        AllowAny = "ALLOW_ANY",
        /// Let through, resolving the name asked for.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }

    /// Form of access log lines.
    pub enum AccessLogEncoding {
        /// As the format says.
        Text = "TEXT",
        /// One object per line.
        Json = "JSON",
    }

    /// Which Ingress objects count.
    pub enum IngressControllerMode {
        /// Not set.
        Unspecified = "UNSPECIFIED",
        /// None.
        Off = "OFF",
        /// Those without a class too.
        Default = "DEFAULT",
        /// Those with the class.
        Strict = "STRICT",
    }

    /// HTTP/1.1 to HTTP/2 between proxies.
    pub enum MeshH2UpgradePolicy {
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// How traffic is captured.
    pub enum InterceptionMode {
        /// NAT redirect.
        Redirect = "REDIRECT",
        /// Transparent proxy.
        Tproxy = "TPROXY",
        /// Not.
        None = "NONE",
    }
}

impl NamespaceSelector {
    /// Whether all parts hold of the labels that `label` finds by their keys; one without parts picks
    /// everything.
    pub fn picks<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let mut exact = self.match_labels.iter();
        let mut others = self.match_expressions.iter();
        exact.all(|(key, wanted)| label(key) == Some(wanted))
            && others.all(|wanted| wanted.holds(label(&wanted.key)))
    }
}

impl LabelRequirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_listed = value.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator {
            LabelOperator::In => is_listed,
            LabelOperator::NotIn => !is_listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl MeshConfig {
    /// The trust domain in force.
    pub fn trust_domain(&self) -> &str {
        self.trust_domain
            .as_deref()
            .filter(|t| !t.is_empty())
            .unwrap_or(DEFAULT_TRUST_DOMAIN)
    }

    /// Trust domains whose identities are of this mesh: its own first, then those that mean it.
    pub fn trust_domains(&self) -> Vec<&str> {
        let mut domains = vec![self.trust_domain()];
        for alias in &self.trust_domain_aliases {
            if !domains.contains(&alias.as_str()) {
                domains.push(alias);
            }
        }
        domains
    }

    /// Whether identities can be made in its trust domains. Proxies tell their peers by them, so that one
    /// with a slash in it would stand for others.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check_trust_domains(&self) -> Result<(), String> {
        let own = self.trust_domain.iter().filter(|own| !own.is_empty());
        let own = own.map(|own| ("trustDomain".to_owned(), own));
        let aliases = self.trust_domain_aliases.iter().enumerate();
        let aliases = aliases.map(|(n, alias)| (format!("trustDomainAliases[{n}]"), alias));
        for (field, domain) in own.chain(aliases) {
            if !is_trust_domain(domain) {
                return Err(format!(
                    "{field}: {domain:?} is no trust domain; use letters, digits, \".\", \"-\" and \"_\""
                ));
            }
        }
        Ok(())
    }

    /// The root namespace in force.
    pub fn root_namespace(&self) -> &str {
        self.root_namespace
            .as_deref()
            .filter(|n| !n.is_empty())
            .unwrap_or(DEFAULT_ROOT_NAMESPACE)
    }

    /// Timeout of upstream connections in force.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// Whether sidecars use mutual TLS where both sides can.
    pub fn auto_mtls(&self) -> bool {
        self.enable_auto_mtls.unwrap_or(true)
    }

    /// What happens to unknown destinations.
    pub fn outbound_mode(&self) -> MeshOutboundMode {
        let policy = self.outbound_traffic_policy.as_ref();
        policy
            .and_then(|p| p.mode)
            .unwrap_or(MeshOutboundMode::AllowAny)
    }
}

/// Whether a text can be a trust domain: as the SPIFFE standard has it (SPIFFE-ID, section 2.1), and in
/// upper case too.
pub fn is_trust_domain(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(is_known)
}
