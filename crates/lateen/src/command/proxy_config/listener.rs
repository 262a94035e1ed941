//! `proxy-config listener`.

use clap::Args;
use serde_json::Value;

use super::{Target, text};
use crate::{cli::Global, table::Table};

/// The listeners of a proxy.
#[derive(Debug, Args)]
pub(super) struct Listener {
    #[command(flatten)]
    target: Target,
    /// Only listeners with this address.
    #[arg(long)]
    address: Option<String>,
    /// Only listeners with this port.
    #[arg(long)]
    port: Option<u64>,
}

impl Listener {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut listeners = self
            .target
            .resources(global, "ListenersConfigDump", "listener")
            .await?;
        listeners.retain(|listener| self.wants(&socket(listener)));
        let mut table = Table::new(["ADDRESSES", "PORT", "MATCH", "DESTINATION"]);
        for listener in &listeners {
            let (address, port) = socket(listener);
            let chains = listener["filter_chains"].as_array().into_iter().flatten();
            for chain in chains
                .chain([&listener["default_filter_chain"]])
                .filter(|c| !c.is_null())
            {
                table.row([
                    address.clone(),
                    port.to_string(),
                    matches(&chain["filter_chain_match"]),
                    destination(chain),
                ]);
            }
        }
        self.target.print(table, listeners)
    }

    fn wants(&self, (address, port): &(String, u64)) -> bool {
        self.address.as_ref().is_none_or(|wanted| wanted == address)
            && self.port.is_none_or(|wanted| wanted == *port)
    }
}

fn socket(listener: &Value) -> (String, u64) {
    let socket = &listener["address"]["socket_address"];
    (
        text(socket, "address").to_owned(),
        socket["port_value"].as_u64().unwrap_or_default(),
    )
}

fn matches(rule: &Value) -> String {
    let list = |field: &str| {
        let values = rule[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        values.collect::<Vec<_>>().join(",")
    };
    let mut parts = Vec::new();
    let names = list("server_names");
    if !names.is_empty() {
        parts.push(format!("SNI: {names}"));
    }
    if let Some(transport) = rule["transport_protocol"].as_str() {
        parts.push(format!("Trans: {transport}"));
    }
    let protocols = list("application_protocols");
    if !protocols.is_empty() {
        parts.push(format!("App: {protocols}"));
    }
    for range in rule["prefix_ranges"].as_array().into_iter().flatten() {
        let length = &range["prefix_len"];
        let length = length
            .as_u64()
            .or_else(|| length["value"].as_u64())
            .unwrap_or_default();
        parts.push(format!("Addr: {}/{length}", text(range, "address_prefix")));
    }
    let port = &rule["destination_port"];
    if let Some(port) = port.as_u64().or_else(|| port["value"].as_u64()) {
        parts.push(format!("Port: {port}"));
    }
    if parts.is_empty() {
        "ALL".to_owned()
    } else {
        parts.join("; ")
    }
}

fn destination(chain: &Value) -> String {
    for filter in chain["filters"].as_array().into_iter().flatten() {
        let config = &filter["typed_config"];
        if let Some(route) = config["rds"]["route_config_name"].as_str() {
            return format!("Route: {route}");
        }
        if config["route_config"].is_object() {
            return format!("Inline Route: {}", text(&config["route_config"], "name"));
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return format!("Cluster: {cluster}");
        }
        if let Some(cluster) = config.pointer("/weighted_clusters/clusters/0") {
            return format!("Weighted clusters: {}…", text(cluster, "name"));
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_short() {
        let rule = serde_json::json!({"destination_port": 9080, "transport_protocol": "tls"});
        assert_eq!(matches(&rule), "Trans: tls; Port: 9080");
        assert_eq!(matches(&Value::Null), "ALL");
        let chain = serde_json::json!({"filters": [{"typed_config": {"rds": {"route_config_name": "9080"}}}]});
        assert_eq!(destination(&chain), "Route: 9080");
    }
}
