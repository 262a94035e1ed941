//! `lateen experimental`: commands that `istioctl` has under this name, some of which graduated since.

use clap::Subcommand;

use super::Global;
use crate::command::{self, refused::Refused};

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Experimental {
    /// Check whether the mesh can be installed or upgraded
    Precheck(command::precheck::Precheck),
    /// Wait until an object is in force on the proxies
    Wait(command::wait::Wait),
    /// Say what is wrong with the cluster's objects, or with those of files
    Analyze(command::analyze::Analyze),
    /// Say what applies to a pod or to a service
    #[command(visible_alias = "des")]
    Describe(command::describe::Describe),
    /// Check what a proxy allows and refuses
    #[command(arg_required_else_help = true)]
    Authz(command::authz::Authz),
    /// Say whether a pod is injected, by which webhook, and why
    CheckInject(command::check_inject::CheckInject),
    /// Look at the injectors
    #[command(arg_required_else_help = true)]
    Injector(command::injector::Injector),
    /// Look at the revisions of the control plane
    #[command(arg_required_else_help = true)]
    Revision(command::revision::Revision),
    /// Show what commands go by
    #[command(arg_required_else_help = true)]
    Config(command::config_list::Config),
    /// Show a debug page of the control plane
    InternalDebug(command::internal_debug::InternalDebug),
    /// Show the figures of a proxy
    #[command(alias = "es")]
    EnvoyStats(command::envoy_stats::EnvoyStats),
    /// Show which proxies have the newest configuration
    #[command(visible_alias = "ps")]
    ProxyStatus(command::proxy_status::ProxyStatus),
    /// Print the versions of the command, the control plane and the proxies
    Version(command::version::Version),
    /// Show rates and latencies of workloads
    #[command(visible_alias = "m")]
    Metrics(command::metrics::Metrics),
    /// Bring workloads outside of the cluster into the mesh
    #[command(arg_required_else_help = true)]
    Workload(command::workload::Workload),
    /// Add workloads to the mesh that run already
    #[command(visible_alias = "add", arg_required_else_help = true)]
    AddToMesh(command::membership::AddToMesh),
    /// Take workloads out of the mesh that run on
    #[command(visible_alias = "rm", arg_required_else_help = true)]
    RemoveFromMesh(command::membership::RemoveFromMesh),
    /// Write a Secret by which another cluster's control plane reads this cluster
    CreateRemoteSecret(command::create_remote_secret::CreateRemoteSecret),
    /// List the clusters that the control plane reads services from
    RemoteClusters(command::remote_clusters::RemoteClusters),
    /// Write the Gateways and VirtualServices that stand for Ingresses
    ConvertIngress(command::convert_ingress::ConvertIngress),
    /// Take the sidecar out of the workloads of a YAML file
    KubeUninject(command::kube_inject::KubeUninject),
    /// Not supported: roles of Istio 1.0 to 1.5
    Rbac(command::refused::Rbac),
    /// Not supported: what Istio 1.5 installed by a second command
    #[command(after_help = "Example:\n  lateen tag list     Which webhooks inject")]
    PostInstall(command::refused::Rest),
    /// Not supported: files for several clusters of Istio 1.5
    #[command(
        visible_alias = "mc",
        after_help = "Example:\n  lateen create-remote-secret --name east     Instead"
    )]
    Multicluster(command::refused::Rest),
    /// Not supported: proxies of ambient mode
    #[command(
        after_help = "Example:\n  kubectl label namespace default istio-injection=enabled     Instead"
    )]
    Waypoint(command::refused::Rest),
}

impl Experimental {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Experimental::Precheck(precheck) => precheck.run(global).await,
            Experimental::Wait(wait) => wait.run(global).await,
            Experimental::Analyze(analyze) => analyze.run(global).await,
            Experimental::Describe(describe) => describe.run(global).await,
            Experimental::Authz(authz) => authz.run(global).await,
            Experimental::CheckInject(check) => check.run(global).await,
            Experimental::Injector(injector) => injector.run(global).await,
            Experimental::Revision(revision) => revision.run(global).await,
            Experimental::Config(config) => {
                config.run(global);
                Ok(())
            }
            Experimental::InternalDebug(debug) => debug.run(global).await,
            Experimental::EnvoyStats(stats) => stats.run(global).await,
            Experimental::ProxyStatus(status) => status.run(global).await,
            Experimental::Version(version) => version.run(global).await,
            Experimental::Metrics(metrics) => metrics.run(global).await,
            Experimental::Workload(workload) => workload.run(global).await,
            Experimental::AddToMesh(add) => add.run(global).await,
            Experimental::RemoveFromMesh(remove) => remove.run(global).await,
            Experimental::CreateRemoteSecret(secret) => secret.run(global).await,
            Experimental::RemoteClusters(clusters) => clusters.run(global).await,
            Experimental::ConvertIngress(convert) => convert.run(),
            Experimental::KubeUninject(uninject) => uninject.run(),
            Experimental::Rbac(rbac) => rbac.run(),
            Experimental::PostInstall(_) => Refused::PostInstall.fail(),
            Experimental::Multicluster(_) => Refused::Multicluster.fail(),
            Experimental::Waypoint(_) => Refused::Waypoint.fail(),
        }
    }
}
