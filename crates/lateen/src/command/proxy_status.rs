//! `lateen proxy-status`: which proxies have acknowledged what they were sent.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;

use crate::{
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

/// Show which proxies have the newest configuration.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen proxy-status\n  lateen proxy-status productpage-v1-5d9b.default"
)]
pub(crate) struct ProxyStatus {
    /// Only this proxy: `pod[.namespace]`, or a Deployment for one of its pods,
    /// `deploy/name[.namespace]`.
    proxy: Option<String>,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One proxy, as `/debug/syncz` tells it. Each type has the nonce that was
/// sent last and the one that was acknowledged last.
#[derive(Debug, Deserialize)]
struct Sync {
    proxy: String,
    #[serde(default)]
    cluster_id: String,
    #[serde(default)]
    istio_version: String,
    /// The newest state of the control plane, and the one that the proxy has accepted in full.
    generation: Option<u64>,
    generation_acked: Option<u64>,
    #[serde(flatten)]
    nonces: BTreeMap<String, serde_json::Value>,
}

impl Sync {
    fn state(&self, kind: &str) -> String {
        let nonce = |end: &str| {
            let value = self.nonces.get(&format!("{kind}_{end}"));
            value
                .and_then(|value| value.as_str())
                .filter(|nonce| !nonce.is_empty())
        };
        // A proxy that came back with everything it needs is sent nothing.
        let has_all = self.nonces.contains_key(&format!("{kind}_sent"))
            && self.generation_acked.is_some()
            && self.generation_acked == self.generation;
        match (nonce("sent"), nonce("acked")) {
            (None, _) if has_all => "SYNCED",
            (None, _) => "NOT SENT",
            (Some(_), None) => "STALE (Never Acknowledged)",
            (Some(sent), Some(acked)) if sent == acked => "SYNCED",
            (Some(_), Some(_)) => "STALE",
        }
        .to_owned()
    }
}

impl ProxyStatus {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let mut table = Table::new([
            "NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ECDS", "ISTIOD", "VERSION",
        ]);
        let wanted = match &self.proxy {
            Some(name) => {
                let (pod, namespace) = client::find_pod(&client, name, global).await?;
                Some(format!("{pod}.{namespace}"))
            }
            None => None,
        };
        let mut all = Vec::new();
        for pod in client::control_plane_pods(&client, global).await? {
            let text =
                client::pod_get(&client, &global.istio_namespace, &pod, 8080, "/debug/syncz")
                    .await?;
            let proxies: Vec<serde_json::Value> = serde_json::from_str(&text)?;
            for value in proxies {
                let sync: Sync = serde_json::from_value(value.clone())?;
                if wanted.as_ref().is_some_and(|name| *name != sync.proxy) {
                    continue;
                }
                all.push(value);
                table.row([
                    sync.proxy.clone(),
                    sync.cluster_id.clone(),
                    sync.state("cluster"),
                    sync.state("listener"),
                    sync.state("endpoint"),
                    sync.state("route"),
                    sync.state("extensionconfig"),
                    pod.clone(),
                    sync.istio_version.clone(),
                ]);
            }
        }
        if let (Some(name), true) = (&wanted, all.is_empty()) {
            anyhow::bail!(
                "no proxy {name} is connected; `lateen proxy-status` lists those that are"
            );
        }
        table.sort();
        match self.output {
            Format::Short => output::print(table),
            format => output::structured(&serde_json::Value::Array(all), format)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_tell_the_state() {
        let check = |json: serde_json::Value, expect: &str| {
            let sync: Sync = serde_json::from_value(json).unwrap();
            assert_eq!(sync.state("cluster"), expect);
        };
        check(serde_json::json!({"proxy": "a.b"}), "NOT SENT");
        let back = |acked| serde_json::json!({"proxy": "a.b", "cluster_sent": "", "generation": 7, "generation_acked": acked});
        check(back(7), "SYNCED");
        check(back(6), "NOT SENT");
        check(
            serde_json::json!({"proxy": "a.b", "cluster_sent": "1"}),
            "STALE (Never Acknowledged)",
        );
        check(
            serde_json::json!({"proxy": "a.b", "cluster_sent": "1", "cluster_acked": "1"}),
            "SYNCED",
        );
        check(
            serde_json::json!({"proxy": "a.b", "cluster_sent": "2", "cluster_acked": "1"}),
            "STALE",
        );
    }
}
