//! The command line of `pilot-agent`.
//!
//! Arguments that Istio's injection template passes are all accepted. Those that have no meaning
//! for this agent are parsed and ignored on purpose, as refusing them would break manifests.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::AgentConfig;
use crate::{Error, request, run};

#[derive(Debug, Parser)]
#[command(
    name = "pilot-agent",
    version,
    about = "Runs beside the proxy in a pod of the mesh"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy with its certificate, probes and metrics
    Proxy(Box<ProxyArgs>),
    /// Set up traffic capture in this network namespace
    #[command(name = "istio-iptables", disable_help_flag = true)]
    Iptables {
        /// Arguments of istio-iptables
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Wait until the proxy is ready
    Wait(WaitArgs),
    /// Send an HTTP request to the proxy's administration interface
    Request(RequestArgs),
    /// Print the version
    Version {
        /// Accepted for compatibility; the version is always short
        #[arg(long)]
        short: bool,
        /// Accepted for compatibility
        #[arg(long, short)]
        output: Option<String>,
    },
}

/// What the proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Role {
    /// Beside an application
    #[default]
    Sidecar,
    /// At the edge of the mesh
    Router,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        }
    }
}

/// Which proxy runs beside the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Which {
    /// The mesh's own, in this process
    #[default]
    Lateen,
    /// Real Envoy, in a process of its own
    Envoy,
}

/// Arguments of `pilot-agent proxy`.
#[derive(Debug, Args, Default)]
pub(crate) struct ProxyArgs {
    /// What the proxy is for
    #[arg(value_enum, default_value = "sidecar")]
    pub(crate) role: Role,
    /// DNS domain of the pod, NAMESPACE.svc.cluster.local
    #[arg(long, default_value = "")]
    pub(crate) domain: String,
    /// Name of the service that the proxy stands for
    #[arg(long = "serviceCluster")]
    pub(crate) service_cluster: Option<String>,
    /// Worker threads of the proxy; 0 means one per core
    #[arg(long)]
    pub(crate) concurrency: Option<u32>,
    /// Log level of the proxy
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    pub(crate) proxy_log_level: String,
    /// Log levels of the proxy's components, name:level,…
    #[arg(long = "proxyComponentLogLevel", default_value = "misc:error")]
    pub(crate) proxy_component_log_level: String,
    /// Log levels of the agent, scope:level,…
    #[arg(long = "log_output_level", default_value = "default:info")]
    pub(crate) log_output_level: String,
    /// Log one JSON object a line.
    #[arg(long = "log_as_json")]
    pub(crate) log_as_json: bool,
    /// Which proxy to run; Envoy is the one of PROXY_CONFIG's binaryPath, or the one in the PATH
    #[arg(long, value_enum, default_value = "lateen")]
    pub(crate) proxy: Which,
    /// Use real Envoy at this path instead of the built-in proxy
    #[arg(long, env = "LATEEN_PROXY_BINARY")]
    pub(crate) proxy_binary: Option<PathBuf>,
    /// Directory that the well-known paths are below
    #[arg(long, default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
    /// Trust domain of the mesh
    #[arg(long = "trust-domain")]
    pub(crate) trust_domain: Option<String>,
    #[command(flatten)]
    pub(crate) ignored: Ignored,
}

/// Accepted because manifests pass them; without effect here.
#[derive(Debug, Args, Default)]
pub(crate) struct Ignored {
    #[arg(long = "templateFile", hide = true)]
    template_file: Option<String>,
    #[arg(long = "outlierLogPath", hide = true)]
    outlier_log_path: Option<String>,
    #[arg(long = "profiling", hide = true, num_args = 0..=1, default_missing_value = "true")]
    profiling: Option<String>,
    #[arg(long = "stsPort", hide = true)]
    sts_port: Option<u16>,
    #[arg(long = "tokenManagerPlugin", hide = true)]
    token_manager: Option<String>,
    #[arg(long = "meshConfig", hide = true)]
    mesh_config: Option<String>,
    #[arg(long = "log_target", hide = true)]
    log_target: Option<String>,
    #[arg(long = "log_caller", hide = true)]
    log_caller: Option<String>,
    #[arg(long = "log_stacktrace_level", hide = true)]
    log_stacktrace_level: Option<String>,
}

#[derive(Debug, Args)]
struct WaitArgs {
    /// How long to wait, seconds
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    timeout_seconds: u64,
    /// How long one attempt may take, milliseconds
    #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
    request_timeout_millis: u64,
    /// Pause between attempts, milliseconds
    #[arg(long = "periodMillis", default_value_t = 500)]
    period_millis: u64,
    /// What to ask
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    url: String,
}

#[derive(Debug, Args)]
struct RequestArgs {
    /// Port to send it to; 15020 is the agent itself
    #[arg(long = "debug-port", default_value_t = lateen_core::ports::ADMIN)]
    debug_port: u16,
    /// GET or POST
    method: String,
    /// Path, with or without the leading slash
    path: String,
    /// Body
    body: Option<String>,
}

pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and usage; where they cannot be written there is nobody to read them.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pilot-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Proxy(args) => {
            init_log(
                &args.log_output_level,
                &args.proxy_log_level,
                args.log_as_json,
            )?;
            lateen_tls::install_provider();
            let config = AgentConfig::from_env(*args)?;
            runtime()?.block_on(run::run(config))?;
        }
        Command::Iptables { args } => {
            let name = OsString::from("istio-iptables");
            return Ok(lateen_capture::iptables::main(
                std::iter::once(name).chain(args),
            ));
        }
        Command::Wait(args) => runtime()?.block_on(request::wait(
            &args.url,
            Duration::from_secs(args.timeout_seconds),
            Duration::from_millis(args.request_timeout_millis),
            Duration::from_millis(args.period_millis),
        ))?,
        Command::Request(args) => {
            let body = args.body.unwrap_or_default();
            let answer = request::send(args.debug_port, &args.method, &args.path, body);
            print(&runtime()?.block_on(answer)?);
        }
        Command::Version { .. } => print(concat!(env!("CARGO_PKG_VERSION"), "\n")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A reader that has gone away is no error of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // The agent's own work is small; the proxy brings its own threads.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("agent")
        .enable_all()
        .build()
        .map_err(|e| Error::Proxy(format!("no runtime: {e}")))
}

fn init_log(agent: &str, proxy: &str, json: bool) -> Result<(), Error> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| log_filter(agent, proxy));
    lateen_telemetry::init(&filter, json).map_err(|e| crate::config::bad("--log_output_level", e))
}

/// Istio's levels of the agent and Envoy's of the proxy, as one filter of ours.
fn log_filter(agent: &str, proxy: &str) -> String {
    let agent = agent
        .split(',')
        .find_map(|scope| match scope.split_once(':') {
            Some(("default" | "all", level)) => Some(level),
            None => Some(scope),
            Some(_) => None,
        })
        .map_or("info", level);
    let proxy = level(proxy);
    format!("{agent},lateen_proxy={proxy},lateen_http={proxy},access=info")
}

fn level(text: &str) -> &'static str {
    match text.trim() {
        "trace" => "trace",
        "debug" => "debug",
        "warn" | "warning" => "warn",
        "error" | "critical" | "fatal" => "error",
        "none" | "off" => "off",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once(&"pilot-agent").chain(args)).expect("accepted")
    }

    #[test]
    fn the_arguments_of_the_injection_template_are_accepted() {
        let cli = parse(&[
            "proxy",
            "sidecar",
            "--domain",
            "default.svc.cluster.local",
            "--proxyLogLevel=warning",
            "--proxyComponentLogLevel=misc:error",
            "--log_output_level=default:info",
            "--serviceCluster",
            "reviews.default",
            "--concurrency",
            "2",
            "--templateFile=/etc/istio/custom-bootstrap/custom_bootstrap.json",
            "--stsPort=15463",
        ]);
        let Command::Proxy(args) = cli.command else {
            panic!("the proxy command")
        };
        assert_eq!(args.role, Role::Sidecar);
        assert_eq!(args.concurrency, Some(2));
        assert_eq!(args.service_cluster.as_deref(), Some("reviews.default"));
    }

    #[test]
    fn the_arguments_of_capture_are_passed_on_as_they_are() {
        let given = [
            "istio-iptables",
            "-p",
            "15001",
            "-x",
            "",
            "-i",
            "*",
            "--help",
        ];
        let Command::Iptables { args } = parse(&given).command else {
            panic!("capture")
        };
        assert_eq!(args, given[1..]);
    }

    #[test]
    fn requests_take_the_port_before_the_method() {
        let cli = parse(&["request", "--debug-port=15020", "POST", "drain"]);
        let Command::Request(args) = cli.command else {
            panic!("a request")
        };
        assert_eq!((args.debug_port, args.path.as_str()), (15020, "drain"));
    }

    #[test]
    fn log_levels_are_translated() {
        assert_eq!(
            log_filter("default:debug,xds:warn", "warning"),
            "debug,lateen_proxy=warn,lateen_http=warn,access=info"
        );
    }
}
