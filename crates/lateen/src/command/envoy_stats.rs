//! `lateen x envoy-stats`: the figures of a proxy, as its admin interface has them.

use clap::{Args, ValueEnum};
use lateen_core::ports;
use serde_json::{Value, json};

use super::proxy_config::ADMIN;
use crate::{
    cli::Global,
    client,
    output::{self, Format},
};

/// Show the figures of a proxy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen experimental envoy-stats deploy/productpage-v1\n  \
                  lateen experimental envoy-stats deploy/productpage-v1 --type clusters -o json\n  \
                  lateen experimental envoy-stats deploy/productpage-v1 -o prom-merged")]
pub(crate) struct EnvoyStats {
    /// The proxy's pod, `name[.namespace]`, or a workload or a Service for one of its pods,
    /// `deploy/name[.namespace]`.
    pod: String,
    /// What the figures are of.
    #[arg(short = 't', long = "type", value_enum, default_value_t)]
    of: Of,
    /// How to write them; `prom` as Prometheus reads them, `prom-merged` with those of the application.
    #[arg(short, long, value_enum, default_value_t)]
    output: Written,
    /// The port of the proxy's admin interface.
    #[arg(long = "proxy-admin-port", default_value_t = ADMIN, value_name = "PORT")]
    admin_port: u16,
}

/// What figures are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The whole proxy.
    #[default]
    Server,
    /// Its clusters and their endpoints.
    Clusters,
}

/// How figures are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Written {
    /// A line for each, as the proxy has them.
    #[default]
    Short,
    /// JSON for programs.
    Json,
    /// YAML for both.
    Yaml,
    /// As Prometheus reads them.
    Prom,
    /// The same with those of the application.
    PromMerged,
}

impl EnvoyStats {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let (port, path) = self.page()?;
        let client = client::connect(global).await?;
        let (pod, namespace) = client::find_pod(&client, &self.pod, global).await?;
        let text = client::pod_get(&client, namespace, &pod, port, path).await?;
        let format = match self.output {
            Written::Json => Format::Json,
            Written::Yaml => Format::Yaml,
            Written::Short | Written::Prom | Written::PromMerged => {
                output::print(text);
                return Ok(());
            }
        };
        match self.of {
            Of::Server => output::structured(&figures(&text), format),
            Of::Clusters => output::structured(&serde_json::from_str(&text)?, format),
        }
    }

    /// Where the figures are.
    fn page(&self) -> anyhow::Result<(u16, &'static str)> {
        Ok(match (self.of, self.output) {
            (Of::Server, Written::Short | Written::Json | Written::Yaml) => {
                (self.admin_port, "/stats")
            }
            (Of::Server, Written::Prom) => (self.admin_port, "/stats/prometheus"),
            (Of::Server, Written::PromMerged) => (ports::AGENT_STATUS, "/stats/prometheus"),
            (Of::Clusters, Written::Short) => (self.admin_port, "/clusters"),
            (Of::Clusters, Written::Json | Written::Yaml) => {
                (self.admin_port, "/clusters?format=json")
            }
            (Of::Clusters, Written::Prom | Written::PromMerged) => anyhow::bail!(
                "-o prom is for the whole proxy: leave out --type clusters, or use -o short, json or yaml"
            ),
        })
    }
}

/// Lines `name: value` as Envoy's JSON has them. What is no whole number stays a text.
fn figures(text: &str) -> Value {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let each = lines.map(|(name, value)| {
        let value = value
            .parse::<u64>()
            .map_or_else(|_| json!(value), Value::from);
        json!({"name": name, "value": value})
    });
    json!({"stats": each.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        stats: EnvoyStats,
    }

    #[test]
    fn figures_are_on_pages_of_their_own() {
        for (flags, expect) in [
            (&[][..], Some((15000, "/stats"))),
            (&["-o", "prom"], Some((15000, "/stats/prometheus"))),
            (&["-o", "prom-merged"], Some((15020, "/stats/prometheus"))),
            (&["-t", "clusters"], Some((15000, "/clusters"))),
            (
                &["-t", "clusters", "-o", "yaml"],
                Some((15000, "/clusters?format=json")),
            ),
            (&["-t", "clusters", "-o", "prom"], None),
            (&["--proxy-admin-port", "15001"], Some((15001, "/stats"))),
        ] {
            let all = ["envoy-stats", "pod"].iter().chain(flags);
            let stats = Cli::try_parse_from(all).expect("flags").stats;
            assert_eq!(stats.page().ok(), expect, "{flags:?}");
        }
    }

    #[test]
    fn lines_become_numbers_and_texts() {
        let text = "server.live: 1\nhttp.a.time: P0(nan,1)\nno line\n";
        let expect = json!({"stats": [{"name": "server.live", "value": 1},
            {"name": "http.a.time", "value": "P0(nan,1)"}]});
        assert_eq!(figures(text), expect);
    }
}
