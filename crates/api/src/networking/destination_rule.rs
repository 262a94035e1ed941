//! DestinationRule: what happens to traffic after its destination is known.

use std::collections::BTreeMap;

use super::{Percent, PortSelector};
use crate::{
    Duration,
    compat::OldOutlierDetection,
    schema::{enumeration, message},
    security::LabelSelector,
};

message! {
    /// Policies and subsets of a host.
    pub struct DestinationRule where [Limit::Required(&["host"])] {
        /// Host in the registry, or a wildcard.
        pub host: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// For all subsets that do not say otherwise.
        pub traffic_policy: Option<TrafficPolicy>,
        /// Named groups of endpoints.
        pub subsets: Vec<Subset> where [Limit::MaxItems(1024)],
        /// Namespaces that see this.
        pub export_to: Vec<String> where [
            Limit::MaxItems(256),
            Limit::Each(&[Limit::MaxLength(63)]),
            Limit::Rule(
                "self.size() <= 1 || !self.exists(n, n in ['*', '~'])",
                "* and ~ stand for themselves alone",
            ),
        ],
        /// Clients that it is for. Unlike those of Sidecar and ServiceEntry, it has `matchLabels`.
        pub workload_selector: Option<LabelSelector>,
    }

    /// Endpoints with these labels.
    pub struct Subset where [Limit::Required(&["name"])] {
        /// Name that routes refer to.
        pub name: String where [Limit::MinLength(1), Limit::MaxLength(256)],
        /// All of them must match.
        pub labels: BTreeMap<String, String>,
        /// Replaces the host's, block by block.
        pub traffic_policy: Option<TrafficPolicy>,
    }

    /// How a client treats a destination.
    pub struct TrafficPolicy {
        /// Which endpoint.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// How many connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        pub outlier_detection: Option<OutlierDetection>,
        /// How the connection is secured.
        pub tls: Option<ClientTlsSettings>,
        /// Replaces all of the above for a port.
        pub port_level_settings: Vec<PortTrafficPolicy> where [Limit::MaxItems(128)],
        /// TCP through HTTP CONNECT.
        pub tunnel: Option<TunnelSettings>,
        /// PROXY protocol towards the upstream.
        pub proxy_protocol: Option<ProxyProtocol>,
        /// Limit of concurrent retries.
        pub retry_budget: Option<RetryBudget>,
    }

    /// A traffic policy for one port.
    pub struct PortTrafficPolicy where [Limit::Required(&["port"])] {
        /// The port.
        pub port: Option<PortSelector>,
        /// Which endpoint.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// How many connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        pub outlier_detection: Option<OutlierDetection>,
        /// How the connection is secured.
        pub tls: Option<ClientTlsSettings>,
    }

    /// TCP through HTTP CONNECT or POST.
    pub struct TunnelSettings {
        /// `CONNECT` (default) or `POST`.
        pub protocol: String,
        /// Host that the tunnel leads to.
        pub target_host: String,
        /// Port that the tunnel leads to.
        pub target_port: u32,
    }

    /// PROXY protocol.
    pub struct ProxyProtocol {
        /// Which version.
        pub version: ProxyProtocolVersion,
    }

    /// Limit of concurrent retries.
    pub struct RetryBudget {
        /// Share of active requests; unset is 20.
        pub percent: Option<Percent>,
        /// Always allowed; unset is 3.
        pub min_retry_concurrency: Option<u32>,
        /// Window of the count.
        pub budget_interval: Option<Duration>,
    }

    /// Which endpoint gets the request.
    pub struct LoadBalancerSettings where [
        Limit::AtMostOne(&["simple", "consistentHash"]),
        Limit::AtMostOne(&["localityLbSetting", "zoneAwareLbSetting"]),
    ] {
        /// A named algorithm.
        pub simple: Option<SimpleLb>,
        /// By hash.
        pub consistent_hash: Option<ConsistentHashLb>,
        /// By place.
        pub locality_lb_setting: Option<LocalityLbSetting>,
        /// By zone, with spill-over.
        pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
        /// Deprecated form of `warmup`.
        pub warmup_duration_secs: Option<Duration>,
        /// Slow start of new endpoints.
        pub warmup: Option<WarmupConfiguration>,
    }

    /// Slow start.
    pub struct WarmupConfiguration where [Limit::Required(&["duration"])] {
        /// How long. Required.
        pub duration: Option<Duration>,
        /// Least share; unset is 10.
        pub minimum_percent: Option<f64> where [Limit::Min(0), Limit::Max(100)],
        /// Shape of the ramp; unset is 1.
        pub aggression: Option<f64> where [Limit::Min(1)],
    }

    /// Session affinity by hash of one property.
    pub struct ConsistentHashLb where [
        Limit::Rule(
            "(has(self.httpHeaderName) ? 1 : 0) + (has(self.httpCookie) ? 1 : 0) + \
             (has(self.useSourceIp) ? 1 : 0) + (has(self.httpQueryParameterName) ? 1 : 0) == 1",
            "consistentHash needs exactly one key",
        ),
        Limit::AtMostOne(&["ringHash", "maglev"]),
    ] {
        /// Of this header.
        pub http_header_name: Option<String>,
        /// Of this cookie, made when absent.
        pub http_cookie: Option<HttpCookie>,
        /// Of the client's address.
        pub use_source_ip: Option<bool>,
        /// Of this query parameter.
        pub http_query_parameter_name: Option<String>,
        /// Ketama ring.
        pub ring_hash: Option<RingHash>,
        /// Maglev table.
        pub maglev: Option<MagLev>,
        /// Deprecated form of `ringHash.minimumRingSize`.
        pub minimum_ring_size: Option<u64>,
    }

    /// A cookie to hash on.
    pub struct HttpCookie {
        /// Its name.
        pub name: String,
        /// Its path.
        pub path: String,
        /// Its lifetime; zero is a session cookie.
        pub ttl: Option<Duration>,
        /// More attributes.
        pub attributes: Vec<HttpCookieAttribute>,
    }

    /// A cookie attribute.
    pub struct HttpCookieAttribute {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// Ketama ring.
    pub struct RingHash {
        /// Unset is 1024.
        pub minimum_ring_size: Option<u64>,
    }

    /// Maglev table.
    pub struct MagLev {
        /// Prime; unset is 65537.
        pub table_size: Option<u64>,
    }

    /// By place.
    pub struct LocalityLbSetting where [
        Limit::Rule(
            "!has(self.distribute) || !has(self.failover) || self.distribute.size() == 0 || \
             self.failover.size() == 0",
            "distribute and failover cannot be set together",
        ),
    ] {
        /// Fixed shares by client locality.
        pub distribute: Vec<LocalityDistribute> where [Limit::MaxItems(256)],
        /// Next region when one fails.
        pub failover: Vec<LocalityFailover> where [Limit::MaxItems(256)],
        /// Ordered labels to compare.
        pub failover_priority: Vec<String>,
        /// Replaces the mesh's switch.
        pub enabled: Option<bool>,
    }

    /// Shares for clients of a locality.
    pub struct LocalityDistribute {
        /// Client locality.
        pub from: String,
        /// Share by endpoint locality; the sum is 100.
        pub to: BTreeMap<String, u32>,
    }

    /// Failover between regions.
    pub struct LocalityFailover {
        /// Client region.
        pub from: String,
        /// Region that takes over.
        pub to: String,
    }

    /// By zone: proxies that know how their own workload is spread keep in their zone what its endpoints
    /// can take. They do with `ISTIO_META_ENABLE_SELF_DISCOVERY: "true"` in their `proxyMetadata`.
    pub struct ZoneAwareLbSetting {
        /// Replaces the mesh's switch; unset is yes.
        pub enabled: Option<bool>,
        /// Next region when one fails; endpoints of the own one always come first.
        pub failover: Vec<LocalityFailover>,
        /// Ordered labels to compare, other than those of places.
        pub failover_priority: Vec<String>,
        /// Fewer endpoints than this: no zones. Unset is 6.
        pub min_cluster_size: Option<u32> where [Limit::Min(1)],
    }

    /// How many connections and requests.
    pub struct ConnectionPoolSettings where [
        Limit::Rule("has(self.tcp) || has(self.http)", "connectionPool is empty"),
    ] {
        /// Connections.
        pub tcp: Option<TcpSettings>,
        /// Requests.
        pub http: Option<HttpSettings>,
    }

    /// Connections.
    pub struct TcpSettings {
        /// At most so many; unset is no limit.
        pub max_connections: Option<i32> where [Limit::Min(0)],
        /// Unset is the mesh's, 10 s.
        pub connect_timeout: Option<Duration>,
        /// Keep-alive probes.
        pub tcp_keepalive: Option<TcpKeepalive>,
        /// Closed after this long.
        pub max_connection_duration: Option<Duration>,
        /// Closed after this long without traffic.
        pub idle_timeout: Option<Duration>,
    }

    /// Keep-alive probes.
    pub struct TcpKeepalive {
        /// Unanswered probes before the connection is dead.
        pub probes: Option<u32>,
        /// Idle time before the first.
        pub time: Option<Duration>,
        /// Time between two.
        pub interval: Option<Duration>,
    }

    /// Requests.
    pub struct HttpSettings where [
        Limit::Rule(
            "!has(self.h2UpgradePolicy) || self.h2UpgradePolicy != 'UPGRADE' || \
             !has(self.useClientProtocol) || !self.useClientProtocol",
            "h2UpgradePolicy UPGRADE and useClientProtocol contradict",
        ),
    ] {
        /// Waiting for a connection.
        pub http1_max_pending_requests: Option<i32> where [Limit::Min(0)],
        /// Active, HTTP/1 too.
        pub http2_max_requests: Option<i32> where [Limit::Min(0)],
        /// 1 turns keep-alive off.
        pub max_requests_per_connection: Option<i32> where [Limit::Min(0)],
        /// Outstanding retries.
        pub max_retries: Option<i32> where [Limit::Min(0)],
        /// Upstream connections without requests are closed after this long; unset is 1 h.
        pub idle_timeout: Option<Duration>,
        /// Whether HTTP/1.1 becomes HTTP/2 on the way.
        pub h2_upgrade_policy: H2UpgradePolicy,
        /// Keep the client's protocol.
        pub use_client_protocol: Option<bool>,
        /// Streams per connection.
        pub max_concurrent_streams: Option<i32> where [Limit::Min(0)],
        /// HTTP/2 PINGs.
        pub http2_keep_alive: Option<Http2KeepAlive>,
    }

    /// HTTP/2 PINGs.
    pub struct Http2KeepAlive {
        /// Time between two.
        pub interval: Option<Duration>,
        /// Wait for the answer.
        pub timeout: Option<Duration>,
    }

    /// When an endpoint is left out.
    #[serde(remote = "Self")]
    pub struct OutlierDetection where [
        Limit::Old(OldOutlierDetection::schema),
        Limit::Rule(
            "!has(self.consecutiveLocalOriginFailures) || \
             self.consecutiveLocalOriginFailures == 0 || \
             (has(self.splitExternalLocalOriginErrors) && self.splitExternalLocalOriginErrors)",
            "consecutiveLocalOriginFailures has no effect without splitExternalLocalOriginErrors",
        ),
    ] {
        /// Count connection faults apart.
        pub split_external_local_origin_errors: Option<bool>,
        /// Connection faults in a row.
        pub consecutive_local_origin_failures: Option<u32>,
        /// 502, 503, 504 in a row; zero turns it off.
        pub consecutive_gateway_errors: Option<u32>,
        /// Any 5xx in a row; unset is 5, zero turns it off.
        pub consecutive_5xx_errors: Option<u32>,
        /// Between sweeps; unset is 10 s.
        pub interval: Option<Duration>,
        /// Least time out; unset is 30 s.
        pub base_ejection_time: Option<Duration>,
        /// At most this share of endpoints; unset is 10.
        pub max_ejection_percent: Option<i32> where [Limit::Min(0), Limit::Max(100)],
        /// Below this share healthy, all are used; unset is 0.
        pub min_health_percent: Option<i32> where [Limit::Min(0), Limit::Max(100)],
        /// Codes or ranges that count as errors.
        pub outlier_detection_http_error_codes: Vec<u32>,
    }

    /// How a connection to the upstream is secured.
    pub struct ClientTlsSettings where [
        Limit::Rule(
            "!has(self.mode) || self.mode != 'MUTUAL' || has(self.credentialName) || \
             (has(self.clientCertificate) && has(self.privateKey))",
            "MUTUAL needs clientCertificate and privateKey, or credentialName",
        ),
    ] {
        /// Which kind.
        pub mode: ClientTlsMode,
        /// File, for MUTUAL.
        pub client_certificate: String,
        /// File, for MUTUAL.
        pub private_key: String,
        /// File with the roots; empty does not verify.
        pub ca_certificates: String,
        /// Secret with the above, for gateways and DestinationRules with a workload selector.
        pub credential_name: String where [Limit::MaxLength(512)],
        /// Names that the server's certificate must have one of.
        pub subject_alt_names: Vec<String>,
        /// Server name to ask for.
        pub sni: String,
        /// Do not verify.
        pub insecure_skip_verify: Option<bool>,
        /// File with revoked certificates.
        pub ca_crl: String,
    }
}

enumeration! {
    /// A named load-balancing algorithm.
    pub enum SimpleLb {
        /// The default, which is LEAST_REQUEST.
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of LEAST_REQUEST.
        LeastConn = "LEAST_CONN",
        /// Any.
        Random = "RANDOM",
        /// The address that the client asked for.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The less busy of two.
        LeastRequest = "LEAST_REQUEST",
    }

    /// Whether HTTP/1.1 becomes HTTP/2 on the way.
    pub enum H2UpgradePolicy {
        /// The mesh's setting.
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// How a connection to the upstream is secured.
    pub enum ClientTlsMode {
        /// Not at all.
        Disable = "DISABLE",
        /// TLS without client certificate.
        Simple = "SIMPLE",
        /// TLS with the client certificate given.
        Mutual = "MUTUAL",
        /// TLS with the mesh's certificate.
        IstioMutual = "ISTIO_MUTUAL",
    }

    /// PROXY protocol version.
    pub enum ProxyProtocolVersion {
        /// Text.
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }
}
