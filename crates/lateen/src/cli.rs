//! The command line: what users type. Names and flags are `istioctl`'s where it has the command.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{
    client,
    command::{self, refused::Refused},
};
use experimental::Experimental;

mod experimental;

/// The service mesh that runs on Kubernetes, and whole on one Linux machine.
#[derive(Debug, Parser)]
#[command(
    name = "lateen",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Examples:\n  lateen up                        Start a mesh with Bookinfo on this machine\n  lateen status                    Show what runs\n  lateen proxy-status              Show which proxies have the newest configuration\n  lateen down                      Stop the mesh and remove every trace of it"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where a control plane is that nobody has put elsewhere.
pub(crate) const ISTIO_NAMESPACE: &str = "istio-system";

/// Which cluster a command speaks to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Global {
    /// The kubeconfig file; without it $KUBECONFIG, then the local mesh's, then ~/.kube/config.
    #[arg(short = 'c', long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The namespace of the workloads that the command names; without it, the one of the kubeconfig's context,
    /// else `default`.
    #[arg(
        short = 'n',
        long = "namespace",
        global = true,
        value_name = "NAMESPACE"
    )]
    pub(crate) named_namespace: Option<String>,
    /// The one that counts.
    #[arg(skip)]
    pub(crate) namespace: String,
    /// The control plane's namespace; without it, `istio-system`.
    #[arg(
        short = 'i',
        long = "istioNamespace",
        global = true,
        value_name = "ISTIO_NAMESPACE"
    )]
    pub(crate) named_istio_namespace: Option<String>,
    /// The one that counts.
    #[arg(skip)]
    pub(crate) istio_namespace: String,
    /// The user as whom to come, `system:serviceaccount:NAMESPACE:NAME` for an account.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) impersonate: Option<String>,
    /// A group of that user; several where it is given several times.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub(crate) impersonate_groups: Vec<String>,
    /// The UID of that user.
    #[arg(
        long = "as-uid",
        global = true,
        value_name = "UID",
        requires = "impersonate"
    )]
    pub(crate) impersonate_uid: Option<String>,
    /// How long an answer of the API server may take; 0s for as long as it takes. Streams, as logs are, need only
    /// begin in that time.
    #[arg(long, global = true, value_name = "DURATION", default_value = "15s", value_parser = command::wait::duration)]
    pub(crate) kubeclient_timeout: std::time::Duration,
    /// How much the Kubernetes client says of what it does: from 6 on each request, from 9 on all.
    #[arg(long, global = true, value_name = "LEVEL", default_value_t = 0)]
    pub(crate) vklog: u8,
}

impl Global {
    /// Works out what the flags leave open.
    pub(crate) fn settled(mut self) -> Self {
        self.namespace = client::namespace(&self);
        let home = self.named_istio_namespace.clone();
        self.istio_namespace = home.unwrap_or_else(|| ISTIO_NAMESPACE.to_owned());
        self
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a mesh with Bookinfo on this machine
    Up(command::up::Up),
    /// Create, list and delete clusters on this machine
    Cluster(command::cluster::Cluster),
    /// Stop the mesh and remove every trace of it
    Down(command::down::Down),
    /// Install the mesh, or change what is installed
    Install(command::install::Install),
    /// Bring what is installed to this version, with its settings
    ///
    /// What was installed is read from the cluster, where `install` has written it down; settings of flags are
    /// laid over it. Where files or a profile are named, they count instead.
    #[command(
        after_help = "Examples:\n  lateen upgrade --dry-run\n  lateen upgrade --set meshConfig.accessLogFile=/dev/stdout\n  lateen upgrade -f mesh.yaml -y"
    )]
    Upgrade(command::install::Install),
    /// Remove a revision of the mesh, or all of it
    Uninstall(command::uninstall::Uninstall),
    /// Check that everything of an installation is there and ready
    VerifyInstall(command::verify_install::VerifyInstall),
    /// List, show and compare the profiles
    Profile(command::profile::Profile),
    /// Write and compare manifests
    Manifest(command::manifest::Manifest),
    /// Give revisions other names, by which namespaces can be labelled
    Tag(command::tag::Tag),
    /// Show each component and pod of the local mesh with its state
    Status(command::status::Status),
    /// Say which local command an image name runs
    Image(command::image::Image),
    /// Add the sidecar to the workloads of a YAML file
    KubeInject(Box<command::kube_inject::KubeInject>),
    /// Show which proxies have the newest configuration
    #[command(visible_alias = "ps")]
    ProxyStatus(command::proxy_status::ProxyStatus),
    /// Show what a proxy was configured with
    #[command(visible_alias = "pc")]
    ProxyConfig(command::proxy_config::ProxyConfig),
    /// Open a page of the mesh in a browser
    #[command(visible_alias = "dash", alias = "d")]
    Dashboard(command::dashboard::Dashboard),
    /// Manage the control plane: what it logs
    #[command(alias = "istiod")]
    Admin(command::admin::Admin),
    /// Collect what is needed to look into a fault into one archive
    BugReport(command::bug_report::BugReport),
    /// Wait until an object is in force on the proxies
    Wait(command::wait::Wait),
    /// Say what is wrong with the cluster's objects, or with those of files
    Analyze(command::analyze::Analyze),
    /// Check files of the mesh's objects, without a cluster
    Validate(command::validate::Validate),
    /// Say what applies to a pod or to a service
    Describe(command::describe::Describe),
    /// Write a Secret by which another cluster's control plane reads this cluster
    CreateRemoteSecret(command::create_remote_secret::CreateRemoteSecret),
    /// List the clusters that the control plane reads services from
    RemoteClusters(command::remote_clusters::RemoteClusters),
    /// Look at how clients and servers prove who they are
    #[command(arg_required_else_help = true)]
    Authn(command::authn::Authn),
    /// Create objects of the mesh from files
    Create(command::objects::Create),
    /// Replace objects of the mesh by those of files
    Replace(command::objects::Replace),
    /// Show objects of the mesh
    Get(command::objects::Get),
    /// Delete objects of the mesh
    Delete(command::objects::Delete),
    /// Make a workload outside of the cluster an endpoint of a service
    Register(command::register::Register),
    /// Take a workload outside of the cluster from a service
    Deregister(command::register::Deregister),
    /// Write the Gateways and VirtualServices that stand for Ingresses
    ConvertIngress(command::convert_ingress::ConvertIngress),
    /// Not supported: the operator that ran in clusters
    Operator(command::refused::Operator),
    /// Write the objects of an installation, by a file of Helm's values
    #[command(hide = true)]
    GenDeploy(command::gen_deploy::GenDeploy),
    /// Add a context for an API server without users to a kubeconfig
    #[command(hide = true)]
    ContextCreate(command::context_create::ContextCreate),
    /// Not supported: rules of Mixer
    #[command(
        hide = true,
        after_help = "Example:\n  lateen proxy-config cluster deploy/productpage-v1     What a proxy has instead"
    )]
    Mixer(command::refused::Rest),
    /// Not supported: proxies of ambient mode
    #[command(
        after_help = "Example:\n  kubectl label namespace default istio-injection=enabled     Instead"
    )]
    Waypoint(command::refused::Rest),
    /// Not supported: proxies of ambient mode
    #[command(
        visible_alias = "zc",
        after_help = "Example:\n  lateen proxy-config listener deploy/productpage-v1     Instead"
    )]
    ZtunnelConfig(command::refused::Rest),
    /// Show the flags that every command has
    Options(command::config_list::Options),
    /// Commands that `istioctl` has under this name
    #[command(visible_alias = "x", alias = "exp")]
    Experimental {
        #[command(subcommand)]
        command: Experimental,
    },
    /// Say what a proxy would do with a request, and why
    Explain(command::explain::Explain),
    /// Print the versions of the command, the control plane and the proxies
    Version(command::version::Version),
    /// Print a completion script for a shell
    Completion(Completion),
    /// Write a page of documentation for each command
    #[command(hide = true)]
    Collateral(command::collateral::Collateral),
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen completion bash > /etc/bash_completion.d/lateen")]
struct Completion {
    /// The shell to complete for.
    shell: clap_complete::Shell,
}

/// Parses the arguments and runs the command; errors go to standard error in one paragraph.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let called = called(&args);
    let mut cli = Cli::parse_from(args);
    cli.global = cli.global.settled();
    if let Err(error) = log_client(cli.global.vklog) {
        return fail(&error);
    }
    lateen_tls::install_provider();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start threads")),
    };
    match runtime.block_on(run(cli, &called)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What the Kubernetes client does, on standard error.
fn log_client(level: u8) -> anyhow::Result<()> {
    let directive = match level {
        0..6 => return Ok(()),
        6..9 => "kube_client=debug",
        _ => "kube_client=trace",
    };
    lateen_telemetry::init(directive, false).map_err(|error| anyhow::anyhow!("--vklog: {error}"))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(failed) = error.downcast_ref::<command::analyze::Failed>() {
        eprintln!("Error: {failed}");
        return ExitCode::from(failed.status);
    }
    eprintln!("lateen: {}", told(error));
    if error.is::<command::wait::TimedOut>() {
        return ExitCode::from(command::wait::TIMED_OUT);
    }
    ExitCode::FAILURE
}

/// An error with its causes. Those that an error tells itself are not told again.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// The name under which the program was started: people have it as `istioctl`, too.
fn called(args: &[OsString]) -> String {
    let program = args.first().map(std::path::Path::new);
    let name = program.and_then(|path| path.file_name()?.to_str());
    name.unwrap_or("lateen").to_owned()
}

async fn run(cli: Cli, called: &str) -> anyhow::Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Up(up) => up.run().await,
        Command::Cluster(cluster) => cluster.run().await,
        Command::Down(down) => down.run().await,
        Command::Install(install) => install.run(global).await,
        Command::Upgrade(install) => install.upgrade(global).await,
        Command::Uninstall(uninstall) => uninstall.run(global).await,
        Command::VerifyInstall(verify) => verify.run(global).await,
        Command::Profile(profile) => profile.run(),
        Command::Manifest(manifest) => manifest.run(global).await,
        Command::Tag(tag) => tag.run(global).await,
        Command::Status(status) => status.run().await,
        Command::Image(image) => image.run(),
        Command::KubeInject(inject) => inject.run(global).await,
        Command::ProxyStatus(status) => status.run(global).await,
        Command::ProxyConfig(config) => config.run(global).await,
        Command::Dashboard(dashboard) => dashboard.run(global).await,
        Command::Admin(admin) => admin.run(global).await,
        Command::BugReport(report) => report.run(global).await,
        Command::Wait(wait) => wait.run(global).await,
        Command::Analyze(analyze) => analyze.run(global).await,
        Command::Validate(validate) => validate.run(),
        Command::Describe(describe) => describe.run(global).await,
        Command::CreateRemoteSecret(secret) => secret.run(global).await,
        Command::RemoteClusters(clusters) => clusters.run(global).await,
        Command::Authn(authn) => authn.run(global).await,
        Command::Create(create) => create.run(global).await,
        Command::Replace(replace) => replace.run(global).await,
        Command::Get(get) => get.run(global).await,
        Command::Delete(delete) => delete.run(global).await,
        Command::Register(register) => register.run(global).await,
        Command::Deregister(deregister) => deregister.run(global).await,
        Command::ConvertIngress(convert) => convert.run(),
        Command::Operator(operator) => operator.run(),
        Command::GenDeploy(generate) => generate.run(),
        Command::ContextCreate(context) => context.run(global),
        Command::Mixer(_) => Refused::Mixer.fail(),
        Command::Waypoint(_) => Refused::Waypoint.fail(),
        Command::ZtunnelConfig(_) => Refused::ZtunnelConfig.fail(),
        Command::Options(options) => {
            options.run(&Cli::command());
            Ok(())
        }
        Command::Experimental { command } => command.run(global).await,
        Command::Explain(explain) => explain.run(global).await,
        Command::Version(version) => version.run(global).await,
        Command::Collateral(collateral) => collateral.run(Cli::command()),
        Command::Completion(completion) => {
            let mut command = Cli::command();
            clap_complete::generate(
                completion.shell,
                &mut command,
                called,
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = || anyhow::anyhow!("no such file");
        let again = cause()
            .context("cannot read x: no such file")
            .context("no cluster");
        assert_eq!(told(&again), "no cluster: cannot read x: no such file");
        assert_eq!(
            told(&cause().context("no cluster")),
            "no cluster: no such file"
        );
        assert_eq!(told(&cause()), "no such file");
    }

    /// Names and flags that do not go together are found by the parser only when they are used.
    #[test]
    fn commands_are_consistent() {
        Cli::command().debug_assert();
    }
}
