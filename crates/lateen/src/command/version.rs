//! `lateen version`: of the command, the control plane and the proxies.

use std::collections::BTreeMap;

use clap::Args;

use crate::{
    cli::Global,
    client,
    output::{self, Format},
};

/// Print the versions of the command, the control plane and the proxies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen version\n  lateen version --remote=false")]
pub(crate) struct Version {
    /// Ask the control plane too.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    remote: bool,
    /// Only the version numbers.
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    short: bool,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What the cluster runs.
struct Remote {
    control_plane: Vec<String>,
    /// Version to number of proxies.
    data_plane: BTreeMap<String, usize>,
}

impl Version {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client_version = env!("CARGO_PKG_VERSION");
        let remote = match self.remote {
            true => match remote(global).await {
                Ok(remote) => Some(remote),
                Err(error) => {
                    eprintln!("lateen: the control plane was not asked: {error:#}");
                    None
                }
            },
            false => None,
        };
        if self.output != Format::Short {
            let value = serde_json::json!({
                "clientVersion": {"version": client_version},
                "meshVersion": remote.as_ref().map(|remote| &remote.control_plane),
                "dataPlaneVersion": remote.as_ref().map(|remote| &remote.data_plane),
            });
            return output::structured(&value, self.output);
        }
        if !self.remote {
            output::line(client_version);
            return Ok(());
        }
        output::line(format_args!("client version: {client_version}"));
        if let Some(remote) = remote {
            for version in &remote.control_plane {
                output::line(format_args!("control plane version: {version}"));
            }
            output::line(format_args!(
                "data plane version: {}",
                data_plane(&remote.data_plane)
            ));
        }
        Ok(())
    }
}

fn data_plane(versions: &BTreeMap<String, usize>) -> String {
    if versions.is_empty() {
        return "none".to_owned();
    }
    let each = versions.iter().map(|(version, n_proxies)| {
        let proxies = if *n_proxies == 1 { "proxy" } else { "proxies" };
        format!("{version} ({n_proxies} {proxies})")
    });
    each.collect::<Vec<_>>().join(", ")
}

async fn remote(global: &Global) -> anyhow::Result<Remote> {
    let client = client::connect(global).await?;
    let mut remote = Remote {
        control_plane: Vec::new(),
        data_plane: BTreeMap::new(),
    };
    for pod in client::control_plane_pods(&client, global).await? {
        let namespace = &global.istio_namespace;
        let version = client::pod_get(&client, namespace, &pod, 15014, "/version").await?;
        remote.control_plane.push(version.trim().to_owned());
        let syncz = client::pod_get(&client, namespace, &pod, 8080, "/debug/syncz").await?;
        let proxies: Vec<serde_json::Value> = serde_json::from_str(&syncz)?;
        for proxy in proxies {
            let version = proxy["istio_version"]
                .as_str()
                .unwrap_or("unknown")
                .to_owned();
            *remote.data_plane.entry(version).or_default() += 1;
        }
    }
    remote.control_plane.sort();
    remote.control_plane.dedup();
    Ok(remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_counted() {
        assert_eq!(data_plane(&BTreeMap::new()), "none");
        let versions = [("0.1.0".to_owned(), 7), ("0.2.0".to_owned(), 1)].into();
        assert_eq!(data_plane(&versions), "0.1.0 (7 proxies), 0.2.0 (1 proxy)");
    }
}
