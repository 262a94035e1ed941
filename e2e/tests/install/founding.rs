//! The steps that introductions to Istio lead through, with their commands.

use anyhow::ensure;
use lateen_e2e::{Mesh, eventually};

use super::{alone, block_on};

/// Profiles, a customised one, and manifests that `kubectl` applies.
#[test]
fn an_installation_is_customised_and_applied_by_kubectl() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::platform("founding")?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    mesh.lateen_ok(&["version", "--remote=false"])?;
    let list = mesh.lateen_ok(&["profile", "list"])?;
    for profile in ["default", "demo", "minimal", "external", "empty", "preview"] {
        ensure!(list.lines().any(|line| line.trim() == profile), "{list}");
    }
    mesh.lateen_ok(&["install", "--set", "profile=default", "-y"])?;
    let said = mesh.lateen_ok(&["install", "--set", "profile=demo", "-y"])?;
    ensure!(said.contains("Egress gateway"), "{said}");

    let settings = mesh.lateen_ok(&["profile", "dump", "demo"])?;
    ensure!(
        settings.contains("accessLogFile: /dev/stdout"),
        "{settings}"
    );
    let custom = settings.replace("accessLogFile: /dev/stdout", "accessLogFile: /dev/stderr");
    std::fs::write(file("demo_settings.yaml"), custom)?;
    mesh.lateen_ok(&["install", "-f", &file("demo_settings.yaml"), "-y"])?;

    let all = mesh.lateen_ok(&["manifest", "generate", "-f", &file("demo_settings.yaml")])?;
    std::fs::write(file("all_istio_manifests.yaml"), &all)?;
    mesh.lateen_ok(&["uninstall", "--purge", "-y"])?;
    block_on(async {
        for kubectl in mesh.needed_kubectls()? {
            // The namespace and the definitions come first, so that one go is enough.
            eventually("the cluster to take everything", async || {
                kubectl.run(&["apply", "-f", &file("all_istio_manifests.yaml")])
            })
            .await?;
            kubectl.run(&[
                "label",
                "--overwrite",
                "ns",
                "default",
                "istio-injection=enabled",
            ])?;
            let namespace = kubectl.run(&["describe", "ns", "default"])?;
            ensure!(namespace.contains("istio-injection=enabled"), "{namespace}");
        }
        mesh.wait_ready("istio-system", "app=istiod", 1).await?;
        for gateway in ["istio-ingressgateway", "istio-egressgateway"] {
            mesh.wait_ready("istio-system", &format!("app={gateway}"), 1)
                .await?;
        }
        let verified = mesh.lateen_ok(&["verify-install", "-f", &file("demo_settings.yaml")])?;
        ensure!(verified.contains("verified successfully"), "{verified}");
        Ok(())
    })?;
    mesh.stop().map(drop)
}
