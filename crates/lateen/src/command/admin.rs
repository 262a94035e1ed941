//! `lateen admin log`: what the control plane logs, and to change it while it runs, by its ControlZ.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hyper::Request;
use kube::Client;
use lateen_core::ports;
use serde_json::{Value, json};

use crate::{
    cli::Global,
    client,
    command::proxy_config::log::Levels,
    failures::Failures,
    output::{self, Format},
    table::Table,
};

/// What `--reset` sets, as Istio's default has it.
const DEFAULT: &str = "info";

/// Manage the control plane.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen admin log --level ads:debug")]
pub(crate) struct Admin {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The scopes of the control plane's log with their levels, and to change them
    #[command(alias = "l")]
    Log(Log),
}

/// Show the scopes of the control plane's log, and change their levels while it runs: of every replica,
/// until it is started anew.
#[derive(Debug, Args)]
#[command(
    after_help = "Levels are none, error, warn, info, debug and trace.\n\n\
                  Examples:\n  \
                  lateen admin log\n  \
                  lateen admin log --level ads:debug,ca:warn\n  \
                  lateen admin log --level debug --revision canary\n  \
                  lateen admin log istiod-7d9c.istio-system --reset"
)]
struct Log {
    /// The control plane's pod, `name[.namespace]`; without it, each that runs.
    pod: Option<String>,
    /// Only control planes of this revision.
    #[arg(short, long, conflicts_with = "pod")]
    revision: Option<String>,
    /// A level for every scope, or `SCOPE:LEVEL` for single ones, divided by commas.
    #[arg(long)]
    level: Option<Levels>,
    /// Not supported: stack traces are not written.
    #[arg(long = "stack-trace-level", value_name = "LEVELS", hide = true)]
    stack_trace_level: Option<String>,
    /// Set every scope to the default level, info.
    #[arg(long, conflicts_with = "level")]
    reset: bool,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The port of ControlZ in the pod.
    #[arg(long = "ctrlz_port", default_value_t = ports::CONTROLZ, value_name = "PORT")]
    ctrlz_port: u16,
}

impl Admin {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.what {
            What::Log(log) => log.run(global).await,
        }
    }
}

impl Log {
    async fn run(&self, global: &Global) -> anyhow::Result<()> {
        if self.stack_trace_level.is_some() {
            bail!(
                "--stack-trace-level is not supported: the control plane writes no stack traces; \
                 use --level"
            );
        }
        let client = client::connect(global).await?;
        let pods = self.pods(&client, global).await?;
        let (mut all, mut failures) = (Vec::new(), Failures::default());
        for (pod, namespace) in &pods {
            let replica = Replica {
                client: &client,
                namespace,
                pod,
                port: self.ctrlz_port,
            };
            // A replica that fails keeps the others from nothing: they would log otherwise than it.
            let listed = self.changed(&replica).await;
            let listed = listed.with_context(|| format!("control plane {pod}.{namespace}"));
            all.extend(failures.note(listed).map(|scopes| (pod.as_str(), scopes)));
        }
        match self.output {
            _ if all.is_empty() => {}
            Format::Short => output::print(tables(&all)),
            format => output::structured(&scopes(all), format)?,
        }
        failures.end()
    }

    async fn changed(&self, replica: &Replica<'_>) -> anyhow::Result<Vec<Value>> {
        self.change(replica).await?;
        replica.scopes().await
    }

    /// Names and namespaces.
    async fn pods(
        &self,
        client: &Client,
        global: &Global,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let namespace = &global.istio_namespace;
        if let Some(pod) = &self.pod {
            let there = Global {
                namespace: namespace.clone(),
                ..global.clone()
            };
            let (pod, namespace) = client::find_pod(client, pod, &there).await?;
            return Ok(vec![(pod, namespace.to_owned())]);
        }
        let pods = client::control_planes(client, global, self.revision.as_deref()).await?;
        Ok(pods
            .into_iter()
            .map(|pod| (pod, namespace.clone()))
            .collect())
    }

    async fn change(&self, replica: &Replica<'_>) -> anyhow::Result<()> {
        let asked = match (self.reset, &self.level) {
            (true, _) => Levels {
                all: Some(DEFAULT.to_owned()),
                single: Vec::new(),
            },
            (false, Some(levels)) => levels.clone(),
            (false, None) => return Ok(()),
        };
        // Istio has a name for every scope.
        let (all, single): (Vec<_>, Vec<_>) = asked
            .single
            .into_iter()
            .partition(|(scope, _)| scope == "all");
        let all = asked
            .all
            .or_else(|| all.into_iter().next().map(|(_, level)| level));
        if let Some(level) = all {
            for scope in replica.scopes().await? {
                let name = scope["name"].as_str().unwrap_or_default();
                replica.set(name, &level).await?;
            }
        }
        let mut failures = Failures::default();
        for (scope, level) in single {
            failures.note(replica.set(&scope, &level).await);
        }
        failures.end()
    }
}

/// A replica of the control plane.
struct Replica<'a> {
    client: &'a Client,
    namespace: &'a str,
    pod: &'a str,
    port: u16,
}

impl Replica<'_> {
    async fn scopes(&self) -> anyhow::Result<Vec<Value>> {
        let text =
            client::pod_get(self.client, self.namespace, self.pod, self.port, "/scopej/").await?;
        serde_json::from_str(&text).with_context(|| format!("ControlZ of {}", self.pod))
    }

    async fn set(&self, scope: &str, level: &str) -> anyhow::Result<()> {
        let request =
            Request::put(format!("/scopej/{scope}")).header("content-type", "application/json");
        let body = json!({"name": scope, "output_level": level}).to_string();
        client::pod_ask(
            self.client,
            self.namespace,
            self.pod,
            self.port,
            request,
            &body,
        )
        .await
        .map(|_| ())
    }
}

/// One table; of several replicas each under its name.
fn tables(all: &[(&str, Vec<Value>)]) -> String {
    let tables = all.iter().map(|(pod, scopes)| {
        let table = table(scopes);
        match all.len() {
            1 => table.to_string(),
            _ => format!("{pod}:\n{table}"),
        }
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn table(scopes: &[Value]) -> Table {
    let mut table = Table::new(["ACTIVE SCOPE", "DESCRIPTION", "LOG LEVEL"]).padded(3);
    for scope in scopes {
        let cell = |name: &str| scope[name].as_str().unwrap_or_default().to_owned();
        table.row([cell("name"), cell("description"), cell("output_level")]);
    }
    table.sort();
    table
}

/// Every scope, with the pod whose it is.
fn scopes(all: Vec<(&str, Vec<Value>)>) -> Value {
    let of = |(pod, scopes): (&str, Vec<Value>)| {
        let pod = pod.to_owned();
        scopes.into_iter().map(move |mut scope| {
            scope["pod"] = json!(pod);
            scope
        })
    };
    all.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_listed_of_one_replica_or_of_each() {
        let scope =
            |name: &str| json!({"name": name, "description": "what", "output_level": "info"});
        let all = vec![("istiod-1", vec![scope("default"), scope("ads")])];
        assert_eq!(
            tables(&all),
            "ACTIVE SCOPE   DESCRIPTION   LOG LEVEL\n\
             ads            what          info\n\
             default        what          info\n"
        );
        let two = vec![("a", vec![scope("x")]), ("b", vec![scope("x")])];
        let told = tables(&two);
        assert!(
            told.starts_with("a:\nACTIVE") && told.contains("\n\nb:\nACTIVE"),
            "{told}"
        );
        let json = scopes(two);
        assert_eq!(
            (&json[0]["pod"], &json[1]["pod"]),
            (&json!("a"), &json!("b"))
        );
    }
}
