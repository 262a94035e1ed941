//! What the agent is told: arguments, environment, `PROXY_CONFIG` and the files of the downward
//! API become one resolved configuration. Names and defaults are Istio's.

mod mesh;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lateen_core::{SpiffeId, ports};
use serde_json::Value;

use crate::Error;
use crate::bootstrap::Overlay;
use crate::cli::{ProxyArgs, Role, Which};
use crate::dns::DnsConfig;
use crate::health::Readiness;
pub(crate) use mesh::ProxyConfig;

/// Envoy's place in Istio's image, which mesh configurations often repeat: naming it is no wish
/// to run Envoy.
const ISTIO_BINARY: &str = "/usr/local/bin/envoy";
const DEFAULT_DISCOVERY: &str = "istiod.istio-system.svc:15012";
/// Annotation of a pod that wants another proxy.
const PROXY_ANNOTATION: &str = "lateen.io/proxy";

/// The resolved configuration of an agent.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    pub(crate) role: Role,
    pub(crate) domain: String,
    pub(crate) cluster: String,
    pub(crate) concurrency: Option<u32>,
    pub(crate) proxy_log_level: String,
    pub(crate) proxy_component_log_level: String,
    pub(crate) pod_name: String,
    pub(crate) namespace: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) spiffe: SpiffeId,
    pub(crate) cluster_id: String,
    pub(crate) paths: Paths,
    pub(crate) ca_address: String,
    pub(crate) discovery_address: String,
    /// Name to verify the control plane by, when it is not that of its address.
    pub(crate) control_plane_san: Option<String>,
    pub(crate) secret_ttl: Duration,
    /// The part of a certificate's life after which it is renewed.
    pub(crate) rotation_ratio: f64,
    pub(crate) ports: Ports,
    pub(crate) termination_drain: Duration,
    pub(crate) envoy: Option<PathBuf>,
    /// No proxy runs; the application speaks xDS itself.
    pub(crate) proxyless: bool,
    /// What the application's own gRPC gets.
    pub(crate) grpc: Grpc,
    /// Whether configuration comes as differences; Envoy can also take it whole.
    pub(crate) delta: bool,
    /// `ISTIO_KUBE_APP_PROBERS`: rewritten path to original probe.
    pub(crate) app_probers: BTreeMap<String, Value>,
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`: where the application's own metrics are.
    pub(crate) app_metrics: Option<String>,
    /// How names are answered, where queries are captured.
    pub(crate) dns: Option<DnsConfig>,
    /// How the workload's health is checked, where it is outside of the platform.
    pub(crate) readiness: Option<Readiness>,
    /// What is laid over the proxy's bootstrap.
    pub(crate) overlay: Overlay,
    pub(crate) metadata: Value,
}

/// Where the agent's own ports are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) admin: u16,
    pub(crate) status: u16,
    pub(crate) ready: u16,
    pub(crate) metrics: u16,
}

/// What an application that speaks xDS itself gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grpc {
    /// File of its bootstrap.
    pub(crate) bootstrap: Option<PathBuf>,
    /// Folder of its certificate.
    pub(crate) certificates: Option<PathBuf>,
}

/// Well-known files and sockets.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) config_dir: PathBuf,
    pub(crate) token: PathBuf,
    pub(crate) ca_root: PathBuf,
    pub(crate) xds_root: PathBuf,
    pub(crate) sds_socket: PathBuf,
    pub(crate) xds_socket: PathBuf,
    pub(crate) pod_info: PathBuf,
}

pub(crate) type Env = BTreeMap<String, String>;

impl AgentConfig {
    pub(crate) fn from_env(args: ProxyArgs) -> Result<Self, Error> {
        Self::resolve(args, std::env::vars().collect())
    }

    pub(crate) fn resolve(args: ProxyArgs, mut env: Env) -> Result<Self, Error> {
        let own = env.get("PROXY_CONFIG").map_or("", String::as_str);
        let mesh = ProxyConfig::read(&args.root, own)?;
        for (name, value) in &mesh.proxy_metadata {
            env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let namespace = required(&env, "POD_NAMESPACE")?;
        let pod_name = required(&env, "POD_NAME")?;
        let account = optional(&env, "SERVICE_ACCOUNT").unwrap_or("default");
        let trust_domain = args
            .trust_domain
            .as_deref()
            .or(optional(&env, "TRUST_DOMAIN"));
        let spiffe = SpiffeId::new(trust_domain.unwrap_or("cluster.local"), &namespace, account)
            .map_err(|e| bad("SERVICE_ACCOUNT", e))?;
        let paths = Paths::new(&args.root, &mesh, &env);
        let labels = crate::metadata::pod_file(&paths.pod_info.join("labels"));
        let annotations = crate::metadata::pod_file(&paths.pod_info.join("annotations"));
        let ports = Ports::new(&mesh, &env)?;
        let discovery = mesh.discovery_address.clone();
        let discovery = discovery.unwrap_or_else(|| DEFAULT_DISCOVERY.to_owned());
        let ips = addresses(&env)?;
        let envoy = envoy(&args, &mesh, &env, &annotations);
        let delta = parsed(&env, "ISTIO_DELTA_XDS")?.unwrap_or(true);
        if !delta && envoy.is_none() {
            let reason = "state-of-the-world discovery is not supported by this proxy";
            return Err(bad("ISTIO_DELTA_XDS", reason));
        }
        let facts = crate::metadata::Facts {
            pod_name: &pod_name,
            namespace: &namespace,
            service_account: account,
            ips: &ips,
            labels: &labels,
            annotations: &annotations,
            ports,
            ours: envoy.is_none() && optional(&env, "DISABLE_ENVOY") != Some("true"),
        };
        Ok(Self {
            metadata: crate::metadata::build(&env, &mesh, &facts)?,
            cluster: service_cluster(&args, &mesh, &labels, &namespace),
            domain: non_empty(&args.domain)
                .unwrap_or_else(|| format!("{namespace}.svc.cluster.local")),
            proxyless: optional(&env, "DISABLE_ENVOY") == Some("true"),
            grpc: Grpc::new(&args.root, &paths.config_dir, &env),
            envoy,
            delta,
            concurrency: args
                .concurrency
                .or(mesh.concurrency)
                .or(parsed(&env, "ISTIO_CPU_LIMIT")?),
            ca_address: optional(&env, "CA_ADDR").map_or(discovery.clone(), str::to_owned),
            discovery_address: discovery,
            control_plane_san: optional(&env, "ISTIOD_SAN").map(str::to_owned),
            cluster_id: optional(&env, "ISTIO_META_CLUSTER_ID")
                .unwrap_or("Kubernetes")
                .to_owned(),
            secret_ttl: duration(&env, "SECRET_TTL")?.unwrap_or(Duration::from_secs(24 * 3600)),
            rotation_ratio: ratio(&env)?,
            termination_drain: match mesh.termination_drain_duration {
                Some(drain) => drain,
                None => duration(&env, "MINIMUM_DRAIN_DURATION")?.unwrap_or(Duration::from_secs(5)),
            },
            app_probers: probers(&env)?,
            app_metrics: app_metrics(&env, ports.status)?,
            dns: dns(&env)?,
            readiness: mesh.readiness,
            overlay: Overlay {
                file: optional(&env, Overlay::FILE)
                    .map(|path| args.root.join(path.trim_start_matches('/'))),
                patches: parsed(&env, Overlay::PATCHES)?.unwrap_or(false),
            },
            role: args.role,
            proxy_log_level: args.proxy_log_level,
            proxy_component_log_level: args.proxy_component_log_level,
            pod_name,
            namespace,
            ips,
            spiffe,
            paths,
            ports,
        })
    }

    /// `sidecar~10.244.0.7~reviews-v1-….default~default.svc.cluster.local`
    pub(crate) fn node_id(&self) -> String {
        let (role, ip) = (self.role.as_str(), self.ips[0]);
        format!(
            "{role}~{ip}~{}.{}~{}",
            self.pod_name, self.namespace, self.domain
        )
    }
}

impl Paths {
    fn new(root: &Path, mesh: &ProxyConfig, env: &Env) -> Self {
        let under = |path: &str| root.join(path.trim_start_matches("./").trim_start_matches('/'));
        let config_dir = under(mesh.config_path.as_deref().unwrap_or("etc/istio/proxy"));
        let token = match optional(env, "JWT_POLICY") {
            Some("first-party-jwt") => "var/run/secrets/kubernetes.io/serviceaccount/token",
            _ => "var/run/secrets/tokens/istio-token",
        };
        let root_cert = |name: &str| {
            under(optional(env, name).unwrap_or("var/run/secrets/istio/root-cert.pem"))
        };
        Self {
            xds_socket: config_dir.join("XDS"),
            config_dir,
            token: under(token),
            ca_root: root_cert("CA_ROOT_CA"),
            xds_root: root_cert("XDS_ROOT_CA"),
            sds_socket: under("var/run/secrets/workload-spiffe-uds/socket"),
            pod_info: under("etc/istio/pod"),
        }
    }
}

impl Grpc {
    fn new(root: &Path, config_dir: &Path, env: &Env) -> Self {
        let below = |name| optional(env, name).map(|p| root.join(p.trim_start_matches('/')));
        // The injector tells only the application where it is, as Istio's does.
        let is_wanted = optional(env, "DISABLE_ENVOY") == Some("true");
        let usual = is_wanted.then(|| config_dir.join("grpc-bootstrap.json"));
        Self {
            bootstrap: below("GRPC_XDS_BOOTSTRAP").or(usual),
            certificates: below("OUTPUT_CERTS"),
        }
    }
}

impl Ports {
    fn new(mesh: &ProxyConfig, env: &Env) -> Result<Self, Error> {
        Ok(Self {
            admin: mesh.proxy_admin_port.unwrap_or(ports::ADMIN),
            // 0 keeps the kubelet's probes away; the proxy's readiness is asked for here all the same.
            status: mesh
                .status_port
                .filter(|port| *port != 0)
                .unwrap_or(ports::AGENT_STATUS),
            ready: parsed(env, "ENVOY_STATUS_PORT")?.unwrap_or(ports::PROXY_READY),
            metrics: parsed(env, "ENVOY_PROMETHEUS_PORT")?.unwrap_or(ports::PROXY_METRICS),
        })
    }
}

fn addresses(env: &Env) -> Result<Vec<IpAddr>, Error> {
    let text = match optional(env, "INSTANCE_IPS") {
        Some(ips) => ips.to_owned(),
        None => required(env, "INSTANCE_IP")?,
    };
    let parsed = text
        .split(',')
        .map(|ip| ip.trim().parse().map_err(|e| bad("INSTANCE_IP", e)));
    parsed.collect()
}

fn service_cluster(
    args: &ProxyArgs,
    mesh: &ProxyConfig,
    labels: &BTreeMap<String, String>,
    namespace: &str,
) -> String {
    let given = args
        .service_cluster
        .clone()
        .or_else(|| mesh.service_cluster.clone());
    let by_label = || {
        let keys = [
            "service.istio.io/canonical-name",
            "app.kubernetes.io/name",
            "app",
        ];
        let name = keys.iter().find_map(|key| labels.get(*key));
        name.map(|name| format!("{name}.{namespace}"))
    };
    given
        .filter(|c| !c.is_empty() && c != "istio-proxy")
        .or_else(by_label)
        .unwrap_or_else(|| "istio-proxy".to_owned())
}

/// The path of Envoy, when the pod asks for it.
fn envoy(
    args: &ProxyArgs,
    mesh: &ProxyConfig,
    env: &Env,
    annotations: &BTreeMap<String, String>,
) -> Option<PathBuf> {
    if let Some(path) = &args.proxy_binary {
        return Some(path.clone());
    }
    let configured = mesh.binary_path.as_deref().filter(|p| !p.is_empty());
    let wish = optional(env, "LATEEN_PROXY");
    let wish = wish.or(annotations.get(PROXY_ANNOTATION).map(String::as_str));
    let wish = match args.proxy {
        Which::Envoy => Some("envoy"),
        Which::Lateen => wish,
    };
    match (wish, configured) {
        (Some("envoy"), path) => Some(path.unwrap_or("envoy").into()),
        (_, Some(path)) if path != ISTIO_BINARY => Some(path.into()),
        _ => None,
    }
}

fn probers(env: &Env) -> Result<BTreeMap<String, Value>, Error> {
    let text = optional(env, "ISTIO_KUBE_APP_PROBERS").unwrap_or("{}");
    serde_json::from_str(text).map_err(|e| bad("ISTIO_KUBE_APP_PROBERS", e))
}

/// The URL of the application's metrics, unless there are none or they are ours.
fn app_metrics(env: &Env, own_port: u16) -> Result<Option<String>, Error> {
    const NAME: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
    let Some(text) = optional(env, NAME) else {
        return Ok(None);
    };
    let annotations: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|e| bad(NAME, e))?;
    let value = |key: &str| {
        annotations
            .get(key)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    if value("scrape") != Some("true") {
        return Ok(None);
    }
    let port: u16 = value("port")
        .unwrap_or("80")
        .parse()
        .map_err(|e| bad(NAME, e))?;
    let path = value("path").unwrap_or("/metrics").trim_start_matches('/');
    Ok((port != own_port).then(|| format!("http://localhost:{port}/{path}")))
}

/// How names are answered. Our own metadata tell the control plane so, whose table it is.
fn dns(env: &Env) -> Result<Option<DnsConfig>, Error> {
    const ADDRESS: &str = "DNS_PROXY_ADDR";
    if optional(env, "ISTIO_META_DNS_CAPTURE") != Some("true") {
        return Ok(None);
    }
    let default = format!("localhost:{}", ports::DNS);
    let address = optional(env, ADDRESS).unwrap_or(&default);
    let listen = DnsConfig::addresses(address);
    let what = || bad(ADDRESS, format!("{address:?} is no address with a port"));
    Ok(Some(DnsConfig {
        listen: listen.ok_or_else(what)?,
        timeout: duration(env, "DNS_FORWARD_TIMEOUT")?.unwrap_or(Duration::from_secs(5)),
        parallel: parsed(env, "DNS_FORWARD_PARALLEL")?.unwrap_or(false),
    }))
}

fn ratio(env: &Env) -> Result<f64, Error> {
    let ratio: f64 = parsed(env, "SECRET_GRACE_PERIOD_RATIO")?.unwrap_or(0.5);
    if (0.0..1.0).contains(&ratio) {
        return Ok(1.0 - ratio);
    }
    Err(bad(
        "SECRET_GRACE_PERIOD_RATIO",
        "must be at least 0 and below 1",
    ))
}

fn duration(env: &Env, name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(text) = optional(env, name) else {
        return Ok(None);
    };
    mesh::go_duration(text)
        .map(Some)
        .ok_or_else(|| bad(name, format!("{text:?} is no duration")))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    env: &Env,
    name: &'static str,
) -> Result<Option<T>, Error> {
    optional(env, name)
        .map(|v| v.parse().map_err(|e| bad(name, e)))
        .transpose()
}

pub(crate) fn optional<'a>(env: &'a Env, name: &str) -> Option<&'a str> {
    env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
}

fn required(env: &Env, name: &'static str) -> Result<String, Error> {
    optional(env, name)
        .map(str::to_owned)
        .ok_or_else(|| bad(name, "is not set"))
}

fn non_empty(text: &str) -> Option<String> {
    // An unexpanded $(POD_NAMESPACE) means that nobody is there to expand it.
    (!text.is_empty() && !text.contains("$(")).then(|| text.to_owned())
}

pub(crate) fn bad(name: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Environment {
        name,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sample_env(extra: &[(&str, &str)]) -> Env {
        let mut env: Env = [
            ("POD_NAME", "reviews-v1-abc"),
            ("POD_NAMESPACE", "default"),
            ("INSTANCE_IP", "10.244.0.7"),
            ("SERVICE_ACCOUNT", "bookinfo-reviews"),
            ("PROXY_CONFIG", "{}\n"),
            ("CA_ADDR", "istiod.istio-system.svc:15012"),
            ("ISTIO_META_WORKLOAD_NAME", "reviews-v1"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        env.extend(
            extra
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        env
    }

    pub(crate) fn sample(extra: &[(&str, &str)]) -> AgentConfig {
        let env = sample_env(extra);
        let root = PathBuf::from("/nonexistent");
        let args = ProxyArgs {
            root,
            ..ProxyArgs::default()
        };
        AgentConfig::resolve(args, env).expect("a valid environment")
    }

    #[test]
    fn the_environment_of_an_injected_pod_is_enough() {
        let config = sample(&[]);
        assert_eq!(
            config.node_id(),
            "sidecar~10.244.0.7~reviews-v1-abc.default~default.svc.cluster.local"
        );
        assert_eq!(
            config.spiffe.to_string(),
            "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
        );
        assert_eq!(config.discovery_address, "istiod.istio-system.svc:15012");
        assert!(config.envoy.is_none() && config.app_metrics.is_none());
        assert!((config.rotation_ratio - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn envoy_is_run_on_request_only() {
        let envoy = |env: &[(&str, &str)]| sample(env).envoy;
        let istio = ("PROXY_CONFIG", "binaryPath: /usr/local/bin/envoy");
        assert_eq!(envoy(&[istio]), None);
        assert_eq!(
            envoy(&[istio, ("LATEEN_PROXY", "envoy")]),
            Some(ISTIO_BINARY.into())
        );
        assert_eq!(envoy(&[("LATEEN_PROXY", "envoy")]), Some("envoy".into()));
        let other = ("PROXY_CONFIG", r#"{"binaryPath": "/opt/envoy"}"#);
        assert_eq!(envoy(&[other]), Some("/opt/envoy".into()));
        let asked = ProxyArgs {
            proxy: Which::Envoy,
            ..ProxyArgs::default()
        };
        let config = AgentConfig::resolve(asked, sample_env(&[])).expect("valid");
        assert_eq!(config.envoy, Some("envoy".into()));
        // The control plane sends each what it can do.
        assert_eq!(config.metadata.get("LATEEN_PROXY"), None);
        assert_eq!(sample(&[]).metadata["LATEEN_PROXY"], "true");
    }

    #[test]
    fn the_applications_metrics_are_found_unless_they_are_ours() {
        let url = |text: &str| sample(&[("ISTIO_PROMETHEUS_ANNOTATIONS", text)]).app_metrics;
        assert_eq!(
            url(r#"{"scrape":"true","port":"9080","path":"/m"}"#).as_deref(),
            Some("http://localhost:9080/m")
        );
        assert_eq!(url(r#"{"scrape":"true","port":"15020"}"#), None);
        assert_eq!(url(r#"{"scrape":"false","port":"9080"}"#), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = AgentConfig::resolve(ProxyArgs::default(), Env::new()).expect_err("empty");
        assert_eq!(error.to_string(), "POD_NAMESPACE: is not set");
    }

    #[test]
    fn names_are_answered_where_queries_are_captured() {
        let capture = ("ISTIO_META_DNS_CAPTURE", "true");
        assert!(sample(&[]).dns.is_none());
        let of = |address: &str| {
            let dns = sample(&[capture, ("DNS_PROXY_ADDR", address)]).dns;
            let listen = dns.expect("captured").listen;
            listen.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let found = sample(&[capture]).dns.expect("captured");
        assert_eq!(found.listen[0].to_string(), "127.0.0.1:15053");
        assert_eq!(
            (found.timeout, found.parallel),
            (Duration::from_secs(5), false)
        );
        assert_eq!(of("localhost:5353"), ["127.0.0.1:5353", "[::1]:5353"]);
        assert_eq!(of("[::1]:53"), ["[::1]:53"]);
        assert_eq!(of(":53"), ["0.0.0.0:53", "[::]:53"]);
        // What the mesh says for all proxies counts too.
        let mesh = r#"{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}"#;
        assert!(sample(&[("PROXY_CONFIG", mesh)]).dns.is_some());
        let env = sample_env(&[capture, ("DNS_PROXY_ADDR", "somewhere")]);
        let error = AgentConfig::resolve(ProxyArgs::default(), env).expect_err("no address");
        assert!(error.to_string().starts_with("DNS_PROXY_ADDR: "), "{error}");
    }

    #[test]
    fn only_envoy_takes_the_whole_state() {
        let whole = ("ISTIO_DELTA_XDS", "false");
        assert!(!sample(&[whole, ("LATEEN_PROXY", "envoy")]).delta);
        assert!(sample(&[]).delta);
    }
}
