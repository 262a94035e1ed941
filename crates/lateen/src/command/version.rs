//! `lateen version`: of the command, the control planes and the proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{
    cli::Global,
    client,
    output::{self, Format},
};

const LABEL_REVISION: &str = "istio.io/rev";
const OWN: &str = env!("CARGO_PKG_VERSION");

/// Print the versions of the command, the control planes and the proxies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  lateen version\n  \
                  lateen version --remote=false\n  \
                  lateen version --revision canary --short=false\n  \
                  lateen version -o json")]
pub(crate) struct Version {
    /// Ask the control planes too.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    remote: bool,
    /// Only the version numbers; `false` tells of each replica and each proxy.
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    short: bool,
    /// Only control planes of this revision, and their proxies.
    #[arg(short, long)]
    revision: Option<String>,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What the cluster runs.
#[derive(Debug, Default)]
struct Remote {
    replicas: Vec<Replica>,
    proxies: Vec<Proxy>,
}

/// A replica of a control plane.
#[derive(Debug)]
struct Replica {
    pod: String,
    revision: String,
    version: String,
}

/// A proxy that is connected.
#[derive(Debug)]
struct Proxy {
    name: String,
    version: String,
}

impl Version {
    pub(crate) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let remote = match self.remote {
            true => match remote(global, self.revision.as_deref()).await {
                Ok(remote) => Some(remote),
                Err(error) => {
                    eprintln!("lateen: the control plane was not asked: {error:#}");
                    None
                }
            },
            false => None,
        };
        if self.output != Format::Short {
            return output::structured(&structured(remote.as_ref()), self.output);
        }
        if !self.remote {
            output::line(OWN);
            return Ok(());
        }
        output::line(format_args!("client version: {OWN}"));
        if let Some(remote) = remote {
            output::print(remote.in_words(self.short));
        }
        Ok(())
    }
}

/// With the keys that `istioctl` has.
fn structured(remote: Option<&Remote>) -> Value {
    let mut all = json!({"clientVersion": {"version": OWN}});
    if let Some(remote) = remote {
        let replicas = remote.replicas.iter().map(|replica| {
            json!({
                "Component": replica.component(),
                "Revision": replica.revision,
                "Info": {"version": replica.version},
            })
        });
        let proxies = remote.proxies.iter();
        let proxies = proxies.map(|proxy| json!({"ID": proxy.name, "IstioVersion": proxy.version}));
        all["meshVersion"] = replicas.collect();
        all["dataPlaneVersion"] = proxies.collect();
    }
    all
}

impl Replica {
    /// What the revision's control plane is called.
    fn component(&self) -> String {
        match self.revision.as_str() {
            "" | "default" => "istiod".to_owned(),
            revision => format!("istiod-{revision}"),
        }
    }
}

impl Remote {
    fn in_words(&self, is_short: bool) -> String {
        let mut text = String::new();
        let versions: BTreeSet<&str> = self.replicas.iter().map(|it| it.version.as_str()).collect();
        match versions.iter().collect::<Vec<_>>()[..] {
            [only] => {
                let _ = writeln!(text, "control plane version: {only}");
            }
            // Where they differ, each control plane with its own.
            _ => {
                let each = self.replicas.iter();
                let each: BTreeSet<_> = each.map(|it| (it.component(), &it.version)).collect();
                for (component, version) in each {
                    let _ = writeln!(text, "{component} version: {version}");
                }
            }
        }
        if !is_short {
            for Replica {
                pod,
                revision,
                version,
            } in &self.replicas
            {
                let _ = writeln!(text, "  {pod} (revision {revision}): {version}");
            }
        }
        let _ = writeln!(text, "data plane version: {}", data_plane(&self.proxies));
        if !is_short {
            for Proxy { name, version } in &self.proxies {
                let _ = writeln!(text, "  {name}: {version}");
            }
        }
        text
    }
}

fn data_plane(proxies: &[Proxy]) -> String {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for proxy in proxies {
        *versions.entry(&proxy.version).or_default() += 1;
    }
    if versions.is_empty() {
        return "none".to_owned();
    }
    let each = versions.iter().map(|(version, n_proxies)| {
        let proxies = if *n_proxies == 1 { "proxy" } else { "proxies" };
        format!("{version} ({n_proxies} {proxies})")
    });
    each.collect::<Vec<_>>().join(", ")
}

/// What each part of the cluster runs.
pub(crate) async fn in_words(global: &Global) -> anyhow::Result<String> {
    let remote = remote(global, None).await?;
    Ok(format!("client version: {OWN}\n{}", remote.in_words(false)))
}

async fn remote(global: &Global, revision: Option<&str>) -> anyhow::Result<Remote> {
    let client = client::connect(global).await?;
    let mut remote = Remote::default();
    let namespace = &global.istio_namespace;
    for pod in client::control_planes(&client, global, revision).await? {
        let version = client::pod_get(&client, namespace, &pod, 15014, "/version").await?;
        let syncz = client::pod_get(&client, namespace, &pod, 8080, "/debug/syncz").await?;
        let proxies: Vec<Value> = serde_json::from_str(&syncz)?;
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        remote.proxies.extend(proxies.iter().map(|proxy| Proxy {
            name: text(&proxy["proxy"]),
            version: text(&proxy["istio_version"]),
        }));
        remote.replicas.push(Replica {
            revision: revision_of(&client, namespace, &pod).await,
            version: version.trim().to_owned(),
            pod,
        });
    }
    remote
        .replicas
        .sort_by(|one, other| one.pod.cmp(&other.pod));
    remote
        .proxies
        .sort_by(|one, other| one.name.cmp(&other.name));
    Ok(remote)
}

async fn revision_of(client: &Client, namespace: &str, pod: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labels = pods.get(pod).await.ok().and_then(|pod| pod.metadata.labels);
    let revision = labels.and_then(|mut labels| labels.remove(LABEL_REVISION));
    revision.unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(replicas: &[(&str, &str)], proxies: &[&str]) -> Remote {
        let replica = |(at, (revision, version)): (usize, &(&str, &str))| Replica {
            pod: format!("istiod-{at}"),
            revision: (*revision).to_owned(),
            version: (*version).to_owned(),
        };
        let proxy = |(at, version): (usize, &&str)| Proxy {
            name: format!("p{at}.default"),
            version: (*version).to_owned(),
        };
        Remote {
            replicas: replicas.iter().enumerate().map(replica).collect(),
            proxies: proxies.iter().enumerate().map(proxy).collect(),
        }
    }

    #[test]
    fn control_planes_that_agree_are_one_line() {
        for (replicas, proxies, expect) in [
            (
                vec![
                    ("default", "0.2.0"),
                    ("default", "0.2.0"),
                    ("canary", "0.2.0"),
                ],
                vec!["0.2.0", "0.1.0", "0.1.0"],
                "control plane version: 0.2.0\ndata plane version: 0.1.0 (2 proxies), 0.2.0 (1 proxy)\n",
            ),
            (
                vec![("default", "0.1.0"), ("canary", "0.2.0")],
                vec![],
                "istiod version: 0.1.0\nistiod-canary version: 0.2.0\ndata plane version: none\n",
            ),
        ] {
            assert_eq!(remote(&replicas, &proxies).in_words(true), expect);
        }
    }

    #[test]
    fn each_is_told_where_that_is_asked_for() {
        let told = remote(&[("canary", "0.2.0")], &["0.1.0"]).in_words(false);
        assert_eq!(
            told,
            "control plane version: 0.2.0\n  istiod-0 (revision canary): 0.2.0\n\
             data plane version: 0.1.0 (1 proxy)\n  p0.default: 0.1.0\n"
        );
    }

    #[test]
    fn programs_find_istioctls_keys() {
        let told = structured(Some(&remote(&[("canary", "0.2.0")], &["0.1.0"])));
        assert_eq!(told["clientVersion"]["version"], OWN);
        assert_eq!(told["meshVersion"][0]["Component"], "istiod-canary");
        assert_eq!(told["meshVersion"][0]["Info"]["version"], "0.2.0");
        assert_eq!(told["dataPlaneVersion"][0]["ID"], "p0.default");
        assert!(structured(None).get("meshVersion").is_none());
    }
}
