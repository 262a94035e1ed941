//! `lateen x authz`: the authorization policies that a proxy enforces, by its own configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::layers;
use crate::{cli::Global, client, output, table::Table};

/// The proxy's administration port, on its pod's loopback.
const ADMIN: u16 = 15000;

/// Check what a proxy allows and refuses.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen experimental authz check httpbin-77bb.default\n  lateen experimental authz check deploy/httpbin\n  lateen experimental authz check -f config_dump.json"
)]
pub(crate) struct Authz {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the policies that a proxy enforces
    #[command(after_help = "Example:\n  lateen experimental authz check deploy/httpbin")]
    Check {
        /// `name[.namespace]`, or `deploy/name[.namespace]` for a pod of a Deployment.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        pod: Option<String>,
        /// A file with the proxy's `config_dump`; `-` is standard input.
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
}

impl Authz {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let What::Check { pod, file } = &self.what;
        let text = match (file, pod) {
            (Some(path), _) => layers::read(path)?,
            (None, Some(pod)) => {
                let client = client::connect(global).await?;
                let (pod, namespace) = client::find_pod(&client, pod, global).await?;
                client::pod_get(&client, namespace, &pod, ADMIN, "/config_dump").await?
            }
            (None, None) => bail!("name a pod, or a file with -f"),
        };
        let dump: Value = serde_json::from_str(&text).context("the config dump is no JSON")?;
        if !dump["configs"].is_array() {
            bail!("this is no config dump: it has no list \"configs\"");
        }
        let policies = Policies::of(&dump);
        output::print(policies.table());
        if policies.0.is_empty() {
            eprintln!(
                "No authorization policy is in force at this proxy: it lets everything through."
            );
        }
        Ok(())
    }
}

/// Rules by action and policy, those of all listeners together.
#[derive(Debug, Default, PartialEq)]
struct Policies(BTreeMap<(Action, String), BTreeSet<String>>);

/// In the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Deny,
    Allow,
    Log,
}

impl Action {
    fn of(rules: &Value) -> Action {
        match rules["action"].as_str() {
            Some("DENY") => Action::Deny,
            Some("LOG") => Action::Log,
            _ => Action::Allow,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Action::Deny => "DENY",
            Action::Allow => "ALLOW",
            Action::Log => "LOG",
        }
    }
}

impl Policies {
    fn of(dump: &Value) -> Policies {
        let mut found = Policies::default();
        let sections = dump["configs"].as_array().into_iter().flatten();
        let listeners = sections.filter(|section| {
            let kind = section["@type"].as_str().unwrap_or_default();
            kind.ends_with("ListenersConfigDump")
        });
        listeners.for_each(|section| found.collect(section));
        found
    }

    /// Takes the rules of filters for HTTP and for connections, wherever they are nested.
    fn collect(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let kind = fields
                    .get("@type")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if kind.ends_with(".rbac.v3.RBAC") || kind.ends_with(".rbac.v2.RBAC") {
                    self.add(&value["rules"]);
                    return;
                }
                fields.values().for_each(|value| self.collect(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    fn add(&mut self, rules: &Value) {
        let action = Action::of(rules);
        for name in rules["policies"]
            .as_object()
            .into_iter()
            .flat_map(|of| of.keys())
        {
            let (policy, rule) = split(name);
            self.0.entry((action, policy)).or_default().insert(rule);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["ACTION", "AuthorizationPolicy", "RULES"]).padded(3);
        for ((action, policy), rules) in &self.0 {
            let count = rules.len().to_string();
            table.row([action.name().to_owned(), policy.clone(), count]);
        }
        table
    }
}

/// `ns[default]-policy[httpbin]-rule[0]` as `httpbin.default` and `0`; what is called otherwise is a
/// policy of one rule.
fn split(name: &str) -> (String, String) {
    let parts = || {
        let rest = name.strip_prefix("ns[")?.strip_suffix(']')?;
        let (namespace, rest) = rest.split_once("]-policy[")?;
        let (policy, rule) = rest.split_once("]-rule[")?;
        Some((format!("{policy}.{namespace}"), rule.to_owned()))
    };
    parts().unwrap_or_else(|| (name.to_owned(), String::new()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rbac(kind: &str, action: &str, policies: &[&str]) -> Value {
        let policies: Value = policies
            .iter()
            .map(|name| (name.to_string(), json!({})))
            .collect();
        json!({
            "name": "rbac",
            "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.filters.{kind}.rbac.v3.RBAC"),
                "rules": {"action": action, "policies": policies},
            },
        })
    }

    fn dump(filters: Value, network: Value) -> Value {
        let manager = json!({"name": "hcm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "http_filters": filters}});
        let mut chain: Vec<Value> = network.as_array().cloned().unwrap_or_default();
        chain.push(manager);
        let listener = json!({"name": "virtualInbound", "filter_chains": [{"filters": chain}]});
        json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"},
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
             "dynamic_listeners": [{"active_state": {"listener": listener}}]},
        ]})
    }

    #[test]
    fn rules_are_counted_by_policy() {
        let check = |dump: &Value, expect: &str| {
            assert_eq!(Policies::of(dump).table().to_string(), expect);
        };
        check(
            &dump(json!([]), json!([])),
            "ACTION   AuthorizationPolicy   RULES\n",
        );
        let allow = rbac(
            "http",
            "ALLOW",
            &["ns[foo]-policy[web]-rule[0]", "ns[foo]-policy[web]-rule[1]"],
        );
        let deny = rbac("http", "DENY", &["ns[istio-system]-policy[all]-rule[0]"]);
        // The same policy at another place counts once.
        let tcp = rbac("network", "ALLOW", &["ns[foo]-policy[web]-rule[1]", "own"]);
        check(
            &dump(json!([allow, deny]), json!([tcp])),
            "ACTION   AuthorizationPolicy   RULES\n\
             DENY     all.istio-system      1\n\
             ALLOW    own                   1\n\
             ALLOW    web.foo               2\n",
        );
    }

    #[test]
    fn names_that_are_no_policys_stay() {
        for (name, policy, rule) in [
            ("ns[a]-policy[b]-rule[2]", "b.a", "2"),
            ("ns[a]-policy[b]", "ns[a]-policy[b]", ""),
            ("mine", "mine", ""),
        ] {
            assert_eq!(split(name), (policy.to_owned(), rule.to_owned()), "{name}");
        }
    }
}
