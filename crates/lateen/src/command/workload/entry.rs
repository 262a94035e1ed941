//! What a machine needs to join: a token, the root, the mesh's settings, its environment and where the
//! control plane is.

mod files;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Service, ServiceAccount},
};
use kube::{Api, Client, api::PostParams};
use lateen_api::{Object, kinds::WORKLOAD_GROUP, networking::WorkloadGroup};
use lateen_registry::Documents;
use serde_json::Value;

use super::super::{kinds::api, layers};
use crate::{cli::Global, client, output};

use files::{Machine, env, mesh};

/// The audience of tokens for the mesh's authority where its settings name no other.
const AUDIENCE: &str = "istio-ca";
/// The ConfigMap with the mesh's root, and its key.
const ROOT: (&str, &str) = ("istio-ca-root-cert", "root-cert.pem");

/// Write the files that a machine needs to join the mesh.
#[derive(Debug, Args)]
pub(super) struct Configure {
    /// A file with the WorkloadGroup; `-` is standard input.
    #[arg(short, long, required_unless_present = "name", conflicts_with = "name")]
    file: Option<PathBuf>,
    /// The WorkloadGroup of the namespace that is in the cluster.
    #[arg(long)]
    name: Option<String>,
    /// The folder to write to; it is made where it is missing.
    #[arg(short, long)]
    output: PathBuf,
    /// What the cluster is called in the mesh; without it, as its control plane has it.
    #[arg(long = "clusterID")]
    cluster_id: Option<String>,
    /// The address at which the machine finds the control plane's gateway.
    #[arg(long = "ingressIP")]
    ingress_ip: Option<IpAddr>,
    /// The Service of that gateway, whose address is taken.
    #[arg(long = "ingressService", default_value = "istio-eastwestgateway")]
    ingress_service: String,
    /// The machine's address, as the mesh reaches it.
    #[arg(long = "internalIP")]
    internal_ip: Option<IpAddr>,
    /// The machine's address from outside of its network. It is what the mesh is told where both are given.
    #[arg(long = "externalIP")]
    external_ip: Option<IpAddr>,
    /// Have the machine register itself, as a member of the group.
    #[arg(long)]
    autoregister: bool,
    /// Have the agent answer look-ups of the mesh's names.
    #[arg(long = "capture-dns", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    capture_dns: bool,
    /// How long the token is good, in seconds. The machine needs a new one after that, unless its
    /// certificate is renewed by itself.
    #[arg(long = "tokenDuration", default_value_t = 3600, value_parser = clap::value_parser!(i64).range(600..))]
    token_seconds: i64,
    /// The revision of the control plane.
    #[arg(short, long, default_value = "default")]
    revision: String,
}

impl Configure {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let group = self.group(&client, global).await?;
        let cluster = Cluster {
            client: &client,
            istio_namespace: &global.istio_namespace,
            revision: &self.revision,
        };
        let template = group.spec.template.clone().unwrap_or_default();
        let account = match template.service_account.as_str() {
            "" => "default",
            named => named,
        };
        let namespace = &group.meta.namespace;
        let cluster_id = match &self.cluster_id {
            Some(id) => id.clone(),
            None => cluster.id().await?,
        };
        let machine = Machine {
            group: &group,
            account,
            cluster_id: &cluster_id,
            istiod: &cluster.istiod(),
            address: self.external_ip.or(self.internal_ip),
            autoregister: self.autoregister,
            capture_dns: self.capture_dns,
        };
        let settings = cluster
            .map(&global.istio_namespace, &cluster.revisioned("istio"))
            .await?;
        let settings = settings.get("mesh").map_or("", String::as_str);
        let roots = cluster.map(namespace, ROOT.0).await?;
        let root = roots.get(ROOT.1);
        let root =
            root.with_context(|| format!("ConfigMap {}.{namespace} has no {}", ROOT.0, ROOT.1))?;
        let token = cluster
            .token(namespace, account, self.token_seconds)
            .await?;
        let hosts = self.hosts(&cluster).await?;
        files::write(
            &self.output,
            &[
                ("cluster.env", env(&machine, settings)?, false),
                ("mesh.yaml", mesh(&machine, settings)?, false),
                ("root-cert.pem", root.clone(), false),
                ("istio-token", token, true),
                ("hosts", hosts, false),
            ],
        )?;
        output::line(format_args!(
            "Configuration generation into directory {} was successful",
            self.output.display()
        ));
        Ok(())
    }

    async fn group(
        &self,
        client: &Client,
        global: &Global,
    ) -> anyhow::Result<Object<WorkloadGroup>> {
        let value = match (&self.file, &self.name) {
            (Some(path), _) => of_text(&path.display().to_string(), &layers::read(path)?)?,
            (None, Some(name)) => {
                let namespace = &global.namespace;
                let found = api(client, &WORKLOAD_GROUP, namespace).get(name).await;
                let found = found.with_context(|| {
                    format!("cannot read WorkloadGroup {name}.{namespace}; `lateen get workloadgroups -A` lists all")
                })?;
                serde_json::to_value(found)?
            }
            (None, None) => bail!("name a file with -f, or a WorkloadGroup with --name"),
        };
        let mut group: Object<WorkloadGroup> = Object::from_value(&value)?;
        if group.meta.namespace.is_empty() {
            group.meta.namespace = global.namespace.clone();
        }
        Ok(group)
    }

    /// Where the machine finds the control plane's name, as a line of `/etc/hosts`.
    async fn hosts(&self, cluster: &Cluster<'_>) -> anyhow::Result<String> {
        let address = match self.ingress_ip {
            Some(address) => Some(address.to_string()),
            None => cluster.address_of(&self.ingress_service).await?,
        };
        let Some(address) = address else {
            eprintln!(
                "Warning: service {} of namespace {} has no address, so hosts is empty: the machine must find {} by itself; name the address with --ingressIP",
                self.ingress_service,
                cluster.istio_namespace,
                cluster.istiod()
            );
            return Ok(String::new());
        };
        Ok(format!("{address} {}\n", cluster.istiod()))
    }
}

/// The WorkloadGroup of a text, which must be valid.
fn of_text(name: &str, text: &str) -> anyhow::Result<Value> {
    let (written, faults) = lateen_registry::Written::read(&Documents::file(name, text));
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let mut groups = written
        .iter()
        .filter(|of| of.value["kind"] == WORKLOAD_GROUP.kind);
    let (Some(group), None) = (groups.next(), groups.next()) else {
        bail!("{name} must have exactly one WorkloadGroup");
    };
    let faults = lateen_galley::validate(&group.value);
    if !faults.is_empty() {
        let at = |field: &str| group.place(field).unwrap_or_default();
        let faults = faults
            .iter()
            .map(|fault| format!("{}: {fault}", at(&fault.field)));
        bail!("{}", faults.collect::<Vec<_>>().join("\n"));
    }
    Ok(group.value.clone())
}

/// What the cluster says.
struct Cluster<'a> {
    client: &'a Client,
    istio_namespace: &'a str,
    revision: &'a str,
}

impl Cluster<'_> {
    fn revisioned(&self, name: &str) -> String {
        match self.revision {
            "" | "default" => name.to_owned(),
            revision => format!("{name}-{revision}"),
        }
    }

    /// The name that the control plane's certificate has.
    fn istiod(&self) -> String {
        format!("{}.{}.svc", self.revisioned("istiod"), self.istio_namespace)
    }

    async fn map(&self, namespace: &str, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = maps.get(name).await;
        let found = found.with_context(|| {
            format!("cannot read ConfigMap {name}.{namespace}; is the mesh installed?")
        })?;
        Ok(found.data.unwrap_or_default())
    }

    /// What the cluster is called, by the injector's settings.
    async fn id(&self) -> anyhow::Result<String> {
        let name = self.setting("/multiCluster/clusterName").await?;
        Ok(name.unwrap_or_else(|| "Kubernetes".to_owned()))
    }

    /// A text of the injector's settings below `global`, where it is there and says something.
    async fn setting(&self, path: &str) -> anyhow::Result<Option<String>> {
        let name = self.revisioned("istio-sidecar-injector");
        let data = self.map(self.istio_namespace, &name).await?;
        let values = data.get("values").map_or("", String::as_str);
        let values: Value = serde_json::from_str(values).unwrap_or_default();
        let text = values["global"].pointer(path).and_then(Value::as_str);
        Ok(text.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    async fn token(&self, namespace: &str, account: &str, seconds: i64) -> anyhow::Result<String> {
        let audience = self.setting("/sds/token/aud").await?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.unwrap_or_else(|| AUDIENCE.to_owned())]),
                expiration_seconds: Some(seconds),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams::default();
        let answer = accounts
            .create_token_request(account, &params, &request)
            .await;
        let answer = answer.with_context(|| {
            format!("cannot get a token of service account {account}.{namespace}; `kubectl create serviceaccount {account} -n {namespace}` makes the account")
        })?;
        let token = answer.status.and_then(|status| status.token);
        token.context("the API server gave no token")
    }

    async fn address_of(&self, service: &str) -> anyhow::Result<Option<String>> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), self.istio_namespace);
        let found = services.get_opt(service).await;
        let found = found.with_context(|| format!("cannot read service {service}"))?;
        let status = found.and_then(|service| service.status?.load_balancer?.ingress);
        let mut addresses = status.into_iter().flatten();
        Ok(addresses.find_map(|at| at.ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_valid_group() {
        let group = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\n\
             metadata: {name: group, namespace: shop}\nspec: {template: {serviceAccount: a}}\n";
        assert!(of_text("f", group).is_ok());
        let check = |text: &str, expect: &str| {
            let told = of_text("f", text).expect_err("refused").to_string();
            assert!(told.contains(expect), "{told}");
        };
        check("", "exactly one WorkloadGroup");
        check(&format!("{group}---\n{group}"), "exactly one WorkloadGroup");
        check(&group.replace("serviceAccount", "serviceAcount"), "f:4: ");
    }
}
