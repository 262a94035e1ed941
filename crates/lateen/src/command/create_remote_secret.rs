//! `lateen create-remote-secret`: what another cluster's control plane needs to read this cluster's
//! services. Names and form of the Secret are Istio's, so that any control plane of Istio's kind takes
//! it.

mod kubeconfig;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use lateen_install::{Installation, Layers, accounts};
use serde_json::{Value, json};

use super::manifest::yaml;
use crate::{apply::Applier, cli::Global, client, output};

use kubeconfig::{Access, Auth};

/// How long the token of an account may take to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(100);
/// What Kubernetes calls Secrets that hold a token.
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
/// On such a Secret: whose token it is.
const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Write a Secret by which another cluster's control plane reads this cluster.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen create-remote-secret --context east --name east | kubectl apply -f - --context west\n  lateen create-remote-secret -c east.yaml --name east --server https://10.0.0.5:6443\n  lateen create-remote-secret -c east.yaml --name east --type config --service-account istiod"
)]
pub(crate) struct CreateRemoteSecret {
    /// What the cluster is called in the mesh; without it, the UID of its namespace kube-system.
    #[arg(long)]
    name: Option<String>,
    /// Whether it is to read endpoints, or for a control plane that runs elsewhere.
    #[arg(long = "type", value_enum, default_value_t)]
    kind: Kind,
    /// How the control plane proves who it is.
    #[arg(long, value_enum, default_value_t)]
    auth_type: AuthType,
    /// The plugin of `--auth-type plugin`.
    #[arg(long)]
    auth_plugin_name: Option<String>,
    /// What the plugin is told, `key=value`.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    auth_plugin_config: Vec<String>,
    /// Where the other control plane reaches the API server; without it, as the kubeconfig has it.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The name that the API server's certificate has, where it is not that of the server.
    #[arg(long)]
    tls_server_name: Option<String>,
    /// The Secret that holds the account's token; without it, one is made.
    #[arg(long)]
    secret_name: Option<String>,
    /// The account as which the other control plane comes.
    #[arg(long)]
    service_account: Option<String>,
    /// Make the account, and what it may do, where it is missing.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    create_service_account: bool,
    /// Not supported: the manifests are part of the program.
    #[arg(short = 'd', long, visible_alias = "charts", hide = true)]
    manifests: Option<PathBuf>,
}

/// What a Secret is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A control plane reads services and endpoints.
    #[default]
    Remote,
    /// A control plane that runs elsewhere has this cluster as its own.
    Config,
}

/// How a control plane proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AuthType {
    /// By a token of the account.
    #[default]
    BearerToken,
    /// By a plugin of the client.
    Plugin,
}

impl Kind {
    fn account(self) -> &'static str {
        match self {
            Kind::Remote => "istio-reader-service-account",
            Kind::Config => "istiod",
        }
    }

    /// The Secret's name and its only key.
    fn secret(self, cluster: &str) -> (String, String) {
        match self {
            Kind::Remote => (format!("istio-remote-secret-{cluster}"), cluster.to_owned()),
            Kind::Config => ("istio-kubeconfig".to_owned(), "config".to_owned()),
        }
    }
}

impl CreateRemoteSecret {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        if let Some(path) = &self.manifests {
            bail!(
                "--manifests {} is not supported: the manifests are part of the program; leave the flag out",
                path.display()
            );
        }
        let config = client::config(global).await?;
        let client = client::of(config.clone(), global)?;
        let namespace = self.namespace(global);
        let cluster = match &self.name {
            Some(name) => name.clone(),
            None => uid(&client).await?,
        };
        check_name(&cluster)?;
        let server = self.server(&config.cluster_url.to_string())?;
        let (token, ca) = self.credentials(&client, namespace).await?;
        let access = Access {
            cluster: &cluster,
            server: &server,
            tls_server_name: self.tls_server_name.as_deref(),
            ca: &ca,
            auth: self.auth(&token)?,
        };
        let secret = secret(self.kind, &cluster, namespace, &access)?;
        output::print(
            "# Made by lateen create-remote-secret. It holds a credential of the cluster.\n",
        );
        output::print(yaml(&[secret])?);
        Ok(())
    }

    /// The namespace of the account: the control plane's, unless another one is named.
    fn namespace<'a>(&self, global: &'a Global) -> &'a str {
        let named = global.named_namespace.as_ref();
        named.unwrap_or(&global.istio_namespace)
    }

    fn server(&self, of_config: &str) -> anyhow::Result<String> {
        if let Some(server) = &self.server {
            if !server.starts_with("https://") && !server.starts_with("http://") {
                bail!("--server {server:?} is no URL; write https://HOST:PORT");
            }
            return Ok(server.trim_end_matches('/').to_owned());
        }
        let server = of_config.trim_end_matches('/');
        if ["//127.", "//localhost", "//[::1]", "//0.0.0.0"]
            .iter()
            .any(|own| server.contains(own))
        {
            eprintln!(
                "Warning: the kubeconfig's server {server} is of this machine alone; name one that other clusters reach with --server"
            );
        }
        Ok(server.to_owned())
    }

    fn auth<'a>(&'a self, token: &'a str) -> anyhow::Result<Auth<'a>> {
        if self.auth_type == AuthType::BearerToken {
            return Ok(Auth::Token(token));
        }
        let Some(name) = &self.auth_plugin_name else {
            bail!("--auth-type plugin needs --auth-plugin-name");
        };
        let pairs = self.auth_plugin_config.iter().map(|pair| {
            pair.split_once('=')
                .with_context(|| format!("--auth-plugin-config {pair:?} is not KEY=VALUE"))
        });
        Ok(Auth::Plugin(name, pairs.collect::<anyhow::Result<_>>()?))
    }

    /// The account's token and the cluster's root.
    async fn credentials(
        &self,
        client: &Client,
        namespace: &str,
    ) -> anyhow::Result<(String, Vec<u8>)> {
        let account = self.service_account.as_deref();
        let account = account.unwrap_or_else(|| self.kind.account());
        self.ensure_account(client, namespace, account).await?;
        let name = match &self.secret_name {
            Some(name) => {
                must_be_there(client, namespace, name, account).await?;
                name.clone()
            }
            None => token_secret(client, namespace, account).await?,
        };
        filled(client, namespace, &name).await
    }

    /// The account, and what it may do. Of the mesh's own account each part is made that is missing: an
    /// account alone, which may read nothing, would give a Secret that is of no use.
    async fn ensure_account(
        &self,
        client: &Client,
        namespace: &str,
        account: &str,
    ) -> anyhow::Result<()> {
        if self.create_service_account && account == self.kind.account() {
            return self.make(client, namespace).await;
        }
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let there = api.get_opt(account).await;
        let there =
            there.with_context(|| format!("cannot read service account {account}.{namespace}"))?;
        if there.is_none() {
            bail!(
                "there is no service account {account} in namespace {namespace}; make it, name another with --service-account, or leave out --create-service-account=false"
            );
        }
        Ok(())
    }

    async fn make(&self, client: &Client, namespace: &str) -> anyhow::Result<()> {
        let sets = vec![format!("values.global.istioNamespace={namespace}")];
        let installation = Installation::of(&Layers {
            sets,
            ..Layers::default()
        })?;
        let of_namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace}});
        let mut applier = Applier::new(client.clone());
        applier.apply_missing(&[of_namespace]).await?;
        let objects = accounts(&installation, self.kind == Kind::Config);
        applier.apply_missing(&objects).await
    }
}

/// The UID of `kube-system`, which tells clusters apart.
async fn uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await;
    let system =
        system.context("cannot read namespace kube-system; name the cluster with --name")?;
    let uid = system.metadata.uid;
    uid.context("namespace kube-system has no UID; name the cluster with --name")
}

/// Names become a part of a Secret's name.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let chars = || name.chars();
    if chars().all(fits) && ends(chars().next()) && ends(chars().next_back()) && name.len() <= 200 {
        return Ok(());
    }
    bail!("{name:?} is no name of a cluster: use letters of lower case, digits, - and .")
}

/// A Secret that the user names must be of the account.
async fn must_be_there(
    client: &Client,
    namespace: &str,
    name: &str,
    account: &str,
) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(name).await;
    let secret = secret.with_context(|| format!("cannot read Secret {name}.{namespace}"))?;
    let annotations = secret.metadata.annotations.unwrap_or_default();
    let of = annotations.get(ACCOUNT).map(String::as_str);
    if secret.type_.as_deref() != Some(TOKEN_TYPE) || of != Some(account) {
        bail!(
            "Secret {name}.{namespace} holds no token of service account {account}: its type must be {TOKEN_TYPE} and its annotation {ACCOUNT} {account}"
        );
    }
    Ok(())
}

/// The Secret for the account's token; Kubernetes fills it.
async fn token_secret(client: &Client, namespace: &str, account: &str) -> anyhow::Result<String> {
    let name = format!("{account}-istio-remote-secret-token");
    let secret: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "type": TOKEN_TYPE,
        "metadata": {"name": name, "namespace": namespace, "annotations": {ACCOUNT: account}},
    }))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(name),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            must_be_there(client, namespace, &name, account).await?;
            Ok(name)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot create Secret {name}.{namespace}"))
        }
    }
}

/// Waits until the Secret has a token.
async fn filled(client: &Client, namespace: &str, name: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let start = Instant::now();
    loop {
        let secret = secrets.get(name).await;
        let secret = secret.with_context(|| format!("cannot read Secret {name}.{namespace}"))?;
        let mut data = secret.data.unwrap_or_default();
        if let (Some(token), Some(ca)) = (data.remove("token"), data.remove("ca.crt")) {
            let token = String::from_utf8(token.0).context("the token is no text")?;
            return Ok((token, ca.0));
        }
        if start.elapsed() > PATIENCE {
            bail!(
                "Secret {name}.{namespace} was not filled within {PATIENCE:?}: the cluster's token controller does not run; look at `kubectl describe secret {name} -n {namespace}`"
            );
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What is applied to the other cluster.
fn secret(
    kind: Kind,
    cluster: &str,
    namespace: &str,
    access: &Access<'_>,
) -> anyhow::Result<Value> {
    let (name, key) = kind.secret(cluster);
    let kubeconfig = serde_yaml_ng::to_string(&access.kubeconfig()?)?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"networking.istio.io/cluster": cluster},
            "labels": {"istio/multiCluster": "true"},
        },
        "stringData": {key: kubeconfig},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(auth: Auth<'_>) -> Access<'_> {
        Access {
            cluster: "east",
            server: "https://10.0.0.5:6443",
            tls_server_name: None,
            ca: b"ca",
            auth,
        }
    }

    #[test]
    fn secrets_are_named_as_other_control_planes_look_for_them() {
        let check = |kind: Kind, name: &str, key: &str| {
            let made = secret(kind, "east", "istio-system", &access(Auth::Token("t")));
            let made = made.expect("a Secret");
            assert_eq!(made["metadata"]["name"], name);
            assert_eq!(made["metadata"]["labels"]["istio/multiCluster"], "true");
            assert_eq!(
                made["metadata"]["annotations"]["networking.istio.io/cluster"],
                "east"
            );
            let text = made["stringData"][key].as_str().expect("the key");
            // The Kubernetes client itself must take it.
            let read = kube::config::Kubeconfig::from_yaml(text).expect("a kubeconfig");
            assert_eq!(read.current_context.as_deref(), Some("east"));
            let server = read.clusters[0]
                .cluster
                .as_ref()
                .and_then(|of| of.server.clone());
            assert_eq!(server.as_deref(), Some("https://10.0.0.5:6443"));
        };
        check(Kind::Remote, "istio-remote-secret-east", "east");
        check(Kind::Config, "istio-kubeconfig", "config");
    }

    #[test]
    fn names_that_no_secret_can_have_are_refused() {
        for (name, fits) in [
            ("east", true),
            ("c1.east-2", true),
            ("", false),
            ("East", false),
            ("-east", false),
            ("a b", false),
            ("a/b", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name:?}");
        }
    }
}
