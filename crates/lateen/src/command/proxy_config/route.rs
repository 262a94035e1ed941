//! `proxy-config route`.

use clap::Args;
use serde_json::Value;

use super::{Target, origin, text};
use crate::{cli::Global, table::Table};

/// The routes of a proxy.
#[derive(Debug, Args)]
pub(super) struct Route {
    #[command(flatten)]
    target: Target,
    /// Only the route configuration of this name.
    #[arg(long)]
    name: Option<String>,
}

impl Route {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut routes = self
            .target
            .resources(global, "RoutesConfigDump", "route_config")
            .await?;
        routes.retain(|route| {
            self.name
                .as_deref()
                .is_none_or(|name| name == text(route, "name"))
        });
        let mut table = Table::new(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]);
        for config in &routes {
            for host in config["virtual_hosts"].as_array().into_iter().flatten() {
                for route in host["routes"].as_array().into_iter().flatten() {
                    table.row([
                        text(config, "name").to_owned(),
                        text(host, "name").to_owned(),
                        domains(host),
                        matches(&route["match"]),
                        origin(route),
                    ]);
                }
            }
        }
        self.target.print(table, routes)
    }
}

/// The first two domains that are not just another spelling of the first, then how many more.
fn domains(host: &Value) -> String {
    let all: Vec<&str> = host["domains"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match all.len() {
        0..=2 => all.join(", "),
        n => format!("{}, {} + {} more...", all[0], all[1], n - 2),
    }
}

fn matches(rule: &Value) -> String {
    let path = [
        ("prefix", "*"),
        ("path_separated_prefix", "*"),
        ("path", ""),
    ]
    .iter()
    .find_map(|(field, tail)| rule[field].as_str().map(|path| format!("{path}{tail}")))
    .or_else(|| {
        rule["safe_regex"]["regex"]
            .as_str()
            .map(|regex| format!("regex {regex}"))
    })
    .unwrap_or_else(|| "*".to_owned());
    let headers = rule["headers"].as_array().map_or(0, Vec::len);
    match headers {
        0 => path,
        n => format!("{path} + {n} header{}", if n == 1 { "" } else { "s" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_short() {
        assert_eq!(matches(&serde_json::json!({"prefix": "/"})), "/*");
        assert_eq!(
            matches(&serde_json::json!({"path": "/login", "headers": [{}]})),
            "/login + 1 header"
        );
        assert_eq!(
            domains(&serde_json::json!({"domains": ["a", "b", "c"]})),
            "a, b + 1 more..."
        );
    }
}
