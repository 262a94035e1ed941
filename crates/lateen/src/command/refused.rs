//! Commands of `istioctl` that are known and not there: each says why, and what to do instead.

use clap::{Args, Subcommand};

/// Whatever is given to a command that is not there.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

/// The operator that ran in clusters until Istio 1.23.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  lateen install -f mesh.yaml     What the operator did"
)]
pub(crate) struct Operator {
    #[command(subcommand)]
    what: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Not supported: install the operator
    #[command(after_help = "Example:\n  lateen install -f mesh.yaml     Instead")]
    Init(Rest),
    /// Not supported: write the operator's manifests
    #[command(after_help = "Example:\n  lateen manifest generate -f mesh.yaml     Instead")]
    Dump(Rest),
    /// Not supported: remove the operator
    #[command(after_help = "Example:\n  lateen uninstall --revision default     Instead")]
    Remove(Rest),
}

/// Roles of Istio 1.0 to 1.5.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  lateen experimental authz check deploy/httpbin     What a proxy enforces"
)]
pub(crate) struct Rbac {
    #[command(subcommand)]
    what: RbacCommand,
}

#[derive(Debug, Subcommand)]
enum RbacCommand {
    /// Not supported: ask whether a ServiceRole allows a call
    #[command(
        after_help = "Example:\n  lateen experimental authz check deploy/httpbin     Instead"
    )]
    Can(Rest),
}

/// A command that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Mixer,
    OperatorInit,
    OperatorDump,
    OperatorRemove,
    Waypoint,
    ZtunnelConfig,
    RbacCan,
    Translate,
    PostInstall,
    Multicluster,
}

impl Operator {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self.what {
            OperatorCommand::Init(_) => Refused::OperatorInit,
            OperatorCommand::Dump(_) => Refused::OperatorDump,
            OperatorCommand::Remove(_) => Refused::OperatorRemove,
        }
        .fail()
    }
}

impl Rbac {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let RbacCommand::Can(_) = self.what;
        Refused::RbacCan.fail()
    }
}

impl Refused {
    /// Ends the command.
    pub(crate) fn fail(self) -> anyhow::Result<()> {
        let (name, why, instead) = self.words();
        anyhow::bail!("not supported: {name}: {why}; {instead}")
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        const NO_OPERATOR: &str =
            "no operator runs in the cluster, the command itself installs and removes";
        const NO_AMBIENT: &str = "proxies of ambient mode are not part of this mesh";
        match self {
            Refused::Mixer => (
                "mixer",
                "there is no Mixer, and so no rules of it",
                "metrics come from the proxies: use `lateen x metrics` and `lateen dashboard prometheus`",
            ),
            Refused::OperatorInit => (
                "operator init",
                NO_OPERATOR,
                "give the IstioOperator file to `lateen install -f`",
            ),
            Refused::OperatorDump => (
                "operator dump",
                NO_OPERATOR,
                "use `lateen manifest generate -f` for what an IstioOperator file asks for",
            ),
            Refused::OperatorRemove => (
                "operator remove",
                NO_OPERATOR,
                "remove the mesh with `lateen uninstall`; an operator of Istio's goes with the istioctl that installed it",
            ),
            Refused::Waypoint => (
                "waypoint",
                NO_AMBIENT,
                "inject sidecars: label the namespace istio-injection=enabled",
            ),
            Refused::ZtunnelConfig => (
                "ztunnel-config",
                NO_AMBIENT,
                "use `lateen proxy-config` for sidecars and gateways",
            ),
            Refused::Translate => (
                "manifest translate",
                "what is installed by this program is not taken over by Helm",
                "write charts with `lateen manifest chart`, and give them the `values` of the IstioOperator file (docs/install.md)",
            ),
            Refused::PostInstall => (
                "post-install",
                "webhooks are installed with the control plane, which gives them their certificates",
                "use `lateen install`, `lateen tag` for who injects where, and `lateen uninstall`",
            ),
            Refused::Multicluster => (
                "multicluster",
                "it wrote files for meshes of Istio 1.5",
                "make clusters known to each other with `lateen create-remote-secret`, and look at them with `lateen remote-clusters`",
            ),
            Refused::RbacCan => (
                "rbac can",
                "ServiceRole and ServiceRoleBinding are no kinds of the mesh any more",
                "use `lateen x authz check` for what a proxy enforces",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_to_do_instead() {
        for (refused, name, instead) in [
            (Refused::Mixer, "mixer", "x metrics"),
            (Refused::OperatorInit, "operator init", "install -f"),
            (Refused::OperatorDump, "operator dump", "manifest generate"),
            (Refused::OperatorRemove, "operator remove", "uninstall"),
            (Refused::Waypoint, "waypoint", "istio-injection"),
            (Refused::ZtunnelConfig, "ztunnel-config", "proxy-config"),
            (Refused::RbacCan, "rbac can", "authz check"),
            (Refused::Translate, "manifest translate", "manifest chart"),
            (Refused::PostInstall, "post-install", "lateen tag"),
            (
                Refused::Multicluster,
                "multicluster",
                "create-remote-secret",
            ),
        ] {
            let told = refused.fail().expect_err("refused").to_string();
            assert!(
                told.starts_with(&format!("not supported: {name}: ")),
                "{told}"
            );
            assert!(told.contains(instead), "{told}");
        }
    }
}
