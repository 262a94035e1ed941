//! `proxy-config rootca-compare`.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use clap::Args;
use kube::Client;
use lateen_tls::CertInfo;

use super::dump::Dump;
use super::{ADMIN, DUMP, secret};
use crate::{cli::Global, client, output};

/// Compare the root certificates of two proxies: those which differ do not take each other's
/// certificates.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 when both have the same, 1 when not.\n\n\
                  Example:\n  lateen proxy-config rootca-compare deploy/productpage-v1 deploy/reviews-v1.other")]
pub(super) struct Compare {
    /// One proxy: `pod[.namespace]` or `deploy/name[.namespace]`.
    one: String,
    /// The other.
    other: String,
}

impl Compare {
    pub(super) async fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = client::connect(global).await?;
        let (one, own) = roots(&client, &self.one, global).await?;
        let (other, its) = roots(&client, &self.other, global).await?;
        if own == its {
            output::line(format_args!(
                "{one} and {other} have the same root certificates: each takes the other's certificate"
            ));
            return Ok(());
        }
        bail!("{}", difference(&one, &own, &other, &its));
    }
}

/// Where they differ, and what follows.
fn difference(one: &str, own: &BTreeSet<String>, other: &str, its: &BTreeSet<String>) -> String {
    let only = |name: &str, mine: &BTreeSet<String>, theirs: &BTreeSet<String>| {
        let mine: Vec<_> = mine.difference(theirs).map(String::as_str).collect();
        match mine.is_empty() {
            true => String::new(),
            false => format!("\nonly {name} has {}", mine.join(", ")),
        }
    };
    let shared = own.intersection(its).count();
    let follows = match shared {
        0 => "connections between them fail",
        _ => "those of certificates under a root that both have go on",
    };
    format!(
        "{one} and {other} have different root certificates ({shared} of them are the same): {follows}{}{}\n\
         A proxy that missed a rotation gets the new roots when its agent asks for a certificate \
         again; `lateen proxy-config secret` shows both.",
        only(one, own, its),
        only(other, its, own),
    )
}

/// A proxy's name, and its roots, each by its serial number and digest.
async fn roots(
    client: &Client,
    name: &str,
    global: &Global,
) -> anyhow::Result<(String, BTreeSet<String>)> {
    let (pod, namespace) = client::find_pod(client, name, global).await?;
    let text = client::pod_get(client, namespace, &pod, ADMIN, DUMP).await?;
    let name = format!("{pod}.{namespace}");
    let roots = secret::roots(&Dump::read(&text)?);
    ensure!(!roots.is_empty(), "{name} has no root certificate (ROOTCA)");
    let shown = |root: &CertInfo| format!("{} (SHA-256 {})", root.serial, root.sha256());
    Ok((name, roots.iter().map(shown).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let set = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let told = difference("a.b", &set(&["1", "2"]), "c.d", &set(&["2", "3"]));
        assert!(told.contains("only a.b has 1\nonly c.d has 3\n"), "{told}");
        assert!(told.contains("go on"), "{told}");
        let told = difference("a.b", &set(&["1"]), "c.d", &set(&["2"]));
        assert!(told.contains("connections between them fail"), "{told}");
    }
}
