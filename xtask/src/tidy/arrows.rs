//! Which crate may use which. The table in ARCHITECTURE.md is the rule; the manifests must obey.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Faults;

/// Crates that may use everything: they only put the others together.
const ANYTHING: [&str; 3] = ["lateen", "e2e", "xtask"];
/// A crate for tests, which nothing but tests may use.
const TESTS_ONLY: &str = "testkit";

/// Dependencies that only some crates may name, and why.
const QUARANTINE: [(&[&str], &[&str], &str); 2] = [
    (
        &[
            "rustls",
            "tokio-rustls",
            "rustls-webpki",
            "rcgen",
            "aws-lc-rs",
        ],
        &["tls"],
        "only `tls` names rustls and its provider",
    ),
    (
        &["kube"],
        &["local", "registry", "injector", "install", "lateen", "e2e"],
        "only the platform side names the Kubernetes client",
    ),
];

pub(super) fn check(root: &Path, faults: &mut Faults) -> Result<()> {
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let allowed = table(&page);
    ensure!(allowed.len() > 10, "ARCHITECTURE.md has no table of crates");
    for (name, dependencies) in packages(root)? {
        check_crate(&name, &dependencies, &allowed, faults);
    }
    Ok(())
}

/// A dependency of a crate: its name, and whether only tests have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    name: String,
    for_tests: bool,
}

fn check_crate(
    name: &str,
    dependencies: &[Dependency],
    allowed: &BTreeMap<String, BTreeSet<String>>,
    faults: &mut Faults,
) {
    let place = format!("crates/{name}/Cargo.toml");
    if !allowed.contains_key(name) && !ANYTHING.contains(&name) {
        faults.add(&place, "the crate is not in the table of ARCHITECTURE.md");
    }
    for dependency in dependencies
        .iter()
        .filter(|dependency| !dependency.for_tests)
    {
        for (names, users, reason) in QUARANTINE {
            if names.contains(&dependency.name.as_str()) && !users.contains(&name) {
                faults.add(
                    &place,
                    format_args!("uses {}, but {reason}", dependency.name),
                );
            }
        }
        let Some(other) = dependency.name.strip_prefix("lateen-") else {
            continue;
        };
        if other == TESTS_ONLY && name != "e2e" {
            faults.add(
                &place,
                format_args!("{TESTS_ONLY} is for tests: make it a dev-dependency"),
            );
        } else if !ANYTHING.contains(&name)
            && !allowed.get(name).is_some_and(|set| set.contains(other))
        {
            faults.add(
                &place,
                format_args!("may not use {other}: the arrow is not in ARCHITECTURE.md"),
            );
        }
    }
}

/// Rows of the form ``| `crate` | what it is | `other`, `another` |``.
fn table(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut table = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<_> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let [name, _, uses] = cells[..] else { continue };
        let Some(name) = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        let uses = uses
            .split(',')
            .map(|name| name.trim().trim_matches('`').to_owned());
        table.insert(
            name.to_owned(),
            uses.filter(|name| !name.is_empty() && name != "–")
                .collect(),
        );
    }
    table
}

/// The packages of the workspace by their short names.
fn packages(root: &Path) -> Result<Vec<(String, Vec<Dependency>)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata is JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    let short = |name: &str| name.strip_prefix("lateen-").unwrap_or(name).to_owned();
    Ok(packages
        .iter()
        .map(|package| {
            // The sidecar's program shares its name with the data plane's directory.
            let is_binary = package["manifest_path"]
                .as_str()
                .is_some_and(|path| path.contains("lateen-proxy"));
            let name = package["name"].as_str().unwrap_or_default();
            let name = if is_binary {
                "lateen-proxy".to_owned()
            } else {
                short(name)
            };
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let dependency = |value: &Value| Dependency {
                name: value["name"].as_str().unwrap_or_default().to_owned(),
                for_tests: value["kind"] == "dev",
            };
            (name, dependencies.map(dependency).collect())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
| crate | is | may use |
|---|---|---|
| `core` | names | – |
| `tls` | certificates | `core` |
| `proxy` | the data plane | `tls`, `core` |
| port | what | who |
";

    fn faults(name: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, for_tests)| Dependency {
                name: (*name).to_owned(),
                for_tests: *for_tests,
            })
            .collect();
        let mut faults = Faults::default();
        check_crate(name, &dependencies, &table(PAGE), &mut faults);
        faults.0
    }

    #[test]
    fn the_table_is_read() {
        let table = table(PAGE);
        assert_eq!(table.keys().collect::<Vec<_>>(), ["core", "proxy", "tls"]);
        assert_eq!(table["proxy"].len(), 2);
        assert!(table["core"].is_empty());
    }

    #[test]
    fn arrows_are_held() {
        assert!(
            faults(
                "proxy",
                &[("lateen-tls", false), ("tokio", false), ("rcgen", true)]
            )
            .is_empty()
        );
        assert!(faults("core", &[("lateen-tls", false)])[0].contains("may not use tls"));
        assert!(faults("proxy", &[("lateen-testkit", false)])[0].contains("dev-dependency"));
        assert!(faults("proxy", &[("rustls", false)])[0].contains("only `tls`"));
        assert!(faults("proxy", &[("kube", false)])[0].contains("Kubernetes client"));
        assert!(faults("other", &[])[0].contains("not in the table"));
    }
}
