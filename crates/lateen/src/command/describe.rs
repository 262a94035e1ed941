//! `lateen describe`: what applies to a pod or to a service.

mod pod;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use lateen_explain::{DescribedService, DescribedWorkload, Platform};
use lateen_galley::analyze::{Settings, analyze};
use lateen_registry::{Documents, MESH_CONFIG, Service, WATCHED_KINDS, Written};
use serde_json::{Value, json};

use super::analyze::of_cluster;
use crate::{cli::Global, client, output};

/// The domain of the cluster's services.
pub(super) const DOMAIN: &str = "cluster.local";
/// Between one service and the next.
const RULE: &str = "--------------------\n";
/// Kinds of Kubernetes that decide where requests go.
const OF_PLATFORM: [&str; 5] = ["Namespace", "Node", "Service", "Pod", "EndpointSlice"];

/// Say what applies to a pod or to a service: ports, rules that lead there, policies, what is wrong.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen describe pod reviews-v1-77bb\n  lateen describe pod deploy/reviews-v1.shop\n  lateen describe service productpage.default\n  lateen experimental describe service reviews -n default"
)]
pub(crate) struct Describe {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A pod, with the services that it serves
    #[command(
        alias = "po",
        alias = "pods",
        after_help = "Example:\n  lateen describe pod productpage-v1-77bb.default"
    )]
    Pod {
        /// `name[.namespace]`, or `deploy/name[.namespace]` for a pod of a Deployment.
        pod: String,
        /// Say nothing of a pod without a sidecar.
        #[arg(long = "ignoreUnmeshed")]
        ignore_unmeshed: bool,
    },
    /// A service, with its pods
    #[command(
        alias = "svc",
        alias = "services",
        after_help = "Example:\n  lateen describe service productpage.default"
    )]
    Service {
        /// `name[.namespace]`.
        service: String,
    },
}

impl Describe {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.what {
            What::Pod {
                pod,
                ignore_unmeshed,
            } => of_pod(pod, *ignore_unmeshed, global).await,
            What::Service { service } => of_service(service, global).await,
        }
    }
}

/// Everything that is there.
pub(super) struct Seen {
    pub(super) objects: Vec<Written>,
    pub(super) platform: Platform,
}

impl Seen {
    pub(super) async fn of(global: &Global) -> anyhow::Result<Seen> {
        let read = of_cluster(global)
            .await
            .context("cannot read the cluster")?;
        for note in &read.notes {
            eprintln!("lateen: {note}");
        }
        let mut values: Vec<Value> = slices(global).await?;
        let read_values = read.objects.iter().map(|object| &object.value);
        values.extend(read_values.filter(|value| counts(value)).cloned());
        let list = json!({"apiVersion": "v1", "kind": "List", "items": values});
        let documents = [Documents::stored(list.to_string())];
        let platform = Platform::read(&documents, DOMAIN);
        Ok(Seen {
            objects: read.objects,
            platform: platform.map_err(|faults| anyhow!("{}", faults.join("\n")))?,
        })
    }

    fn pod(&self, name: &str, namespace: &str) -> Option<&Value> {
        let mut all = self.pods(namespace);
        all.find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// The pods of a namespace by their names.
    fn pods(&self, namespace: &str) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.objects.iter().map(|object| &object.value);
        let own = all.filter(move |value| {
            value["kind"] == "Pod"
                && value["apiVersion"] == "v1"
                && value["metadata"]["namespace"] == namespace
        });
        own.filter_map(|value| Some((value["metadata"]["name"].as_str()?, value)))
    }

    /// What analysis has to say of any of some objects, `Kind namespace/name`.
    fn warnings(&self, of: &BTreeSet<String>, global: &Global) -> Vec<String> {
        let settings = Settings {
            root_namespace: global.istio_namespace.clone(),
            ..Settings::default()
        };
        let messages = analyze(&self.objects, &settings);
        let own = messages.iter().filter(|message| {
            let (kind, namespace, name) = (&message.kind, &message.namespace, &message.name);
            of.contains(&format!("{kind} {namespace}/{name}"))
        });
        own.map(ToString::to_string).collect()
    }

    /// Policies that are stored although nothing here enforces them.
    fn not_enforced(&self, namespace: &str, global: &Global) -> Vec<String> {
        let all = self.objects.iter().map(|object| &object.value);
        let own = all.filter(|value| {
            let of = &value["metadata"]["namespace"];
            let kind = value["kind"].as_str().unwrap_or_default();
            matches!(kind, "AuthorizationPolicy" | "RequestAuthentication")
                && (*of == *namespace || *of == *global.istio_namespace)
        });
        let line = |value: &Value| {
            let text = |at: &str| value["metadata"][at].as_str().unwrap_or_default();
            let kind = value["kind"].as_str().unwrap_or_default();
            let (namespace, name) = (text("namespace"), text("name"));
            format!("{kind} {namespace}/{name} is stored but not enforced: it is not supported")
        };
        own.map(line).collect()
    }
}

/// Whether an object has a part in where requests go.
fn counts(value: &Value) -> bool {
    let kind = value["kind"].as_str().unwrap_or_default();
    let api = value["apiVersion"].as_str().unwrap_or_default();
    let group = api.split_once('/').map_or("", |(group, _)| group);
    match kind {
        "ConfigMap" => value["metadata"]["name"] == MESH_CONFIG,
        kind if OF_PLATFORM.contains(&kind) => matches!(group, "" | "discovery.k8s.io"),
        kind => {
            let mut watched = WATCHED_KINDS.iter();
            watched.any(|of| of.kind == kind && of.group == group)
        }
    }
}

fn is_forbidden<T>(answer: &kube::Result<T>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 403)
}

/// The endpoints of services; those that somebody may not see are told of, as other kinds are.
async fn slices(global: &Global) -> anyhow::Result<Vec<Value>> {
    let client = client::connect(global).await?;
    let gvk = GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "endpointslices");
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let own: Api<DynamicObject> = Api::namespaced_with(client, &global.namespace, &resource);
    let mut found = client::list(&all, &resource).await;
    if is_forbidden(&found) {
        found = client::list(&own, &resource).await;
    }
    if is_forbidden(&found) {
        eprintln!(
            "lateen: you may not list endpointslices, so that the endpoints of services are left out"
        );
        return Ok(Vec::new());
    }
    let found = found.context("cannot list endpointslices")?;
    let values = found.iter().map(serde_json::to_value);
    Ok(values.collect::<Result<_, _>>()?)
}

async fn of_pod(name: &str, ignore_unmeshed: bool, global: &Global) -> anyhow::Result<()> {
    let client = client::connect(global).await?;
    let (pod, namespace) = client::find_pod(&client, name, global).await?;
    let seen = Seen::of(global).await?;
    let Some(value) = seen.pod(&pod, namespace) else {
        bail!("there is no pod {pod} in namespace {namespace}; `kubectl get pods -A` lists all");
    };
    let has_sidecar = pod::has_sidecar(value);
    if !has_sidecar && ignore_unmeshed {
        return Ok(());
    }
    output::print(pod::head(value));
    let Some(caller) = seen.platform.pod(&pod, namespace) else {
        output::line("   The pod has no address yet, so nothing leads to it");
        return Ok(());
    };
    let workload = &caller.workload;
    let services: Vec<&Service> = seen
        .platform
        .world
        .services_of(workload)
        .map(|of| &**of)
        .collect();
    let mut about = BTreeSet::from([format!("Pod {namespace}/{pod}")]);
    for service in &services {
        let told = seen.platform.described_service(service, Some(workload));
        output::print(format_args!("{RULE}{told}"));
        pod::undeclared(value, &told).iter().for_each(output::line);
        name_all(&told, &mut about);
    }
    if services.is_empty() {
        output::print(format_args!("{RULE}No service selects the pod\n"));
    }
    if has_sidecar {
        let told = seen.platform.described_workload(&caller);
        output::print(format_args!("{RULE}{told}"));
        name_policies(&told, &mut about);
    }
    conclude(&seen, &about, namespace, global);
    Ok(())
}

async fn of_service(name: &str, global: &Global) -> anyhow::Result<()> {
    let (name, namespace) = name.split_once('.').unwrap_or((name, &global.namespace));
    let namespace = namespace.split('.').next().unwrap_or(namespace);
    let seen = Seen::of(global).await?;
    let Some(service) = seen.platform.service(name, namespace) else {
        bail!(
            "there is no service {name} in namespace {namespace}; `kubectl get services -A` lists all"
        );
    };
    let told = seen.platform.described_service(service, None);
    output::print(&told);
    let mut about = BTreeSet::new();
    name_all(&told, &mut about);
    let pods = pods_by_policy(&seen, service, &mut about);
    if pods.is_empty() {
        output::print(format_args!("{RULE}No pod serves it\n"));
    }
    for (policy, pods) in pods {
        output::print(format_args!("{RULE}Pods: {}\n{policy}", pods.join(", ")));
    }
    conclude(&seen, &about, namespace, global);
    Ok(())
}

/// The pods that serve a service, those together to which the same applies.
fn pods_by_policy(
    seen: &Seen,
    service: &Service,
    about: &mut BTreeSet<String>,
) -> BTreeMap<String, Vec<String>> {
    let mut by_policy: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = seen.platform.world.workloads_by_ip.values();
    let own = all.filter(|workload| {
        workload.namespace == *service.namespace
            && !service.selector.is_empty()
            && service.selector.selects(&workload.labels)
    });
    // A pod with several addresses is one.
    let own: BTreeMap<&str, _> = own.map(|workload| (&*workload.name, workload)).collect();
    let objects: BTreeMap<&str, &Value> = seen.pods(&service.namespace).collect();
    for (name, workload) in own {
        let Some(caller) = seen.platform.caller_of(workload.clone()) else {
            continue;
        };
        let pod = objects.get(name).copied();
        let text = if pod.is_some_and(pod::has_sidecar) {
            let told = seen.platform.described_workload(&caller);
            name_policies(&told, about);
            told.to_string()
        } else {
            "WARNING: no sidecar, so the mesh does nothing for these\n".to_owned()
        };
        by_policy.entry(text).or_default().push(name.to_owned());
    }
    by_policy
}

/// The objects that a description of a service is made of.
fn name_all(told: &DescribedService, about: &mut BTreeSet<String>) {
    about.insert(format!("Service {}/{}", told.namespace, told.name));
    let rules = told.rules.iter();
    about.extend(rules.map(|rule| format!("DestinationRule {}", rule.object)));
    about.extend(told.leading.iter().map(|rule| rule.object.clone()));
    about.extend(told.elsewhere.iter().cloned());
    let gateways = told.exposed.iter();
    about.extend(gateways.map(|of| format!("Gateway {}", of.gateway)));
}

fn name_policies(told: &DescribedWorkload, about: &mut BTreeSet<String>) {
    let modes = told.modes.iter();
    about.extend(modes.map(|mode| format!("PeerAuthentication {}", mode.by)));
    about.extend(told.sidecar.iter().map(|of| format!("Sidecar {of}")));
    let filters = told.filters.iter();
    about.extend(filters.map(|of| format!("EnvoyFilter {of}")));
}

/// What is wrong with any of it.
fn conclude(seen: &Seen, about: &BTreeSet<String>, namespace: &str, global: &Global) {
    let mut warnings = seen.warnings(about, global);
    warnings.extend(seen.not_enforced(namespace, global));
    if !warnings.is_empty() {
        output::print(format_args!("{RULE}Warnings:\n"));
    }
    for warning in warnings {
        output::line(format_args!("   {warning}"));
    }
}
