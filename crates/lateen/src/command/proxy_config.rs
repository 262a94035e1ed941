//! `lateen proxy-config`: what a proxy was configured with, from its own admin interface.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

mod cluster;
mod endpoint;
mod listener;
mod route;

/// The proxy's administration port, on its pod's loopback.
const ADMIN: u16 = 15000;

/// Show what a proxy was configured with.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen proxy-config listener deploy/productpage-v1 --port 15006\n  lateen proxy-config route deploy/istio-ingressgateway.istio-system --name http.8080 -o json\n  lateen proxy-config cluster deploy/reviews-v1 --fqdn ratings.default.svc.cluster.local\n  lateen proxy-config endpoint reviews-v1-77bb --port 9080"
)]
pub(crate) struct ProxyConfig {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The listeners, with what they match and where they send it
    #[command(alias = "listeners", alias = "l")]
    Listener(listener::Listener),
    /// The routes
    #[command(alias = "routes", alias = "r")]
    Route(route::Route),
    /// The clusters
    #[command(alias = "clusters", alias = "c")]
    Cluster(cluster::Cluster),
    /// The endpoints, with their health
    #[command(alias = "endpoints", alias = "ep")]
    Endpoint(endpoint::Endpoint),
}

/// The proxy and the form of the answer.
#[derive(Debug, Args)]
struct Target {
    /// The proxy's pod, `name[.namespace]`, or a Deployment for one of its pods,
    /// `deploy/name[.namespace]`.
    pod: String,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl ProxyConfig {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.what {
            What::Listener(listener) => listener.run(global).await,
            What::Route(route) => route.run(global).await,
            What::Cluster(cluster) => cluster.run(global).await,
            What::Endpoint(endpoint) => endpoint.run(global).await,
        }
    }
}

impl Target {
    async fn admin(&self, global: &Global, path: &str) -> anyhow::Result<Value> {
        let client = client::connect(global).await?;
        let (pod, namespace) = client::find_pod(&client, &self.pod, global).await?;
        let text = client::pod_get(&client, namespace, &pod, ADMIN, path).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The resources of one section of the config dump: those received by xDS
    /// and those of the bootstrap. `dump` ends the section's type name, and
    /// `field` is where a resource stands in its entry.
    async fn resources(
        &self,
        global: &Global,
        dump: &str,
        field: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let config = self.admin(global, "/config_dump").await?;
        Ok(resources(&config, dump, field))
    }

    fn print(&self, table: Table, resources: Vec<Value>) -> anyhow::Result<()> {
        match self.output {
            Format::Short => {
                output::print(table);
                Ok(())
            }
            format => output::structured(&Value::Array(resources), format),
        }
    }
}

fn resources(config: &Value, dump: &str, field: &str) -> Vec<Value> {
    let sections = config["configs"].as_array().into_iter().flatten();
    let ours = sections.filter(|section| {
        section["@type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with(dump))
    });
    let mut found = Vec::new();
    for entries in ours
        .filter_map(Value::as_object)
        .flat_map(|section| section.values())
    {
        for entry in entries.as_array().into_iter().flatten() {
            let held = [&entry[field], &entry["active_state"][field]];
            found.extend(held.into_iter().filter(|value| !value.is_null()).cloned());
        }
    }
    found
}

/// The name of a resource, and the text of a field or nothing.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_and_dynamic_resources_are_found() {
        let config = serde_json::json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
             "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
             "dynamic_active_clusters": [{"cluster": {"name": "a"}}]},
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
             "dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l"}}}]},
        ]});
        assert_eq!(resources(&config, "ClustersConfigDump", "cluster").len(), 2);
        assert_eq!(
            resources(&config, "ListenersConfigDump", "listener").len(),
            1
        );
    }

    #[test]
    fn the_rule_is_named() {
        let cluster = serde_json::json!({"metadata": {"filter_metadata": {"istio": {"config":
            "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"}}}});
        assert_eq!(origin(&cluster), "reviews.default");
    }
}
