//! The flags of the control plane.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use lateen_core::ports;
use lateen_tls::Version;
use tracing::{info, warn};

use super::{environment::Environment, tokens::AUDIENCE};

/// The flags are those of Istio's `pilot-discovery discovery`.
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Debug interface and readiness.
    #[arg(long = "httpAddr", default_value_t = any(ports::CONTROL_PLANE_DEBUG), value_parser = address)]
    pub(super) http: SocketAddr,
    /// Webhooks.
    #[arg(long = "httpsAddr", default_value_t = any(ports::WEBHOOK), value_parser = address)]
    pub(super) https: SocketAddr,
    /// xDS in plaintext.
    #[arg(long = "grpcAddr", default_value_t = any(ports::XDS_PLAINTEXT), value_parser = address)]
    pub(super) grpc: SocketAddr,
    /// xDS and certificates over TLS.
    #[arg(long = "secureGRPCAddr", default_value_t = any(ports::XDS_TLS), value_parser = address)]
    pub(super) secure_grpc: SocketAddr,
    /// Metrics and version.
    #[arg(long = "monitoringAddr", default_value_t = any(ports::CONTROL_PLANE_METRICS), value_parser = address)]
    pub(super) monitoring: SocketAddr,
    /// Address of ControlZ, where the log's levels are changed; only a loopback address is taken.
    #[arg(long = "ctrlz_address", default_value = "localhost", value_parser = loopback)]
    pub(super) control_address: IpAddr,
    /// Port of ControlZ.
    #[arg(long = "ctrlz_port", default_value_t = ports::CONTROLZ)]
    pub(super) control_port: u16,
    /// Domain of the cluster's services.
    #[arg(long, default_value = "cluster.local")]
    pub(super) domain: String,
    /// What this cluster is called in the mesh.
    #[arg(long = "clusterID", default_value = "Kubernetes", env = "CLUSTER_ID")]
    pub(super) cluster_id: String,
    /// The control plane's own namespace.
    #[arg(long, default_value = "istio-system", env = "POD_NAMESPACE")]
    pub(super) namespace: String,
    /// Revision of the control plane; `default` has none in the names of its objects.
    #[arg(long, default_value = DEFAULT_REVISION, env = "REVISION")]
    pub(super) revision: String,
    /// The mesh's trust domain; without it, that of the mesh's configuration.
    #[arg(long = "trustDomain", env = "TRUST_DOMAIN", value_parser = trust_domain)]
    trust_domain: Option<String>,
    /// For whom tokens of proxies are made out (`sds.token.aud`), with commas between.
    #[arg(long = "tokenAudiences", env = "TOKEN_AUDIENCES", value_delimiter = ',', default_value = AUDIENCE)]
    pub(super) audiences: Vec<String>,
    /// How long requests in flight may take at the end.
    #[arg(long = "shutdownDuration", default_value = "10s", value_parser = duration)]
    pub(super) shutdown: Duration,
    /// A directory of files that the mesh's objects are read from, instead of the API server.
    #[arg(long = "configDir", visible_alias = "config-dir")]
    pub(super) config_dir: Option<PathBuf>,
    /// A Consul agent whose services are added to the cluster's: `http://host:port`. Its token is read
    /// from CONSUL_HTTP_TOKEN.
    #[arg(long = "consulserverURL", visible_alias = "consul-server-url")]
    pub(super) consul: Option<String>,
    /// What is logged: a level, levels of scopes as `default:info,ads:debug`, or of modules as
    /// `info,lateen_pilot=debug`.
    #[arg(long = "log_output_level", default_value = "info")]
    pub(super) log: String,
    /// Log one JSON object a line.
    #[arg(long = "log_as_json")]
    pub(super) log_as_json: bool,
    /// How long a proxy's stream may last before it has to be opened anew: `30m`.
    #[arg(long = "keepaliveMaxServerConnectionAge", default_value = "30m", value_parser = duration)]
    pub(super) stream_lifetime: Duration,
    /// After how much silence a connection of a proxy is looked at.
    #[arg(long = "keepaliveInterval", default_value = "30s", value_parser = duration)]
    pub(super) keepalive_interval: Duration,
    /// How long it may then take to answer.
    #[arg(long = "keepaliveTimeout", default_value = "10s", value_parser = duration)]
    pub(super) keepalive_timeout: Duration,
    /// The lowest version of TLS that is spoken, `1.2` or `1.3`.
    #[arg(long = "tls-min-version", default_value = "1.2", value_parser = version)]
    pub(super) tls_min_version: Version,
    /// Where services are read: `Kubernetes`.
    #[arg(long, value_delimiter = ',', default_value = "Kubernetes", value_parser = registry)]
    registries: Vec<String>,
    #[command(flatten)]
    unread: Unread,
    /// What its variables say.
    #[arg(skip)]
    pub(super) environment: Environment,
}

/// Flags of Istio's that nothing acts on, which is told.
#[derive(Clone, Debug, Default, Args)]
struct Unread {
    /// No effect: the mesh's configuration is read from its ConfigMap.
    #[arg(long = "meshConfig", hide = true)]
    mesh_config: Option<String>,
    /// No effect: networks are read from the ConfigMap of the mesh's configuration.
    #[arg(long = "networksConfig", hide = true)]
    networks_config: Option<String>,
    /// No effect: clusters have one name.
    #[arg(long = "clusterAliases", hide = true)]
    cluster_aliases: Option<String>,
    /// No effect: requests to the API server are few, and not held back.
    #[arg(long = "kubernetesApiQPS", hide = true)]
    api_rate: Option<f64>,
    /// No effect, as the above.
    #[arg(long = "kubernetesApiBurst", hide = true)]
    api_burst: Option<u32>,
}

impl Unread {
    /// Those that are there.
    fn named(&self) -> impl Iterator<Item = &'static str> {
        [
            ("--meshConfig", self.mesh_config.is_some()),
            ("--networksConfig", self.networks_config.is_some()),
            ("--clusterAliases", self.cluster_aliases.is_some()),
            ("--kubernetesApiQPS", self.api_rate.is_some()),
            ("--kubernetesApiBurst", self.api_burst.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, is_there)| is_there.then_some(flag))
    }
}

/// The revision of a control plane that has no other.
pub(super) const DEFAULT_REVISION: &str = "default";

impl Options {
    /// The revision's name, where it has none of its own too.
    pub(super) fn revision_name(&self) -> &str {
        match self.revision.as_str() {
            "" => DEFAULT_REVISION,
            revision => revision,
        }
    }

    /// Tells where services are read, and the flags that nothing acts on.
    pub(super) fn tell_unread(&self) {
        for flag in self.unread.named() {
            warn!(flag, "this flag is not supported and has no effect");
        }
        info!(registries = self.registries.join(","), "services are read");
    }

    /// The mesh's trust domain, where it is not the mesh's configuration that says it.
    pub(super) fn trust_domain(&self) -> Option<String> {
        self.trust_domain.clone().filter(|own| !own.is_empty())
    }

    /// A name as the revision has it: `istiod`, `istiod-canary`.
    pub(super) fn revisioned(&self, name: &str) -> String {
        match self.revision_name() {
            DEFAULT_REVISION => name.to_owned(),
            revision => format!("{name}-{revision}"),
        }
    }
}

/// As Go writes durations.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration: lateen_api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    Ok(duration.to_std())
}

/// Of both families, or of IPv4 where there is nothing else.
fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// A variable without a value says nothing.
fn trust_domain(text: &str) -> Result<String, String> {
    match text.is_empty() || lateen_api::mesh::is_trust_domain(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is no trust domain; use letters, digits, \".\", \"-\" and \"_\""
        )),
    }
}

/// `:15010` listens on every address, as Go's flags have it.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') {
        format!("[::]{text}")
    } else {
        text.to_owned()
    };
    full.parse()
        .map_err(|error| format!("{text:?} is not address:port or :port ({error})"))
}

/// Whoever reaches it may change what is logged, without saying who they are.
fn loopback(text: &str) -> Result<IpAddr, String> {
    let address = match text {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        text => text.parse::<IpAddr>(),
    };
    match address {
        Ok(address) if address.is_loopback() => Ok(address),
        _ => Err(format!("{text:?} is no loopback address")),
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "1.2" => Ok(Version::Tls12),
        "1.3" => Ok(Version::Tls13),
        _ => Err(format!("{text:?} is not supported; 1.2 and 1.3 are")),
    }
}

fn registry(text: &str) -> Result<String, String> {
    match text {
        "Kubernetes" => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is not supported; services are read from the API server (Kubernetes), and those of a Consul agent are added with --consulserverURL"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::discovery::{Cli, Command};

    #[test]
    fn istios_flags_are_taken() {
        let cli = Cli::try_parse_from([
            "pilot-discovery",
            "discovery",
            "--monitoringAddr=:15014",
            "--log_output_level=default:info",
            "--domain",
            "cluster.local",
            "--grpcAddr",
            "127.0.0.1:1",
            "--keepaliveMaxServerConnectionAge",
            "1h30m",
            "--shutdownDuration=1m30s",
            "--registries=Kubernetes",
            "--keepaliveInterval=1m",
            "--keepaliveTimeout=20s",
            "--tls-min-version=1.3",
            "--kubernetesApiQPS=80.0",
            "--kubernetesApiBurst=160",
            "--meshConfig=./etc/istio/config/mesh",
        ]);
        let Command::Discovery(options) = cli.unwrap().command;
        assert_eq!(options.monitoring, any(15014));
        assert_eq!(options.monitoring.to_string(), "[::]:15014");
        assert_eq!(options.audiences, [AUDIENCE]);
        let control = (options.control_address, options.control_port);
        assert_eq!(control, (IpAddr::from([127, 0, 0, 1]), 9876));
        assert!(loopback("0.0.0.0").is_err());
        assert_eq!(options.stream_lifetime, Duration::from_secs(90 * 60));
        assert_eq!(options.shutdown, Duration::from_secs(90));
        assert_eq!(options.keepalive_interval, Duration::from_secs(60));
        assert_eq!(options.keepalive_timeout, Duration::from_secs(20));
        assert_eq!(options.tls_min_version, Version::Tls13);
        let unread: Vec<_> = options.unread.named().collect();
        assert_eq!(
            unread,
            ["--meshConfig", "--kubernetesApiQPS", "--kubernetesApiBurst"]
        );
        assert_eq!(options.revisioned("istiod"), "istiod");
        assert_eq!(options.grpc, SocketAddr::from(([127, 0, 0, 1], 1)));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let refused = |argument: &str, reason: &str| {
            let arguments = ["discovery".to_owned(), argument.to_owned()];
            let said = crate::discovery::check_arguments(&arguments).expect_err("refused");
            assert!(said.contains(reason), "{said}");
        };
        refused("--registries=Mock", "\"Mock\" is not supported");
        refused("--tls-min-version=1.0", "\"1.0\" is not supported");
        refused("--trustDomain=a/b", "\"a/b\" is no trust domain");
        refused("--nonesuch", "unexpected argument '--nonesuch'");
        let whole = lateen_install::Installation::default();
        let arguments = whole.control_plane_arguments().expect("a control plane");
        crate::discovery::check_arguments(&arguments).expect("its own are known");
    }
}
