//! `lateen register` and `deregister`: a workload outside of the cluster as an endpoint of a service, as
//! `istioctl` had it until 1.5. What Istio wrote as Endpoints is a WorkloadEntry here: that has labels
//! and an identity.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, PostParams},
};
use lateen_api::kinds::{WORKLOAD_ENTRY, WORKLOAD_GROUP};
use lateen_core::Labels;
use lateen_registry::resource;
use serde_json::{Value, json};

use super::kinds::api;
use crate::{cli::Global, client, output};

/// On what `register` made.
pub(super) const REGISTERED: (&str, &str) = ("app.kubernetes.io/managed-by", "lateen-register");

/// Make a workload outside of the cluster an endpoint of a service; the service is made where it is missing.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen register mysql 10.1.2.3 3306\n  lateen register legacy 10.1.2.3 http:8080 tcp:9000 -l version=v1 -s legacy -n shop"
)]
pub(crate) struct Register {
    /// The service's name.
    service: String,
    /// The workload's address.
    #[arg(value_parser = address)]
    address: IpAddr,
    #[command(flatten)]
    what: Registered,
}

/// What a workload is like.
#[derive(Clone, Debug, Args)]
pub(super) struct Registered {
    /// Its ports: `PORT` or `PROTOCOL:PORT`.
    #[arg(required = true, value_parser = port)]
    ports: Vec<Port>,
    /// Labels of the workload, `key=value`.
    #[arg(short, long, value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Annotations of the workload, `key=value`.
    #[arg(short, long, value_delimiter = ',', value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// The service account as which the workload proves itself.
    #[arg(short = 's', long = "serviceaccount", default_value = "default")]
    service_account: String,
}

/// Take a workload outside of the cluster from a service. The service stays.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen deregister mysql 10.1.2.3")]
pub(crate) struct Deregister {
    /// The service's name.
    service: String,
    /// The workload's address.
    #[arg(value_parser = address)]
    address: IpAddr,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse();
    address.map_err(|_| format!("{text:?} is no address; write one as 10.1.2.3 or fd00::1"))
}

/// A port as it is given; its name says what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: Option<String>,
    number: u16,
}

fn port(text: &str) -> Result<Port, String> {
    let (name, number) = match text.split_once(':') {
        Some((name, number)) => (Some(name), number),
        None => (None, text),
    };
    let number: u16 = number
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is not PORT or PROTOCOL:PORT"))?;
    if let Some(name) = name {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = !name.is_empty() && !name.starts_with('-') && !name.ends_with('-');
        if !is_name || !name.chars().all(fits) {
            return Err(format!(
                "{name:?} is no name of a port: use letters of lower case, digits and -"
            ));
        }
    }
    Ok(Port {
        name: name.map(str::to_owned),
        number,
    })
}

/// What is spoken at a port of which nobody says it.
fn usual(number: u16) -> &'static str {
    match number {
        443 => "https",
        3306 => "mysql",
        6379 => "redis",
        27017 => "mongo",
        _ => "http",
    }
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| format!("{text:?} is not key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Register {
    /// One workload of a service.
    pub(super) fn of(service: &str, address: IpAddr, what: &Registered) -> Register {
        Register {
            service: service.to_owned(),
            address,
            what: what.clone(),
        }
    }

    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let (name, namespace) = (&self.service, &global.namespace);
        let client = client::connect(global).await?;
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let there = services.get_opt(name).await;
        let there = there.with_context(|| format!("cannot read service {name}.{namespace}"))?;
        let service = match there {
            Some(service) => service,
            None => {
                let made: Service = serde_json::from_value(self.service(namespace)?)?;
                let made = services.create(&PostParams::default(), &made).await;
                let made =
                    made.with_context(|| format!("cannot create service {name}.{namespace}"))?;
                output::line(format_args!(
                    "Created service {name} in namespace {namespace}"
                ));
                made
            }
        };
        let entry = self.entry(namespace, &service)?;
        let entry: DynamicObject = serde_json::from_value(entry)?;
        let entries = api(&client, &WORKLOAD_ENTRY, namespace);
        let called = entry.name_any();
        match entries.create(&PostParams::default(), &entry).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => bail!(
                "{} is registered already, as WorkloadEntry {called}.{namespace}; `lateen deregister {name} {0}` takes it away",
                self.address
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot create WorkloadEntry {called}.{namespace}"));
            }
        }
        output::line(format_args!(
            "Registered {} as an endpoint of service {name} in namespace {namespace}",
            self.address
        ));
        Ok(())
    }

    /// A service of its own.
    fn service(&self, namespace: &str) -> anyhow::Result<Value> {
        let ports = names(&self.what.ports, &[])?.into_iter();
        let ports: Vec<Value> = ports
            .map(|(name, number)| json!({"name": name, "port": number}))
            .collect();
        Ok(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.service, "namespace": namespace,
                "labels": {REGISTERED.0: REGISTERED.1}},
            "spec": {"selector": {"app": self.service}, "ports": ports},
        }))
    }

    fn entry(&self, namespace: &str, service: &Service) -> anyhow::Result<Value> {
        let mut labels = selector(service)?;
        labels.extend(self.what.labels.iter().cloned());
        let of_service = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let of_service: Vec<ServicePort> = of_service.cloned().collect();
        let ports = names(&self.what.ports, &of_service)
            .with_context(|| format!("service {}.{namespace}", self.service))?;
        let annotations: BTreeMap<&String, &String> = self
            .what
            .annotations
            .iter()
            .map(|(key, value)| (key, value))
            .collect();
        Ok(json!({
            "apiVersion": WORKLOAD_ENTRY.api_version(), "kind": WORKLOAD_ENTRY.kind,
            "metadata": {"name": entry_name(&self.service, self.address), "namespace": namespace,
                "labels": {REGISTERED.0: REGISTERED.1}, "annotations": annotations},
            "spec": {"address": self.address.to_string(), "labels": labels, "ports": ports,
                "serviceAccount": self.what.service_account},
        }))
    }
}

/// The ports by their names: those that are given; else those that the service has for the numbers;
/// else what is usually spoken there. The port of a service that has one without a name is left out:
/// it leads where the service says.
fn names(given: &[Port], of_service: &[ServicePort]) -> anyhow::Result<BTreeMap<String, u16>> {
    let mut ports = BTreeMap::new();
    for port in given {
        let number = port.number;
        if let Some(name) = &port.name
            && let Some(other) = ports.insert(name.clone(), number)
        {
            bail!("ports {other} and {number} are both called {name:?}; call one {name}-{number}");
        }
    }
    for Port { number, .. } in given.iter().filter(|port| port.name.is_none()) {
        let name = match of_service {
            [only] => only.name.clone().unwrap_or_default(),
            several => {
                let mut several = several.iter();
                let same = several.find(|port| port.port == i32::from(*number));
                let name = same.and_then(|port| port.name.clone());
                name.unwrap_or_else(|| usual(*number).to_owned())
            }
        };
        if name.is_empty() {
            must_lead_to(&of_service[0], *number)?;
            continue;
        }
        let name = match ports.contains_key(&name) {
            true => format!("{name}-{number}"),
            false => name,
        };
        if ports.insert(name.clone(), *number).is_some() {
            bail!("port {number} is given twice");
        }
    }
    Ok(ports)
}

/// A port without a name leads to one number at all workloads.
fn must_lead_to(port: &ServicePort, number: u16) -> anyhow::Result<()> {
    let target = match &port.target_port {
        Some(IntOrString::String(_)) => return Ok(()),
        Some(IntOrString::Int(target)) if *target != 0 => *target,
        _ => port.port,
    };
    if target != i32::from(number) {
        bail!(
            "its port {} has no name and leads to port {target} of each workload, not to {number}: give it a name, or register port {target}",
            port.port
        );
    }
    Ok(())
}

/// `mysql-10-1-2-3`.
fn entry_name(service: &str, address: IpAddr) -> String {
    let address = address.to_string().replace(['.', ':'], "-");
    // An address may begin or end with colons, a name with no dash.
    format!("{service}-{}", address.trim_matches('-'))
}

pub(super) fn selector(service: &Service) -> anyhow::Result<BTreeMap<String, String>> {
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.clone());
    selector.filter(|selector| !selector.is_empty()).with_context(|| {
        format!(
            "service {} selects nothing, so nothing can be registered for it; give it a selector",
            service.name_any()
        )
    })
}

impl Deregister {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let (name, namespace) = (&self.service, &global.namespace);
        let client = client::connect(global).await?;
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service = services.get(name).await;
        let service = service.with_context(|| format!("cannot read service {name}.{namespace}"))?;
        let entries = self
            .entries(&client, namespace, selector(&service)?)
            .await?;
        if entries.is_empty() {
            bail!(
                "no workload with address {} is registered for service {name} in namespace {namespace}; `lateen get workloadentries -n {namespace}` lists those that are",
                self.address
            );
        }
        let api = api(&client, &WORKLOAD_ENTRY, namespace);
        for entry in entries {
            let called = entry.name_any();
            let gone = api.delete(&called, &DeleteParams::default()).await;
            gone.with_context(|| format!("cannot delete WorkloadEntry {called}.{namespace}"))?;
        }
        output::line(format_args!(
            "Deregistered {} from service {name} in namespace {namespace}",
            self.address
        ));
        Ok(())
    }

    /// Entries of the service at the address. What a workload's own proxy registered is its own.
    async fn entries(
        &self,
        client: &Client,
        namespace: &str,
        selector: BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let api = api(client, &WORKLOAD_ENTRY, namespace);
        let all = client::list(&api, &resource(&WORKLOAD_ENTRY)).await;
        let all = all.context("cannot list workloadentries")?;
        let selector = Labels(selector);
        let own = all.into_iter().filter(|entry| {
            let spec = &entry.data["spec"];
            let labels: BTreeMap<String, String> =
                serde_json::from_value(spec["labels"].clone()).unwrap_or_default();
            let by_itself = entry
                .owner_references()
                .iter()
                .any(|of| of.kind == WORKLOAD_GROUP.kind);
            spec["address"].as_str().and_then(|at| at.parse().ok()) == Some(self.address)
                && selector.selects(&Labels(labels))
                && !by_itself
        });
        Ok(own.collect())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use lateen_core::Protocol;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        register: Register,
    }

    #[test]
    fn ports_are_numbers_with_names() {
        for (text, expect) in [
            ("3306", Some((None, 3306))),
            ("grpc:9000", Some((Some("grpc"), 9000))),
            ("tcp-db:1", Some((Some("tcp-db"), 1))),
            ("0", None),
            ("http:", None),
            (":80", None),
            ("-:80", None),
            ("70000", None),
            ("HTTP:80", None),
        ] {
            let found = port(text).ok();
            let found = found
                .as_ref()
                .map(|port| (port.name.as_deref(), port.number));
            assert_eq!(found, expect, "{text}");
        }
    }

    #[test]
    fn every_port_has_a_name_of_its_own() {
        let check = |given: &[&str], of_service: Value, expect: Result<&[(&str, u16)], &str>| {
            let given: Vec<Port> = given
                .iter()
                .map(|text| port(text).expect("a port"))
                .collect();
            let of_service: Vec<ServicePort> =
                serde_json::from_value(of_service).expect("ports of a service");
            let found = names(&given, &of_service);
            match (found, expect) {
                (Ok(found), Ok(expect)) => {
                    let expect = expect
                        .iter()
                        .map(|(name, port)| ((*name).to_owned(), *port));
                    assert_eq!(found, expect.collect(), "{given:?}");
                }
                (Err(error), Err(expect)) => {
                    assert!(error.to_string().contains(expect), "{error}");
                }
                (found, _) => panic!("{given:?}: {found:?}"),
            }
        };
        let none = || json!([]);
        check(&["3306"], none(), Ok(&[("mysql", 3306)]));
        check(
            &["8080", "9090"],
            none(),
            Ok(&[("http", 8080), ("http-9090", 9090)]),
        );
        check(
            &["9090", "http:80"],
            none(),
            Ok(&[("http", 80), ("http-9090", 9090)]),
        );
        check(&["tcp:1", "tcp:2"], none(), Err("both called \"tcp\""));
        check(&["80", "81", "81"], none(), Err("port 81 is given twice"));
        // What the service calls a port is what leads to it.
        let two = || json!([{"name": "web", "port": 80}, {"name": "grpc-own", "port": 90}]);
        check(&["90", "80"], two(), Ok(&[("web", 80), ("grpc-own", 90)]));
        let one = || json!([{"name": "web", "port": 80}]);
        check(&["8080"], one(), Ok(&[("web", 8080)]));
        check(&["80", "81"], one(), Ok(&[("web", 80), ("web-81", 81)]));
        let unnamed = || json!([{"port": 80, "targetPort": 8080}]);
        check(&["8080"], unnamed(), Ok(&[]));
        check(
            &["80"],
            unnamed(),
            Err("has no name and leads to port 8080"),
        );
    }

    #[test]
    fn entries_have_what_the_service_selects() {
        let flags = [
            "register",
            "legacy",
            "fd00::1",
            "8080",
            "-l",
            "version=v1",
            "-s",
            "old",
        ];
        let register = Cli::try_parse_from(flags).expect("flags").register;
        let service = register.service("shop").expect("a service");
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "port": 8080}])
        );
        let service: Service = serde_json::from_value(service).expect("a service");
        let entry = register.entry("shop", &service).expect("an entry");
        assert_eq!(entry["metadata"]["name"], "legacy-fd00--1");
        let expect = json!({"address": "fd00::1", "labels": {"app": "legacy", "version": "v1"},
            "ports": {"http": 8080}, "serviceAccount": "old"});
        assert_eq!(entry["spec"], expect);
        // It is as the webhook wants it.
        assert!(lateen_galley::validate(&entry).is_empty(), "{entry}");
    }

    #[test]
    fn protocols_of_usual_ports_are_known() {
        for number in [80, 443, 3306, 6379, 27017] {
            assert_ne!(Protocol::parse(usual(number)), None, "{number}");
        }
    }
}
