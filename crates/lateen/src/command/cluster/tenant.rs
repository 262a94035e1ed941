//! `lateen cluster tenant`: who may write in some namespaces of a cluster, and in no other.
//!
//! A tenant is a service account in a namespace of the administrator's, bound to a role in each of the
//! tenant's namespaces. Its kubeconfig carries a token, which ends with the account: what was handed out
//! can be taken back, which is not so with a certificate.

mod reserved;
mod rights;

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::Kubeconfig,
};
use lateen_local::{HOST_USERS, state::StateDir};
use serde_json::{Value, json};

use crate::{
    client,
    output::{self, Format},
    table::Table,
};

/// Where the accounts of tenants are, which no tenant may write.
const HOME: &str = "lateen-tenants";
/// Says of a binding whose it is.
const TENANT: &str = "lateen.io/tenant";
/// The account that every namespace has, and is no tenant's.
const EVERYBODYS: &str = "default";
/// Hours in a day, for the flag.
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The longest that a token may be good, as the platform has it.
const LONGEST_DAYS: i64 = 365;

/// Let people write in their own namespaces of a cluster.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen cluster tenant add team-a ann shop --file ann.kubeconfig\n  kubectl --kubeconfig ann.kubeconfig auth can-i create deployments\n  lateen cluster tenant list team-a\n  lateen cluster tenant remove team-a ann"
)]
pub(super) struct Tenant {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a tenant namespaces, and write a kubeconfig for them
    Add(Add),
    /// List the tenants of a cluster
    List {
        /// The cluster.
        cluster: String,
        /// How to write the result.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Take a tenant's rights away; its namespaces stay
    Remove {
        /// The cluster.
        cluster: String,
        /// The tenant.
        name: String,
    },
}

/// Give a tenant namespaces, and write a kubeconfig for them.
#[derive(Debug, Args)]
struct Add {
    /// The cluster.
    cluster: String,
    /// The tenant: lower-case letters, digits and dashes.
    name: String,
    /// The namespaces that the tenant may write; made if they are not there.
    #[arg(required = true, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// What the tenant may do in them.
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// How many days the kubeconfig is good for, 365 at most.
    #[arg(long, default_value_t = 90, value_name = "DAYS",
          value_parser = clap::value_parser!(i64).range(1..=LONGEST_DAYS))]
    days: i64,
    /// Where to write the kubeconfig, which only you may read then; without it, to standard output.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// One of the roles that every cluster has.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Role {
    /// Everything in the namespace, and to give others rights there.
    #[default]
    Admin,
    /// Everything but rights.
    Edit,
    /// To look, but not at Secrets.
    View,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Edit => "edit",
            Role::View => "view",
        }
    }
}

impl Tenant {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Add(add) => add.run().await,
            Command::List { cluster, output } => list(cluster, *output).await,
            Command::Remove { cluster, name } => remove(cluster, name).await,
        }
    }
}

impl Add {
    async fn run(&self) -> anyhow::Result<()> {
        check_name(&self.name)?;
        for namespace in &self.namespaces {
            reserved::check_name(namespace)?;
        }
        let (client, admin) = connect(&self.cluster).await?;
        reserved::check_use(&client, &self.namespaces).await?;
        self.make_objects(&client).await?;
        let token = self.token(&client).await?;
        let text = kubeconfig(
            &admin,
            &self.cluster,
            &self.name,
            &self.namespaces[0],
            &token,
        )?;
        let Some(file) = &self.file else {
            output::print(text);
            return Ok(());
        };
        write_secret(file, &text)?;
        output::line(format_args!(
            "tenant {} may {} in {}; its kubeconfig is {}",
            self.name,
            self.role.name(),
            self.namespaces.join(", "),
            file.display()
        ));
        Ok(())
    }

    async fn make_objects(&self, client: &Client) -> anyhow::Result<()> {
        // Not the manager of installations: it would take away the labels that those gave a namespace.
        let params = PatchParams::apply("lateen-tenant").force();
        let all: Api<Namespace> = Api::all(client.clone());
        for namespace in self.namespaces.iter().map(String::as_str).chain([HOME]) {
            let mut patch = object("v1", "Namespace", namespace, json!({}));
            // Who may make pods would otherwise reach the machine; no role lets tenants change it.
            patch["metadata"]["labels"] = json!({
                "pod-security.kubernetes.io/enforce": "baseline",
                HOST_USERS: "false",
            });
            all.patch(namespace, &params, &Patch::Apply(patch)).await?;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), HOME);
        let account = object("v1", "ServiceAccount", &self.name, json!({}));
        let patch = Patch::Apply(account);
        let applied = accounts.patch(&self.name, &params, &patch).await;
        applied.context("cannot make the tenant's account")?;
        for namespace in &self.namespaces {
            check_pods(client, namespace).await?;
            let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
            self.bind(&bindings, &params).await?;
        }
        Ok(())
    }

    /// A binding cannot change its role: one that has another is replaced.
    async fn bind(&self, bindings: &Api<RoleBinding>, params: &PatchParams) -> anyhow::Result<()> {
        let name = rights::binding_of(&self.name);
        let role = self.role.name();
        if let Some(found) = bindings.get_opt(&name).await?
            && found.role_ref.name != role
        {
            bindings.delete(&name, &DeleteParams::default()).await?;
        }
        let group = "rbac.authorization.k8s.io";
        let more = json!({
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": HOME}],
        });
        // For people who look; the tenant may change it, so that nothing here goes by it.
        let mut binding = object(&format!("{group}/v1"), "RoleBinding", &name, more);
        binding["metadata"]["labels"] = json!({TENANT: self.name});
        let applied = bindings.patch(&name, params, &Patch::Apply(binding)).await;
        applied.context("cannot bind the tenant to its role")?;
        Ok(())
    }

    async fn token(&self, client: &Client) -> anyhow::Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), HOME);
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {"audiences": [], "expirationSeconds": self.days * DAY_SECONDS},
        }))?;
        let params = PostParams::default();
        let issued = accounts.create_token_request(&self.name, &params, &request);
        let status = issued
            .await?
            .status
            .context("the API server gave no token")?;
        status.token.context("the API server gave an empty token")
    }
}

/// Refuses a namespace with pods from before it was a tenant's: whoever may run programs in them is on the
/// machine.
async fn check_pods(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await?.items;
    let is_old = |pod: &&Pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.host_users) != Some(false)
    };
    let old: Vec<String> = pods.iter().filter(is_old).map(Pod::name_any).collect();
    if old.is_empty() {
        return Ok(());
    }
    bail!(
        "namespace {namespace} has pods that run as users of the machine ({}): delete them, so that new ones get users of their own, and run this again",
        old.join(", ")
    );
}

/// An object with its kind and name, and more.
fn object(version: &str, kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// The administrator's client of a cluster that runs, and the file that it comes from.
async fn connect(cluster: &str) -> anyhow::Result<(Client, Kubeconfig)> {
    let state = StateDir::of(cluster)?;
    if state.running().is_none() {
        bail!("no cluster {cluster} runs; `lateen cluster list` shows those that there are");
    }
    let path = state.kubeconfig();
    let file = Kubeconfig::read_from(&path)
        .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
    Ok((client::from_file(&path).await?, file))
}

/// The administrator's way to the cluster, with the tenant's token.
fn kubeconfig(
    admin: &Kubeconfig,
    cluster: &str,
    tenant: &str,
    namespace: &str,
    token: &str,
) -> anyhow::Result<String> {
    let way = admin
        .clusters
        .first()
        .and_then(|named| named.cluster.as_ref());
    let way = way.context("the administrator's kubeconfig names no cluster")?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": way}],
        "users": [{"name": tenant, "user": {"token": token}}],
        "contexts": [{"name": cluster,
                      "context": {"cluster": cluster, "user": tenant, "namespace": namespace}}],
        "current-context": cluster,
    });
    Ok(serde_yaml_ng::to_string(&config)?)
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        // The mode above is for files that were not there.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty()
        || name.len() > 40
        || !name.bytes().all(is_good)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        bail!(
            "tenant {name:?}: a name is at most 40 lower-case letters, digits and dashes between them"
        );
    }
    if name == EVERYBODYS {
        bail!("tenant {name:?}: every namespace has an account of this name; choose another");
    }
    Ok(())
}

async fn list(cluster: &str, format: Format) -> anyhow::Result<()> {
    let (client, _) = connect(cluster).await?;
    let tenants = rights::all(&client).await?;
    if format != Format::Short {
        let rows: Vec<Value> = tenants
            .iter()
            .map(|(name, rights)| json!({"name": name, "rights": rights}))
            .collect();
        return output::structured(&json!(rows), format);
    }
    let mut table = Table::new(["TENANT", "NAMESPACE:ROLE"]);
    for (name, rights) in tenants {
        let rights = match rights.is_empty() {
            true => "-".to_owned(),
            false => rights.join(","),
        };
        table.row([name, rights]);
    }
    output::print(table);
    Ok(())
}

async fn remove(cluster: &str, name: &str) -> anyhow::Result<()> {
    check_name(name)?;
    let (client, _) = connect(cluster).await?;
    // The account first: from then on, its tokens are no good.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), HOME);
    let found = match accounts.delete(name, &DeleteParams::default()).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(error) => return Err(error.into()),
    };
    let taken = rights::take_away(&client, name).await?;
    if !found && !taken {
        bail!(
            "cluster {cluster} has no tenant {name}; `lateen cluster tenant list {cluster}` shows those that there are"
        );
    }
    output::line(format_args!(
        "tenant {name} of cluster {cluster} has no rights any more"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_names_of_labels_that_are_nobody_elses() {
        for name in ["", "-a", "a-", "A", "a/b", "a.b", EVERYBODYS] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("ann").expect("a name");
    }
}
