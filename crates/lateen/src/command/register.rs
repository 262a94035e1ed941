//! `lateen register` and `deregister`: a workload outside of the cluster as an endpoint of a service, as
//! `istioctl` had it until 1.5. What Istio wrote as Endpoints is a WorkloadEntry here: that has labels
//! and an identity.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Service;
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
    address: IpAddr,
}

/// A port with its name, from which its protocol is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    number: u16,
}

/// `8080` is `http`, the others are named after what is spoken there.
fn port(text: &str) -> Result<Port, String> {
    let (name, number) = match text.split_once(':') {
        Some((name, number)) => (name.to_owned(), number),
        None => (String::new(), text),
    };
    let number: u16 = number
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is not PORT or PROTOCOL:PORT"))?;
    let name = match name.as_str() {
        "" => usual(number).to_owned(),
        _ => name,
    };
    if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return Err(format!(
            "{name:?} is no name of a port: use letters of lower case, digits and -"
        ));
    }
    Ok(Port { name, number })
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
        let selector = match there {
            Some(service) => selector(&service)?,
            None => {
                let made: Service = serde_json::from_value(self.service(namespace))?;
                let made = services.create(&PostParams::default(), &made).await;
                let made =
                    made.with_context(|| format!("cannot create service {name}.{namespace}"))?;
                output::line(format_args!(
                    "Created service {name} in namespace {namespace}"
                ));
                selector(&made)?
            }
        };
        let entry = self.entry(namespace, &selector);
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
    fn service(&self, namespace: &str) -> Value {
        let ports = self.what.ports.iter();
        let ports = ports.map(|port| json!({"name": port.name, "port": port.number}));
        let ports: Vec<Value> = ports.collect();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.service, "namespace": namespace,
                "labels": {REGISTERED.0: REGISTERED.1}},
            "spec": {"selector": {"app": self.service}, "ports": ports},
        })
    }

    fn entry(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Value {
        let mut labels = selector.clone();
        labels.extend(self.what.labels.iter().cloned());
        let ports = self.what.ports.iter();
        let ports: BTreeMap<&str, u16> = ports
            .map(|port| (port.name.as_str(), port.number))
            .collect();
        let annotations: BTreeMap<&String, &String> = self
            .what
            .annotations
            .iter()
            .map(|(key, value)| (key, value))
            .collect();
        json!({
            "apiVersion": WORKLOAD_ENTRY.api_version(), "kind": WORKLOAD_ENTRY.kind,
            "metadata": {"name": entry_name(&self.service, self.address), "namespace": namespace,
                "labels": {REGISTERED.0: REGISTERED.1}, "annotations": annotations},
            "spec": {"address": self.address.to_string(), "labels": labels, "ports": ports,
                "serviceAccount": self.what.service_account},
        })
    }
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
    fn ports_have_names() {
        for (text, expect) in [
            ("3306", Some(("mysql", 3306))),
            ("8080", Some(("http", 8080))),
            ("grpc:9000", Some(("grpc", 9000))),
            ("tcp-db:1", Some(("tcp-db", 1))),
            ("0", None),
            ("http:", None),
            ("70000", None),
            ("HTTP:80", None),
        ] {
            let found = port(text).ok();
            let found = found.as_ref().map(|port| (&*port.name, port.number));
            assert_eq!(found, expect, "{text}");
        }
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
        let selector = BTreeMap::from([("app".to_owned(), "legacy".to_owned())]);
        let entry = register.entry("shop", &selector);
        assert_eq!(entry["metadata"]["name"], "legacy-fd00--1");
        let expect = json!({"address": "fd00::1", "labels": {"app": "legacy", "version": "v1"},
            "ports": {"http": 8080}, "serviceAccount": "old"});
        assert_eq!(entry["spec"], expect);
        // Both are as the webhook wants them.
        assert!(lateen_galley::validate(&entry).is_empty(), "{entry}");
        let service = register.service("shop");
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "port": 8080}])
        );
    }

    #[test]
    fn protocols_of_usual_ports_are_known() {
        for number in [80, 443, 3306, 6379, 27017] {
            assert_ne!(Protocol::parse(usual(number)), None, "{number}");
        }
    }
}
