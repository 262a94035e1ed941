//! `lateen proxy-config`: what a proxy was configured with, from its own admin interface or from a
//! dump of it in a file.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

mod all;
mod bootstrap;
mod cluster;
pub(crate) mod dump;
mod ecds;
mod eds;
mod endpoint;
#[cfg(test)]
mod goldens;
mod listener;
pub(crate) mod log;
mod root;
mod route;
mod secret;
#[cfg(test)]
mod tests;

use dump::Dump;

/// The proxy's administration port, on its pod's loopback.
pub(crate) const ADMIN: u16 = lateen_core::ports::ADMIN;

/// Show what a proxy was configured with.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-config all deploy/productpage-v1\n  \
                  lateen proxy-config listener deploy/productpage-v1 --port 15006\n  \
                  lateen proxy-config route deploy/istio-ingressgateway.istio-system --name http.8080 -o json\n  \
                  lateen proxy-config cluster deploy/reviews-v1 --fqdn ratings.default.svc.cluster.local\n  \
                  lateen proxy-config endpoint reviews-v1-77bb --port 9080\n  \
                  lateen proxy-config bootstrap deploy/reviews-v1 -o json\n  \
                  lateen proxy-config secret deploy/reviews-v1\n  \
                  lateen proxy-config rootca-compare deploy/reviews-v1 deploy/ratings-v1\n  \
                  lateen proxy-config ecds deploy/reviews-v1\n  \
                  lateen proxy-config log deploy/reviews-v1 --level http:debug")]
pub(crate) struct ProxyConfig {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All of it, one table after the other
    #[command(alias = "a")]
    All(all::All),
    /// What the proxy was started with
    #[command(alias = "b")]
    Bootstrap(bootstrap::Bootstrap),
    /// The clusters
    #[command(alias = "clusters", alias = "c")]
    Cluster(cluster::Cluster),
    /// The extensions that are configured apart from their listeners
    Ecds(ecds::Ecds),
    /// The endpoints as the control plane sent them, with their localities
    #[command(hide = true)]
    Eds(eds::Eds),
    /// The endpoints, with their health
    #[command(alias = "endpoints", alias = "ep")]
    Endpoint(endpoint::Endpoint),
    /// The listeners, with what they match and where they send it
    #[command(alias = "listeners", alias = "l")]
    Listener(listener::Listener),
    /// The levels of the proxy's log, and to change them
    #[command(alias = "o")]
    Log(log::Log),
    /// Whether two proxies trust the same root certificates
    #[command(name = "rootca-compare", alias = "rc")]
    RootCompare(root::Compare),
    /// The routes
    #[command(alias = "routes", alias = "r")]
    Route(route::Route),
    /// The certificates, with how long they are valid
    #[command(alias = "secrets", alias = "s")]
    Secret(secret::Secret),
}

/// The proxy.
#[derive(Debug, Args)]
struct Target {
    /// The proxy's pod, `name[.namespace]`, or a workload or a Service for one of its pods,
    /// `deploy/name[.namespace]`.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pod: Option<String>,
    /// Read what the proxy's admin interface answered from this file instead; `-` is standard input.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The port of the proxy's admin interface.
    #[arg(long = "proxy-admin-port", default_value_t = ADMIN, value_name = "PORT")]
    admin_port: u16,
}

/// `/config_dump`, without endpoints.
const DUMP: &str = "/config_dump";
/// The same with endpoints, which Envoy leaves out where nobody asks for them.
const DUMP_WITH_ENDPOINTS: &str = "/config_dump?include_eds";

impl ProxyConfig {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.what {
            What::All(all) => all.run(global).await,
            What::Bootstrap(bootstrap) => bootstrap.run(global).await,
            What::Cluster(cluster) => cluster.run(global).await,
            What::Ecds(ecds) => ecds.run(global).await,
            What::Eds(eds) => eds.run(global).await,
            What::Endpoint(endpoint) => endpoint.run(global).await,
            What::Listener(listener) => listener.run(global).await,
            What::Log(log) => log.run(global).await,
            What::RootCompare(compare) => compare.run(global).await,
            What::Route(route) => route.run(global).await,
            What::Secret(secret) => secret.run(global).await,
        }
    }
}

impl Target {
    /// What the admin interface answers, or answered when the file was made.
    async fn admin(&self, global: &Global, path: &str) -> anyhow::Result<String> {
        match (&self.file, &self.pod) {
            (Some(file), _) => output::read(file),
            (None, Some(pod)) => {
                let client = client::connect(global).await?;
                let (pod, namespace) = client::find_pod(&client, pod, global).await?;
                client::pod_get(&client, namespace, &pod, self.admin_port, path).await
            }
            // The command line's parser refuses it.
            (None, None) => anyhow::bail!("name a pod, or a file with --file"),
        }
    }

    async fn dump(&self, global: &Global, path: &str) -> anyhow::Result<Dump> {
        let text = self.admin(global, path).await?;
        Dump::read(&text).with_context(|| self.source())
    }

    /// What is read, for errors.
    fn source(&self) -> String {
        match (&self.file, &self.pod) {
            (Some(file), _) => file.display().to_string(),
            (None, pod) => format!(
                "port {} of {}",
                self.admin_port,
                pod.as_deref().unwrap_or("")
            ),
        }
    }
}

/// A table, or the messages that it is made from.
fn print(format: Format, table: &Table, message: &str, all: &[&Value]) -> anyhow::Result<()> {
    if format == Format::Short {
        output::print(table);
        return Ok(());
    }
    output::structured(&all.iter().map(|one| named(message, one)).collect(), format)
}

/// A message with the names that `istioctl` writes. One that holds what is not known here is shown as
/// the proxy wrote it, rather than without that.
fn named(message: &str, value: &Value) -> Value {
    lateen_xds::json::with_json_names(message, value.clone()).unwrap_or_else(|error| {
        eprintln!("lateen: shown with the names that the proxy uses: {error}");
        value.clone()
    })
}

/// The name of a resource, and the text of a field or nothing.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The elements of a list, of which there may be none.
fn list<'a>(value: &'a Value, field: &str) -> std::slice::Iter<'a, Value> {
    value[field]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// The rule that a resource came from, `name.namespace`, from the metadata that the control plane
/// puts on it.
fn origin(resource: &Value) -> String {
    let path = resource
        .pointer("/metadata/filter_metadata/istio/config")
        .and_then(Value::as_str);
    let Some((rest, name)) = path.and_then(|path| path.rsplit_once('/')) else {
        return String::new();
    };
    let namespace = rest
        .split("/namespaces/")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    format!("{name}.{}", namespace.unwrap_or_default())
}
