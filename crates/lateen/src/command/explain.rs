//! `lateen explain`: what a proxy would do with a request, and why.

mod cluster;
mod recorded;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::ListParams;
use lateen_explain::{Behind, Call, Explanation, Platform, Security, Served, explain};
use lateen_registry::Documents;

use crate::cli::Global;
use crate::client;
use crate::output::{self, Format};

/// The proxy's administration port, on its pod's loopback.
const ADMIN: u16 = 15000;
/// The domain of the cluster's services.
const DOMAIN: &str = "cluster.local";

/// Say what a proxy would do with a request, and why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen explain GET http://reviews:9080/reviews/0 --from productpage-v1-77bb\n  lateen explain GET http://reviews:9080/ --from productpage-v1 -H 'end-user: jason' --at shop.yaml --at routes.yaml\n  lateen explain GET http://reviews:9080/ --from productpage-v1 --at shop.yaml --diff new-routes.yaml\n  lateen explain GET http://reviews:9080/ --from productpage-v1 --diff new-routes.yaml\n  lateen explain UDP udp://dns.example:53 --from dns-gateway --at dns.yaml\n  lateen explain --recorded-from productpage-v1-77bb --diff new-routes.yaml"
)]
pub(crate) struct Explain {
    /// The method of the request; anything for what is none.
    #[arg(required_unless_present_any = ["recorded", "recorded_from"])]
    method: Option<String>,
    /// Where it goes: `http://host[:port]/path`, `https://host[:port]` (TLS of the caller's own),
    /// `tcp://host:port`, or `udp://host:port` for a datagram to a gateway.
    #[arg(required_unless_present_any = ["recorded", "recorded_from"])]
    url: Option<String>,
    /// The pod whose proxy is asked, `name[.namespace]`; with --at, what its name begins with is
    /// enough. Where it is a gateway, the request comes from outside.
    #[arg(long, required_unless_present = "recorded_from")]
    from: Option<String>,
    /// A header of the request, `name: value`.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// The address that the host stands for, where the proxy's configuration does not tell.
    #[arg(long)]
    to: Option<IpAddr>,
    /// The caller's own TLS shows a certificate that a gateway which asks for one takes.
    #[arg(long)]
    certificate: bool,
    /// The request is made with HTTP/2 (as gRPC is), also without TLS.
    #[arg(long)]
    http2: bool,
    /// The request comes to the pod, not from it.
    #[arg(long)]
    inbound: bool,
    /// Files of services, workloads and configuration that are taken for the cluster.
    #[arg(long)]
    at: Vec<PathBuf>,
    /// A file that would be applied, to the files of --at or, without these, to the cluster: what
    /// would it change for this request?
    #[arg(long)]
    diff: Option<PathBuf>,
    /// Instead of one request, those of an access log of the pod's proxy, in Istio's default format
    /// or its JSON encoding: a file, or `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "headers", "to", "inbound", "certificate", "http2"])]
    recorded: Option<PathBuf>,
    /// The same of a running pod, whose log is read.
    #[arg(long, value_name = "POD", conflicts_with_all = ["method", "headers", "to", "inbound", "certificate", "http2", "recorded"])]
    recorded_from: Option<String>,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Explain {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let recording = match (&self.recorded, &self.recorded_from) {
            (Some(path), _) => Some(recorded::of_file(path)?),
            (None, Some(pod)) => Some(recorded::of_pod(pod, global).await?),
            (None, None) => None,
        };
        let texts = match (self.at.as_slice(), &self.diff) {
            ([], None) if recording.is_none() => return self.print(&self.live(global).await?),
            ([], _) => cluster::objects(global).await?,
            (files, _) => files
                .iter()
                .map(|path| read(path))
                .collect::<anyhow::Result<_>>()?,
        };
        let change = self.diff.as_deref().map(read).transpose()?;
        // In a cluster a pod is named as it is for every other command.
        let from = if self.at.is_empty() {
            let client = client::connect(global).await?;
            let (pod, namespace) = client::find_pod(&client, self.from(), global).await?;
            format!("{pod}.{namespace}")
        } else {
            self.from().to_owned()
        };
        if let Some(recording) = recording {
            return recorded::print(&recording, &from, &texts, change, self.output);
        }
        let before = self.offline(&from, &texts, &[])?;
        let Some(change) = change else {
            return self.print(&before);
        };
        let after = self.offline(&from, &texts, &[change])?;
        match self.output {
            Format::Short => {
                if before.decision() == after.decision() {
                    output::print(format_args!("nothing changes for this request\n"));
                }
                output::print(difference(&before.to_string(), &after.to_string()));
                Ok(())
            }
            format => {
                let both = serde_json::json!({ "before": before, "after": after });
                output::structured(&both, format)
            }
        }
    }

    /// The pod whose proxy is asked.
    fn from(&self) -> &str {
        let recorded = self.recorded_from.as_deref();
        self.from.as_deref().or(recorded).unwrap_or_default()
    }

    /// The method and the URL, which are there unless recorded requests are.
    fn request(&self) -> (&str, &str) {
        let (method, url) = (self.method.as_deref(), self.url.as_deref());
        (method.unwrap_or_default(), url.unwrap_or_default())
    }

    /// At the proxy as it is configured now.
    async fn live(&self, global: &Global) -> anyhow::Result<Explanation> {
        let client = client::connect(global).await?;
        let (pod, namespace) = client::find_pod(&client, self.from(), global).await?;
        let path = "/config_dump?include_eds";
        let text = client::pod_get(&client, namespace, &pod, ADMIN, path).await?;
        let served = Served::from_dump(&serde_json::from_str(&text)?)?;
        let (method, url) = self.request();
        let mut call = served.call(method, url, self.to)?;
        self.complete(&mut call)?;
        if served.is_gateway() {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let services: Api<Service> = Api::namespaced(client, namespace);
            let pod = pods.get(&pod).await?;
            let services = services.list(&ListParams::default()).await?;
            let port = call.destination.port();
            let port = port_behind(&services.items, &pod, port, call.udp);
            call.destination.set_port(port);
        }
        // What the proxy does is told in any case; which fields of which objects it comes from, only
        // where these may be read.
        let platform = cluster::objects(global).await.and_then(|texts| {
            let platform = Platform::read(&texts, DOMAIN);
            platform.map_err(|faults| anyhow!("{}", faults.join("\n")))
        });
        match platform {
            Ok(platform) => {
                let caller = platform.pod(&pod, namespace);
                let offline = caller.map(|caller| platform.offline(&caller));
                let behind = Behind {
                    offline: offline.as_ref(),
                    places: None,
                };
                let mut told = explain(&served, &call, behind);
                if offline.is_none() {
                    told.notes.push(format!(
                        "fields of objects are not told: no address is {pod}.{namespace}'s alone"
                    ));
                }
                Ok(told)
            }
            Err(error) => {
                let mut told = explain(&served, &call, Behind::default());
                told.notes
                    .push(format!("fields of objects are not told: {error:#}"));
                Ok(told)
            }
        }
    }

    /// At the proxy that a pod of these documents would have.
    fn offline(
        &self,
        from: &str,
        texts: &[Documents],
        changes: &[Documents],
    ) -> anyhow::Result<Explanation> {
        let platform = Platform::changed(texts, changes, DOMAIN)
            .map_err(|faults| anyhow!("{}", faults.join("\n")))?;
        let caller = platform
            .caller(from)
            .with_context(|| format!("no pod is called {from:?}"))?;
        let (method, url) = self.request();
        let offline = platform.offline(&caller);
        let served = Served::offline(&offline)?;
        let mut call = if self.inbound {
            platform.call_to(&caller, method, url)?
        } else {
            platform.call(&caller, method, url)?
        };
        self.complete(&mut call)?;
        let behind = Behind {
            offline: Some(&offline),
            places: Some(&platform.places),
        };
        let mut told = explain(&served, &call, behind);
        told.notes.extend(platform.all_notes());
        Ok(told)
    }

    fn complete(&self, call: &mut Call) -> anyhow::Result<()> {
        call.inbound = self.inbound;
        call.h2 = self.http2;
        if let Security::Tls { certificate, .. } = &mut call.security {
            *certificate = self.certificate;
        }
        if let Some(address) = self.to {
            call.destination = SocketAddr::new(address, call.destination.port());
        }
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                bail!("header {header:?} is not of the form name: value");
            };
            let name = name.trim().to_ascii_lowercase();
            call.headers.push((name, value.trim().to_owned()));
        }
        Ok(())
    }

    fn print(&self, told: &Explanation) -> anyhow::Result<()> {
        match self.output {
            Format::Short => {
                output::print(told);
                Ok(())
            }
            format => output::structured(&serde_json::to_value(told)?, format),
        }
    }
}

/// The port of a gateway's pod behind one of its services; the port itself where none has it.
fn port_behind(services: &[Service], pod: &Pod, port: u16, udp: bool) -> u16 {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let specs = services.iter().filter_map(|service| service.spec.as_ref());
    let own = specs.filter(|spec| {
        let selector = spec
            .selector
            .as_ref()
            .filter(|selector| !selector.is_empty());
        selector.is_some_and(|selector| selector.iter().all(|(k, v)| labels.get(k) == Some(v)))
    });
    let mut ports = own.flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.find(|found| {
        let is_udp = found.protocol.as_deref() == Some("UDP");
        found.port == i32::from(port) && is_udp == udp
    });
    let target = match found.and_then(|found| found.target_port.as_ref()) {
        None => None,
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.and_then(|port| u16::try_from(port.container_port).ok())
        }
    };
    target.unwrap_or(port)
}

fn read(path: &Path) -> anyhow::Result<Documents> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    Ok(Documents::file(name, text))
}

/// The lines that are in one of two texts only.
fn difference(before: &str, after: &str) -> String {
    let only = |mark: &str, in_: &str, of: &str| -> String {
        let others: Vec<&str> = of.lines().collect();
        let lines = in_.lines().filter(|line| !others.contains(line));
        lines.map(|line| format!("{mark} {line}\n")).collect()
    };
    only("-", before, after) + &only("+", after, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_asked_at_the_port_of_its_service() {
        let service = |selector: &str, ports: serde_json::Value| -> Service {
            let spec = serde_json::json!({ "selector": { "app": selector }, "ports": ports });
            serde_json::from_value(serde_json::json!({ "spec": spec })).expect("a Service")
        };
        let services = [
            service(
                "other",
                serde_json::json!([{ "port": 80, "targetPort": 1 }]),
            ),
            service(
                "gateway",
                serde_json::json!([{ "port": 80, "targetPort": 8080 },
                    { "port": 443, "targetPort": "https" }, { "port": 31400 },
                    { "port": 80, "protocol": "UDP", "targetPort": 1080 }]),
            ),
        ];
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "labels": { "app": "gateway" } },
            "spec": { "containers": [{ "name": "c",
                "ports": [{ "name": "https", "containerPort": 8443 }] }] },
        }))
        .expect("a Pod");
        let ports = [80, 443, 31400, 9999].map(|port| port_behind(&services, &pod, port, false));
        assert_eq!(ports, [8080, 8443, 31400, 9999]);
        assert_eq!(port_behind(&services, &pod, 80, true), 1080);
    }

    #[test]
    fn differences_are_the_lines_of_one_side() {
        let told = difference("a\nb\nc\n", "a\nd\nc\n");
        assert_eq!(told, "- b\n+ d\n");
    }
}
