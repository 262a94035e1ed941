//! `pilot-discovery`: the control plane in one process. It wires the crates
//! together and decides nothing itself.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kube::Client;
use lateen_citadel::{CaOptions, CertificateAuthority, RootPublisher};
use lateen_core::{Backoff, SpiffeId, ports};
use lateen_registry::{Consul, FieldFault, Files, Registry};
use lateen_tls::IdentityStore;
use tracing::{info, warn};

mod access;
mod analysis;
mod control;
mod credentials;
mod entries;
mod gateways;
pub(crate) mod injection;
mod leader;
mod led;
#[cfg(test)]
mod platform;
mod replicas;
mod revisions;
mod roots;
mod secrets;
mod servers;
mod sources;
mod statuses;
mod tokens;
mod webhooks;

use leader::{Elections, Task};
use led::Led;

/// The control plane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "pilot-discovery", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve configuration, certificates and webhooks
    Discovery(Options),
}

/// The flags are those of Istio's `pilot-discovery discovery`.
#[derive(Clone, Debug, Args)]
struct Options {
    /// Debug interface and readiness.
    #[arg(long = "httpAddr", default_value_t = any(ports::CONTROL_PLANE_DEBUG), value_parser = address)]
    http: SocketAddr,
    /// Webhooks.
    #[arg(long = "httpsAddr", default_value_t = any(ports::WEBHOOK), value_parser = address)]
    https: SocketAddr,
    /// xDS in plaintext.
    #[arg(long = "grpcAddr", default_value_t = any(ports::XDS_PLAINTEXT), value_parser = address)]
    grpc: SocketAddr,
    /// xDS and certificates over TLS.
    #[arg(long = "secureGRPCAddr", default_value_t = any(ports::XDS_TLS), value_parser = address)]
    secure_grpc: SocketAddr,
    /// Metrics and version.
    #[arg(long = "monitoringAddr", default_value_t = any(ports::CONTROL_PLANE_METRICS), value_parser = address)]
    monitoring: SocketAddr,
    /// Address of ControlZ, where the log's levels are changed; only a loopback address is taken.
    #[arg(long = "ctrlz_address", default_value = "localhost", value_parser = loopback)]
    control_address: IpAddr,
    /// Port of ControlZ.
    #[arg(long = "ctrlz_port", default_value_t = ports::CONTROLZ)]
    control_port: u16,
    /// Domain of the cluster's services.
    #[arg(long, default_value = "cluster.local")]
    domain: String,
    /// What this cluster is called in the mesh.
    #[arg(long = "clusterID", default_value = "Kubernetes", env = "CLUSTER_ID")]
    cluster_id: String,
    /// The control plane's own namespace.
    #[arg(long, default_value = "istio-system", env = "POD_NAMESPACE")]
    namespace: String,
    /// Revision of the control plane; `default` has none in the names of its objects.
    #[arg(long, default_value = DEFAULT_REVISION, env = "REVISION")]
    revision: String,
    /// The mesh's trust domain; without it, that of the mesh's configuration.
    #[arg(long = "trustDomain", env = "TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// How long requests in flight may take at the end.
    #[arg(long = "shutdownDuration", default_value = "10s", value_parser = seconds)]
    shutdown: Duration,
    /// A directory of files that the mesh's objects are read from, instead of the API server.
    #[arg(long = "configDir", visible_alias = "config-dir")]
    config_dir: Option<PathBuf>,
    /// A Consul agent whose services are added to the cluster's: `http://host:port`. Its token is read
    /// from CONSUL_HTTP_TOKEN.
    #[arg(long = "consulserverURL", visible_alias = "consul-server-url")]
    consul: Option<String>,
    /// What is logged: a level, levels of scopes as `default:info,ads:debug`, or of modules as
    /// `info,lateen_pilot=debug`.
    #[arg(long = "log_output_level", default_value = "info")]
    log: String,
    /// Log one JSON object a line.
    #[arg(long = "log_as_json")]
    log_as_json: bool,
    /// How long a proxy's stream may last before it has to be opened anew: `30m`.
    #[arg(long = "keepaliveMaxServerConnectionAge", default_value = "30m", value_parser = duration)]
    stream_lifetime: Duration,
}

/// The revision of a control plane that has no other.
const DEFAULT_REVISION: &str = "default";

impl Options {
    /// The revision's name, where it has none of its own too.
    fn revision_name(&self) -> &str {
        match self.revision.as_str() {
            "" => DEFAULT_REVISION,
            revision => revision,
        }
    }

    /// A name as the revision has it: `istiod`, `istiod-canary`.
    fn revisioned(&self, name: &str) -> String {
        match self.revision_name() {
            DEFAULT_REVISION => name.to_owned(),
            revision => format!("{name}-{revision}"),
        }
    }
}

/// As Go writes durations.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: lateen_api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    Ok(duration.to_std())
}

/// What is wrong with a document of a file, in the words of the webhook.
fn check(document: &serde_json::Value) -> Vec<FieldFault> {
    let faults = lateen_galley::validate(document).into_iter();
    let in_words = |fault: lateen_galley::Fault| match fault.help.as_str() {
        "" => FieldFault::new(fault.field, fault.reason),
        help => FieldFault::new(fault.field, format!("{}; {help}", fault.reason)),
    };
    faults.map(in_words).collect()
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// `:15010` listens on every address, as Go's flags have it.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
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

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .strip_suffix('s')
        .and_then(|number| number.parse().ok());
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not like 10s"))
}

/// Runs the control plane until it is told to stop.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let Command::Discovery(options) = Cli::parse_from(args).command;
    let levels = lateen_telemetry::directives(&options.log, control::SCOPES);
    let log = levels.and_then(|levels| lateen_telemetry::init(&levels, options.log_as_json));
    if let Err(error) = log {
        eprintln!("pilot-discovery: --log_output_level: {error}");
        return ExitCode::FAILURE;
    }
    lateen_tls::install_provider();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads");
    match runtime.and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The catalogue that the flags name. Its services are in the control plane's namespace, whose rules
/// hold for the whole mesh.
fn consul(options: &Options) -> anyhow::Result<Option<Consul>> {
    let Some(address) = options.consul.clone() else {
        return Ok(None);
    };
    let consul = Consul {
        address,
        token: std::env::var("CONSUL_HTTP_TOKEN").ok(),
        namespace: options.namespace.as_str().into(),
    };
    let usable = consul.check().map_err(anyhow::Error::msg);
    usable.context("--consulserverURL")?;
    Ok(Some(consul))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("cannot find the API server")?;
    let consul = consul(&options)?;
    let registry = Registry::kubernetes(
        client.clone(),
        lateen_registry::Options {
            domain: options.domain.clone(),
            namespace: options.namespace.clone(),
            mesh_config: options.revisioned(lateen_registry::MESH_CONFIG),
            files: options.config_dir.clone().map(|dir| Files { dir, check }),
            consul,
            ..lateen_registry::Options::default()
        },
    );
    let credentials = Arc::new(credentials::Credentials::follow(client.clone()));
    credentials.ready().await;
    let around = lateen_galley::Surroundings {
        world: registry.world(),
        credentials: credentials.clone(),
        domain: options.domain.clone(),
    };
    let galley = lateen_galley::Galley::start(registry.config(), around);
    credentials.grant(galley.gateways());
    galley.synced(&registry).await;
    info!("configuration is in sync");
    // Proxies expect their peers in the mesh's trust domain, so certificates must be for that.
    let mesh = Arc::clone(&galley.config().borrow().mesh);
    let trust_domain = options.trust_domain.as_deref();
    let trust_domain = trust_domain.unwrap_or_else(|| mesh.trust_domain());
    let authority = Arc::new(authority(&client, &options, trust_domain).await);
    let serving = Arc::new(IdentityStore::empty());
    let hosts = serving_hosts(&options);
    tokio::spawn(Arc::clone(&authority).keep_serving(Arc::clone(&serving), hosts));

    let replica = Arc::new(IdentityStore::empty());
    let id = SpiffeId::new(trust_domain, &options.namespace, "istiod");
    let id = id.context("trust domain")?;
    tokio::spawn(Arc::clone(&authority).keep_workload(Arc::clone(&replica), id));

    let revisions = revisions::follow(&client, &options.revision);
    let mut elections = Elections::new(&client, &options, &revisions);
    let root = authority.root_pem().to_owned();
    let namespaces = roots::namespaces(registry.world());
    let leading = elections.stand(Task::Namespaces);
    let target = roots::ConfigMaps {
        client: client.clone(),
        leading: leading.clone(),
    };
    tokio::spawn(RootPublisher::new(root.clone(), namespaces, leading, target).run());

    let mut led = Led {
        client: &client,
        options: &options,
        registry: &registry,
        galley: &galley,
        elections: &mut elections,
    };
    let (statuses, leading) = led.statuses();
    let params = injection::follow(&client, &galley, &options).await;
    led.gateways(&statuses, params.clone(), revisions);
    let parts = servers::Parts::new(
        &client,
        &registry,
        &galley,
        authority,
        serving,
        servers::Sinks {
            params,
            credentials,
            statuses: statuses.clone(),
            registering: entries::registering(&client, &options, leading.clone()),
        },
        &options,
    );
    led.objects(parts.discovery(), statuses, leading, replica);
    let running = servers::Servers::bind(&options)?.serve(parts)?;
    // Only now is there something behind the webhooks to call.
    tokio::spawn(webhooks::keep_trusted(
        client,
        webhooks::Service {
            name: options.revisioned("istiod"),
            namespace: options.namespace.clone(),
        },
        root,
    ));
    terminated().await;
    info!("stopping");
    elections.resign().await;
    running.stop(options.shutdown).await;
    Ok(())
}

/// Names by which the control plane is reached beside those that every one has: those of its revision.
fn serving_hosts(options: &Options) -> Vec<String> {
    let (name, namespace) = (options.revisioned("istiod"), &options.namespace);
    let forms = [
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.{}", options.domain),
        format!("{name}.{namespace}"),
    ];
    let own = std::env::var("ISTIOD_CUSTOM_HOST").unwrap_or_default();
    let own = own
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    forms.into_iter().chain(own.map(str::to_owned)).collect()
}

/// The certificate authority; waits for the API server, since without it nothing works.
async fn authority(client: &Client, options: &Options, trust_domain: &str) -> CertificateAuthority {
    let store = secrets::Secrets(client.clone());
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let ca = CaOptions {
            namespace: options.namespace.clone(),
            trust_domain: trust_domain.to_owned(),
            ..CaOptions::default()
        };
        match CertificateAuthority::load_or_create(&store, ca).await {
            Ok(authority) => return authority,
            Err(error) => {
                warn!(%error, "no certificate authority yet; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(error) => {
            warn!(%error, "cannot wait for SIGTERM");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ]);
        let Command::Discovery(options) = cli.unwrap().command;
        assert_eq!(options.monitoring, any(15014));
        let control = (options.control_address, options.control_port);
        assert_eq!(control, (IpAddr::from([127, 0, 0, 1]), 9876));
        assert!(loopback("0.0.0.0").is_err());
        assert_eq!(options.stream_lifetime, Duration::from_secs(90 * 60));
        assert_eq!(options.revisioned("istiod"), "istiod");
        assert_eq!(options.grpc, SocketAddr::from(([127, 0, 0, 1], 1)));
    }
}
