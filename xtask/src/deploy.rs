//! Charts and manifests as a release carries them. They are made by the program itself, so that
//! nothing that is generated is kept in the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Below the repository's root, unless it is said.
const OUT: &str = "deploy";
/// Manifests by the names of their files, with the settings of each: profiles that need nothing that only
/// whoever installs them knows, and the demo under the name that it had in releases of 1.0 where workloads
/// take mutual TLS alone.
const MANIFESTS: [(&str, &[&str]); 5] = [
    ("default", &["profile=default"]),
    ("demo", &["profile=demo"]),
    (
        "istio-demo-auth",
        &["profile=demo", "meshConfig.authPolicy=MUTUAL_TLS"],
    ),
    ("minimal", &["profile=minimal"]),
    ("preview", &["profile=preview"]),
];

/// Writes charts to `helm/` and manifests to `manifests/`.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    let out = match args {
        [] => root.join(OUT),
        [flag, out] if flag == "--out" => PathBuf::from(out),
        _ => bail!("usage: cargo xtask deploy [--out DIRECTORY]"),
    };
    let (charts, manifests) = (out.join("helm"), out.join("manifests"));
    // What is no part of this version any more must not stay.
    for folder in [&charts, &manifests] {
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    let mut chart = lateen(root, &["manifest", "chart", "--output"]);
    let status = chart.arg(&charts).status().context("cannot run cargo")?;
    ensure!(status.success(), "the charts cannot be made");
    std::fs::create_dir_all(&manifests)
        .with_context(|| format!("cannot make {}", manifests.display()))?;
    for (name, settings) in MANIFESTS {
        let mut generate = lateen(root, &["manifest", "generate"]);
        for setting in settings {
            generate.args(["--set", setting]);
        }
        let output = generate
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        ensure!(output.status.success(), "{name} cannot be generated");
        let file = manifests.join(format!("{name}.yaml"));
        std::fs::write(&file, output.stdout)
            .with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("{}", file.display());
    }
    Ok(())
}

fn lateen(root: &Path, args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut lateen = Command::new(cargo);
    lateen
        .current_dir(root)
        .args(["run", "--quiet", "-p", "lateen", "--"])
        .args(args);
    lateen
}
