//! `lateen kube-inject`: the webhook's work on a file, as the cluster's injector or files say.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use lateen_core::ports;
use lateen_injector::{InjectorConfig, Params};

use crate::{cli::Global, output};

mod cluster;
mod operator;
mod settings;

use cluster::Cluster;
use operator::Operator;
use settings::Settings;

/// Where a command reads and writes workloads.
#[derive(Debug, Args)]
struct Files {
    /// The file with the workloads; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Where the result goes instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Add the sidecar to the workloads of a YAML file.
///
/// What no file says is read from the cluster; where there is none, the program's defaults count.
/// Workloads that name no namespace are of that of `--namespace`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl apply -f <(lateen kube-inject -f bookinfo.yaml)\n  lateen kube-inject -f - < bookinfo.yaml\n  lateen kube-inject -f bookinfo.yaml --injectConfigFile inject.yaml --valuesFile values.json"
)]
pub(crate) struct KubeInject {
    #[command(flatten)]
    files: Files,
    /// The injector's configuration: key `config` of its ConfigMap.
    #[arg(long = "injectConfigFile", value_name = "FILE")]
    inject_config_file: Option<PathBuf>,
    /// The settings of templates: key `values` of the injector's ConfigMap.
    #[arg(long = "valuesFile", value_name = "FILE")]
    values_file: Option<PathBuf>,
    /// The mesh's configuration: key `mesh` of its ConfigMap.
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// An IstioOperator file: what an installation of it would have in its ConfigMaps.
    #[arg(long = "operatorFileName", value_name = "FILE")]
    operator_file: Option<PathBuf>,
    /// The ConfigMap of the injector.
    #[arg(long = "injectConfigMapName", value_name = "NAME")]
    inject_config_map: Option<String>,
    /// The ConfigMap of the mesh.
    #[arg(long = "meshConfigMapName", value_name = "NAME")]
    mesh_config_map: Option<String>,
    /// Revision of the control plane that the workloads are for.
    #[arg(short, long)]
    revision: Option<String>,
    /// A webhook configuration, whose path says the cluster and the network.
    #[arg(long = "webhookConfig", value_name = "NAME")]
    webhook_config: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl KubeInject {
    /// What a cluster's injector of a revision would do; there must be one.
    pub(super) async fn of_cluster(
        revision: Option<&str>,
        global: &Global,
    ) -> anyhow::Result<Params> {
        let revision = revision.unwrap_or("default");
        let mut flags = KubeInject {
            files: Files {
                filename: PathBuf::new(),
                output: None,
            },
            inject_config_file: None,
            values_file: None,
            mesh_config_file: None,
            operator_file: None,
            inject_config_map: None,
            mesh_config_map: None,
            revision: Some(revision.to_owned()),
            webhook_config: None,
            settings: Settings::default(),
        };
        // Named, so that it must be there.
        flags.inject_config_map = Some(flags.name_of(&None, "istio-sidecar-injector"));
        flags.params(global).await
    }

    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        self.settings.check()?;
        let text = self.files.read()?;
        let params = self.params(global).await?;
        self.files.change(
            &text,
            |text| lateen_injector::kube_inject(text, &global.namespace, &params),
            "inject",
        )
    }

    async fn params(&self, global: &Global) -> anyhow::Result<Params> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let mut config = read(&self.inject_config_file)?;
        let mut values = read(&self.values_file)?;
        let mut mesh = read(&self.mesh_config_file)?;
        if let Some(path) = &self.operator_file {
            let operator = Operator::read(path, self.revision.as_deref())?;
            config = config.or(Some(operator.config));
            values = values.or(Some(operator.values));
            mesh = mesh.or(Some(operator.mesh));
        }
        let mut base = self.base(&global.istio_namespace);
        let is_whole = config.is_some() && values.is_some() && mesh.is_some();
        if !is_whole || self.webhook_config.is_some() {
            let cluster = Cluster::of(global, self.must_answer(global)).await?;
            if let Some(cluster) = cluster {
                let natives = cluster.natives(self).await;
                base.native_sidecar = natives.all;
                base.nodes = natives.nodes.into();
                base.proxy_configs = cluster.proxy_configs(&global.namespace, self).await;
                if config.is_none() || values.is_none() {
                    let mut data = cluster.injector(self).await?;
                    config = config.or_else(|| data.remove("config"));
                    values = values.or_else(|| data.remove("values"));
                }
                if mesh.is_none() {
                    mesh = cluster.mesh(self).await?.remove("mesh");
                }
                if let Some(name) = &self.webhook_config {
                    let path = cluster.webhook_path(name).await?;
                    return self.fill(&base, config, values, mesh, &path);
                }
            }
        }
        self.fill(&base, config, values, mesh, "")
    }

    /// What holds before anything is read.
    fn base(&self, istio_namespace: &str) -> Params {
        let control_plane = self.name_of(&None, "istiod");
        Params {
            revision: self.revision_or_default().to_owned(),
            ca_address: format!("{control_plane}.{istio_namespace}.svc:{}", ports::XDS_TLS),
            ..Params::default()
        }
    }

    fn revision_or_default(&self) -> &str {
        let named = self.revision.as_deref();
        named.filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Whether going on without a cluster would be against what the flags say.
    fn must_answer(&self, global: &Global) -> bool {
        global.kubeconfig.is_some()
            || global.context.is_some()
            || self.webhook_config.is_some()
            || self.inject_config_map.is_some()
            || self.mesh_config_map.is_some()
    }

    fn fill(
        &self,
        base: &Params,
        config: Option<String>,
        values: Option<String>,
        mesh: Option<String>,
        path: &str,
    ) -> anyhow::Result<Params> {
        let of = |file: &Option<PathBuf>, or: &str| match file {
            Some(path) => path.display().to_string(),
            None => or.to_owned(),
        };
        let values_from = of(&self.values_file, "the injector's settings");
        let values = self
            .settings
            .over(&values.unwrap_or_default())
            .with_context(|| format!("cannot read {values_from}"))?;
        let config = InjectorConfig::parse(&config.unwrap_or_default(), &values);
        let config_from = of(&self.inject_config_file, "the injector's configuration");
        let config = config.with_context(|| format!("cannot use {config_from}"))?;
        for warning in config.warnings() {
            eprintln!("lateen: {config_from}: {warning}");
        }
        let mesh = lateen_galley::parse_mesh(&mesh.unwrap_or_default());
        let mesh_from = of(&self.mesh_config_file, "the mesh's configuration");
        let mesh = mesh.with_context(|| format!("cannot use {mesh_from}"))?;
        Ok(base
            .with_config(config.into())
            .with_mesh(mesh.into(), base.proxy_configs.clone())
            .with_path(path))
    }

    /// The name of something of the control plane, as the revision has it where no flag says it.
    fn name_of(&self, named: &Option<String>, usual: &str) -> String {
        match (named, self.revision_or_default()) {
            (Some(name), _) => name.clone(),
            (None, "default") => usual.to_owned(),
            (None, revision) => format!("{usual}-{revision}"),
        }
    }
}

/// Take the sidecar out of the workloads of a YAML file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen x kube-uninject -f injected.yaml | kubectl apply -f -")]
pub(crate) struct KubeUninject {
    #[command(flatten)]
    files: Files,
}

impl KubeUninject {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let text = self.files.read()?;
        self.files
            .change(&text, lateen_injector::kube_uninject, "uninject")
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<String> {
        output::read(&self.filename)
    }

    fn change(
        &self,
        text: &str,
        change: impl FnOnce(&str) -> Result<String, lateen_injector::KubeInjectError>,
        verb: &str,
    ) -> anyhow::Result<()> {
        let name = self.filename.display();
        let changed = change(text).with_context(|| format!("cannot {verb} {name}"))?;
        match &self.output {
            Some(path) => std::fs::write(path, changed)
                .with_context(|| format!("cannot write {}", path.display())),
            None => {
                output::print(changed);
                Ok(())
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        inject: KubeInject,
    }

    fn inject(flags: &[&str]) -> KubeInject {
        let all = ["kube-inject", "-f", "-"].iter().chain(flags);
        Cli::try_parse_from(all).expect("flags").inject
    }

    #[test]
    fn names_have_the_revision() {
        let check = |flags: &[&str], want: &str| {
            let inject = inject(flags);
            let found = inject.name_of(&inject.inject_config_map, "istio-sidecar-injector");
            assert_eq!(found, want, "{flags:?}");
        };
        check(&[], "istio-sidecar-injector");
        check(&["-r", "canary"], "istio-sidecar-injector-canary");
        check(&["--revision=default"], "istio-sidecar-injector");
        check(&["-r", "canary", "--injectConfigMapName=mine"], "mine");
        let base = inject(&["-r", "canary"]).base("mesh");
        let found = (&*base.revision, &*base.ca_address);
        assert_eq!(found, ("canary", "istiod-canary.mesh.svc:15012"));
    }

    #[test]
    fn what_is_read_fills_the_templates() {
        let config = Some("policy: disabled".to_owned());
        let values = Some(r#"{"global": {"network": "n1"}}"#.to_owned());
        let mesh = Some("trustDomain: td".to_owned());
        let base = Params::default();
        let params = inject(&[]).fill(&base, config, values, mesh, "/inject/cluster/c2");
        let params = params.expect("parameters");
        assert_eq!(params.mesh.trust_domain(), "td");
        assert_eq!((&*params.network, &*params.cluster_id), ("n1", "c2"));
        let bad = inject(&["--valuesFile=v.json"]).fill(&base, None, Some("{".into()), None, "");
        let error = format!("{:#}", bad.expect_err("refused"));
        assert!(error.contains("v.json"), "{error}");
    }
}
