//! `lateen proxy-status`: which proxies are connected, and which have acknowledged what they were
//! sent; of one proxy, what differs between what it was sent and what it has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use super::proxy_config::{ADMIN, dump::Dump};
use crate::{
    cli::Global,
    client,
    output::{self, Format},
    table::Table,
};

mod compare;

/// Types in the order in which they are listed, with the names that `/debug/syncz` has for them.
const TYPES: [(&str, &str); 5] = [
    ("CDS", "cluster"),
    ("LDS", "listener"),
    ("EDS", "endpoint"),
    ("RDS", "route"),
    ("ECDS", "extensionconfig"),
];

/// Show which proxies are connected and have the newest configuration; of one proxy, what differs
/// between what it was sent and what it has.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen proxy-status\n  \
                  lateen proxy-status -v\n  \
                  lateen proxy-status deploy/productpage-v1\n  \
                  lateen proxy-status productpage-v1-5d9b.default --file config_dump.json\n  \
                  lateen proxy-status --revision canary -o json")]
pub(crate) struct ProxyStatus {
    /// Compare what this proxy has with what it was sent: `pod[.namespace]`, or a workload for one of
    /// its pods, `deploy/name[.namespace]`.
    proxy: Option<String>,
    /// Take what the proxy has from this config dump, instead of asking the proxy; `-` is standard
    /// input. Without a proxy's name, that of the dump.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Each type in a column: SYNCED, STALE (sent and not acknowledged), ERROR (refused), NOT SENT,
    /// or IGNORED (not asked for).
    #[arg(short, long)]
    verbose: bool,
    /// Only proxies of control planes of this revision.
    #[arg(short, long)]
    revision: Option<String>,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The port of the proxy's admin interface.
    #[arg(long = "proxy-admin-port", default_value_t = ADMIN, value_name = "PORT")]
    admin_port: u16,
}

/// One proxy, as `/debug/syncz` tells it. Each type has the nonce that was sent last, and those that
/// were acknowledged and refused last.
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
    /// Types that the proxy follows.
    #[serde(default)]
    resources: BTreeMap<String, Value>,
    #[serde(flatten)]
    nonces: BTreeMap<String, Value>,
}

/// A proxy with the replica that it is connected to.
struct Connected {
    istiod: String,
    sync: Sync,
    told: Value,
}

impl Sync {
    fn state(&self, kind: &str) -> &'static str {
        let nonce = |end: &str| {
            let value = self.nonces.get(&format!("{kind}_{end}"));
            value
                .and_then(Value::as_str)
                .filter(|nonce| !nonce.is_empty())
        };
        let is_followed = self.nonces.contains_key(&format!("{kind}_sent"));
        // A proxy that came back with everything it needs is sent nothing.
        let has_all = self.generation_acked.is_some() && self.generation_acked == self.generation;
        match (nonce("sent"), nonce("acked")) {
            _ if !is_followed => "IGNORED",
            (None, _) if has_all => "SYNCED",
            (None, _) => "NOT SENT",
            (Some(sent), Some(acked)) if sent == acked => "SYNCED",
            (Some(sent), _) if nonce("nacked") == Some(sent) => "ERROR",
            (Some(_), None) => "STALE (Never Acknowledged)",
            (Some(_), Some(_)) => "STALE",
        }
    }

    /// How many types the proxy follows, and which.
    fn subscribed(&self) -> String {
        let known = TYPES.iter().map(|(short, _)| *short);
        let others = self.resources.keys().map(String::as_str);
        let others = others.filter(|name| TYPES.iter().all(|(short, _)| short != name));
        let all: Vec<_> = known
            .filter(|short| self.resources.contains_key(*short))
            .chain(others)
            .collect();
        format!("{} ({})", all.len(), all.join(","))
    }
}

impl ProxyStatus {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let own = self.own(&client, global).await?;
        let mut proxies = self.proxies(&client, global).await?;
        if let Some((name, dump)) = own {
            proxies.retain(|proxy| proxy.sync.proxy == name);
            let Some(proxy) = proxies.first() else {
                bail!("no proxy {name} is connected; `lateen proxy-status` lists those that are");
            };
            let sent = sent(&client, global, proxy).await?;
            return compare::print(&sent, &dump, self.output);
        }
        proxies.sort_by(|one, other| {
            let key = |it: &Connected| (it.sync.cluster_id.clone(), it.sync.proxy.clone());
            key(one).cmp(&key(other))
        });
        match self.output {
            Format::Short => output::print(self.table(&proxies)),
            format => {
                let all = proxies.into_iter().map(|proxy| proxy.told).collect();
                output::structured(&all, format)?;
            }
        }
        Ok(())
    }

    /// The one proxy that is named, with what it has.
    async fn own(
        &self,
        client: &Client,
        global: &Global,
    ) -> anyhow::Result<Option<(String, Dump)>> {
        let named = match &self.proxy {
            Some(name) => Some(client::find_pod(client, name, global).await?),
            None => None,
        };
        let dump = match (&self.file, &named) {
            (Some(file), _) => {
                Dump::read(&output::read(file)?).with_context(|| file.display().to_string())?
            }
            (None, Some((pod, namespace))) => {
                let path = "/config_dump?include_eds";
                let text = client::pod_get(client, namespace, pod, self.admin_port, path).await?;
                Dump::read(&text)?
            }
            (None, None) => return Ok(None),
        };
        let name = match named {
            Some((pod, namespace)) => format!("{pod}.{namespace}"),
            None => compare::proxy_of(&dump).context(
                "the dump does not say whose it is, as it has no bootstrap: name the proxy too",
            )?,
        };
        Ok(Some((name, dump)))
    }

    /// All that are connected to the control planes that are asked.
    async fn proxies(&self, client: &Client, global: &Global) -> anyhow::Result<Vec<Connected>> {
        let mut all = Vec::new();
        let replicas = client::control_planes(client, global, self.revision.as_deref()).await?;
        for istiod in replicas {
            let namespace = &global.istio_namespace;
            let text = client::pod_get(client, namespace, &istiod, 8080, "/debug/syncz").await?;
            let proxies: Vec<Value> = serde_json::from_str(&text)?;
            for told in proxies {
                let sync: Sync = serde_json::from_value(told.clone())?;
                let istiod = istiod.clone();
                all.push(Connected { istiod, sync, told });
            }
        }
        Ok(all)
    }

    fn table(&self, proxies: &[Connected]) -> Table {
        if self.verbose {
            return by_type(proxies);
        }
        let mut table = Table::new(["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]);
        for Connected { istiod, sync, .. } in proxies {
            table.row([
                sync.proxy.clone(),
                sync.cluster_id.clone(),
                istiod.clone(),
                sync.istio_version.clone(),
                sync.subscribed(),
            ]);
        }
        table
    }
}

fn by_type(proxies: &[Connected]) -> Table {
    let mut table = Table::new([
        "NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ECDS", "ISTIOD", "VERSION",
    ]);
    for Connected { istiod, sync, .. } in proxies {
        let [cds, lds, eds, rds, ecds] = TYPES.map(|(_, name)| sync.state(name).to_owned());
        table.row([
            sync.proxy.clone(),
            sync.cluster_id.clone(),
            cds,
            lds,
            eds,
            rds,
            ecds,
            istiod.clone(),
            sync.istio_version.clone(),
        ]);
    }
    table
}

/// What the control plane serves a proxy.
async fn sent(client: &Client, global: &Global, proxy: &Connected) -> anyhow::Result<Dump> {
    let path = format!("/debug/config_dump?proxyID={}", proxy.sync.proxy);
    let namespace = &global.istio_namespace;
    let text = client::pod_get(client, namespace, &proxy.istiod, 8080, &path).await?;
    Dump::read(&text).with_context(|| format!("{path} of {}", proxy.istiod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nonces_tell_the_state() {
        let check = |json: Value, expect: &str| {
            let sync: Sync = serde_json::from_value(json).unwrap();
            assert_eq!(sync.state("cluster"), expect);
        };
        check(json!({"proxy": "a.b"}), "IGNORED");
        check(json!({"proxy": "a.b", "cluster_sent": ""}), "NOT SENT");
        let back = |acked| json!({"proxy": "a.b", "cluster_sent": "", "generation": 7, "generation_acked": acked});
        check(back(7), "SYNCED");
        check(back(6), "NOT SENT");
        let sent = |acked: Option<&str>, nacked: &str| json!({"proxy": "a.b", "cluster_sent": "2", "cluster_acked": acked, "cluster_nacked": nacked});
        check(sent(None, ""), "STALE (Never Acknowledged)");
        check(sent(Some("2"), "1"), "SYNCED");
        check(sent(Some("1"), ""), "STALE");
        check(sent(Some("1"), "2"), "ERROR");
        check(sent(None, "2"), "ERROR");
    }

    #[test]
    fn types_are_counted() {
        let told = json!({"proxy": "a.b", "cluster_id": "K", "istio_version": "1", "resources":
            {"RDS": 1, "VHDS": 2, "CDS": 3, "LDS": 4, "EDS": 5}, "cluster_sent": "1", "cluster_acked": "1"});
        let proxies = [Connected {
            istiod: "istiod-1".to_owned(),
            sync: serde_json::from_value(told.clone()).unwrap(),
            told,
        }];
        let status = |verbose| ProxyStatus {
            proxy: None,
            file: None,
            verbose,
            revision: None,
            output: Format::Short,
            admin_port: ADMIN,
        };
        assert_eq!(
            status(false).table(&proxies).to_string(),
            "NAME     CLUSTER     ISTIOD       VERSION     SUBSCRIBED TYPES\n\
             a.b      K           istiod-1     1           5 (CDS,LDS,EDS,RDS,VHDS)\n"
        );
        assert_eq!(
            status(true).table(&proxies).to_string(),
            "NAME     CLUSTER     CDS        LDS         EDS         RDS         ECDS        ISTIOD       VERSION\n\
             a.b      K           SYNCED     IGNORED     IGNORED     IGNORED     IGNORED     istiod-1     1\n"
        );
    }
}
